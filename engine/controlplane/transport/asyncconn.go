package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	slowPeerTimeout = 10 * time.Second // how long a stream's peer may take to read what was written
	maxPendingBytes = 1 << 20          // pending bytes after which a slow peer is cut
)

// errSlowPeer means that the peer does not read.
var errSlowPeer = errors.New("the peer does not read what it is sent")

// errWordyStranger means that nobody's key sent more than a registration takes.
var errWordyStranger = errors.New("nobody's key sent more than a registration has")

// asyncConn is a connection, usually below TLS, that differs from its like in package net in two ways.
//
// Deadlines are cheap: a deadline is only noted, and set where a read or write may block. net/http sets six with every
// request, most of which are replaced before anything waits.
//
// After writeAsync, a write never blocks: bytes that the kernel does not take are pending, and a goroutine writes them
// within slowPeerTimeout. A peer that does not read delays no other.
type asyncConn struct {
	net.Conn
	raw      syscall.RawConn
	tryWrite func(fd uintptr) bool // calls current.write; made once
	permit   *permit               // of the handshake; nil: none, or the handshake is over

	admission *admission // nil: not counted
	visit     visit
	key       string       // that the peer proved at the cells' listener; set before the first request; empty: none
	first     [1]byte      // read before the others
	hasFirst  bool         // first was not returned yet
	known     atomic.Bool  // the peer is no stranger
	nobody    atomic.Bool  // a stranger with a key that is nobody's, so far
	received  atomic.Int64 // bytes from nobody

	readDeadline, writeDeadline atomic.Int64 // deadlines as requested, Unix nanoseconds; 0: none
	appliedReadDeadline         atomic.Int64 // the read deadline that is set on Conn
	reading                     atomic.Int32 // reads in progress

	mu       sync.Mutex // guards what follows, and is held during nonblocking writes
	current  nonblockingWrite
	async    bool   // writes don't block
	flushing bool   // the goroutine runs
	pending  []byte // what the goroutine writes next
	failed   error
	drained  func(error) // called after pending bytes are written, or writing failed
}

// nonblockingWrite is a write that does not block.
type nonblockingWrite struct {
	b   []byte
	n   int
	err error
}

func newAsyncConn(c net.Conn) *asyncConn {
	w := &asyncConn{Conn: c, raw: rawConn(c)}
	w.tryWrite = w.current.write
	return w
}

// asyncListener is a listener of asyncConns.
type asyncListener struct{ net.Listener }

func (l asyncListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newAsyncConn(c), nil
}

// awaitFirstByte reads the first byte.
func (w *asyncConn) awaitFirstByte(by time.Time) error {
	if err := w.Conn.SetReadDeadline(by); err != nil {
		return err
	}
	if _, err := io.ReadFull(w.Conn, w.first[:]); err != nil {
		return err
	}
	w.hasFirst = true
	return w.Conn.SetReadDeadline(time.Time{})
}

// Read releases the handshake's permit while it waits for the peer.
func (w *asyncConn) Read(b []byte) (int, error) {
	switch {
	case w.hasFirst && len(b) > 0:
		w.hasFirst = false
		return copy(b, w.first[:]), nil
	case w.permit != nil:
		w.permit.awaitPeer()
		w.admission.awaitPeer(&w.visit)
		n, err := w.readWithDeadline(b)
		w.admission.heardPeer(&w.visit)
		w.permit.heardPeer()
		if err != nil {
			return n, err
		}
		return n, w.permit.acquire()
	case w.nobody.Load():
		n, err := w.readWithDeadline(b)
		if w.received.Add(int64(n)) > maxStrangerBytes && !w.known.Load() {
			return n, errors.Join(errWordyStranger, w.Close())
		}
		return n, err
	}
	return w.readWithDeadline(b)
}

// Welcome notes that the peer is known, as a cell or a person: it is no stranger any more.
func (w *asyncConn) Welcome() {
	if w.admission != nil && !w.known.Swap(true) {
		w.nobody.Store(false)
		w.admission.welcome(&w.visit, w.key)
	}
}

// AwaitAnswer notes that nobody's key has sent its registration, which may now take a while.
func (w *asyncConn) AwaitAnswer() {
	if w.admission != nil && w.nobody.Load() {
		w.admission.limitStay(&w.visit, answerTimeout)
	}
}

// Close ends the connection.
func (w *asyncConn) Close() error {
	if w.admission != nil {
		w.admission.leave(&w.visit)
	}
	return w.Conn.Close()
}

