package selfupdate

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

// Component is the name of the component in release.yaml that is the agent itself.
const Component = "sluice-agent"

// FolderName is the name of the record's folder in the agent's state folder.
const FolderName = "update"

const (
	guardWait = time.Minute     // how long the agent waits for its guard to say that it watches
	undecided = 5 * time.Minute // and beyond the limit for a step to be decided: the cell heals nothing meanwhile
)

// Release is what an agent begins with, as far as it may name another agent.
type Release struct {
	Key        string // of the assignment
	Components []releases.Component
	Verified   bool              // this release, by the signatures of release signers, whose root the cell has
	Images     http.RoundTripper // asks the control plane for images, as this cell
}

// Workload is where both parts run: one pod, or one machine.
type Workload interface {
	// Images returns the images of containers: those that are to run, and those that do.
	Images(ctx context.Context) (wanted, running map[string]string, err error)
	// SetImage changes the image that a container should have.
	SetImage(ctx context.Context, container, image string) error
	// Restart replaces the pod, whatever state it is in: the caller ends with it.
	Restart(ctx context.Context) error
}

// Resolver is a Workload that says itself which image a release means.
type Resolver interface {
	// Resolve returns the image that a release means by the name of its component, once it is ready to be started. It
	// is asked by the agent, before a step.
	Resolve(ctx context.Context, running, named string, r Release) (image string, err error)
}

// Options configure a Part. Fields without a default are required.
type Options struct {
	Part     string // Agent or Guard: which of the two this process is
	Dir      string // folder of the record, in the state folder; it need not be there
	Workload Workload
	Limit    time.Duration // for what is new to say that it works; default 10m
	Every    time.Duration // between looks at the record; default 2s
	Log      zerolog.Logger
}

// Part is one of the two, as it runs.
type Part struct {
	options Options
	records records
	now     func() instant

	mu    sync.Mutex
	works bool      // the control plane took a report of this process; a guard works always
	seen  Record    // as this process looked last
	since time.Time // when it first looked and saw that

	lastFault string // what was logged last; only Run uses it
}

// New returns a part. It reads and writes nothing before Run.
func New(o Options) *Part {
	o.Limit = cmp.Or(o.Limit, 10*time.Minute)
	o.Every = cmp.Or(o.Every, 2*time.Second)
	return &Part{options: o, records: records{o.Dir}, now: readClocks, works: o.Part == Guard}
}

// Reported says that the control plane took a report of this process.
func (p *Part) Reported() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.works = true
}

