package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	peerTimeout = 30 * time.Second // until a peer that acknowledges nothing is dead
	pushWithin  = time.Second      // a write where it may wait
)

// PushConn is a connection that was taken over from net/http. Its writer does not wait for the other side.
type PushConn struct {
	conn net.Conn
	wire *wire // below conn; nil: the listener is not ours, and writes may wait a little
}

// Push takes a connection over. drained is called, without locks, once the other side has read what did not fit at once, or can't.
func Push(c net.Conn, drained func(error)) PushConn {
	p, below := PushConn{conn: c}, c
	if t, ok := c.(*tls.Conn); ok {
		below = t.NetConn()
	} else if _, ok := c.(*wire); !ok {
		below = newWire(c)
		p.conn = below
	}
	socket := below
	if w, ok := below.(*wire); ok {
		p.wire, socket = w, w.Conn
		w.flow(drained)
	}
	userTimeout(socket, peerTimeout)
	return p
}

// Write sends b, or keeps what the other side has no room for yet.
func (p *PushConn) Write(b []byte) (int, error) {
	if p.wire == nil {
		_ = p.conn.SetWriteDeadline(time.Now().Add(pushWithin))
	}
	return p.conn.Write(b)
}

// Close ends the connection.
func (p *PushConn) Close() error { return p.conn.Close() }

// Behind reports whether the other side has not taken what was written.
func (p *PushConn) Behind() bool { return p.wire != nil && p.wire.behind() }

// Peek looks whether the other side sent anything, or ended the connection: nobody reads from it.
func (p *PushConn) Peek() (sent, ended bool) {
	if p.wire == nil {
		return false, false
	}
	return peek(p.wire.raw)
}

// Ends reads what the other side sent though it has nothing to say, and reports whether that is the connection's end: that
// of TLS, most likely. It takes at most as long as within.
func (p *PushConn) Ends(within time.Duration) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	n, err := p.conn.Read(make([]byte, 1))
	var t net.Error
	if n > 0 || err != nil && !(errors.As(err, &t) && t.Timeout()) {
		return true
	}
	_ = p.wire.setRead(0) // an error: it is closed, and the next heartbeat finds it
	return false
}

// IsSlow reports whether a write failed for the other side does not read.
func IsSlow(err error) bool {
	var t net.Error
	return errors.Is(err, errSlow) || errors.As(err, &t) && t.Timeout()
}