// readWithDeadline reads. It sets the requested deadline on Conn if the one there is later, or has passed.
func (w *asyncConn) readWithDeadline(b []byte) (int, error) {
	w.reading.Add(1) // before the deadline is read: SetReadDeadline changes them in the opposite order
	defer w.reading.Add(-1)
	if by := w.readDeadline.Load(); w.isLate(by) {
		if time.Now().UnixNano() >= by { // as net/http ends its look at a connection on which nothing should come
			return 0, os.ErrDeadlineExceeded
		}
		if err := w.applyReadDeadline(by); err != nil {
			return 0, err
		}
	}
	for {
		n, err := w.Conn.Read(b)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		by := w.readDeadline.Load()
		if by != 0 && time.Now().UnixNano() >= by {
			return n, err
		}
		if err := w.applyReadDeadline(by); err != nil {
			return 0, err
		}
	}
}

// isLate reports whether the deadline on Conn is later than by, or is none.
func (w *asyncConn) isLate(by int64) bool {
	applied := w.appliedReadDeadline.Load()
	return by != 0 && (applied == 0 || applied > by)
}

// applyReadDeadline sets a read deadline on Conn, or the one that is requested meanwhile.
func (w *asyncConn) applyReadDeadline(by int64) error {
	for {
		w.appliedReadDeadline.Store(by)
		if err := w.Conn.SetReadDeadline(fromUnixNano(by)); err != nil {
			return err
		}
		now := w.readDeadline.Load()
		if now == by || now == 0 || by != 0 && now > by {
			return nil
		}
		by = now
	}
}

// SetReadDeadline notes a deadline for later reads, and sets it for one in progress that would last longer.
func (w *asyncConn) SetReadDeadline(t time.Time) error {
	by := unixNano(t)
	w.readDeadline.Store(by)
	if w.reading.Load() == 0 || !w.isLate(by) {
		return nil
	}
	return w.applyReadDeadline(by)
}

// SetWriteDeadline notes the deadline for a write that blocks.
func (w *asyncConn) SetWriteDeadline(t time.Time) error {
	w.writeDeadline.Store(unixNano(t))
	return nil
}

// SetDeadline sets both deadlines.
func (w *asyncConn) SetDeadline(t time.Time) error {
	_ = w.SetWriteDeadline(t)
	return w.SetReadDeadline(t)
}

// endHandshake releases the handshake's permit for good.
func (w *asyncConn) endHandshake() {
	if w.permit != nil {
		w.permit.release()
		w.permit = nil
	}
}

// writeAsync makes writes nonblocking from now on. drained is called without locks.
func (w *asyncConn) writeAsync(drained func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.async, w.drained = true, drained
	w.readDeadline.Store(0)
	w.writeDeadline.Store(0)
	_ = w.applyReadDeadline(0) // an error means a closed connection, which the next write reports
}

func (w *asyncConn) Write(b []byte) (int, error) {
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
	if !w.async {
		return w.writeBlocking(b, n)
	}
	if len(w.pending)+len(b)-n > maxPendingBytes {
		w.failed = errSlowPeer
		return n, errSlowPeer
	}
	w.pending = append(w.pending, b[n:]...)
	if !w.flushing {
		w.flushing = true
		go w.flushPending(time.Now().Add(slowPeerTimeout))
	}
	return len(b), nil
}

// writeNow writes what the kernel takes. The caller holds w.mu.
func (w *asyncConn) writeNow(b []byte) (int, error) {
	if w.raw == nil {
		return 0, nil
	}
	w.current = nonblockingWrite{b: b}
	err := w.raw.Write(w.tryWrite)
	n := w.current.n
	if err == nil {
		err = w.current.err
	}
	w.current = nonblockingWrite{}
	return n, err
}

// writeBlocking writes the rest of b by the requested deadline. The caller holds w.mu.
func (w *asyncConn) writeBlocking(b []byte, n int) (int, error) {
	if err := w.Conn.SetWriteDeadline(fromUnixNano(w.writeDeadline.Load())); err != nil {
		return n, err
	}
	more, err := w.Conn.Write(b[n:])
	if cleared := w.Conn.SetWriteDeadline(time.Time{}); err == nil {
		err = cleared
	}
	return n + more, err
}

func (w *asyncConn) flushPending(until time.Time) {
	_ = w.Conn.SetWriteDeadline(until) // an error means a closed connection, which Write reports
	for {
		w.mu.Lock()
		b := w.pending
		w.pending = nil
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
			w.failed, w.pending = err, nil
			w.mu.Unlock()
			w.drained(err)
			return
		}
	}
}

// hasPending reports whether written bytes are pending.
func (w *asyncConn) hasPending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushing
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
