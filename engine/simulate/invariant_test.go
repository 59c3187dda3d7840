package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/window"
)

// SLUICE_SEEDS is how many random pipelines TestInvariants runs, and SLUICE_SEED_FROM the first seed. With SLUICE_SEED
// it runs that seed only.
const (
	seedsVariable = "SLUICE_SEEDS"
	fromVariable  = "SLUICE_SEED_FROM"
	seedVariable  = "SLUICE_SEED"
	fewSeeds      = 300
)

// TestInvariants runs the real planner on random pipelines, cells, failures, outages and people, and checks every plan
// by an independent count: design section 1, R2, R7, R9, R14, R15, R18, R19, R21.
func TestInvariants(t *testing.T) {
	first, many := readVariable(t, fromVariable, 1), readVariable(t, seedsVariable, fewSeeds)
	if one := readVariable(t, seedVariable, 0); one > 0 {
		first, many = one, 1
	}
	last := first + many - 1
	const lanes = 2
	for lane := range uint64(lanes) {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			for seed := first + lane; seed <= last; seed += lanes {
				if err := runSeed(t, seed); err != nil {
					t.Errorf("%s=%d: %v", seedVariable, seed, err)
				}
			}
		})
	}
}

func readVariable(t testing.TB, name string, without uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return without
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

type dice struct{ *rand.Rand }

func (d dice) oneOf(all ...string) string { return all[d.IntN(len(all))] }
func (d dice) chance(p float64) bool      { return d.Float64() < p }

// drawInput returns a pipeline of staging, early and late, and twelve days of events. After the ninth day nothing
// happens, so that the pipeline comes to rest.
func (d dice) drawInput(t testing.TB, seed uint64) Input {
	rollout := func(cells int) string {
		waves := d.oneOf("", "", "waves: [{cells: 1, soak: 20m}, {percent: 100}], ",
			"waves: [{cells: 1}, {percent: 30, soak: 1h}, {percent: 100}], ",
			"waves: [{cells: 2, soak: 10m}, {percent: 50}], ")
		budget := d.IntN(3)
		if d.chance(0.3) {
			budget = cells / 3
		}
		return fmt.Sprintf("rollout: {%smaxInFlight: %d, failureBudget: %d, stall: 45m}\nonFailure: %s\nadvance: %s\n",
			waves, d.IntN(4), budget,
			d.oneOf("rollback", "rollback", "halt"), d.oneOf("settled", "newest"))
	}
	gates := func(up string) string {
		s := fmt.Sprintf("after: [%s]\ngates:\n  - soak: {for: %s, cells: %d, percent: %d}\n", up, d.oneOf("30m", "3h"),
			1+d.IntN(2), []int{100, 60}[d.IntN(2)])
		if d.chance(0.4) {
			s += "  - window: {opens: \"0 */6 * * *\", for: 3h}\n"
		}
		if d.chance(0.2) {
			s += "  - check: {url: \"https://gate.example/{release}\"}\n"
		}
		return s
	}
	staging, early, late := 1+d.IntN(3), 2+d.IntN(8), 3+d.IntN(12)
	in := repositoryOf(t, union(
		policy("staging", rollout(staging)), policy("early", gates("staging")+rollout(early)),
		policy("late", gates("early")+rollout(late)),
		releaseFiles("1.0.0"),
	))
	var b strings.Builder
	fmt.Fprintf(&b, "seed: %d\ncells: {add: {staging: %d, early: %d, late: %d}, apply: {min: 1m, max: %s}}\n",
		seed, staging, early, late, d.oneOf("5m", "20m"))
	b.WriteString("answers: [{gate: check, holds: true}]\nreleases:\n")
	for i := range 1 + d.IntN(6) {
		fails, stalls := d.oneOf("0", "0", "0", "0.1", "0.3", "1"), d.oneOf("0", "0", "0.05")
		if fails == "1" {
			stalls = "0"
		}
		fmt.Fprintf(&b, "  - {at: %dh, version: 1.%d.0, fails: %s, stalls: %s, unhealthy: %s, unhealthyFor: 2h}\n",
			10+24*i+d.IntN(20), i+1,
			fails, stalls, d.oneOf("0", "0", "0.1"))
	}
	b.WriteString("outages:\n  - {from: 0s, for: 1m, of: {share: 0.0001}}\n")
	for range d.IntN(4) {
		fmt.Fprintf(&b, "  - {from: %dh, for: %dm, of: {channel: %s, share: %.1f}}\n", d.IntN(150), 1+d.IntN(600),
			d.oneOf("staging", "early", "late"), d.Float64())
	}
	b.WriteString("owners:\n  - {of: {cells: [late-1]}, from: 0s, for: 1m, paused: \"a look around\"}\n")
	for range d.IntN(3) {
		what := d.oneOf("paused: audit", "pin: 1.1.0", "windows: [{opens: \"0 2,3 * * *\", for: 30m}]",
			"windows: [{opens: \"0 */4 * * *\", for: 2h}]")
		fmt.Fprintf(&b, "  - {of: {channel: %s, share: %.1f}, from: %dh, for: %dh, %s}\n",
			d.oneOf("staging", "early", "late"), d.Float64(), d.IntN(150), 1+d.IntN(40), what)
	}
	if d.chance(0.4) {
		fmt.Fprintf(&b, "joins:\n  - {at: %dh, channel: %s, cells: %d}\n", d.IntN(150),
			d.oneOf("staging", "early", "late"), 1+d.IntN(6))
	}
	b.WriteString("people:\n  - {at: 0s, do: lift, channel: late}\n")
	for range d.IntN(3) {
		channel, at := d.oneOf("early", "late"), d.IntN(150)
		fmt.Fprintf(&b, "  - {at: %dh, do: hold, channel: %s, hold: x}\n", at, channel)
		fmt.Fprintf(&b, "  - {at: %dh, do: lift, channel: %s, hold: x}\n", at+1+d.IntN(40), channel)
	}
	in.Scenario, in.For = scenarioOf(t, b.String()), 12*24*time.Hour
	return in
}

// decideTwice returns a function that makes each plan without memory too. The plans must be the same.
func decideTwice(t testing.TB, decide decider) decider {
	return func(d *plan.Desired, o *plan.Observed, now time.Time) (plan.Plan, []plan.Turn) {
		p, turns := decide(d, o, now)
		whole := plan.Make(d, o, now)
		want := whole
		var wantTurns []plan.Turn
		want.Blocked, wantTurns = sumUp(whole.Blocked)
		if !reflect.DeepEqual(p, want) || !reflect.DeepEqual(turns, wantTurns) {
			t.Errorf("at %s, with memory:\n%+v\n%+v\nwithout:\n%+v\n%+v", now.Format(time.RFC3339), p, turns, want,
				wantTurns)
		}
		return whole, nil // the checks read all verdicts
	}
}

// sumUp takes the verdicts about cells that wait for their turn out of a plan's verdicts, and sums them up.
func sumUp(all []channels.Verdict) (left []channels.Verdict, turns []plan.Turn) {
	left = []channels.Verdict{}
	for _, v := range all {
		if v.Gate != "wave" && v.Gate != "maxInFlight" {
			left = append(left, v)
			continue
		}
		i := slices.IndexFunc(turns, func(t plan.Turn) bool {
			return t.Channel == v.Channel && t.Release == v.Release && t.Gate == v.Gate
		})
		if i < 0 {
			i = len(turns)
			turns = append(turns, plan.Turn{Channel: v.Channel, Release: v.Release, Gate: v.Gate, Reason: v.Reason})
		}
		if turns[i].Cells++; turns[i].Cells <= plan.MaxTurnNames {
			turns[i].First = append(turns[i].First, v.Cell)
		}
	}
	return left, turns
}

func runSeed(t testing.TB, seed uint64) error {
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	in := d.drawInput(t, seed)
	w, err := newWorld(context.Background(), in)
	if err != nil {
		return err
	}
	w.decide = decideTwice(t, w.decide)
	if os.Getenv(seedVariable) != "" {
		defer func() { // for debugging
			for _, e := range w.recorder.result.Timeline {
				t.Logf("%s %s %s %s %s wave %d, %d cells %v: %s", e.At.Format("02T15:04"), e.Kind, e.Channel, e.Release,
					e.Gate, e.Wave, e.Cells, e.Names, e.Text)
			}
		}()
	}
	k := &planChecker{
		world: w, served: map[string]int64{}, lastGrants: map[string]cells.Assignment{},
		granted: map[rolloutKey]map[string]bool{}, soaked: map[string]bool{},
		waveExempt: map[rolloutKey]map[string]bool{}, through: map[rolloutKey]map[int]bool{},
	}
	for n := 0; ; n++ {
		before := w.now
		desired := w.desired
		again, err := w.makePlan()
		if err != nil {
			return err
		}
		if err := k.checkPlan(desired, w.plan); err != nil {
			return fmt.Errorf("%s: %w", w.plan.Now.Format(time.RFC3339), err)
		}
		if !again {
			more, err := w.advanceTime(context.Background())
			if err != nil {
				return err
			}
			if !more {
				return k.checkRest()
			}
		}
		if !w.now.Equal(before) {
			n = 0
		}
		if n > maxPlans {
			return errRestless
		}
	}
}

type planChecker struct {
	world      *world
	served     map[string]int64               // highest sequence, by channel
	lastGrants map[string]cells.Assignment    // newest grant, by cell
	granted    map[rolloutKey]map[string]bool // cells that were granted a head
	soaked     map[string]bool                // upstream>downstream:release soaked as the gate demands, at some time
	through    map[rolloutKey]map[int]bool    // waves that were through at some time
	// Cells that may have a head whatever the wave: they were silent while the head was going out (R14), or ran it
	// before.
	waveExempt map[rolloutKey]map[string]bool
}

type rolloutKey struct {
	channel  string
	sequence int64
}

// checkPlan checks a plan that was made on d and carried out.
func (k *planChecker) checkPlan(d *plan.Desired, p plan.Plan) error {
	k.countSoaks(d, p.Now)
	var wrong []error
	for i := range p.Actions {
		a := &p.Actions[i]
		c := d.Channels[a.Channel]
		switch a.Kind {
		case plan.Promote:
			wrong = append(wrong, k.checkSequence(a), k.checkPromotion(d, c, a, p.Now))
		case plan.Rollback:
			wrong = append(wrong, k.checkSequence(a), k.checkRollback(d, c, a))
		case plan.Grant:
			wrong = append(wrong, k.checkGrant(d, c, a, p.Now))
		}
	}
	return errors.Join(wrong...)
}

func (k *planChecker) checkSequence(a *plan.Action) error {
	if a.Sequence <= k.served[a.Channel] {
		return fmt.Errorf("R2: %s of %s has sequence %d after %d", a.Channel, a.Release, a.Sequence,
			k.served[a.Channel])
	}
	k.served[a.Channel] = a.Sequence
	return nil
}

// healthyFor returns for how long a cell has been healthy on the head, by its reports; negative: it is not.
func healthyFor(s *plan.CellState, e *plan.EffectiveHead, now time.Time) time.Duration {
	if e == nil || s.Digest != e.Digest || s.State != cells.StateHealthy || s.HealthySince.IsZero() {
		return -1
	}
	if isSilent(s, now) {
		return -1 // a silent cell does not soak
	}
	return now.Sub(s.HealthySince)
}

func isSilent(s *plan.CellState, now time.Time) bool {
	last, _ := s.Heard(now)
	return now.Sub(last) >= staleAfter
}

// staleAfter is the default, which the pipelines use.
const staleAfter = 5 * time.Minute

// countSoaks notes which heads soaked for which downstream: on at least as many cells as the gate demands, for as long.
func (k *planChecker) countSoaks(d *plan.Desired, now time.Time) {
	for _, down := range d.Channels {
		if e := down.Effective; e != nil {
			key := rolloutKey{down.Name, e.Sequence}
			if k.waveExempt[key] == nil {
				k.waveExempt[key] = map[string]bool{}
			}
			for _, cell := range down.Cells {
				if isSilent(k.world.observed.Cells[cell.Name], now) {
					k.waveExempt[key][cell.Name] = true
				}
			}
			k.noteThroughWaves(d, down, now)
		}
		for _, g := range down.Policy.Gates {
			if g.Soak == nil {
				continue
			}
			for _, up := range down.Policy.After {
				n := 0
				for _, cell := range d.Channels[up].Cells {
					if healthyFor(k.world.observed.Cells[cell.Name], d.Channels[up].Effective, now) >= g.Soak.For {
						n++
					}
				}
				if n >= g.Soak.Cells {
					k.soaked[up+">"+down.Name+":"+d.Channels[up].Effective.Release] = true
				}
			}
		}
	}
}

// checkPromotion checks invariant 1, R7, R9, R18 and R21.
func (k *planChecker) checkPromotion(d *plan.Desired, c *plan.Channel, a *plan.Action, now time.Time) error {
	for _, up := range c.Policy.After {
		if !k.soaked[up+">"+c.Name+":"+a.Release] {
			return fmt.Errorf("R9: %s into %s, and it never soaked in %s", a.Release, c.Name, up)
		}
	}
	if cut := k.world.fleet.cuts[a.Release]; cut != nil && cut.Fails == 1 && len(c.Policy.After) > 0 {
		return fmt.Errorf("%s fails everywhere and reached %s", a.Release, c.Name)
	}
	for _, g := range c.Policy.Gates {
		if open, _, _ := window.JudgeAny(g.AnyWindow(), now); !open {
			return fmt.Errorf("%s into %s outside of its window", a.Release, c.Name)
		}
	}
	if len(c.Holds) > 0 {
		return fmt.Errorf("%s into %s, which is held", a.Release, c.Name)
	}
	return k.checkQuarantine(d, a)
}

func (k *planChecker) checkQuarantine(d *plan.Desired, a *plan.Action) error {
	for i := range d.Quarantine {
		if d.Quarantine[i].Stops(a.Channel, a.Release, a.Digest) {
			return fmt.Errorf("R21: %s of %s in %s, which is quarantined there", a.Kind, a.Release, a.Channel)
		}
	}
	return nil
}

// checkRollback checks R19.
func (k *planChecker) checkRollback(d *plan.Desired, c *plan.Channel, a *plan.Action) error {
	if a.Digest == c.Effective.Digest {
		return fmt.Errorf("R19: %s goes back to what it has, %s", c.Name, a.Release)
	}
	return k.checkQuarantine(d, a)
}

// checkGrant checks R2, R14, R15, R18 and R21.
func (k *planChecker) checkGrant(d *plan.Desired, c *plan.Channel, a *plan.Action, now time.Time) error {
	e := c.Effective
	if err := k.checkQuarantine(d, a); err != nil {
		return err
	}
	if a.Sequence == e.Sequence && e.Kind != plan.Rollback {
		if len(c.Holds) > 0 {
			return fmt.Errorf("R18: %d cells of %s granted, which is held", len(a.Cells), c.Name)
		}
		for _, g := range c.Policy.Gates {
			if open, _, _ := window.JudgeAny(g.AnyWindow(), now); !open {
				return fmt.Errorf("R18: %d cells of %s granted outside of its window", len(a.Cells), c.Name)
			}
		}
	}
	key := rolloutKey{c.Name, a.Sequence}
	had := len(k.granted[key])
	if k.granted[key] == nil {
		k.granted[key] = map[string]bool{}
	}
	if k.waveExempt[key] == nil {
		k.waveExempt[key] = map[string]bool{}
	}
	for _, name := range a.Cells {
		g := k.world.observed.Cells[name].Granted
		if old, ok := k.lastGrants[name]; ok && cells.Newer(old, *g) {
			return fmt.Errorf("R2: %s was granted (%d, %d) after (%d, %d)", name, g.Epoch, g.Sequence,
				old.Epoch, old.Sequence)
		}
		k.lastGrants[name] = *g
		if k.granted[key][name] && k.world.observed.Cells[name].Taken == g.Key() {
			return fmt.Errorf("R14: %s took sequence %d, and was granted it again", name, a.Sequence)
		}
		k.granted[key][name] = true
		if s := k.world.observed.Cells[name]; s.Digest != a.Digest {
			if b := s.Owner.Judge(*g, now); !b.OK {
				return fmt.Errorf("R18: %s was granted %s against its owner: %s", name, a.Release, b.Reason)
			}
			if s.Digest == "" && k.world.fleet.cells[name].generation == 0 && s.Taken == "" &&
				a.Sequence == e.Sequence && !k.isFinished(c, e) {
				if h := k.provenHead(d, c); h != nil {
					return fmt.Errorf("R15: %s has nothing installed and was granted %s, while %s is finished", name,
						a.Release, h.Release)
				}
			}
		}
		if k.world.observed.Cells[name].Digest == a.Digest {
			k.waveExempt[key][name] = true // the cell runs the release already, so the grant risks nothing
		}
	}
	if a.Sequence != e.Sequence {
		return nil
	}
	if failed := k.countCertain(c, now); e.Kind != plan.Rollback && failed > c.Policy.Rollout.FailureBudget {
		return fmt.Errorf("R14: %s granted %s to %d more after %d failures, budget %d", c.Name, a.Release, len(a.Cells),
			failed, c.Policy.Rollout.FailureBudget)
	}
	if err := k.checkInFlight(c, now); err != nil {
		return err
	}
	if e.Kind == plan.Rollback {
		return nil // no waves (R19)
	}
	return k.checkWaves(c, a, had, now)
}

// isFinished reports whether a head is known to have reached its cells. The target of a rollback has, under another
// sequence.
func (k *planChecker) isFinished(c *plan.Channel, h *plan.EffectiveHead) bool {
	return h.Finished || h.Kind == plan.Rollback ||
		slices.ContainsFunc(k.world.observed.Learned.Finished, func(f plan.Finish) bool {
			return f.Channel == c.Name && f.Sequence == h.Sequence && f.Digest == h.Digest
		})
}

func (k *planChecker) provenHead(d *plan.Desired, c *plan.Channel) *plan.EffectiveHead {
	for i := range c.History {
		h := &c.History[i]
		stopped := slices.ContainsFunc(d.Quarantine, func(q channels.Quarantine) bool {
			return q.Stops(c.Name, h.Release, h.Digest)
		})
		if h.Kind != plan.Rollback && !stopped && k.isFinished(c, h) {
			return h
		}
	}
	return nil
}

func (k *planChecker) countFailed(c *plan.Channel, now time.Time) int {
	n := 0
	for _, cell := range c.Cells {
		if s := k.world.observed.Cells[cell.Name]; hasFailedHead(s, c.Effective) || isStalled(s, c, now) {
			n++
		}
	}
	return n
}

// countCertain counts the cells whose failure counts against the head without doubt: cells that the head was for when
// it moved, before the rollout is finished. Stalls count from two on (R49).
func (k *planChecker) countCertain(c *plan.Channel, now time.Time) int {
	if k.isFinished(c, c.Effective) {
		return 0
	}
	failed, stalls := 0, 0
	for _, cohort := range k.world.observed.Learned.Cohorts {
		if cohort.Channel != c.Name || cohort.Sequence != c.Effective.Sequence {
			continue
		}
		for _, name := range cohort.Eligible {
			cell, s := k.world.desired.Cells[name], k.world.observed.Cells[name]
			switch {
			case cell == nil || cell.Channel != c.Name || !s.ReachedAt.IsZero():
			case hasFailedHead(s, c.Effective):
				failed++
			case isStalled(s, c, now):
				stalls++
			}
		}
	}
	if stalls > 1 {
		failed += stalls
	}
	return failed
}

func hasFailedHead(s *plan.CellState, e *plan.EffectiveHead) bool {
	for _, f := range s.Failures {
		if f.Assignment.Digest == e.Digest && f.Assignment.Sequence == e.Sequence {
			return true
		}
	}
	return false
}

func isStalled(s *plan.CellState, c *plan.Channel, now time.Time) bool {
	return s.Applying != nil && s.Applying.Sequence == c.Effective.Sequence && !s.StartedAt.IsZero() &&
		now.Sub(s.StartedAt) >= c.Policy.Rollout.Stall
}

// checkInFlight checks that no more cells than maxInFlight have a grant without a result, of whatever head. It also
// checks that no more cells failed the head than its budget and those that were under way when the budget was spent.
func (k *planChecker) checkInFlight(c *plan.Channel, now time.Time) error {
	limit := c.Policy.Rollout.MaxInFlight
	if limit == 0 {
		return nil
	}
	n := 0
	for _, cell := range c.Cells {
		if k.usesSlot(c, k.world.observed.Cells[cell.Name], now) {
			n++
		}
	}
	if n > limit {
		return fmt.Errorf("R14: %d cells of %s are in flight, maxInFlight is %d", n, c.Name, limit)
	}
	if failed := k.countCertain(c, now); c.Effective.Kind == plan.Promote &&
		failed > c.Policy.Rollout.FailureBudget+limit {
		return fmt.Errorf("R14: %d cells of %s failed %s, the budget is %d and maxInFlight %d", failed, c.Name,
			c.Effective.Release, c.Policy.Rollout.FailureBudget, limit)
	}
	return nil
}

// usesSlot reports whether a cell was granted something new to it and has no result yet. A grant that did not begin
// within the stall limit uses none.
func (k *planChecker) usesSlot(c *plan.Channel, s *plan.CellState, now time.Time) bool {
	g := s.Granted
	if g == nil || g.Channel != c.Name || s.Running != nil && s.Running.SameContent(*g) {
		return false
	}
	for _, f := range s.Failures {
		if f.Assignment.Key() == g.Key() {
			return false
		}
	}
	return !s.StartedAt.IsZero() || now.Sub(s.GrantedAt) < c.Policy.Rollout.Stall
}

// checkWaves checks that cells were granted a head beyond a wave only after that wave was through at some time.
func (k *planChecker) checkWaves(c *plan.Channel, a *plan.Action, had int, now time.Time) error {
	key := rolloutKey{c.Name, a.Sequence}
	granted := maps.Clone(k.granted[key])
	maps.DeleteFunc(granted, func(name string, _ bool) bool { return k.waveExempt[key][name] })
	if !slices.ContainsFunc(a.Cells, func(name string) bool { return granted[name] }) {
		return nil // latecomers only
	}
	size := 0
	for i, wave := range c.Policy.Rollout.Waves {
		size = max(size, waveSize(wave, len(c.Cells)))
		size := max(size, k.countFailed(c, now)+1) // one more cell, if all that had the head failed
		if len(granted) > size && !k.through[key][i] {
			return fmt.Errorf(
				"R14: %s granted %s to %d cells beyond a wave of %d, which was never through (%d granted before)",
				c.Name, a.Release, len(granted)-size, size, had)
		}
	}
	return nil
}

func waveSize(w channels.Wave, of int) int {
	if w.Percent > 0 {
		return int(math.Ceil(w.Percent * float64(of) / 100))
	}
	return min(w.Cells, of)
}

// noteThroughWaves notes which waves of c's head are through: as many of the cells in contact as the wave demands were
// healthy on the head for its soak or failed it, and at least one was healthy.
func (k *planChecker) noteThroughWaves(d *plan.Desired, c *plan.Channel, now time.Time) {
	key := rolloutKey{c.Name, c.Effective.Sequence}
	if k.through[key] == nil {
		k.through[key] = map[int]bool{}
	}
	could := 0
	for _, cell := range c.Cells {
		s := k.world.observed.Cells[cell.Name]
		has := s.Granted != nil && s.Granted.Channel == c.Name && s.Granted.Sequence == c.Effective.Sequence
		if s.Digest == "" && !has && k.provenHead(d, c) != nil {
			continue // it gets the proven head first
		}
		kept := s.Owner != nil && (s.Owner.Paused != "" || s.Owner.Pin != "" && s.Owner.Pin != c.Effective.Release)
		if !isSilent(s, now) && (has || !kept) || hasFailedHead(s, c.Effective) || isStalled(s, c, now) {
			could++
		}
	}
	size := 0
	for i, wave := range c.Policy.Rollout.Waves {
		size = max(size, waveSize(wave, could))
		well := 0
		for _, cell := range c.Cells {
			if healthyFor(k.world.observed.Cells[cell.Name], c.Effective, now) >= wave.Soak {
				well++
			}
		}
		if well >= size-k.countFailed(c, now) && well > 0 {
			k.through[key][i] = true
		}
	}
}

// checkRest checks that at the end, after days without an event, every cell has its head, or failed it, or a verdict
// says why not.
func (k *planChecker) checkRest() error {
	var wrong []error
	for _, name := range k.world.desired.Order {
		c := k.world.desired.Channels[name]
		if c.Effective == nil {
			if len(k.verdictsAbout(name)) == 0 && k.world.desired.Order[0] == name {
				wrong = append(wrong, fmt.Errorf("invariant 10: %s has no head, and no verdict says why", name))
			}
			continue
		}
		for _, cell := range c.Cells {
			s := k.world.observed.Cells[cell.Name]
			if s.Digest == c.Effective.Digest || hasFailedHead(s, c.Effective) || k.world.fleet.cells[cell.Name].hung {
				continue
			}
			if gate := k.blockingGate(c, cell.Name); gate == "" {
				wrong = append(wrong,
					fmt.Errorf("invariant 10: %s runs %s, not %s, and no verdict says why", cell.Name, s.Release,
						c.Effective.Release))
			} else if (gate == "wave" || gate == "maxInFlight") && !k.isSlotStalled(c) {
				wrong = append(wrong,
					fmt.Errorf("R14: %s runs %s, not %s, and waits for %s for ever", cell.Name, s.Release,
						c.Effective.Release, gate))
			}
		}
		wrong = append(wrong, k.checkNotStuck(c))
	}
	return errors.Join(wrong...)
}

// isSlotStalled reports whether a cell that hangs fills a slot of the channel, which a person must end (R49).
func (k *planChecker) isSlotStalled(c *plan.Channel) bool {
	return c.Policy.Rollout.MaxInFlight > 0 && slices.ContainsFunc(c.Cells, func(cell *plan.Cell) bool {
		s := k.world.observed.Cells[cell.Name]
		return s.Applying != nil && k.world.now.Sub(s.StartedAt) >= c.Policy.Rollout.Stall
	})
}

// blockingGate returns the gate of the verdict that holds a cell; empty: none.
func (k *planChecker) blockingGate(c *plan.Channel, cell string) string {
	gate := ""
	for _, v := range k.world.plan.Blocked {
		if v.Channel != c.Name || v.Release != c.Effective.Release {
			continue
		}
		if v.Cell == cell {
			return v.Gate
		}
		if v.Cell == "" && gate == "" {
			gate = v.Gate
		}
	}
	return gate
}

// checkNotStuck checks that a channel takes a head that has been healthy on all cells of its upstream for days, unless
// the channel is held, or the release is quarantined or behind it.
func (k *planChecker) checkNotStuck(c *plan.Channel) error {
	if len(c.Holds) > 0 {
		return nil
	}
	for _, name := range c.Policy.After {
		up := k.world.desired.Channels[name]
		if up.Effective == nil || up.Effective.Release == c.Effective.Release {
			continue
		}
		for _, cell := range up.Cells {
			if healthyFor(k.world.observed.Cells[cell.Name], up.Effective, k.world.now) < 24*time.Hour {
				return nil
			}
		}
		if k.world.now.Sub(up.Effective.Moved) < 48*time.Hour {
			return nil
		}
		r, at := k.world.desired.Releases[up.Effective.Release], k.world.desired.Releases[c.Effective.Release]
		if r == nil || at == nil || r.Version.Less(at.Version) {
			return nil
		}
		for i := range k.world.desired.Quarantine {
			if k.world.desired.Quarantine[i].Stops(c.Name, up.Effective.Release, up.Effective.Digest) {
				return nil
			}
		}
		return fmt.Errorf("%s has had %s healthy in all its cells for a day, and %s stays at %s: %v", name,
			up.Effective.Release, c.Name, c.Effective.Release, k.verdictsAbout(c.Name))
	}
	return nil
}

func (k *planChecker) verdictsAbout(channel string) []string {
	var all []string
	for _, v := range k.world.plan.Blocked {
		if v.Channel == channel && v.Cell == "" {
			all = append(all, v.Release+" "+v.String())
		}
	}
	return all
}
