package transport

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	slowFor = 10 * time.Second // how long a stream's other side may take to read what was written
	maxLeft = 1 << 20          // bytes that are kept for one that reads slowly
)

// errSlow: the other side does not read.
var errSlow = errors.New("the other side does not read what it is sent")

// wire is a connection, most often with TLS above, that does two things better than its like from package net.
//
// A deadline costs nothing until somebody has to wait: it is noted, and set where a read or a write would block. net/http
// sets some with every request.
//
// Once it flows, its writer need not wait: what the kernel has no room for is kept, and written by a goroutine that ends
// within slowFor. So one that does not read delays nobody else.
type wire struct {
	net.Conn
	raw  syscall.RawConn
	try  func(fd uintptr) bool // writes what attempt says; made once
	slot *slot                 // of the handshake; nil: there is none, or it is over

	readBy, writeBy atomic.Int64 // deadlines as they were asked for, Unix nanoseconds; 0: none
	readSet         atomic.Int64 // the deadline for reads that is set below

	mu       sync.Mutex // guards what follows, and is held while writing without waiting
	attempt  attempt
	flowing  bool   // from now on writers don't wait
	flushing bool   // the goroutine runs
	left     []byte // what it writes next
	failed   error
	drained  func(error) // told when what was left is written, or can't be
}

// attempt is a write that does not wait.
type attempt struct {
	b   []byte
	n   int
	err error
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c, raw: rawConn(c)}
	w.try = w.attempt.write
	return w
}

// wired is a listener of wires.
type wired struct{ net.Listener }

func (l wired) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newWire(c), nil
}

// Read lets other handshakes compute while it waits for the other side.
func (w *wire) Read(b []byte) (int, error) {
	if w.slot == nil {
		return w.read(b)
	}
	w.slot.release()
	n, err := w.read(b)
	if err != nil {
		return n, err
	}
	return n, w.slot.acquire()
}

// read sets the deadline that was asked for once the one that is set has passed.
func (w *wire) read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		by := w.readBy.Load()
		if by != 0 && time.Now().UnixNano() >= by {
			return n, err
		}
		if err := w.setRead(by); err != nil {
			return 0, err
		}
	}
}

// setRead sets a deadline for reads; one that was asked for meanwhile is set instead.
func (w *wire) setRead(by int64) error {
	for {
		w.readSet.Store(by)
		if err := w.Conn.SetReadDeadline(instant(by)); err != nil {
			return err
		}
		now := w.readBy.Load()
		if now == by || now == 0 || by != 0 && now > by {
			return nil
		}
		by = now
	}
}

// SetReadDeadline sets what must be earlier than what is set, and notes the rest.
func (w *wire) SetReadDeadline(t time.Time) error {
	by := nanos(t)
	w.readBy.Store(by)
	if set := w.readSet.Load(); by == 0 || set != 0 && set <= by {
		return nil
	}
	return w.setRead(by)
}

// SetWriteDeadline notes a deadline for a write that has to wait.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.writeBy.Store(nanos(t))
	return nil
}

// SetDeadline is both.
func (w *wire) SetDeadline(t time.Time) error {
	_ = w.SetWriteDeadline(t)
	return w.SetReadDeadline(t)
}

// handshaken says that the handshake is over.
func (w *wire) handshaken() {
	if w.slot != nil {
		w.slot.release()
		w.slot = nil
	}
}

// flow makes writes not wait. drained is called without locks.
func (w *wire) flow(drained func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flowing, w.drained = true, drained
	w.readBy.Store(0)
	w.writeBy.Store(0)
	_ = w.setRead(0) // an error: it is closed, and the next write says so
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return 0, w.failed
	}
	n := 0
	if !w.flushing {
		if n, w.failed = w.writeNow(b); w.failed != nil || n == len(b) {
			return n, w.failed
		}
	}
	if !w.flowing {
		return w.writeBlocking(b, n)
	}
	if len(w.left)+len(b)-n > maxLeft {
		w.failed = errSlow
		return n, errSlow
	}
	w.left = append(w.left, b[n:]...)
	if !w.flushing {
		w.flushing = true
		go w.flush(time.Now().Add(slowFor))
	}
	return len(b), nil
}

// writeNow writes as much as the kernel has room for, under w.mu.
func (w *wire) writeNow(b []byte) (int, error) {
	if w.raw == nil {
		return 0, nil
	}
	w.attempt = attempt{b: b}
	err := w.raw.Write(w.try)
	n := w.attempt.n
	if err == nil {
		err = w.attempt.err
	}
	w.attempt = attempt{}
	return n, err
}

// writeBlocking writes the rest of b, by the deadline that was asked for, under w.mu: only one writes where writers wait.
func (w *wire) writeBlocking(b []byte, n int) (int, error) {
	if err := w.Conn.SetWriteDeadline(instant(w.writeBy.Load())); err != nil {
		return n, err
	}
	more, err := w.Conn.Write(b[n:])
	if cleared := w.Conn.SetWriteDeadline(time.Time{}); err == nil {
		err = cleared
	}
	return n + more, err
}

func (w *wire) flush(until time.Time) {
	_ = w.Conn.SetWriteDeadline(until) // an error: it is closed, and the write says so
	for {
		w.mu.Lock()
		b := w.left
		w.left = nil
		if len(b) == 0 {
			w.flushing = false
			_ = w.Conn.SetWriteDeadline(time.Time{})
			w.mu.Unlock()
			w.drained(nil)
			return
		}
		w.mu.Unlock()
		if _, err := w.Conn.Write(b); err != nil {
			w.mu.Lock()
			w.failed, w.left = err, nil
			w.mu.Unlock()
			w.drained(err)
			return
		}
	}
}

// behind reports whether the other side has not taken what was written.
func (w *wire) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushing
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
