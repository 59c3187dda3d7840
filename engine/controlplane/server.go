// Package controlplane is the control plane's HTTP server. It puts the sides together into one table of routes, and stands
// around every request: its id, its limits, what becomes of a panic, one line in the log, the metrics.
//
//	api        what all sides share: Route, Caller, problem+json, event streams
//	auth       who asks, and whether they may: the only place where that is judged, for every row of the table
//	cellapi    the cells' side: desired, content, reports, keys
//	peopleapi  the people's side: plan, status, tokens, flags, hooks, pages
//	transport  listeners, TLS, handshakes, connections
//	metrics, limit, bulletin: counting, bounding, pages for readers
//
// Arrows go one way: the sides know api and auth, not each other, and nothing below knows this package. A new side (a
// console, a registry, debug access, export) is a package beside cellapi: small structs whose methods are handlers, a New
// that takes what they need, and Routes(api.Docs) []api.Route, each with who may use it. It is made in New and added to the
// table there; then docs/openapi.json and docs/access.md are written anew (go test -update). What it lets callers do that
// no role says yet is added to engine/access.
//
// The server decides nothing and keeps nothing. Everything that is read has a size and a time limit, errors are
// problem+json (RFC 9457) and say what to do next. All methods may be called from any goroutine.
package controlplane

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/cellapi"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// Members is who is which cell, kept in memory and in the store, and on its way into git.
type Members interface {
	auth.Members
	cellapi.Members
	peopleapi.Members
}

// Tokens keeps operators' tokens and cells' one-time tokens, by the hash of their secrets, and the audit.
type Tokens interface {
	auth.Tokens
	peopleapi.Tokens
}

// Limits bound what is asked for, and what is under way at once.
type Limits struct {
	Cells     cellapi.Limits
	Transport transport.Limits
	Events    int // people that follow /v1/events at once; default 64
}

// Options of a Server. Views, Inbox, Repository and Journal are required.
type Options struct {
	Views      api.Views
	Inbox      cellapi.Inbox
	Repository api.Repository
	Journal    peopleapi.Journal
	Log        zerolog.Logger

	Members Members         // nil: cells have no keys
	Tokens  Tokens          // nil: nobody has a token
	Keys    *transport.Keys // what is said to cells at their listener; nil: they have none, and name themselves on this machine
	Address string          // HOST:PORT under which cells reach their listener

	Flags  peopleapi.Killer // nil: there is no flags repository
	Outbox engine.Outbox    // of webhooks; nil: there are none

	Pushed     func() // told of a push to Branch; nil: hooks are not served
	HookSecret string // what the git host signs with; empty: hooks are not served
	Branch     string // default: a push to any branch counts

	Reachable      func() error                    // why the release repository can't be read; nil: not looked at
	MaxUnreachable time.Duration                   // not ready once that lasted for so long; default 5 min
	Store          func(ctx context.Context) error // whether the store works; nil: not looked at

	Metrics      *prometheus.Registry   // default: a new one
	PollInterval time.Duration          // when a cell that does not wait is told to ask again; default 15 s
	Limits       Limits                 // of what may be asked for
	Numbers      func() engine.Numbers  // for the metrics; nil: not shown
	Collect      []prometheus.Collector // what else the metrics tell of
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	for name, missing := range map[string]bool{"Views": o.Views == nil, "Inbox": o.Inbox == nil, "Repository": o.Repository == nil, "Journal": o.Journal == nil} {
		if missing {
			errs = append(errs, errors.New("controlplane.Options."+name+" is required"))
		}
	}
	if o.MaxUnreachable <= 0 {
		o.MaxUnreachable = 5 * time.Minute
	}
	if o.PollInterval <= 0 {
		o.PollInterval = 15 * time.Second
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if o.Limits.Events == 0 {
		o.Limits.Events = 64
	}
	return o, errors.Join(errs...)
}

// pins are what cells know the control plane by; none, where they have no listener.
func (o Options) pins() []string {
	if o.Keys == nil {
		return nil
	}
	return o.Keys.Pins
}

// Server is the control plane's HTTP side.
type Server struct {
	log       zerolog.Logger
	metrics   *metrics.Metrics
	mux       *mux
	cells     *cellapi.API
	limits    transport.Limits
	drainOnce sync.Once
	shutdown  chan struct{} // closed by Drain: long polls and streams end
}

// New makes a server. It starts nothing: Handler is ready to be served, by Serve for instance.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Log, limits: o.Limits.Transport, shutdown: make(chan struct{})}
	counted := metrics.Options{Registry: o.Metrics, View: o.Views.View, Flags: o.Flags != nil, Numbers: o.Numbers, Collect: o.Collect}
	if store, ok := o.Journal.(interface{ Reads() int64 }); ok {
		counted.Reads = store.Reads
	}
	if s.metrics, err = metrics.New(counted); err != nil {
		return nil, err
	}
	a := auth.New(auth.Options{Members: o.Members, Tokens: o.Tokens, Keyed: o.Keys != nil, Log: o.Log, Metrics: s.metrics})
	s.cells = cellapi.New(cellapi.Options{
		Views: o.Views, Repository: o.Repository, Inbox: o.Inbox, Members: o.Members, Auth: a, Pins: o.pins(),
		PollInterval: o.PollInterval, Limits: o.Limits.Cells, Shutdown: s.shutdown, Metrics: s.metrics, Log: o.Log,
	})
	people := peopleapi.New(peopleapi.Options{
		Views: o.Views, Repository: o.Repository, Journal: o.Journal, Auth: a, Members: o.Members, Tokens: o.Tokens,
		Pins: o.pins(), Address: o.Address, Flags: o.Flags, Outbox: o.Outbox, Pushed: o.Pushed, HookSecret: o.HookSecret, Branch: o.Branch,
		Followers: o.Limits.Events, Shutdown: s.shutdown, Metrics: s.metrics, Log: o.Log,
	})
	probes := &probes{views: o.Views, repositoryError: o.Reachable, maxUnreachable: o.MaxUnreachable, checkStore: o.Store, shutdown: s.shutdown}

	s.mux = newMux(a)
	d := docsOf(s.mux.api)
	s.mux.addRoutes(s.cells.Routes(d))
	s.mux.addRoutes(people.Routes(d))
	s.mux.addRoutes(probes.routes(d, s.metrics.Handler))
	s.mux.addRoutes(openAPIRoutes(s.mux.api))
	return s, s.mux.err()
}

// Routes is the table of what there is, and who may use it.
func (s *Server) Routes() []api.Route { return slices.Clone(s.mux.table) }

// Handler answers what came in the plain. Who may do what depends on where: on loopback, on a unix socket, or elsewhere.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveRequest(w, r, transport.ListenerOf(r)) })
}

// Serve answers on the listeners until ctx ends, then lets what is under way end, and closes them.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	t := &transport.Server{
		Handle: s.serveRequest, ConnContext: auth.WithPeer, Drain: s.Drain, AwaitDrained: s.cells.AwaitDrained, Log: s.log, Metrics: s.metrics, Limits: s.limits,
	}
	return t.Serve(ctx, listeners...)
}

// Drain lets those who listen go, with jitter over a few seconds, so that a server can stop; each is told when to come
// back. Nobody can wait any more. Drained says when all have gone.
func (s *Server) Drain() {
	s.drainOnce.Do(func() {
		close(s.shutdown)
		s.cells.Drain()
	})
}

// Drained waits until no cell listens any more, or ctx ends: then it cuts those that still do.
func (s *Server) Drained(ctx context.Context) error { return s.cells.AwaitDrained(ctx) }
