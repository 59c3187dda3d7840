// Package whatif answers what another policy of a channel would change: it simulates the release repository as it is,
// and with another text of one channel.yaml, on the same scenario with the same luck, and compares.
//
// The text is judged as sluice validate judges a file; with a fault in it nothing is simulated. The package writes
// nothing, and starts no goroutine; its caller bounds the time with the context, and what was simulated until then is
// compared. Ask may be called from any goroutine.
package whatif

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
)

// Limits of a question. What is larger is for sluice simulate, which has no limits of this kind.
const (
	MaxCells    = 20_000 // added ones; the repository's own are as many as there are
	MaxReleases = 100
	MaxOutages  = 500_000 // of all cells
	MaxLength   = 92 * 24 * time.Hour
)

var (
	// ErrTooLarge means that a scenario exceeds the limits.
	ErrTooLarge = errors.New("the scenario is too large to be simulated here")
	// ErrScenario means that a scenario does not fit the repository: it names what is not there.
	ErrScenario = errors.New("the scenario does not fit the repository")
)

// Question asks what a channel's policy would change.
type Question struct {
	Channel  string
	Policy   []byte // the text of its channel.yaml
	Scenario []byte // as docs/simulate.md describes it
	From     time.Time
	For      time.Duration
}

// Answer compares the policy as it is with the one in question.
type Answer struct {
	Faults     []manifest.Fault // of the two texts; if there is one that is no warning, nothing was simulated
	Comparison *simulate.Comparison
	Short      bool // the time was over before the end of the simulation
}

// Source is the release repository as it was last read.
type Source struct {
	FS      func(commit string) (fs.FS, error)
	History func() (*plan.History, error) // returns a copy; its Tip is the commit
}

// ScenarioFile is the name under which faults of the scenario are reported.
const ScenarioFile = "scenario"

// PolicyFile returns the path of a channel's policy.
func PolicyFile(channel string) string { return path.Join(channels.Dir, channel, "channel.yaml") }

// Ask simulates twice and compares. Each simulation gets half of the time that ctx leaves.
func Ask(ctx context.Context, from Source, q Question) (*Answer, error) {
	scenario, faults := simulate.Parse(ScenarioFile, q.Scenario)
	history, err := from.History()
	if err != nil {
		return nil, err
	}
	files, err := from.FS(history.Tip)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", history.Tip, err)
	}
	w := world{source: from, tip: history.Tip, cache: new(manifest.Cache)}
	changed := overlay.New(files).With(map[string][]byte{PolicyFile(q.Channel): q.Policy})
	own, wrong, err := w.newFaults(files, changed)
	if err != nil {
		return nil, err
	}
	if scenario != nil {
		if err := checkSize(scenario, own, min(q.For, MaxLength)); err != nil {
			return nil, err
		}
	}
	a := &Answer{Faults: append(wrong, faults...)}
	if manifest.Fatal(a.Faults) {
		return a, nil
	}
	in := simulate.Input{Scenario: scenario, From: q.From, For: min(q.For, MaxLength)}
	before, beforeShort, err := w.run(ctx, 2, files, in)
	if err != nil {
		return nil, err
	}
	if in.For = before.Until.Sub(in.From); in.For <= 0 {
		return nil, fmt.Errorf("simulate: %w", context.DeadlineExceeded)
	}
	after, afterShort, err := w.run(ctx, 1, changed, in)
	if err != nil {
		return nil, err
	}
	c := simulate.Compare(before, after)
	a.Comparison, a.Short = &c, beforeShort || afterShort
	return a, nil
}

// checkSize returns ErrTooLarge if a scenario is, for a repository with so many cells of its own.
func checkSize(s *simulate.Scenario, own int, length time.Duration) error {
	added := 0
	for _, n := range s.Cells.Add {
		added += n
	}
	for _, j := range s.Joins {
		added += j.Cells
	}
	outages := 0.0
	for _, o := range s.Outages {
		if o.Every > 0 {
			outages += float64(own+added) * float64(length) / float64(o.Every)
		}
	}
	switch {
	case added > MaxCells:
		return fmt.Errorf("it adds %d cells, and %d are allowed: %w", added, MaxCells, ErrTooLarge)
	case len(s.Releases) > MaxReleases:
		return fmt.Errorf("it cuts %d releases, and %d are allowed: %w", len(s.Releases), MaxReleases, ErrTooLarge)
	case outages > MaxOutages:
		return fmt.Errorf("it has about %.0f outages, and %d are allowed: %w", outages, MaxOutages, ErrTooLarge)
	}
	return nil
}

// world is the repository of one question.
type world struct {
	source Source
	tip    string
	cache  *manifest.Cache
}

// newFaults returns the faults of changed that files do not have, and how many cells there are.
func (w *world) newFaults(files, changed fs.FS) (own int, fresh []manifest.Fault, err error) {
	var lists [2][]manifest.Fault
	for i, f := range []fs.FS{files, changed} {
		history, err := w.history()
		if err != nil {
			return 0, nil, err
		}
		d, err := plan.Build(f, history, w.source.FS, w.cache, false, nil)
		if err != nil {
			return 0, nil, fmt.Errorf("read the repository with another policy: %w", err)
		}
		own = len(d.Cells)
		lists[i] = d.AllFaults()
	}
	for _, f := range lists[1] {
		if !slices.ContainsFunc(lists[0], func(old manifest.Fault) bool {
			return old.File == f.File && old.Message == f.Message
		}) {
			fresh = append(fresh, f)
		}
	}
	return own, fresh, nil
}

// history returns a copy of the history up to the commit of this question.
func (w *world) history() (*plan.History, error) {
	h, err := w.source.History()
	if err == nil && h.Tip != w.tip {
		err = fmt.Errorf("a commit came in between: %w", plan.ErrStale)
	}
	return h, err
}

// run simulates within its share of the time that is left, one part of several. short: the time was over first.
func (w *world) run(ctx context.Context, parts int, files fs.FS, in simulate.Input) (r *simulate.Result, short bool,
	err error) {
	if in.History, err = w.history(); err != nil {
		return nil, false, err
	}
	in.Files, in.Open, in.Cache = files, w.source.FS, w.cache
	within := ctx
	if until, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, time.Until(until)/time.Duration(parts))
		defer cancel()
	}
	r, err = simulate.Run(within, in)
	if r != nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(ctx.Err(), context.Canceled) {
		return r, true, nil
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: %w", ErrScenario, err)
	}
	return r, false, err
}

// Summary counts what a comparison says.
type Summary struct {
	Later, Earlier, Same int
	Only                 [2]int        // promotions that only the one or the other simulation has
	Longest              time.Duration // by which a release comes later
}

// Summarise counts what a comparison says.
func Summarise(c *simulate.Comparison) (s Summary) {
	for i := range c.Moved {
		m := &c.Moved[i]
		by, both := m.Later()
		switch {
		case !both && m.After.IsZero():
			s.Only[0]++
		case !both:
			s.Only[1]++
		case by > 0:
			s.Later++
			s.Longest = max(s.Longest, by)
		case by < 0:
			s.Earlier++
		default:
			s.Same++
		}
	}
	return s
}
