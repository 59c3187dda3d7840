// Package agent is what runs in a cell: it pulls the cell's assignment, verifies and renders
// its release, applies it to a cells.Target, watches health, heals drift and reports; or goes
// back to the last assignment that was good, by itself and offline.
//
// It listens on nothing but, if that is asked for, loopback or a unix socket, where the product asks
// for flags; it dials nobody but its control plane, and runs only bytes whose digest its assignment
// names. It never accepts an assignment older than one that it accepted before (R2), never begins one
// before the control plane knows that it was accepted (R14), never tries a failed one again under the
// same key (R21), and never goes back across a forward-only release (R20).
//
// To its control plane the cell is a key of its own, which a token registered and which never leaves the state folder;
// to the cell the control plane is a set of pins, and nobody else is told anything (R29). A stream carries what is desired,
// or polls do where no stream comes through. Nothing begins against what the cell's owner decided in owner.yaml but the
// return to what was last good (R18).
//
// A feature is on only where its code is in every release that may be running: flags are narrowed before the first write of
// an apply, and widened after health held (R38). They turn on by the control plane's time, never by the machine's (R40).
//
// How far it is stands in a journal that is durable before the next step begins, so it may be
// killed at any instant: started again, it resumes. It says "healthy" only after it has seen
// health hold in this process.
//
// What was applied must become healthy within HealthTimeout and then stay so for HealthyFor:
// the watch. If it does not, the agent goes back. After the watch it does not go back by
// itself: it reports unhealthy, and heals drift; what to do is then the engine's decision.
//
// Concurrency: one goroutine (loop) owns the state and decides; one step at a time runs beside
// it, so two applies never overlap; a puller, a reporter and a changer of keys talk to the control
// plane, once the cell is registered; another watches owner.yaml. Flags have a lock of their own (switchboard), so that
// they wait for nobody: the puller tells it, the loop says what runs, one goroutine fetches bundles, another folds when an
// instant has come, and callers are answered beside. All of them end before Run returns.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/flags"
)

// Options say which cell this is, and what it works with. Fields without a default are required.
type Options struct {
	Cell     string          // default: that of Join, or the one that StateDir belongs to
	Join     *identity.Token // registers the cell, unless it did; nil: it is registered, or Server is the plain form
	Server   string          // http://HOST:PORT or unix:///PATH: the plain form; default, or https://HOST:PORT: by key
	StateDir string          // the agent's own folder: identity, journal, outbox, releases; made if need be
	Target   cells.Target    // used by one call at a time

	Values         map[string]any // of parameters that the cell owns; nil: none
	Infrastructure int            // number of the cell's infrastructure template; 0: none
	Version        string         // of the agent, as reported
	FlagsListen    string         // where flags are asked for: 127.0.0.1:PORT, [::1]:PORT or unix:///PATH; empty: nowhere
	FlagsOrigins   []string       // whose pages may ask there: https://HOST; none: no page's
	Log            zerolog.Logger // the zero value is silent
	Render         []string       // command of the render child; default: this program with the argument "render"
	RenderLimits   render.Limits

	PollWait       time.Duration // how long one long-poll may wait; default 30s
	ReportEvery    time.Duration // heartbeat, jittered by a tenth; default 10s
	HealthTimeout  time.Duration // for what was applied to become healthy; default 5m
	HealthInterval time.Duration // between looks at health that holds; default 10s
	HealthyFor     time.Duration // how long health must hold until there is no going back; default 10s; negative: no time
	HealInterval   time.Duration // between looks for drift; default 30s
	MaxContent     int64         // bytes of a release, on the wire and unpacked; default 64 MiB

	// Tests replace the machine's clocks and the network.
	machine   clock.Machine
	transport func(*http.Transport) http.RoundTripper
}

// orDefault validates o and fills in what is left out. All faults are told at once.
func (o Options) orDefault() (Options, error) {
	var faults []error
	for name, missing := range map[string]bool{
		"cell": o.Cell == "", "state folder": o.StateDir == "", "target": o.Target == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("agent: no %s is given", name))
		}
	}
	if o.Cell != "" && !cells.ValidName(o.Cell) {
		faults = append(faults, fmt.Errorf("agent: %q can't be a cell's name", o.Cell))
	}
	if _, err := flagserver.ParseAddress(o.FlagsListen); o.FlagsListen != "" && err != nil {
		faults = append(faults, fmt.Errorf("agent: flags: %w", err))
	}
	if len(o.Render) == 0 {
		self, err := os.Executable()
		if err != nil {
			faults = append(faults, fmt.Errorf("agent: find this program for rendering: %w", err))
		}
		o.Render = []string{self, "render"}
	}
	o.PollWait = cmp.Or(o.PollWait, 30*time.Second)
	o.ReportEvery = cmp.Or(o.ReportEvery, 10*time.Second)
	o.HealthTimeout = cmp.Or(o.HealthTimeout, 5*time.Minute)
	o.HealthInterval = cmp.Or(o.HealthInterval, 10*time.Second)
	o.HealthyFor = max(0, cmp.Or(o.HealthyFor, 10*time.Second))
	o.HealInterval = cmp.Or(o.HealInterval, 30*time.Second)
	o.MaxContent = cmp.Or(o.MaxContent, 64<<20)
	return o, errors.Join(faults...)
}

// Agent is one cell's agent.
type Agent struct {
	options Options
	clock   *clock.Clock
	client  *plane.Client
	reached func(point string) // tests end the process here; nil in any other program
}