// Run does this part's share of each step until ctx ends.
func (p *Part) Run(ctx context.Context) {
	if p.options.Part == Agent {
		p.PutAsideDamaged()
	}
	tick := time.NewTicker(p.options.Every)
	defer tick.Stop()
	for {
		err := p.look(ctx, p.now())
		if text := fmt.Sprint(err); ctx.Err() == nil && text != p.lastFault {
			p.lastFault = text
			if err != nil {
				p.options.Log.Warn().Err(err).Msg("the step of the agent's update can't go on; it is tried again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// PutAsideDamaged puts a damaged record aside, or no update would ever come again, and reports whether it was one.
func (p *Part) PutAsideDamaged() bool {
	_, err := p.records.load()
	if err != nil {
		aside, asideErr := disk.PutAside(p.records.file(), time.Now())
		p.options.Log.Warn().Err(errors.Join(err, asideErr)).Str("file", aside).Msg("the record was put aside")
	}
	return err != nil
}

// look does once what there is to do.
func (p *Part) look(ctx context.Context, now instant) error {
	r, err := p.records.load()
	if err != nil || r == (Record{}) {
		return err
	}
	p.mu.Lock()
	if r != p.seen {
		p.seen, p.since = r, now.wall
	}
	works, since := p.works, now.wall.Sub(p.since)
	p.mu.Unlock()
	isMine := r.Part == p.options.Part
	var is images
	if (isMine || r.Part == Guard) && r.Phase == watched || r.Phase == undone { // else the images do not matter
		if is.wanted, is.running, err = p.options.Workload.Images(ctx); err != nil {
			return err
		}
	}
	if r.Phase == confirmed && r.Part == Agent && isMine && works && since >= p.options.Limit {
		return p.follow(ctx, r, now)
	}
	do := r.prove(is, works)
	if !isMine {
		do = r.watch(is, r.watchedFor(since, now), p.options.Limit)
	}
	next := r
	switch do {
	case actNothing:
		return nil
	case actWatch:
		next = r.watchedSince(now)
	case actConfirm:
		next.Phase = confirmed
	case actUndo:
		next.Phase = undone
	case actSettle:
		next.Phase = restored
	case actChange:
		return p.options.Workload.SetImage(ctx, r.Part, r.To)
	case actRestore:
		return p.options.Workload.SetImage(ctx, r.Part, r.From)
	case actRestart:
		return p.options.Workload.Restart(ctx)
	}
	done, err := p.records.change(r, next)
	if done {
		p.options.Log.Warn().Str("container", r.Part).Str("from", r.From).Str("to", r.To).
			Str("step", string(next.Phase)).Msg("update of the agent")
	}
	return err
}

// follow has the guard take the image of the agent that was confirmed and worked for long enough: in a step of its
// own, in which the agent watches. An image that can't be changed at once is changed by one of the next looks.
func (p *Part) follow(ctx context.Context, r Record, now instant) error {
	wanted, running, err := p.options.Workload.Images(ctx)
	if err != nil {
		return err
	}
	next := Record{ID: rand.Text(), Part: Guard, From: wanted[Guard], To: running[Agent]}.watchedSince(now)
	if next.From == next.To || next.From == "" {
		next = Record{} // there is nothing to follow
	}
	done, err := p.records.change(r, next)
	if err != nil || !done || next == (Record{}) {
		return err
	}
	return p.options.Workload.SetImage(ctx, Guard, next.To)
}

// Update returns nil once the agent of this process is the one that a release names, and the control plane took a
// report of it, or if the release names none. If that is another one, Update has it replaced, and returns only if that
// does not come to pass: the process ends meanwhile.
func (p *Part) Update(ctx context.Context, release Release) error {
	named := ""
	for _, c := range release.Components {
		if c.Name == Component {
			named = c.Image
		}
	}
	if named == "" {
		return nil
	}
	is, _, err := p.state(ctx)
	if err != nil {
		return unavailable(err)
	}
	to, err := p.resolve(ctx, is.running[Agent], named, release)
	if err != nil {
		return err
	}
	for begun := time.Now(); ; {
		is, r, err := p.state(ctx)
		if err != nil {
			return unavailable(err)
		}
		done, err := p.advance(ctx, release.Key, to, is, r)
		switch {
		case err != nil || done:
			return err
		case r.Phase == asked && time.Since(begun) >= guardWait:
			return p.withdraw(r)
		case time.Since(begun) >= p.options.Limit+undecided:
			return &cells.UnavailableError{Cause: errors.New("update the agent: the step that is under way is " +
				"neither confirmed nor undone: its guard may not run")}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(p.options.Every / 4):
		}
	}
}

// resolve returns the image that a release means by a name.
func (p *Part) resolve(ctx context.Context, running, named string, release Release) (string, error) {
	if own, ok := p.options.Workload.(Resolver); ok {
		return own.Resolve(ctx, running, named, release)
	}
	to := inRepository(running, named)
	if to == "" {
		return "", Fail(cells.CauseRelease, "component %s: image %s has neither a tag nor a digest", Component, named)
	}
	return to, nil
}

func (p *Part) state(ctx context.Context) (is images, r Record, err error) {
	if is.wanted, is.running, err = p.options.Workload.Images(ctx); err == nil {
		r, err = p.records.load()
	}
	return is, r, err
}

// advance does what the agent can do for its image to be to. done reports that it is.
func (p *Part) advance(ctx context.Context, key, to string, is images, r Record) (done bool, err error) {
	own := r.Part == Agent && r.For == key && r.To == to
	switch {
	case is.running[Agent] == to: // else it is not proven, or is put back now
		return r.Part != Agent || r.To != to || r.Phase == confirmed || r.Phase == restored, nil
	case r.isUnderWay() && !own: // a guard's step; or an update for an assignment that was superseded
		// An agent on trial is wanted and runs too. Its step leads back, and is decided before another begins.
		if r.Part == Agent && is.wanted[Agent] == is.running[Agent] && is.running[Agent] != r.To {
			_, err = p.records.change(r, Record{})
		}
		return false, unavailable(err)
	case r.Phase == undone && !own: // the image before comes back first: what runs now may not work
		return false, nil
	case own && r.Phase == confirmed:
		if _, err := p.records.change(r, Record{}); err != nil { // the owner may ask for another try
			return false, unavailable(err)
		}
		return false, Fail(cells.CauseCell, "the agent that the release names, %s, worked, and somebody put another "+
			"image, %s, in its place: change that in the cell, and ask for another try", to, is.running[Agent])
	case !own:
		_, err = p.records.change(r, Record{ID: rand.Text(), Part: Agent, For: key, From: is.running[Agent], To: to,
			Phase: asked})
		return false, unavailable(err)
	case r.Phase == watched && is.wanted[Agent] != to:
		return false, unavailable(p.options.Workload.SetImage(ctx, Agent, to))
	case r.Phase == restored:
		if _, err := p.records.change(r, Record{}); err != nil { // the owner may ask for another try
			return false, unavailable(err)
		}
		// The new agent may not work, or the control plane was away, or the image is not in the cell's registry.
		how := fmt.Sprintf("did not report within %s", p.options.Limit)
		if r.Starts >= maxStarts {
			how = fmt.Sprintf("was started %d times, and ended each time before it reported", r.Starts)
		}
		return false, Fail(cells.CauseUnknown, "the agent that the release names, %s, %s: the one before, %s, was "+
			"put back", to, how, r.From)
	}
	return false, nil
}

// withdraw ends a step for which no guard was there.
func (p *Part) withdraw(r Record) error {
	_, err := p.records.change(r, Record{})
	return &cells.UnavailableError{Cause: errors.Join(fmt.Errorf("the release names another agent, and no guard "+
		"watched its update within %s: in a cluster, the cell's owner applies what sluice agent manifest --self-update"+
		" prints; on a machine, the owner restarts the agent's service, which is the guard", guardWait), err)}
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &cells.UnavailableError{Cause: fmt.Errorf("update the agent: %w", err)}
}

// Fail returns an error that fails the release in this cell.
func Fail(cause cells.Cause, format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), cause}
}

type failure struct {
	reason string
	cause  cells.Cause
}

func (e *failure) Error() string { return e.reason }

func (e *failure) FailureCause() cells.Cause { return e.cause }
