package transport

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

// shutdownTimeout is how long requests that are under way have to end once a server stops.
const shutdownTimeout = 10 * time.Second

// Server answers on listeners. All fields but Limits are required.
type Server struct {
	Handle       func(w http.ResponseWriter, r *http.Request, at api.Listener)
	ConnContext  func(ctx context.Context, c net.Conn) context.Context // of a connection with TLS
	Drain        func()                                                // begins to let go of those who listen
	AwaitDrained func(ctx context.Context) error                       // once nobody listens any more
	Log          zerolog.Logger
	Metrics      *metrics.Metrics
	Limits       Limits
}

// Serve answers on the listeners until ctx ends, then lets what is under way end, and closes them. Polls that
// wait are let go with jitter, so that not all cells come back at once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	var g errgroup.Group
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := make([]*http.Server, 0, len(listeners))
	for _, l := range listeners {
		server := s.httpServer(l)
		servers = append(servers, server)
		g.Go(func() error {
			defer cancel() // one that fails stops the others
			if t, ok := l.(*tlsListener); ok {
				l = s.newHandshakeListener(t.Listener, t.config)
			} else {
				l = asyncListener{l}
			}
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	<-ended.Done()
	s.Drain()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer done()
	var stopped errgroup.Group
	for _, server := range servers {
		stopped.Go(func() error {
			err := server.Shutdown(stop)
			if err != nil {
				err = errors.Join(fmt.Errorf("stop: requests were still under way after %s: %w", shutdownTimeout, err), server.Close())
			}
			return err
		})
	}
	stopped.Go(func() error { return s.AwaitDrained(stop) })
	return errors.Join(stopped.Wait(), g.Wait())
}

// httpServer is what answers on a listener.
func (s *Server) httpServer(l net.Listener) *http.Server {
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handle(w, r, ListenerOf(r)) }),
		ReadHeaderTimeout: 10 * time.Second, // a TLS handshake's too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(s.Log, "", 0),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
	}
	if t, ok := l.(*tlsListener); ok {
		server.ConnContext = s.ConnContext
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handle(w, r, t.kind) })
	}
	return server
}

// ListenerOf is the kind of plain listener at which a request came in. What a proxy passes on may come from anywhere.
func ListenerOf(r *http.Request) api.Listener {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if len(r.Header[name]) > 0 {
			return api.Untrusted
		}
	}
	switch at := r.Context().Value(http.LocalAddrContextKey).(type) {
	case nil: // no network at all
		return api.Loopback
	case *net.UnixAddr:
		return api.Socket
	case *net.TCPAddr:
		if at.IP.IsLoopback() && r.TLS == nil {
			return api.Loopback
		}
	}
	return api.Untrusted
}
