package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/preflight"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
)

type Agent struct {
	options     Options
	credentials *plane.Credentials
	clock       *clock.Clock
	client      *plane.Client
	renamed     chan string        // from the client: the vendor gave the cell this name
	onTestPoint func(point string) // tests end the process here; nil in any other program
	missing     []string           // folders of the state folder that can't be made yet
}

// RenamedError ends Run: the vendor renamed the cell, and the name is on disk. Another agent goes on under it.
type RenamedError struct{ Cell string }

func (e *RenamedError) Error() string { return "the vendor renamed this cell to " + e.Cell }

// New returns an agent. It writes nothing before Run.
func New(o Options) (*Agent, error) {
	credentials, err := plane.LoadCredentials(o.StateDir, o.Cell, o.Join)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if o.Cell == "" || credentials.HadName(o.Cell) {
		o.Cell = credentials.Cell()
	}
	if o.Cell == "" && credentials.Damaged() != nil {
		if j, err := readJournal(o.StateDir); err == nil {
			o.Cell = j.Cell
		}
	}
	if o.Join != nil && credentials.HadName(o.Join.Cell) { // it was used, and names the cell as it was then
		o.Join = nil
	}
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	a := &Agent{options: o, credentials: credentials, clock: clock.New(o.StateDir, o.machine),
		renamed: make(chan string, 1)}
	a.client, err = plane.New(plane.Options{
		Server: o.Server, Cell: o.Cell, Token: o.Join, Credentials: credentials, Clock: a.clock, PollWait: o.PollWait,
		Log: o.Log,
		OnRenamed: func(cell string) {
			select {
			case a.renamed <- cell:
			default: // one is enough
			}
		},
		OnTestPoint: a.testPoint, WrapTransport: o.transport,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// Run runs the agent until ctx ends and then returns nil. An error means that the agent can't work at all: its state
// folder is unusable or in use by another agent, or the cell is neither registered nor running anything; or it is a
// *RenamedError.
func (a *Agent) Run(ctx context.Context) error {
	l, err := a.openState()
	if err != nil {
		return fmt.Errorf("agent of %s: %w", a.options.Cell, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen := a.statOwnerFile()
	l.ownerFile = seen
	l.applyOwnerDecisions(readOwnerDecisions(a.options.StateDir)) // before anything begins or flags are served
	callers, err := a.listen(ctx, "flags", a.options.FlagsListen, true)
	var pulls *pulls
	if err == nil {
		pulls, err = a.openPulls(ctx)
	}
	if err != nil {
		closeListeners(callers)
		return errors.Join(fmt.Errorf("agent of %s: %w", a.options.Cell, err), l.close())
	}
	installed := l.state.isInstalled()
	var unknown error
	var others sync.WaitGroup
	others.Go(func() { a.watchOwnerFile(ctx, seen, l.ownerChanges, l.retries) })
	others.Go(func() { l.flags.RefoldOnTime(ctx) })
	others.Go(func() { l.preview.run(ctx) })
	others.Go(func() { l.exports.Run(ctx) })
	others.Go(func() { l.debugInbox.Run(ctx) })
	others.Go(func() { a.followRename(ctx, cancel) })
	if l.infrastructure != nil {
		others.Go(func() { l.infrastructure.Run(ctx) })
	}
	if a.options.Nodes != nil {
		others.Go(func() { l.flags.KeepSharing(ctx) })
	}
	if a.options.SelfUpdate != nil {
		others.Go(func() { a.options.SelfUpdate.Run(ctx) })
	}
	for _, t := range l.tellers {
		others.Go(func() { t.run(ctx) })
	}
	if callers != nil {
		others.Go(func() { l.flags.Serve(ctx, callers, a.options.FlagsOrigins, l.localHandler()) })
	}
	if pulls != nil {
		others.Go(func() { pulls.run(ctx, l.exports.Handler()) })
	}
	others.Go(func() {
		missing := a.lookBefore(ctx)
		err := a.client.Register(ctx)
		if err == nil {
			l.reportMissing(missing)
			l.handleRegistered(ctx)
			a.runClient(ctx, l)
			return
		}
		if installed { // R30
			a.options.Log.Error().Err(err).Msg("the control plane can't be reached; what runs keeps running")
			return
		}
		unknown = fmt.Errorf("agent of %s: %w", a.options.Cell, err)
		cancel(err)
	})
	l.run(ctx)
	cancel(nil)
	others.Wait()
	if renamed := new(RenamedError); errors.As(context.Cause(ctx), &renamed) {
		unknown = renamed
	}
	return errors.Join(unknown, l.close())
}

// lookBefore looks, before a cell's first registration, whether all is there that it needs. What is missing is logged
// with its remedy, and keeps nothing from being tried.
func (a *Agent) lookBefore(ctx context.Context) []preflight.Finding {
	if a.client.IsRegistered() {
		return nil
	}
	missing := preflight.Faults(preflight.Look(ctx, preflight.Options{ControlPlane: a.client,
		Folders: []string{a.options.StateDir}, Infrastructure: a.options.InfrastructureReader}))
	for _, f := range missing {
		a.options.Log.Warn().Str("check", f.Check).Str("remedy", f.Remedy).Msg(f.Fault)
	}
	return missing
}

// reportMissing tells the vendor what was missing before the registration.
func (l *loop) reportMissing(missing []preflight.Finding) {
	var events []cells.Event
	for _, f := range missing {
		events = append(events, cells.Event{Kind: "preflight", Detail: words.Clip(f.String(), cells.MaxMessage)})
	}
	if err := l.outbox.Add(events, time.Now()); err != nil {
		l.agent.options.Log.Warn().Err(err).Msg("what the preflight found is not reported")
	}
}

// followRename ends the agent once the vendor gave the cell another name, which is durable then.
func (a *Agent) followRename(ctx context.Context, end context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case cell := <-a.renamed:
			if err := a.credentials.Rename(cell); err != nil { // the next refusal brings it again
				a.options.Log.Error().Err(err).Msg("the cell's new name can't be saved")
				continue
			}
			a.options.Log.Warn().Str("name", cell).
				Msg("the vendor renamed this cell: the agent goes on under the new name")
			end(&RenamedError{Cell: cell})
			return
		}
	}
}

func (a *Agent) runClient(ctx context.Context, l *loop) {
	var group sync.WaitGroup
	group.Go(func() { a.client.Run(ctx, l.reporter, l) })
	group.Go(func() { l.flags.FetchBundles(ctx) })
	group.Go(func() { l.debugger.Run(ctx) })
	group.Wait()
	a.client.Close()
}

// listen opens a listener for programs on this machine that want something; nil: none is configured. If later is set, a
// socket that a full or read-only disk does not take is made later.
func (a *Agent) listen(ctx context.Context, what, where string, later bool) (net.Listener, error) {
	if where == "" {
		return nil, nil
	}
	address, err := flagserver.ParseAddress(where)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	l, err := address.Listen(ctx)
	if later && disk.RefusesWrites(err) {
		a.options.Log.Error().Err(err).Msg(what + " are not served yet: the agent tries again")
		return address.ListenLater(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: choose another address, or stop the process that uses this one", what, err)
	}
	a.options.Log.Info().Str("network", l.Addr().Network()).Stringer("address", l.Addr()).Msg(what + " are served")
	return l, nil
}

// closeListeners closes listeners that nothing serves; nil: there is none.
func closeListeners(all ...net.Listener) {
	for _, l := range all {
		if l != nil {
			_ = l.Close() // the error that is reported is why
		}
	}
}

func (a *Agent) openState() (_ *loop, err error) {
	dir := a.options.StateDir
	folders, lock, err := a.prepareStateFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err := a.client.Reload(); err != nil { // other processes change them only without the lock
		return nil, err
	}
	aside, err := a.credentials.Mend()
	if err != nil {
		return nil, err
	}
	a.warnOfDamage(aside)
	if err := disk.RemoveUnfinished(dir, folders["releases"], folders["rendered"]); err != nil {
		return nil, err
	}
	j, aside, err := loadJournal(dir, a.options.Cell, a.credentials.HadName)
	if err != nil {
		return nil, err
	}
	a.warnOfDamage(aside)
	if j.Order == nil { // written by a version that did not keep it: nothing starts anew because of that
		j.Order = a.credentials.Order()
	}
	outbox, aside, err := plane.OpenOutbox(dir)
	if err != nil {
		return nil, err
	}
	a.warnOfDamage(aside)
	signed, err := a.openSignatures()
	if err != nil {
		return nil, err
	}
	reported, err := a.mendOwnersFiles(dir)
	if err != nil {
		return nil, err
	}
	l := a.newLoop(folders, j, outbox)
	l.lock, l.signatures, l.reported = lock, signed, reported
	l.actual = l.openInfrastructure()
	l.openMaintenance(time.Now())
	l.exports = a.openExports()
	l.openDebugger()
	l.reporter = plane.NewReporter(a.client, outbox, plane.ReporterOptions{
		Version: a.options.Version, Infrastructure: l.actual, Signatures: signed.Report,
		Every: a.options.ReportEvery,
		Debug: func() []cells.DebugState { return l.debugInbox.Report() },
	})
	l.debugInbox = l.openDebugInbox()
	l.flags, err = flagserver.New(flagserver.Options{
		StateDir: dir, Source: a.client, Clock: a.clock,
		Facts: flags.Facts{Cell: a.options.Cell, Release: j.runningRelease(), Features: j.Contained},
		Log:   a.options.Log, OnReport: l.reporter.Notify, OnTestPoint: a.testPoint, Sharer: a.options.Nodes,
		Verify: l.verifyFlags,
	})
	if err != nil {
		return nil, err
	}
	l.reporter.Publish(l.state.buildReport(), false, false) // until the disk takes what follows from it
	// Clones are found by their boot ids.
	a.options.Log.Info().Str("boot", l.reporter.Boot()).Str("state", dir).Msg("the agent started")
	return l, nil
}

// newLoop returns the loop around a state, which does nothing yet.
func (a *Agent) newLoop(folders map[string]string, j journal, outbox *plane.Outbox) *loop {
	store := content.NewCache(folders["releases"], a.client, a.options.MaxContent)
	return &loop{
		agent: a,
		state: state{journal: j, policy: policy{
			HealthTimeout: a.options.HealthTimeout, HealthInterval: a.options.HealthInterval,
			HealInterval: a.options.HealInterval, HealthyFor: a.options.HealthyFor,
		}},
		outbox:       outbox,
		releaseCache: store,
		preview:      newPreviewer(store),
		renderer: render.New(render.Options{
			Command: a.options.Render, Dir: folders["rendered"], Temp: folders["work"], Values: a.options.Values,
			KeyFile: a.options.KeyFile, Limits: a.options.RenderLimits,
		}, store),
		verifying:    make(chan struct{}, 1),
		desired:      make(chan *cells.Desired),
		confirmed:    make(chan string),
		registered:   make(chan plane.Order),
		ownerChanges: make(chan struct{}),
		retries:      make(chan struct{}),

		operationEnded: wake.New(),
		targetChanges:  a.options.targetChanges(),
	}
}

// openInfrastructure prepares to follow the actual infrastructure, if something reads it, and returns what is known.
func (l *loop) openInfrastructure() (actual func() infrastructure.State) {
	o := &l.agent.options
	if o.InfrastructureReader == nil {
		return func() infrastructure.State { return infrastructure.State{Number: o.Infrastructure} }
	}
	l.infrastructure = infrastructure.NewFollower(o.InfrastructureReader, o.InfrastructureEvery,
		func(is infrastructure.State) {
			if is.Fault != "" {
				o.Log.Warn().Str("fault", is.Fault).
					Msg("the cell's infrastructure can't be read; the agent tries again")
			} else {
				o.Log.Info().Stringer("infrastructure", &is).Msg("the cell's infrastructure was read")
			}
			l.reporter.Notify()
		})
	return l.infrastructure.Last
}

// mendOwnersFiles puts aside what the cell's owner sees and can't be read. The control plane says it again, and the
// agent reports it anew. It returns what was reported.
func (a *Agent) mendOwnersFiles(dir string) (Reported, error) {
	_, wrong := LoadOffer(dir)
	if err := a.putAsideIf(wrong, offerFile(dir)); err != nil {
		return Reported{}, err
	}
	reported, wrong := LoadReported(dir)
	return reported, a.putAsideIf(wrong, reportedFile(dir))
}

// putAsideIf puts a file aside that can't be read because of its content.
func (a *Agent) putAsideIf(wrong error, file string) error {
	if !disk.IsDamage(wrong) {
		return nil
	}
	aside, err := disk.PutAside(file, time.Now())
	if err == nil {
		a.warnOfDamage(aside)
	}
	return err
}

// warnOfDamage says which file of the state folder was damaged and put aside; empty: none.
func (a *Agent) warnOfDamage(aside string) {
	if aside != "" {
		a.options.Log.Warn().Str("file", aside).Msg("a file of the state folder was damaged: the agent put it aside and " +
			"goes on without it; look at the disk, and remove the file when nobody needs it")
	}
}

func (a *Agent) testPoint(point string) {
	if a.onTestPoint != nil {
		a.onTestPoint(point)
	}
}
