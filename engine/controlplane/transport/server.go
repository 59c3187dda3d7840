package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

// shutdownTimeout bounds requests in flight after the server begins to stop.
const shutdownTimeout = 10 * time.Second

// Server serves listeners. All fields except Limits are required.
type Server struct {
	Handle       func(w http.ResponseWriter, r *http.Request, at api.Listener)
	ConnContext  func(ctx context.Context, c net.Conn) context.Context
	KnowsPeer    func(tls.ConnectionState) bool  // reports whether the key that a peer proved is a cell's
	Drain        func()                          // begins to end streams and long polls
	AwaitDrained func(ctx context.Context) error // returns when all have ended
	Log          zerolog.Logger
	Metrics      *metrics.Metrics
	Limits       Limits
}

// Serve serves the listeners until ctx ends, then waits for requests in flight and closes the listeners. Waiting polls
// end with jitter, so that cells do not reconnect all at once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	var g errgroup.Group
	admitted := &admission{maxStrangers: s.Limits.Strangers, metrics: s.Metrics}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := make([]*http.Server, 0, len(listeners))
	for _, l := range listeners {
		server := s.httpServer(l)
		servers = append(servers, server)
		g.Go(func() error {
			defer cancel()                    // a listener's failure stops the others
			if l.Addr().Network() == "unix" { // its owner is no stranger
				l = asyncListener{l}
			} else {
				l = s.guard(l, admitted)
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
				err = errors.Join(fmt.Errorf("stop: requests were still in flight after %s: %w", shutdownTimeout, err),
					server.Close())
			}
			return err
		})
	}
	stopped.Go(func() error { return s.AwaitDrained(stop) })
	return errors.Join(stopped.Wait(), g.Wait())
}

// httpServer returns the HTTP server of a listener.
func (s *Server) httpServer(l net.Listener) *http.Server {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.Handle(w, r, ListenerOf(r))
		}),
		ReadHeaderTimeout: 10 * time.Second, // includes a TLS handshake
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(debugLog{s.Log}, "", 0),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
		ConnContext:       s.ConnContext,
	}
	if t, ok := l.(*tlsListener); ok {
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handle(w, r, t.kind) })
	}
	return server
}

// ListenerOf returns the kind of plain listener at which a request arrived. Requests through a proxy are untrusted.
func ListenerOf(r *http.Request) api.Listener {
	if throughProxy(r) {
		return api.Untrusted
	}
	switch at := r.Context().Value(http.LocalAddrContextKey).(type) {
	case nil: // without a network, as in tests
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

// throughProxy reports whether a proxy passed a request on: by its headers, or by HTTP/1.0, which nginx speaks unless
// it is told otherwise, and no client of today. A proxy that adds nothing can't be told from a program on this machine
// (R57): docs/operating.md says where to put it.
func throughProxy(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		switch name {
		case "Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Originating-Ip", "X-Remote-Ip",
			"X-Remote-Addr", "X-Proxyuser-Ip", "True-Client-Ip", "Client-Ip", "Fastly-Client-Ip", "X-Scheme",
			"Cdn-Loop", "X-Arr-Log-Id":
			return true
		}
		for _, prefix := range []string{"X-Forwarded", "X-Original-", "X-Envoy-", "X-Azure-", "X-Appengine-", "Cf-"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// debugLog logs what net/http says of connections, which any stranger can make it say.
type debugLog struct{ log zerolog.Logger }

func (d debugLog) Write(text []byte) (int, error) {
	d.log.Debug().Msg(strings.TrimSpace(string(text)))
	return len(text), nil
}
