// Package controlplane is the control plane's HTTP server. It joins the cells' and the people's routes in one table and
// wraps every request: request id, limits, recovery from panics, one log line, metrics.
//
//	api        shared by all route packages: Route, Caller, problem+json, event streams
//	auth       identifies and authorises callers, for every row of the table
//	cellapi    routes for cells: desired state, content, reports, keys
//	imageapi   routes for pulls of images
//	peopleapi  routes for people: plan, status, tokens, flags, hooks, pages
//	signin     who signs in at an identity provider, and workloads
//	sessionapi debug sessions: both ends of one, joined, and its record
//	consoleapi the console: pages for people with live regions, which package console renders
//	transport  listeners, TLS, handshakes, connections
//	debugapi   requests for debug access
//	metrics    Prometheus metrics
//	limit      rate and concurrency limits
//	bulletin   release notes and announcements as pages
//
// Imports go one way: route packages import api and auth, never each other, and no package below imports this one. A
// new group of routes (a registry, say) is a package beside cellapi: small structs whose methods are handlers, a New
// that takes their dependencies, and Routes(api.Docs) []api.Route, each route with its audience. New below creates the
// group and adds its routes to the table; then go test -update writes docs/openapi.json and docs/access.md. A role's
// new permissions belong in engine/access.
//
// The server decides nothing and stores nothing. Everything that it reads is limited in size and time. Errors are
// problem+json (RFC 9457) and end with the next step. All methods may be called from any goroutine.
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

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/cellapi"
	"github.com/sluice-cd/sluice/engine/controlplane/consoleapi"
	"github.com/sluice-cd/sluice/engine/controlplane/debugapi"
	"github.com/sluice-cd/sluice/engine/controlplane/imageapi"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/controlplane/sessionapi"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// Members holds the cells' identities, in memory and in the store, on their way into git.
type Members interface {
	auth.Members
	cellapi.Members
	peopleapi.Members
}

// Tokens stores operators' tokens and cells' one-time tokens by the hash of their secrets, and the audit.
type Tokens interface {
	auth.Tokens
	peopleapi.Tokens
}

// Limits bounds the rate of requests and how many may be in flight.
type Limits struct {
	Cells     cellapi.Limits
	Images    imageapi.Limits
	Transport transport.Limits
	Events    int // concurrent followers of /v1/events; default 64
}

