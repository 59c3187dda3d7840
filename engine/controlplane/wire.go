package controlplane

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// slowFor is how long a stream's other side may take to read what was written.
const slowFor = 10 * time.Second

// maxLeft bounds what is kept for one that reads slowly, in bytes.
const maxLeft = 1 << 20

// errSlow: the other side does not read.
var errSlow = errors.New("the other side does not read what it is sent")

// wire is a connection, most often with TLS above, whose writer need not wait: what the kernel has no room for is kept,
// and written by a goroutine that ends within slowFor. So one that does not read delays nobody else.
type wire struct {
	net.Conn
	computing chan struct{} // one place for each handshake that may compute; nil: this one's is over
	computes  bool          // it has a place
	raw       syscall.RawConn

	mu       sync.Mutex // guards what follows
	flowing  bool       // from now on writers don't wait
	flushing bool       // the goroutine runs
	left     []byte     // what it writes next
	failed   error
	emptied  func(error) // told when what was left is written, or can't be
}

// Read lets others compute while it waits for the other side.
func (w *wire) Read(b []byte) (int, error) {
	if w.computing == nil {
		return w.Conn.Read(b)
	}
	if w.computes {
		<-w.computing
	}
	n, err := w.Conn.Read(b)
	w.computing <- struct{}{}
	w.computes = true
	return n, err
}

// shook says that the handshake is over.
func (w *wire) shook() {
	if w.computes {
		<-w.computing
	}
	w.computing, w.computes = nil, false
}

// flow makes writes not wait. emptied is called without locks.
func (w *wire) flow(emptied func(error)) {
	raw := rawConn(w.Conn)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raw, w.flowing, w.emptied = raw, true, emptied
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.flowing {
		return w.Conn.Write(b)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n := 0
	if !w.flushing {
		if n, w.failed = writeNow(w.raw, b); w.failed != nil || n == len(b) {
			return n, w.failed
		}
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

func (w *wire) flush(until time.Time) {
	_ = w.SetWriteDeadline(until) // an error: it is closed, and the write says so
	for {
		w.mu.Lock()
		b := w.left
		w.left = nil
		if len(b) == 0 {
			w.flushing = false
			_ = w.SetWriteDeadline(time.Time{})
			w.mu.Unlock()
			w.emptied(nil)
			return
		}
		w.mu.Unlock()
		if _, err := w.Conn.Write(b); err != nil {
			w.mu.Lock()
			w.failed, w.left = err, nil
			w.mu.Unlock()
			w.emptied(err)
			return
		}
	}
}

// behind tells whether the other side has not taken what was written.
func (w *wire) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flushing
}
