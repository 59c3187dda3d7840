package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/debugger"
	"github.com/sluice-cd/sluice/cells/agent/debuginbox"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// loop owns the state. Only its own goroutine uses the state; a step in flight works on copies.
type loop struct {
	agent        *Agent
	state        state
	lock         *os.File
	outbox       *plane.Outbox
	reporter     *plane.Reporter
	flags        *flagserver.Server
	exports      *exporter.Exporter
	debugInbox   *debuginbox.Inbox
	debugger     *debugger.Debugger
	maintenance  *server.Server
	tellers      []*teller
	toldBefore   bool // the product may have been told something by an earlier process
	releaseCache *content.Cache
	preview      *previewer
	// Follows the actual infrastructure; nil: its number is fixed.
	infrastructure *infrastructure.Follower
	actual         func() infrastructure.State // what is known of it now

	renderer   *render.Renderer
	signatures *signatures.Keeper
	verifying  chan struct{} // of 1: see askSigned

	desired      chan *cells.Desired // from plane: the desired state
	ownerChanges chan struct{}       // from watchOwnerFile: see followOwner
	confirmed    chan string         // from plane: see HandleConfirmed
	registered   chan plane.Order    // where the order began, once the cell is registered
	retries      chan struct{}       // from watchOwnerFile: the owner asks for another try

	debugChanges   wake.Signal // from debugger: a session began or ended
	operationEnded wake.Signal // from maintenance: a drain may be through

	targetChanges <-chan struct{} // see cells.Watcher; nil: the target notices nothing by itself

	savedJournal []byte   // the journal as on disk
	savedOffer   []byte   // offered.json as on disk
	reported     Reported // what the owner may see of the reports
	savedReport  []byte   // reported.json as on disk
	savedState   []byte   // maintenance.json as on disk

	savedDeclared []byte       // commands of the running release, as on disk
	declaredBy    [2]*contents // which declare them: of what is known to work, and of an attempt; nil: none do

	ownerFile   os.FileInfo    // of the owner.yaml whose decisions hold; nil: there was none
	lastDesired *cells.Desired // the newest received by this process; nil: none
	inFlight    *runningStep
	retried     bool // the owner's request was handled, and its file is to be removed once that is journalled
}

type runningStep struct {
	step
	generation int
	cancel     context.CancelCauseFunc
	done       chan stepResult // buffer of one
}

type stepResult struct {
	healed   int
	features []string // that the step's release contains; nil: not known
	contents *contents
	notes    []string // of the target
	err      error
	// err says that the step's release is not verified.
	unverified bool
}

// applyGCPercent is the garbage collector's percentage during an apply, which is short.
const applyGCPercent = 200

// Bounds of the pauses between retries of a step.
const (
	minRetryPause = 100 * time.Millisecond
	maxRetryPause = 30 * time.Second
)

var errSuperseded = errors.New("superseded by a newer assignment")

func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0 // of persist, in a row
	for ctx.Err() == nil {
		next := step{Task: taskRest}
		l.followOwner()
		l.followDebugging(time.Now())
		l.state.reconsiderWhenDue(time.Now())
		maintain(&l.state, l.busy(), l.isWriting(), time.Now())
		if err := l.persist(); err != nil { // a full disk, say: nothing proceeds that is not journalled
			l.agent.options.Log.Error().Err(err).Msg("the agent waits until it can write its state folder")
			l.reporter.PublishProblem(words.Clip(err.Error(), maxReason))
			next.At = time.Now().Add(backoff.FullJitter(backoff.Exponential(minRetryPause, maxRetryPause, failures)))
			failures++
		} else {
			failures = 0
			next = l.state.nextStep(time.Now())
		}
		l.startStep(ctx, next)
		l.waitForEvent(ctx, timer, next.At)
	}
	if l.inFlight != nil {
		l.inFlight.cancel(context.Cause(ctx))
		<-l.inFlight.done
	}
}

