// Package controlplane answers cells and people over HTTP: what is desired of a cell, the bytes of
// its release, its reports; and for people the plan, status, why, events, health and metrics.
//
// It decides nothing and keeps nothing: every answer comes from the engine's last View, which is
// immutable, and a report is acknowledged once the engine's Inbox says that it is durable (invariant 8).
// An idle poll reads no database. Errors are problem+json (RFC 9457) and say what to do next; what
// happened inside goes to the log, once for each request. Everything that is read has a size and a time limit.
//
// Who may do what is one table, Routes, and is decided at one place for every request: cells are their keys, at a
// listener of their own (ListenCells); people and programs show tokens with roles; a unix socket is the machine's
// administrator's; plain loopback may be read by all on the machine. Without Options.Keys cells have no listener: then
// they name themselves by ?cell=, on loopback or a unix socket only. All methods may be called from any goroutine.
package controlplane

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// Views gives what the engine last decided and saw.
type Views interface {
	View() *view.View         // nil: nothing has been read yet
	Changed() <-chan struct{} // closed when there is another view than View gave before
}

// Inbox takes a report and returns once it is durable.
type Inbox interface {
	Receive(ctx context.Context, r cells.Report) (cells.Receipt, error)
}

// Repository gives a commit's files.
type Repository interface {
	FS(commit string) (fs.FS, error)
}

// Journal gives decisions after a cursor, at most limit, and the cursor of the last; a negative cursor asks for the last limit.
type Journal interface {
	Decisions(ctx context.Context, after int64, limit int) (found []plan.Decided, next int64, err error)
}

// Roster is who is which cell at one instant. Immutable; two that are equal by == say the same.
type Roster interface {
	Cell(key string) (name string, ok bool) // whose key it is, as identity.FormatKey writes it; not one that was shut out
	Keyed(cell string) bool                 // it has a key, or had one that was shut out
	Next(key string) bool                   // it is its cell's newest, and the one before is good until it was used
	Why(key string) string                  // why it is nobody's, for the log
	Identity(cell string) cells.Identity    // the newest; the zero one, if it never had any
}

// Members is who is which cell, kept in memory and in the store, and on its way into git.
type Members interface {
	Roster() Roster
	RosterChanged() <-chan struct{} // closed when there is another roster than Roster gave before
	// Fresh is nil if the roster is as new as it has to be (R29).
	Fresh() error
	// Join makes key the cell's by a token's hash, durably; again for the same key (R28). engine.ErrDenied: the token
	// is not good, whatever the reason.
	Join(ctx context.Context, cell, hash, key, by string) (cells.Identity, error)
	// NewKey makes key the cell's, durably; the one before stays good until Used was told of this one. engine.ErrDenied.
	NewKey(ctx context.Context, cell, key string) error
	Used(ctx context.Context, cell, key string) error
	// Identify changes a cell's identity, durably. engine.ErrStale: somebody else did meanwhile.
	Identify(ctx context.Context, cell, by string, change func(*cells.Identity)) error
}

// Tokens keeps operators' tokens and cells' one-time tokens, by the hash of their secrets, and the audit.
type Tokens interface {
	Tokens(ctx context.Context) ([]access.Token, error)            // all, those that ran out too
	AddToken(ctx context.Context, t access.Token) error            // access.ErrTaken: there is one of that name
	RemoveToken(ctx context.Context, name string) error            // access.ErrUnknown: there is none
	AddJoin(ctx context.Context, j access.Join) error              // cells.Identity.Serial must still be what it says when it is used
	Audit(ctx context.Context, e access.Entry) error               // durable when it returns
	Audits(ctx context.Context, limit int) ([]access.Entry, error) // newest first
}

// Options of a Server. Views, Inbox, Repository and Journal are required.
type Options struct {
	Views      Views
	Inbox      Inbox
	Repository Repository
	Journal    Journal
	Log        zerolog.Logger

	Members Members // nil: cells have no keys
	Tokens  Tokens  // nil: nobody has a token
	Keys    *Keys   // what is said to cells at their listener; nil: they have none, and name themselves on this machine
	Address string  // HOST:PORT under which cells reach their listener

	Flags  Killer        // nil: there is no flags repository
	Outbox engine.Outbox // of webhooks; nil: there are none

	Pushed     func() // told of a push to Branch; nil: hooks are not served
	HookSecret string // what the git host signs with; empty: hooks are not served
	Branch     string // default: a push to any branch counts

	Reachable   func() error                    // why the release repository can't be read; nil: not looked at
	Unreachable time.Duration                   // not ready once that lasted for so long; default 5 min
	Store       func(ctx context.Context) error // whether the store works; nil: not looked at

	Metrics *prometheus.Registry   // default: a new one
	Poll    time.Duration          // when a cell that does not wait is told to ask again; default 15 s
	Limits  Limits                 // of what cells may ask for
	Numbers func() engine.Numbers  // for the metrics; nil: not shown
	Collect []prometheus.Collector // what else the metrics tell of
}

func (o Options) withDefaults() (Options, error) {
	var errs []error
	for name, missing := range map[string]bool{"Views": o.Views == nil, "Inbox": o.Inbox == nil, "Repository": o.Repository == nil, "Journal": o.Journal == nil} {
		if missing {
			errs = append(errs, errors.New("controlplane.Options."+name+" is required"))
		}
	}
	if o.Unreachable <= 0 {
		o.Unreachable = 5 * time.Minute
	}
	if o.Poll <= 0 {
		o.Poll = 15 * time.Second
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	o.Limits = o.Limits.withDefaults()
	return o, errors.Join(errs...)
}

// Server is the control plane's HTTP side.
type Server struct {
	opts    Options
	log     zerolog.Logger
	mux     *gate
	api     huma.API
	content *contents // releases
	bundles *contents // of flags
	press   *press
	metrics *metrics

	board     *board
	fanout    *fanout
	flights   flights
	followers flights // of /v1/events
	hooks     flights
	values    values
	begun     time.Time
	repo      unreachable
	drain     chan struct{} // closed by Drain: long polls and streams end
	draining  sync.Once
	knocks    *knocks // of cells that are to be registered
	bearers   *bearers
}

// New makes a server. It starts nothing: Handler is ready to be served, by Serve for instance.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, log: o.Log, knocks: newKnocks(), bearers: &bearers{tokens: o.Tokens, begun: time.Now()}, begun: time.Now(), values: newValues(), board: newBoard(o.Views), drain: make(chan struct{})}
	s.flights.limit, s.followers.limit = int64(o.Limits.InFlight), int64(o.Limits.Events)
	s.hooks.limit = maxHooks
	s.fanout = newFanout(s)
	s.content, s.bundles = newContents(keptContent), newContents(keptBundles)
	s.press = newPress(o)
	if s.metrics, err = newMetrics(o.Metrics, o); err != nil {
		return nil, err
	}
	s.mux = newGate(s)
	s.api = newAPI(s.mux)
	s.routes()
	return s, s.mux.check()
}

// Handler answers what came in the plain. Who may do what depends on where: on loopback, on a unix socket, or elsewhere.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, doorOf(r)) })
}

// view gives the newest view, or answers 503 while there is none.
func (s *Server) view(w http.ResponseWriter) (*view.View, bool) {
	v := s.opts.Views.View()
	if v == nil {
		notYet(w)
	}
	return v, v != nil
}