// Options configures a Server. Views, Inbox, Repository and Journal are required.
type Options struct {
	Views      api.Views
	Inbox      cellapi.Inbox
	Repository api.Repository
	Journal    peopleapi.Journal
	Log        zerolog.Logger

	Members Members // nil if cells have no keys
	Tokens  Tokens  // nil if there are no tokens
	Facts   auth.Facts
	SignIn  *signin.Service // nil: nobody can sign in, and no workload is recognised
	// TLS keys of the cells' listener; nil if there is none, and cells name themselves on this machine
	Keys    *transport.Keys
	Address string // HOST:PORT under which cells reach their listener

	Desk      consoleapi.Desk // makes the commits that people ask for in forms; nil: none are made
	Committer releases.Person // who commits for them
	// ConsoleAs is whom everyone at plain loopback acts as in the console; nil: they only read
	ConsoleAs *access.Person

	Flags  peopleapi.Killer // nil without a flags repository
	Outbox engine.Outbox    // queue of webhooks; nil without one
	Images *images.Service  // nil: no images are served
	// Takes what cells export; nil: nothing is taken
	Exports *exports.Keeper
	// Keeps requests for debug access; nil: there is none
	Debug *debugging.Keeper

	History func() (*plan.History, error) // of consoleapi.Options
	Records records.Store                 // of consoleapi.Options

	OnPush     func() // called after a push to Branch; nil turns hooks off
	HookSecret string // signing secret shared with the git host; empty turns hooks off
	Branch     string // empty: a push to any branch counts

	MaxUnreachable time.Duration                   // longest outage of the repository while ready; default 5 min
	CheckStore     func(ctx context.Context) error // checks the store; nil: not checked

	Trust        func() *trust.Published // files by which cells verify releases, nil for none; nil: nothing is signed
	ContentDir   string                  // folder for large content; empty: the system's for temporary files
	Metrics      *prometheus.Registry    // default: a new one
	PollInterval time.Duration           // for cells that poll without waiting; default 15 s
	Limits       Limits
	Stats        func() engine.Stats    // engine counters to export; nil: none
	Collectors   []prometheus.Collector // further collectors to register
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	for name, missing := range map[string]bool{"Views": o.Views == nil, "Inbox": o.Inbox == nil,
		"Repository": o.Repository == nil, "Journal": o.Journal == nil} {
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

// pins returns the pins of the control plane's keys, or nil without a cells' listener.
func (o Options) pins() []string {
	if o.Keys == nil {
		return nil
	}
	return o.Keys.Pins
}

// signedPins returns the sets of pins that lead to pins.
func (o Options) signedPins() []cells.SignedPins {
	if o.Keys == nil {
		return nil
	}
	return o.Keys.SignedPins
}

// Server is the control plane's HTTP server.
type Server struct {
	log       zerolog.Logger
	metrics   *metrics.Metrics
	mux       *mux
	auth      *auth.Auth
	cells     *cellapi.API
	limits    transport.Limits
	drainOnce sync.Once
	shutdown  chan struct{} // closed by Drain: long polls and streams end
}

// New returns a server and starts nothing: Handler is ready to be served, for instance by Serve.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{log: o.Log, limits: o.Limits.Transport, shutdown: make(chan struct{})}
	counted := metrics.Options{Registry: o.Metrics, View: o.Views.View, Flags: o.Flags != nil, Stats: o.Stats,
		Trust: o.Trust, Collectors: o.Collectors}
	if store, ok := o.Journal.(interface{ Reads() int64 }); ok {
		counted.Reads = store.Reads
	}
	if s.metrics, err = metrics.New(counted); err != nil {
		return nil, err
	}
	callers := auth.Options{Members: o.Members, View: o.Views.View, Tokens: o.Tokens, Facts: o.Facts,
		ConsoleAs: o.ConsoleAs, Keyed: o.Keys != nil, Log: o.Log, Metrics: s.metrics}
	if o.SignIn != nil {
		callers.SignIn = o.SignIn
	}
	a := auth.New(callers)
	s.auth = a
	s.cells = cellapi.New(cellapi.Options{
		Views: o.Views, Repository: o.Repository, Inbox: o.Inbox, Members: o.Members, Auth: a, Pins: o.pins(),
		Exports: o.Exports, Debug: o.Debug,
		SignedPins: o.signedPins(), PollInterval: o.PollInterval, Limits: o.Limits.Cells,
		Trust: o.Trust, ContentDir: o.ContentDir, Shutdown: s.shutdown, Metrics: s.metrics, Log: o.Log,
	})
	people := peopleapi.New(peopleapi.Options{
		Views: o.Views, Repository: o.Repository, Journal: o.Journal, Auth: a, Members: o.Members, Tokens: o.Tokens,
		Pins: o.pins(), Address: o.Address, Flags: o.Flags, Outbox: o.Outbox, OnPush: o.OnPush,
		HookSecret: o.HookSecret, Branch: o.Branch, Facts: o.Facts,
		Followers: o.Limits.Events, Shutdown: s.shutdown, Metrics: s.metrics, Log: o.Log,
		Images: summariseImages(o.Images), Exports: o.Exports,
	})
	rows, _ := o.Tokens.(consoleapi.Audit)         // a store has both; nil: there is no audit
	events, _ := o.Journal.(consoleapi.CellEvents) // a store has both; nil: no cell's history is known
	var exported consoleapi.CellExports
	if o.Exports != nil {
		exported = o.Exports
	}
	consolePages := consoleapi.New(consoleapi.Options{Views: o.Views, Repository: o.Repository, Journal: o.Journal,
		Auth: a, Facts: o.Facts, History: o.History, Records: o.Records, Desk: o.Desk, Killer: o.Flags,
		Committer: o.Committer, ConsoleAs: o.ConsoleAs, Audit: rows, Events: events, Exports: exported,
		Dir: o.ContentDir, Shutdown: s.shutdown, Log: o.Log})
	probes := &probes{views: o.Views, maxUnreachable: o.MaxUnreachable,
		checkStore: o.CheckStore, shutdown: s.shutdown}

	s.mux = newMux(a)
	d := docsOf(s.mux.api)
	s.mux.addRoutes(s.cells.Routes(d))
	if o.Images != nil {
		pulls := imageapi.New(imageapi.Options{Views: o.Views, Images: o.Images, Auth: a, Limits: o.Limits.Images})
		s.mux.addRoutes(pulls.Routes(d))
	}
	s.mux.addRoutes(people.Routes(d))
	if o.Debug != nil {
		asked := debugapi.Options{Views: o.Views, Requests: o.Debug, Auth: a, Log: o.Log}
		if o.Records != nil {
			sessions := sessionapi.New(sessionapi.Options{Views: o.Views, Auth: a, Requests: o.Debug,
				Records: debugrecords.New(o.Records), Throttle: s.cells, Dir: o.ContentDir, Shutdown: s.shutdown})
			s.mux.addRoutes(sessions.Routes(d))
			asked.IsLive = sessions.IsLive
		}
		s.mux.addRoutes(debugapi.New(asked).Routes(d))
	}
	s.mux.addRoutes(signin.NewAPI(o.SignIn, o.Log).Routes(d))
	s.mux.addRoutes(consolePages.Routes(d))
	s.mux.addRoutes(probes.routes(d, s.metrics.Handler))
	s.mux.addRoutes(openAPIRoutes(s.mux.api))
	return s, s.mux.err()
}

// Routes returns the table of all routes with their audiences.
func (s *Server) Routes() []api.Route { return slices.Clone(s.mux.table) }

// Handler serves plain connections. What a caller may do depends on the listener: loopback, a unix socket, or another.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serveRequest(w, r, transport.ListenerOf(r))
	})
}

// Serve serves the listeners until ctx ends, then lets requests in flight finish and closes the listeners.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	t := &transport.Server{
		Handle: s.serveRequest, ConnContext: auth.WithPeer, KnowsPeer: s.auth.KnowsPeer,
		Drain: s.Drain, AwaitDrained: s.cells.AwaitDrained,
		Log: s.log, Metrics: s.metrics, Limits: s.limits,
	}
	err := t.Serve(ctx, listeners...)
	s.auth.Close()
	return err
}

// Drain ends long polls and streams with jitter over a few seconds, so that the server can stop. Each client receives a
// time after which to retry. New requests no longer wait.
func (s *Server) Drain() {
	s.drainOnce.Do(func() {
		close(s.shutdown)
		s.cells.Drain()
	})
}

// summariseImages returns what sums up a service of images for people; nil: there is none.
func summariseImages(service *images.Service) func() *view.ImagesSummary {
	if service == nil {
		return nil
	}
	return func() *view.ImagesSummary {
		u := service.Usage()
		return &view.ImagesSummary{Pulls: u.Pulls, Hits: u.Hits, FetchedBytes: u.Fetched, ServedBytes: u.Served,
			UsedBytes: u.Used, QuotaBytes: u.Quota, Lacking: u.Lacking, LackingBytes: u.LackingBytes,
			Fault: u.RegistriesProblem}
	}
}
