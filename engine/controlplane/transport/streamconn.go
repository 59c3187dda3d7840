package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	peerTimeout          = 30 * time.Second // after which a peer that acknowledges nothing is dead
	blockingWriteTimeout = time.Second      // for a write that may block
)

// StreamConn is a connection taken over from net/http whose writes do not wait for the peer.
type StreamConn struct {
	conn  net.Conn
	async *asyncConn // below conn; nil at a foreign listener, where writes may block briefly
}

// NewStreamConn takes a connection over. drained is called, without locks, when all pending bytes are written, or when
// writing failed.
func NewStreamConn(c net.Conn, drained func(error)) StreamConn {
	p, below := StreamConn{conn: c}, c
	if t, ok := c.(*tls.Conn); ok {
		below = t.NetConn()
	} else if _, ok := c.(*asyncConn); !ok {
		below = newAsyncConn(c)
		p.conn = below
	}
	socket := below
	if w, ok := below.(*asyncConn); ok {
		p.async, socket = w, w.Conn
		w.writeAsync(drained)
	}
	setUserTimeout(socket, peerTimeout)
	return p
}

// Write sends b. Bytes that the kernel does not take stay pending.
func (p *StreamConn) Write(b []byte) (int, error) {
	if p.async == nil {
		_ = p.conn.SetWriteDeadline(time.Now().Add(blockingWriteTimeout))
	}
	return p.conn.Write(b)
}

// Close ends the connection.
func (p *StreamConn) Close() error { return p.conn.Close() }

// HasPending reports whether written bytes are pending.
func (p *StreamConn) HasPending() bool { return p.async != nil && p.async.hasPending() }

// PeekPeer reports whether the peer sent anything, or ended the connection. It consumes nothing.
func (p *StreamConn) PeekPeer() (sent, ended bool) {
	if p.async == nil {
		return false, false
	}
	return peek(p.async.raw)
}

// PeerEnded reads what the peer sent, though it should send nothing, and reports whether the connection has ended,
// usually by TLS's close_notify. It waits at most for within.
func (p *StreamConn) PeerEnded(within time.Duration) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	n, err := p.conn.Read(make([]byte, 1))
	var t net.Error
	if n > 0 || err != nil && !(errors.As(err, &t) && t.Timeout()) {
		return true
	}
	_ = p.async.applyReadDeadline(0) // an error means a closed connection, which the next heartbeat finds
	return false
}

// IsSlowPeer reports whether a write failed because the peer does not read.
func IsSlowPeer(err error) bool {
	var t net.Error
	return errors.Is(err, errSlowPeer) || errors.As(err, &t) && t.Timeout()
}
