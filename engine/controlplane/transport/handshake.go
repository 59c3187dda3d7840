package transport

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

const (
	handshakeTimeout = 10 * time.Second // for a TLS handshake, counted from its start
	// longest time in the queue: clients give up some ten seconds after they connected
	handshakeQueueTimeout = 5 * time.Second
)

// Limits bounds handshakes. Zero fields have a default.
type Limits struct {
	ConcurrentHandshakes int // handshakes that compute at once; default GOMAXPROCS
	HandshakesInFlight   int // started handshakes, those that wait for their peer too; default 512
	Backlog              int // connections whose handshake has not started; default 16384
}

func (l Limits) withDefaults() Limits {
	return Limits{cmp.Or(l.ConcurrentHandshakes, runtime.GOMAXPROCS(0)), cmp.Or(l.HandshakesInFlight, 512),
		cmp.Or(l.Backlog, 16384)}
}

// handshakeListener is a listener that returns connections after their TLS handshake. Few handshakes compute at once,
// so that ten thousand reconnecting cells do not starve connected ones: the others wait in order, in bounded number and
// for a bounded time. A handshake that waits for its peer lets others compute.
//
// Started handshakes precede new ones, and a handshake that would end too late is not started. So an overloaded server
// finishes as many handshakes as it can, where a fair one would finish none.
type handshakeListener struct {
	net.Listener
	config      *tls.Config
	log         zerolog.Logger
	metrics     *metrics.Metrics
	computing   *semaphore
	inFlight    chan struct{}    // holds one value for each started handshake
	queue       chan pendingConn // connections whose handshake has not started
	ready       chan net.Conn
	acceptError chan error // of the listener below; capacity 1
	closed      chan struct{}
	closeOnce   sync.Once
}

type pendingConn struct {
	conn       net.Conn
	acceptedAt time.Time
}

// late reports whether the client will have given up before the handshake's end.
func (a pendingConn) late() bool { return time.Since(a.acceptedAt) > handshakeQueueTimeout }

// newHandshakeListener serves TLS on l. Its goroutines end when the listener is closed.
func (s *Server) newHandshakeListener(l net.Listener, c *tls.Config) net.Listener {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	limits := s.Limits.withDefaults()
	h := &handshakeListener{
		Listener: l, config: c, log: s.Log, metrics: s.Metrics,
		computing: newSemaphore(max(limits.ConcurrentHandshakes, 1)),
		inFlight:  make(chan struct{}, max(limits.HandshakesInFlight, 1)),
		queue:     make(chan pendingConn, max(limits.Backlog, 0)), ready: make(chan net.Conn),
		acceptError: make(chan error, 1), closed: make(chan struct{}),
	}
	go h.acceptLoop()
	go h.dispatchLoop()
	return h
}

// Accept returns the next connection whose handshake succeeded.
func (h *handshakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.ready:
		return c, nil
	case err := <-h.acceptError:
		return nil, err
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting, and closes connections that Accept has not returned.
func (h *handshakeListener) Close() error {
	h.closeOnce.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

func (h *handshakeListener) acceptLoop() {
	pause := 5 * time.Millisecond
	for {
		c, err := h.Listener.Accept()
		if err != nil {
			var t interface{ Temporary() bool }
			if !errors.As(err, &t) || !t.Temporary() || errors.Is(err, net.ErrClosed) {
				h.acceptError <- err
				close(h.queue)
				return
			}
			h.log.Error().Err(err).Msg("connections can't be accepted")
			select {
			case <-time.After(pause):
			case <-h.closed:
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		select {
		case h.queue <- pendingConn{c, time.Now()}:
		default: // a closed connection is retried with jitter, sooner than after a timeout
			h.metrics.CountShed("backlog")
			_ = c.Close()
		}
	}
}

func (h *handshakeListener) dispatchLoop() {
	for a := range h.queue {
		select {
		case h.inFlight <- struct{}{}:
		case <-h.closed:
			_ = a.conn.Close()
			continue
		}
		if a.late() {
			h.metrics.CountShed("late")
			_ = a.conn.Close()
			<-h.inFlight
			continue
		}
		h.metrics.Handshakes.Inc()
		go h.handshake(a)
	}
}

func (h *handshakeListener) handshake(a pendingConn) {
	defer func() {
		h.metrics.Handshakes.Dec()
		<-h.inFlight
	}()
	w := newAsyncConn(a.conn)
	w.permit = &permit{semaphore: h.computing, late: a.late}
	_ = w.SetDeadline(time.Now().Add(handshakeTimeout)) // an error means a closed connection, which Handshake reports
	c := tls.Server(w, h.config)
	err := c.Handshake() //nolint:noctx // the deadline bounds it, without a goroutine more
	w.endHandshake()
	if errors.Is(err, errLate) {
		h.metrics.CountShed("late")
	}
	if err == nil {
		err = w.SetDeadline(time.Time{})
	}
	if err != nil {
		h.log.Debug().Err(err).Str("remote", a.conn.RemoteAddr().String()).Msg("TLS handshake failed")
		_ = a.conn.Close()
		return
	}
	select {
	case h.ready <- c:
	case <-h.closed:
		_ = a.conn.Close()
	}
}
