// Package imagerelay passes pulls of images from programs on this machine to the control plane, over the connection
// that the cell's key proves. It keeps nothing and decides nothing: the control plane knows what the cell may have.
//
// On the nodes of a cluster, which have no key of the cell, the same relay passes pulls on to the agent's: the agent
// lets in who has the token of an Access (Door), and a node part sends pulls there (Through). By the same door comes
// what the programs on nodes measure, for cells/agent/exporter.
package imagerelay

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"path"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

const (
	// Connections is how many connections to the control plane pulls have at most.
	Connections = 4
	maxHeader   = 16 << 10 // bytes
	chunk       = 64 << 10 // bytes between two looks at the rate
	burst       = 1 << 20  // bytes
	grace       = time.Second
)

// Options configures a Relay.
type Options struct {
	To   http.RoundTripper // to the control plane, as this cell
	Rate int64             // bytes a second that pulls may take of the line; 0: all
	Log  zerolog.Logger
}

// Relay passes pulls on. Methods may be called at once; all pulls share the connections and the rate.
type Relay struct {
	handler http.Handler
	log     zerolog.Logger
}

// New returns a relay and starts nothing.
func New(o Options) *Relay { return &Relay{handler(o), o.Log} }

// Serve passes on what comes to l until ctx ends.
func (r *Relay) Serve(ctx context.Context, l net.Listener) { r.serve(ctx, l, r.handler) }

func (r *Relay) serve(ctx context.Context, l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: log.New(r.log, "", 0)}
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		within, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if s.Shutdown(within) != nil {
			_ = s.Close()
		}
	})
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		r.log.Error().Err(err).Msg("images are no longer passed on: restart this program")
	}
	<-closed
}

func handler(o Options) http.Handler {
	limiter := rate.NewLimiter(rate.Inf, burst)
	if o.Rate > 0 {
		limiter.SetLimit(rate.Limit(o.Rate))
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", "control-plane" // the transport replaces both
			// What a client of this machine says about itself is not the control plane's business.
			for name := range r.Out.Header {
				if name != "Range" && name != "Accept" && name != "If-None-Match" && name != "If-Range" {
					r.Out.Header.Del(name)
				}
			}
			r.Out.Header.Set("User-Agent", "sluice-agent")
		},
		Transport: o.To,
		ModifyResponse: func(r *http.Response) error {
			if o.Rate > 0 {
				r.Body = &paced{r.Body, r.Request.Context(), limiter}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			o.Log.Warn().Err(err).Msg("an image's content was not passed on")
			writeError(w, http.StatusBadGateway, "UNAVAILABLE", "The control plane can't be reached: this relay's log says why.")
		},
		ErrorLog: log.New(o.Log, "", 0),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "Images can only be pulled here.")
		case !isRegistryPath(r.URL.Path):
			writeError(w, http.StatusNotFound, "NAME_UNKNOWN", "Only a registry's paths, below /v2/, are here.")
		default:
			proxy.ServeHTTP(w, r)
		}
	})
}

// isRegistryPath reports whether a path is a registry's, also for a server that takes /v2/../ for /.
func isRegistryPath(p string) bool {
	return strings.TrimSuffix(p, "/") == path.Clean(p) && (p == "/v2" || strings.HasPrefix(p, "/v2/"))
}

// writeError answers as registries do. The words need no escaping.
func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"errors":[{"code":"`+code+`","message":"`+message+`"}]}`+"\n") // the client may be gone
}

// paced reads a body at the relay's rate.
type paced struct {
	io.ReadCloser
	ctx     context.Context
	limiter *rate.Limiter
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b[:min(len(b), chunk)])
	if n > 0 {
		if stopped := p.limiter.WaitN(p.ctx, n); stopped != nil {
			return n, stopped
		}
	}
	return n, err
}