// New makes an agent. Nothing is written before Run.
func New(o Options) (*Agent, error) {
	credentials, err := plane.LoadCredentials(o.StateDir, o.Cell, o.Join)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if o.Cell == "" {
		o.Cell = credentials.Cell()
	}
	if o, err = o.orDefault(); err != nil {
		return nil, err
	}
	a := &Agent{options: o, clock: clock.New(o.StateDir, o.machine)}
	a.client, err = plane.New(plane.Options{
		Server: o.Server, Cell: o.Cell, Token: o.Join, Credentials: credentials, Clock: a.clock, PollWait: o.PollWait, Log: o.Log,
		Reached: a.at, Transport: o.transport,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// Run runs the agent until ctx ends, and then returns nil. An error means that it can't do its
// work at all: its state folder is unusable, another agent has it, or nobody knows the cell and it runs nothing.
func (a *Agent) Run(ctx context.Context) error {
	l, err := a.open()
	if err != nil {
		return fmt.Errorf("agent of %s: %w", a.options.Cell, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen := a.ownerInfo()
	l.heed(readOwner(a.options.StateDir)) // before anything can be begun, or asked
	callers, err := a.listen(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("agent of %s: %w", a.options.Cell, err), l.close())
	}
	installed := l.state.LastGood != nil || l.state.Attempt != nil
	var unknown error
	var others sync.WaitGroup
	others.Go(func() { a.watchOwner(ctx, seen, l.owner) })
	others.Go(func() { l.flags.KeepTime(ctx) })
	if callers != nil {
		others.Go(func() { l.flags.Serve(ctx, callers, a.options.FlagsOrigins) })
	}
	others.Go(func() {
		err := a.client.Register(ctx)
		if err == nil {
			a.talk(ctx, l)
			return
		}
		if installed { // R30
			a.options.Log.Error().Err(err).Msg("the control plane can't be asked; what runs keeps running")
			return
		}
		unknown = fmt.Errorf("agent of %s: %w", a.options.Cell, err)
		cancel(err)
	})
	l.run(ctx)
	cancel(nil)
	others.Wait()
	return errors.Join(unknown, l.close())
}

// talk is all that goes on between the agent and its control plane, until ctx ends.
func (a *Agent) talk(ctx context.Context, l *loop) {
	var all sync.WaitGroup
	all.Go(func() { a.client.Run(ctx, l.reporter, l) })
	all.Go(func() { l.flags.Fetch(ctx) })
	all.Wait()
	a.client.Close()
}

// listen begins to listen for whoever asks for flags; nil: nobody may.
func (a *Agent) listen(ctx context.Context) (net.Listener, error) {
	if a.options.FlagsListen == "" {
		return nil, nil
	}
	at, err := flagserver.ParseAddress(a.options.FlagsListen)
	if err != nil {
		return nil, fmt.Errorf("flags: %w", err)
	}
	l, err := at.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("flags: %w: give another place, or end whoever has it", err)
	}
	a.options.Log.Info().Str("network", l.Addr().Network()).Stringer("address", l.Addr()).Msg("flags are served")
	return l, nil
}

// open takes the state folder.
func (a *Agent) open() (_ *loop, err error) {
	dir := a.options.StateDir
	folders := map[string]string{}
	for _, name := range []string{"releases", "rendered", "work"} {
		folders[name] = filepath.Join(dir, name)
		if err := os.MkdirAll(folders[name], 0o700); err != nil {
			return nil, err
		}
	}
	lock, err := disk.Lock(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err := a.client.Reload(); err != nil { // nobody else changes them now
		return nil, err
	}
	if err := disk.Sweep(dir, folders["releases"], folders["rendered"]); err != nil {
		return nil, err
	}
	j, err := loadJournal(dir, a.options.Cell)
	if err != nil {
		return nil, err
	}
	box, err := plane.OpenOutbox(dir)
	if err != nil {
		return nil, err
	}
	store := content.NewCache(folders["releases"], a.client, a.options.MaxContent)
	l := &loop{
		agent: a,
		lock:  lock,
		state: state{journal: j, policy: policy{
			HealthTimeout: a.options.HealthTimeout, HealthInterval: a.options.HealthInterval,
			HealInterval: a.options.HealInterval, HealthyFor: a.options.HealthyFor,
		}},
		box:      box,
		contents: store,
		renderer: render.New(render.Options{
			Command: a.options.Render, Dir: folders["rendered"], Temp: folders["work"], Values: a.options.Values, Limits: a.options.RenderLimits,
		}, store),
		desired:   make(chan *cells.Desired),
		confirmed: make(chan string),
		owner:     make(chan ownerWord),
	}
	l.reporter = plane.NewReporter(a.client, box, plane.ReporterOptions{
		Version: a.options.Version, Infrastructure: a.options.Infrastructure, Every: a.options.ReportEvery,
	})
	l.flags = flagserver.New(flagserver.Options{
		StateDir: dir, Source: a.client, Clock: a.clock, Facts: flags.Facts{Cell: a.options.Cell, Release: j.goesFor(), Features: j.Contained},
		Log: a.options.Log, News: l.reporter.Notify, Reached: a.at,
	})
	a.options.Log.Info().Str("boot", l.reporter.Boot()).Str("state", dir).Msg("the agent starts") // by its boot a clone is found
	return l, nil
}

// at tells a test how far the agent is.
func (a *Agent) at(point string) {
	if a.reached != nil {
		a.reached(point)
	}
}
