package transport

import (
	"cmp"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

const (
	handshakeTimeout = 5 * time.Second // for a TLS handshake, counted from its start
	// handshakeQueueTimeout is the longest time in the queue. Agents wait 30 s for their handshake: who is cut earlier
	// comes back, and costs the server one more connection.
	handshakeQueueTimeout = 20 * time.Second
)

// Limits bounds connections and handshakes. Zero fields have a default.
type Limits struct {
	ConcurrentHandshakes int // handshakes that compute at once; default GOMAXPROCS
	Backlog              int // connections whose handshake waits to start; default 16384
	Strangers            int // connections of strangers that keep the server waiting; default by the descriptors
}

func (l Limits) withDefaults() Limits {
	l.ConcurrentHandshakes = max(cmp.Or(l.ConcurrentHandshakes, runtime.GOMAXPROCS(0)), 1)
	l.Backlog = max(cmp.Or(l.Backlog, 16384), 0)
	return l
}

// guardedListener is a listener that returns connections after their first byte and, with TLS, their handshake. Silent
// peers cost a goroutine and a descriptor each, for a short while, and hold no place that another needs: see admission.
//
// Few handshakes compute at once, so that ten thousand reconnecting cells do not starve connected ones: the others wait
// in order, in bounded number and for a bounded time. A handshake that waits for its peer lets others compute. Started
// handshakes precede new ones, and a handshake that would end too late is not started. So an overloaded server finishes
// as many handshakes as it can, where a fair one would finish none.
type guardedListener struct {
	net.Listener
	config      *tls.Config // nil: plain
	kind        api.Listener
	knowsPeer   func(tls.ConnectionState) bool
	log         zerolog.Logger
	metrics     *metrics.Metrics
	admission   *admission
	computing   *semaphore
	ready       chan net.Conn
	acceptError chan error // of the listener below; capacity 1
	closed      chan struct{}
	closeOnce   sync.Once
}

// guard serves l, plain or by TLS. Its goroutines end when the listener is closed.
func (s *Server) guard(l net.Listener, a *admission) net.Listener {
	limits := s.Limits.withDefaults()
	h := &guardedListener{
		Listener: l, kind: api.Loopback, knowsPeer: s.KnowsPeer, log: s.Log, metrics: s.Metrics, admission: a,
		computing: newSemaphore(limits.ConcurrentHandshakes, limits.Backlog),
		ready:     make(chan net.Conn), acceptError: make(chan error, 1), closed: make(chan struct{}),
	}
	if t, ok := l.(*tlsListener); ok {
		h.Listener, h.kind, h.config = t.Listener, t.kind, t.config.Clone()
		h.config.NextProtos = []string{"h2", "http/1.1"}
	}
	go h.acceptLoop()
	return h
}

// Accept returns the next connection that is ready for requests.
func (h *guardedListener) Accept() (net.Conn, error) {
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
func (h *guardedListener) Close() error {
	h.closeOnce.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

func (h *guardedListener) acceptLoop() {
	pause := 5 * time.Millisecond
	for {
		c, err := h.Listener.Accept()
		if err != nil {
			var t interface{ Temporary() bool }
			if !errors.As(err, &t) || !t.Temporary() || errors.Is(err, net.ErrClosed) {
				h.acceptError <- err
				return
			}
			h.log.Error().Err(err).Msg("connections can't be accepted")
			h.admission.makeRoom()
			select {
			case <-time.After(pause):
			case <-h.closed:
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		w, now := newAsyncConn(c), time.Now()
		if !h.admission.enter(w, now) { // a closed connection is retried with jitter, sooner than after a timeout
			h.metrics.CountShed("connections")
			_ = c.Close()
			continue
		}
		go h.receive(w, now)
	}
}

// receive passes a connection on once it is ready for requests.
func (h *guardedListener) receive(w *asyncConn, acceptedAt time.Time) {
	ready, err := net.Conn(w), w.awaitFirstByte(acceptedAt.Add(firstByteTimeout))
	if err == nil && h.config != nil {
		ready, err = h.handshake(w, acceptedAt)
	}
	if err != nil {
		h.log.Debug().Err(err).Str("remote", w.RemoteAddr().String()).Msg("the peer sent nothing, or no TLS handshake")
		_ = w.Close()
		return
	}
	select {
	case h.ready <- ready:
	case <-h.closed:
		_ = w.Close()
	}
}

// handshake makes the TLS handshake of a connection whose first byte has come.
func (h *guardedListener) handshake(w *asyncConn, acceptedAt time.Time) (net.Conn, error) {
	h.admission.heardPeer(&w.visit)
	w.permit = &permit{semaphore: h.computing,
		late: func() bool { return time.Since(acceptedAt) > handshakeQueueTimeout }}
	if err := w.permit.acquire(); err != nil {
		w.permit.release()
		h.metrics.CountShed(shedReason(err))
		return nil, err
	}
	h.metrics.Handshakes.Inc()
	defer h.metrics.Handshakes.Dec()
	_ = w.SetDeadline(time.Now().Add(handshakeTimeout)) // an error means a closed connection, which Handshake reports
	c := tls.Server(w, h.config)
	err := c.Handshake() //nolint:noctx // the deadline bounds it, without a goroutine more
	w.endHandshake()
	if err != nil {
		return nil, err
	}
	if h.kind == api.Cells {
		w.key = keyOf(c.ConnectionState())
	}
	switch {
	case h.kind == api.Cells && h.knowsPeer(c.ConnectionState()):
		w.Welcome()
	case h.kind == api.Cells:
		w.nobody.Store(true)
		h.admission.limitStay(&w.visit, registrationTimeout)
		h.admission.awaitPeer(&w.visit)
	default:
		h.admission.awaitPeer(&w.visit)
	}
	return c, w.SetDeadline(time.Time{})
}

// keyOf returns the key that a peer proved, if it is of the kind that cells have.
func keyOf(s tls.ConnectionState) string {
	if len(s.PeerCertificates) == 0 {
		return ""
	}
	key, _ := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	return string(key)
}

func shedReason(err error) string {
	if errors.Is(err, errLate) {
		return "late"
	}
	return "backlog"
}