// startStep starts a step, unless one is in flight. A step in flight that is no longer wanted is cancelled.
func (l *loop) startStep(ctx context.Context, next step) {
	if l.inFlight != nil {
		if l.inFlight.generation != l.state.generation {
			l.inFlight.cancel(errSuperseded)
		}
		return
	}
	if next.Task == taskRest {
		return
	}
	stepCtx, cancel := context.WithCancelCause(ctx)
	l.inFlight = &runningStep{
		step: next, generation: l.state.generation, cancel: cancel, done: make(chan stepResult, 1),
	}
	lastGood, dirty := l.state.LastGood, l.state.Dirty
	go func(f *runningStep) {
		if f.Task == taskApply { // what it makes is garbage soon, and the processor is needed
			defer debug.SetGCPercent(debug.SetGCPercent(applyGCPercent))
		}
		f.done <- l.runStep(stepCtx, f.step, lastGood, dirty)
		if f.Task == taskApply {
			debug.FreeOSMemory() // the agent will most likely be idle for long
		}
	}(l.inFlight)
}

// waitForEvent waits for the first event and passes it to the state.
func (l *loop) waitForEvent(ctx context.Context, timer *time.Timer, until time.Time) {
	var done chan stepResult
	var alarm <-chan time.Time
	if l.inFlight != nil {
		done = l.inFlight.done
		until = nextMaintenance(&l.state, time.Now())
	}
	if !until.IsZero() {
		timer.Reset(time.Until(until))
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
	case <-alarm:
	case <-l.targetChanges:
		l.state.bringForward(time.Now())
	case d := <-l.desired:
		l.followOwner()
		l.lastDesired = d
		l.state.head = d.Head.Digest
		if h := decodeHead(d.Head); h != nil {
			l.state.head = h.Digest
		}
		l.state.Upkeep.take(d.Maintenance)
		l.state.handleOffer(d.Assignment, time.Now())
	case k := <-l.confirmed:
		l.state.handleConfirmation(k, time.Now())
	case o := <-l.registered:
		l.applyRegistration(o)
	case <-l.ownerChanges: // followOwner is next
	case <-l.operationEnded: // maintain is next
	case <-l.debugChanges: // followDebugging is next
	case <-l.retries:
		l.retried = retryFailed(&l.state)
	case r := <-done:
		l.inFlight.cancel(nil)
		f := l.inFlight
		l.inFlight = nil
		if f.generation == l.state.generation && ctx.Err() == nil {
			l.foldResult(f.step, r, time.Now())
		}
	}
}

// foldResult passes the result of a step to the state.
func (l *loop) foldResult(done step, r stepResult, now time.Time) {
	t := done.Task
	if t == taskApply || t == taskHeal {
		l.state.notes = r.notes
	}
	if r.features != nil {
		l.state.recordFeatures(done.Assignment, r.features)
		recordContents(&l.state, done.Assignment, r.contents)
	}
	var unavailable *cells.UnavailableError
	var refused *content.RefusedError
	isUnavailable := errors.As(r.err, &unavailable)
	// At first, the signers' files may be behind the offer for a moment.
	if errors.As(r.err, &refused) && (!r.unverified || l.state.retries > 0) {
		l.state.recordRejection(refused)
	}
	var ownerValues *releases.OwnerValuesError
	switch {
	case errors.As(r.err, &ownerValues) && t == taskPrepare:
		l.state.handleMissingValues(ownerValues.Reason, now)
	case isUnavailable && t == taskHeal:
		l.state.handleHealUnavailable(r.err.Error(), now)
	case isUnavailable && t == taskCheckHealth:
		l.state.handleHealthUnavailable(r.err.Error(), now)
	case isUnavailable && r.unverified && putOffUnverified(&l.state, r.err.Error()):
	case isUnavailable:
		l.state.scheduleRetry(r.err.Error(), now, l.agent.client.RetryPause(r.err, l.state.retries))
	case t == taskPrepare:
		l.state.handlePrepared(r.err, now)
	case t == taskApply:
		l.state.handleApplied(r.err, now)
	case t == taskCheckHealth:
		l.state.handleHealth(r.err, now)
	case t == taskHeal:
		l.state.handleHealed(r.healed, r.err, now)
	}
}

