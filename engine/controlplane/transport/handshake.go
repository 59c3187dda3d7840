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
	handshakeTimeout      = 10 * time.Second // how long a TLS handshake may take, from when it began
	handshakeQueueTimeout = 5 * time.Second  // how long one waits to begin: the other side gives up some ten seconds after it connected
)

// Limits bound handshakes. Zero fields get their default.
type Limits struct {
	ConcurrentHandshakes int // TLS handshakes that compute at once; default: as many as there are processors
	HandshakesInFlight   int // TLS handshakes that are under way, waiting for the other side included; default 512
	Backlog              int // connections whose handshake has not begun; default 16384
}

func (l Limits) withDefaults() Limits {
	return Limits{cmp.Or(l.ConcurrentHandshakes, runtime.GOMAXPROCS(0)), cmp.Or(l.HandshakesInFlight, 512), cmp.Or(l.Backlog, 16384)}
}

// handshakeListener is a listener whose connections have their TLS handshake behind them. Few compute at once, so that ten
// thousand cells that come back together do not starve those that are connected: the others wait in order, in bounded
// number and for a bounded time. One that waits for its other side keeps nobody from computing.
//
// What was begun goes before what is new, and what would end too late is not begun: a server that is starved then
// finishes as many as it has time for, where one that serves all alike finishes none.
type handshakeListener struct {
	net.Listener
	config      *tls.Config
	log         zerolog.Logger
	metrics     *metrics.Metrics
	computing   *semaphore
	inFlight    chan struct{}    // one place for each that is under way
	queue       chan pendingConn // their handshake has not begun
	ready       chan net.Conn
	acceptError chan error // of Accept below: capacity 1
	closed      chan struct{}
	closeOnce   sync.Once
}

type pendingConn struct {
	conn       net.Conn
	acceptedAt time.Time
}

// late reports whether the handshake has waited for so long that the other side will have given up before its end.
func (a pendingConn) late() bool { return time.Since(a.acceptedAt) > handshakeQueueTimeout }

// newHandshakeListener serves TLS on l. Its goroutines end when it is closed.
func (s *Server) newHandshakeListener(l net.Listener, c *tls.Config) net.Listener {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	limits := s.Limits.withDefaults()
	h := &handshakeListener{
		Listener: l, config: c, log: s.Log, metrics: s.Metrics, computing: newSemaphore(max(limits.ConcurrentHandshakes, 1)), inFlight: make(chan struct{}, max(limits.HandshakesInFlight, 1)),
		queue: make(chan pendingConn, max(limits.Backlog, 0)), ready: make(chan net.Conn), acceptError: make(chan error, 1), closed: make(chan struct{}),
	}
	go h.acceptLoop()
	go h.dispatchLoop()
	return h
}

// Accept gives the next connection whose handshake went well.
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

// Close stops accepting; what has not been handed over is closed.
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
		default: // it finds out sooner than by waiting, and comes back with jitter
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
	_ = w.SetDeadline(time.Now().Add(handshakeTimeout)) // an error: it is closed, and the handshake says so
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
