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
	handshakeWithin = 10 * time.Second // how long a TLS handshake may take, from when it began
	beginWithin     = 5 * time.Second  // how long one waits to begin: the other side gives up some ten seconds after it connected
)

// Limits bound handshakes. Zero fields get their default.
type Limits struct {
	Handshakes int // TLS handshakes that compute at once; default: as many as there are processors
	Handshaken int // TLS handshakes that are under way, waiting for the other side included; default 512
	Backlog    int // connections whose handshake has not begun; default 16384
}

func (l Limits) withDefaults() Limits {
	return Limits{cmp.Or(l.Handshakes, runtime.GOMAXPROCS(0)), cmp.Or(l.Handshaken, 512), cmp.Or(l.Backlog, 16384)}
}

// handshakes is a listener whose connections have their TLS handshake behind them. Few compute at once, so that ten
// thousand cells that come back together do not starve those that are connected: the others wait in order, in bounded
// number and for a bounded time. One that waits for its other side keeps nobody from computing.
//
// What was begun goes before what is new, and what would end too late is not begun: a server that is starved then
// finishes as many as it has time for, where one that serves all alike finishes none.
type handshakes struct {
	net.Listener
	config    *tls.Config
	log       zerolog.Logger
	metrics   *metrics.Metrics
	computing *slots
	under     chan struct{} // one place for each that is under way
	accepted  chan arrival  // their handshake has not begun
	ready     chan net.Conn
	failed    chan error // of Accept below: capacity 1
	closed    chan struct{}
	closing   sync.Once
}

type arrival struct {
	conn net.Conn
	at   time.Time
}

// late reports whether the handshake has waited for so long that the other side will have given up before its end.
func (a arrival) late() bool { return time.Since(a.at) > beginWithin }

// handshaken serves TLS on l. Its goroutines end when it is closed.
func (s *Server) handshaken(l net.Listener, c *tls.Config) net.Listener {
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	limits := s.Limits.withDefaults()
	h := &handshakes{
		Listener: l, config: c, log: s.Log, metrics: s.Metrics, computing: newSlots(max(limits.Handshakes, 1)), under: make(chan struct{}, max(limits.Handshaken, 1)),
		accepted: make(chan arrival, max(limits.Backlog, 0)), ready: make(chan net.Conn), failed: make(chan error, 1), closed: make(chan struct{}),
	}
	go h.accept()
	go h.dispatch()
	return h
}

// Accept gives the next connection whose handshake went well.
func (h *handshakes) Accept() (net.Conn, error) {
	select {
	case c := <-h.ready:
		return c, nil
	case err := <-h.failed:
		return nil, err
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting; what has not been handed over is closed.
func (h *handshakes) Close() error {
	h.closing.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

func (h *handshakes) accept() {
	pause := 5 * time.Millisecond
	for {
		c, err := h.Listener.Accept()
		if err != nil {
			var t interface{ Temporary() bool }
			if !errors.As(err, &t) || !t.Temporary() || errors.Is(err, net.ErrClosed) {
				h.failed <- err
				close(h.accepted)
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
		case h.accepted <- arrival{c, time.Now()}:
		default: // it finds out sooner than by waiting, and comes back with jitter
			h.metrics.Shed("backlog")
			_ = c.Close()
		}
	}
}

func (h *handshakes) dispatch() {
	for a := range h.accepted {
		select {
		case h.under <- struct{}{}:
		case <-h.closed:
			_ = a.conn.Close()
			continue
		}
		if a.late() {
			h.metrics.Shed("late")
			_ = a.conn.Close()
			<-h.under
			continue
		}
		h.metrics.Handshakes.Inc()
		go h.shake(a)
	}
}

func (h *handshakes) shake(a arrival) {
	defer func() {
		h.metrics.Handshakes.Dec()
		<-h.under
	}()
	w := newWire(a.conn)
	w.slot = &slot{of: h.computing, late: a.late}
	_ = w.SetDeadline(time.Now().Add(handshakeWithin)) // an error: it is closed, and the handshake says so
	c := tls.Server(w, h.config)
	err := c.Handshake() //nolint:noctx // the deadline bounds it, without a goroutine more
	w.handshaken()
	if errors.Is(err, errLate) {
		h.metrics.Shed("late")
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