// runStep carries out a step. It runs beside the loop and does not touch the state. dirty says that the target may hold
// something other than lastGood.
func (l *loop) runStep(ctx context.Context, s step, lastGood *cells.Assignment, dirty bool) (r stepResult) {
	target := l.agent.options.Target
	if s.Task == taskCheckHealth {
		return stepResult{err: target.Health(ctx)}
	}
	if err := l.verifyRelease(ctx, s, lastGood, dirty); err != nil {
		return stepResult{err: err, unverified: true}
	}
	rendered, err := l.renderer.Render(ctx, s.Assignment)
	if err != nil {
		return stepResult{err: err}
	}
	r.features = rendered.Features
	r.contents = &contents{rendered.Components, rendered.Maintenance, rendered.Export, rendered.Diagnostics,
		l.readableLogs(&rendered)}
	switch s.Task {
	case taskApply:
		l.agent.testPoint("applying")
		rendered.Back = s.Rollback
		r.err = l.updateSelf(ctx, s, rendered.Components) // first: see package selfupdate
		if r.err == nil {
			r.err = l.flags.Share(ctx)
		}
		if r.err == nil {
			r.err = target.Apply(ctx, rendered.Rendered)
		}
		if r.err == nil {
			l.agent.testPoint("target has it")
			l.pruneCaches(s.Assignment, lastGood)
		}
	case taskHeal:
		rendered.Proven = s.Proven
		r.healed, r.err = target.Heal(ctx, rendered.Rendered)
	}
	if n, ok := target.(cells.Noter); ok {
		r.notes = n.Notes()
	}
	return r
}

// updateSelf has the agent replaced by the one that a step's release names. What comes back leaves the agent as it is,
// and so does what ran before the cell had a root of trust: its signatures were never verified.
func (l *loop) updateSelf(ctx context.Context, s step, components []releases.Component) error {
	up, verified := l.agent.options.SelfUpdate, l.signatures.HasPassed(s.Assignment)
	if up == nil || s.Rollback || l.signatures.Pinned() && !verified {
		return nil
	}
	return up.Update(ctx, selfupdate.Release{Key: s.Assignment.Key(), Components: components, Verified: verified,
		Images: l.agent.client.Transport(1)})
}

// pruneCaches removes releases and renderings that nothing refers to. A failure costs only disk space.
func (l *loop) pruneCaches(a, lastGood *cells.Assignment) {
	keep, digests := []*cells.Assignment{a}, []releases.Digest{a.Digest}
	if lastGood != nil {
		keep, digests = append(keep, lastGood), append(digests, lastGood.Digest)
	}
	if err := errors.Join(l.renderer.Prune(keep...), l.releaseCache.Prune(digests...)); err != nil {
		l.agent.options.Log.Warn().Err(err).Msg("old releases could not be removed")
	}
}

// persist makes the state durable: first the history, then the journal, so that a crash in between repeats an event
// rather than loses it. Then it publishes the report.
func (l *loop) persist() error {
	s := &l.state
	l.agent.makeMissing()
	hasEvents := len(s.events) > 0
	if err := l.outbox.Add(s.events, time.Now()); err != nil {
		return err
	}
	for _, e := range s.events {
		l.logEvent(e)
	}
	l.reported.add(s.events, time.Now())
	l.exports.CountEvents(s.events)
	s.events = nil
	l.agent.testPoint("history kept")
	text, err := json.Marshal(s.journal)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, l.savedJournal) {
		if err := s.save(l.agent.options.StateDir); err != nil {
			return err
		}
		l.savedJournal = text
		if s.Attempt != nil {
			l.agent.testPoint("journal " + string(s.Attempt.Phase))
		} else {
			l.agent.testPoint("journal")
		}
	}
	if err := l.forgetRetry(); err != nil {
		return err
	}
	l.flags.SetRunning(s.runningRelease(), s.Contained) // journalled before, in force before the first write (R38)
	if err := l.publishMaintenance(); err != nil {
		return err
	}
	l.publishWish()
	l.saveDeclared()
	report := s.buildReport()
	l.exports.NoteState(report.State)
	l.reporter.Publish(report, isReportable(s), hasEvents)
	if err := l.saveReported(report); err != nil {
		return err
	}
	return l.saveOffer()
}

