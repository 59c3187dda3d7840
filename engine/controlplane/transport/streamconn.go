package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	peerTimeout          = 30 * time.Second // until a peer that acknowledges nothing is dead
	blockingWriteTimeout = time.Second      // a write where it may wait
)

// StreamConn is a connection that was taken over from net/http. Its writer does not wait for the other side.
type StreamConn struct {
	conn  net.Conn
	async *asyncConn // below conn; nil: the listener is not ours, and writes may wait a little
}

// NewStreamConn takes a connection over. drained is called, without locks, once the other side has read what did not fit at once, or can't.
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

// Write sends b, or keeps what the other side has no room for yet.
func (p *StreamConn) Write(b []byte) (int, error) {
	if p.async == nil {
		_ = p.conn.SetWriteDeadline(time.Now().Add(blockingWriteTimeout))
	}
	return p.conn.Write(b)
}

// Close ends the connection.
func (p *StreamConn) Close() error { return p.conn.Close() }

// HasPending reports whether the other side has not taken what was written.
func (p *StreamConn) HasPending() bool { return p.async != nil && p.async.hasPending() }

// PeekPeer looks whether the other side sent anything, or ended the connection: nobody reads from it.
func (p *StreamConn) PeekPeer() (sent, ended bool) {
	if p.async == nil {
		return false, false
	}
	return peek(p.async.raw)
}

// PeerEnded reads what the other side sent though it has nothing to say, and reports whether that is the connection's end: that
// of TLS, most likely. It takes at most as long as within.
func (p *StreamConn) PeerEnded(within time.Duration) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	n, err := p.conn.Read(make([]byte, 1))
	var t net.Error
	if n > 0 || err != nil && !(errors.As(err, &t) && t.Timeout()) {
		return true
	}
	_ = p.async.applyReadDeadline(0) // an error: it is closed, and the next heartbeat finds it
	return false
}

// IsSlowPeer reports whether a write failed for the other side does not read.
func IsSlowPeer(err error) bool {
	var t net.Error
	return errors.Is(err, errSlowPeer) || errors.As(err, &t) && t.Timeout()
}