// applyOwnerDecisions passes the owner's decisions on: first to the flags, then to the state.
func (l *loop) applyOwnerDecisions(w ownerDecisions) {
	if w.invalid != "" {
		l.agent.options.Log.Error().Str("why", w.invalid).
			Msg("the owner's decisions are invalid: nothing new begins until owner.yaml is corrected")
	} else if w.decisions != nil || l.state.owner.decisions != nil {
		l.agent.options.Log.Info().Msg("the owner's decisions were read")
		if d := w.decisions; d != nil && d.Pin != "" && d.PinDigest == "" {
			l.agent.options.Log.Warn().Str("pin", d.Pin).Msg("the pin is by name alone, so other bytes of that name may " +
				"begin: sluice cell pin once more takes the digest")
		}
	}
	if w.invalid == "" {
		l.flags.SetHeld(w.features())
		l.exports.SetConsent(w.exportConsent())
	} else { // features stay held as before
		l.exports.Hold()
	}
	l.state.handleOwnerDecisions(w, time.Now())
}

// applyRegistration starts the order of assignments and flags anew if the cell was registered by another token.
func (l *loop) applyRegistration(o plane.Order) {
	if before := l.state.Order; before == nil || before.Token != o.Token {
		l.flags.StartOrder(o.Height)
		if err := l.agent.clock.StartAnew(); err != nil {
			l.agent.options.Log.Error().Err(err).Msg("the time can't be saved")
		}
	}
	l.state.handleRegistration(o)
}

// handleRegistered passes the registration to the loop. Nothing is received before.
func (l *loop) handleRegistered(ctx context.Context) {
	o := l.agent.credentials.Order()
	if o == nil { // a plain connection
		return
	}
	select {
	case l.registered <- *o:
	case <-ctx.Done():
	}
}

func (l *loop) logEvent(e cells.Event) {
	line := l.agent.options.Log.Info()
	switch e.Kind {
	case "failed", "stuck", "refused", "unhealthy", "unhealed", maintenance.EventPutOff, maintenance.EventForced,
		maintenance.EventOverran, maintenance.EventUnasked, maintenance.EventIgnored:
		line = l.agent.options.Log.Warn()
	}
	line.Str("release", e.Release).Str("detail", e.Detail).Msg(e.Kind)
}

// HandleDesired passes the desired state to the loop: see plane.Handler.
func (l *loop) HandleDesired(ctx context.Context, d *cells.Desired) {
	l.flags.SetDesired(d.Flags) // first: a kill must not wait for the loop
	l.debugInbox.SetDesired(d.Debug)
	select {
	case l.desired <- d:
	case <-ctx.Done():
	}
}

// HandleConfirmed passes an assignment's key to the loop: see plane.Handler.
func (l *loop) HandleConfirmed(ctx context.Context, key string) {
	if up := l.agent.options.SelfUpdate; up != nil {
		up.Reported()
	}
	select {
	case l.confirmed <- key:
	case <-ctx.Done():
	}
}

func (l *loop) FlagsReport() *cells.FlagsReport { return l.flags.Report() }

func (l *loop) close() error {
	return errors.Join(l.outbox.Close(), l.lock.Close())
}
