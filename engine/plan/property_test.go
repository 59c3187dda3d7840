package plan_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// life is a random life of a pipeline: three channels in a row, and random events.
type life struct {
	*World
	t       *rapid.T
	next    int
	served  map[string]int64
	bad     map[string]bool // releases that fail
	soaked  map[string]bool // channel/release: soaked by the test's own count
	onSince map[string]time.Time
}

const tunable = "parameters: {n: {type: integer}}\n"

func newLife(t *rapid.T, tb testing.TB) *life {
	policyOf := func(name, after string) map[string]string {
		text := ""
		if after != "" {
			text = "after: [" + after + "]\ngates:\n  - soak: {for: 20m, cells: 1}\n"
			if rapid.Bool().Draw(t, name+" window") {
				text += "  - window: {opens: \"0 */3 * * *\", for: 2h}\n"
			}
		}
		if rapid.Bool().Draw(t, name+" check") {
			if after == "" {
				text += "gates:\n"
			}
			text += "  - check: {url: \"https://example.com/{release}\", validFor: 5m}\n"
		}
		text += "advance: " + rapid.SampledFrom([]string{"settled", "newest"}).Draw(t, name+" advance") + "\n"
		switch rapid.IntRange(0, 2).Draw(t, name+" rollout") {
		case 1:
			text += "rollout: {waves: [{cells: 1}, {percent: 100}], maxInFlight: 2}\n"
		case 2:
			text += "rollout: {failureBudget: 1, stall: 7m}\n"
		}
		if rapid.Bool().Draw(t, name+" short") {
			text += "settleWithin: 45m\n"
		}
		return Policy(name, text)
	}
	w := NewWorld(tb, Union(
		policyOf("staging", ""), policyOf("early", "staging"), policyOf("late", "early"),
		CellFiles("staging", "s1", "s2"), CellFiles("early", "e1", "e2"), CellFiles("late", "l1", "l2", "l3"),
		Release("1.0.0", tunable), Head("staging", "1.0.0"), Head("early", "1.0.0"), Head("late", "1.0.0"),
	)).ReportInstalled()
	return &life{
		World: w, t: t, served: map[string]int64{}, bad: map[string]bool{}, soaked: map[string]bool{},
		onSince: map[string]time.Time{},
	}
}

func (l *life) stepRandomly() {
	events := []string{
		"time", "time", "time", "release", "bad release", "silence", "hold", "lift", "revert", "freeze", "thaw",
		"hotfix", "request", "quarantine", "refusal", "begin", "values", "join", "answer", "up",
	}
	switch what := rapid.SampledFrom(events).Draw(l.t, "step"); what {
	default:
		l.stepRarely(what)
	case "time":
		l.passTime(time.Duration(rapid.IntRange(1, 60).Draw(l.t, "minutes")) * time.Minute)
	case "release":
		l.next++
		l.Commit("bob", "cut",
			Release(fmt.Sprintf("1.%d.0", l.next), tunable, fmt.Sprintf("fixes: [CVE-%d]\n", l.next)))
	case "bad release":
		l.next++
		version := fmt.Sprintf("1.%d.0", l.next)
		l.bad[version] = true
		l.Commit("bob", "cut", Release(version, tunable))
	case "silence":
		l.Now = l.Now.Add(time.Duration(rapid.IntRange(1, 20).Draw(l.t, "silent")) * time.Minute)
	case "hold":
		l.Commit("eve", "hold", map[string]string{"channels/early/holds/x.yaml": "reason: wait\n"})
	case "lift":
		for _, name := range slices.Sorted(maps.Keys(l.Files)) {
			if strings.Contains(name, "/holds/") {
				l.Commit("eve", "lift", map[string]string{name: ""})
			}
		}
	case "revert":
		l.Commit("eve", "revert", map[string]string{"channels/staging/head.yaml": "release: 1.0.0\nsequence: 1\n"})
	}
}

func (l *life) drawChannel() string {
	return rapid.SampledFrom([]string{"staging", "early", "late"}).Draw(l.t, "channel")
}

func (l *life) drawRelease() string {
	return fmt.Sprintf("1.%d.0", rapid.IntRange(0, l.next).Draw(l.t, "release"))
}

func (l *life) drawInstant() time.Time {
	return l.Now.Add(time.Duration(rapid.IntRange(1, 90).Draw(l.t, "in minutes")) * time.Minute)
}

func (l *life) stepRarely(what string) {
	switch what {
	case "freeze", "thaw":
		text := "apiVersion: sluice/v1\nkind: Pipeline\n"
		if from := l.drawInstant(); what == "freeze" {
			text += fmt.Sprintf("freezes: [{from: %s, until: %s}]\n", from.Format(time.RFC3339),
				from.Add(time.Hour).Format(time.RFC3339))
		}
		l.Commit("eve", what, map[string]string{"sluice.yaml": text})
	case "hotfix":
		version := l.drawRelease()
		file := "channels/" + l.drawChannel() + "/hotfixes/" + version + ".yaml"
		l.Commit("eve", what, map[string]string{file: fmt.Sprintf(
			"digest: @digest:%s\nreason: now\nexpiry: %s\nfixes: [CVE-%d]\noverrideFreeze: %t\n",
			version, l.drawInstant().Format(time.RFC3339), l.next, l.next%2 == 0)})
	case "request":
		l.Commit("eve", what, map[string]string{
			"channels/" + l.drawChannel() + "/head.yaml": "release: " + l.drawRelease() + "\n",
		})
	case "quarantine":
		version := l.drawRelease()
		l.Commit("eve", what, map[string]string{
			"quarantine/" + version + ".yaml": "digest: @digest:" + version + "\nreason: bad\n",
		})
	case "refusal":
		l.Obs.Refused[l.drawChannel()] = plan.Refusal{Reason: "a hook said no", Until: l.drawInstant()}
	case "begin":
		for name, s := range l.Obs.Cells {
			if s.Granted != nil && s.Running != nil && s.Granted.Sequence > s.Running.Sequence {
				l.ReportBegun(name)
			}
		}
	case "values":
		l.Commit("eve", what, map[string]string{
			"cells/l1/cell.yaml": fmt.Sprintf("apiVersion: sluice/v1\nkind: Cell\nchannel: late\nvalues: {n: %d}\n",
				l.Now.Minute()),
		})
	case "join":
		l.Commit("eve", what, CellFiles("late", "l4"))
		if l.Obs.Cells["l4"] == nil {
			l.Obs.Cells["l4"] = l.Receive(nil, cells.Report{Cell: "l4", State: cells.StatePending})
		}
	case "answer":
		l.answerProbes(rapid.Bool().Draw(l.t, "yes"))
	case "up":
		l.Obs.ListeningSince = l.Now
	}
}

// answerProbes answers what the plan wants, as the engine's prober does.
func (l *life) answerProbes(yes bool) {
	for _, p := range l.Plan().Wants {
		o := plan.Observation{
			Channel: p.Channel, Gate: p.Gate, Subject: string(p.Subject), Policy: p.Policy, Holds: yes,
			ObservedAt: l.Now, ValidUntil: l.Now.Add(p.Check.ValidFor),
		}
		l.Obs.Observations = plan.MergeObservations(l.Obs.Observations, []plan.Observation{o})
	}
}

func (l *life) passTime(d time.Duration) {
	for end := l.Now.Add(d); l.Now.Before(end); l.Now = l.Now.Add(time.Minute) {
		for _, name := range slices.Sorted(maps.Keys(l.Obs.Cells)) {
			s := l.Obs.Cells[name]
			last := s.Last()
			if last == nil {
				l.Obs.Cells[name] = l.Receive(s, cells.Report{Cell: name, State: cells.StatePending})
				continue
			}
			known := slices.ContainsFunc(s.Failures, func(f plan.Failure) bool {
				return f.Assignment.Sequence == last.Sequence && f.Assignment.Channel == last.Channel
			})
			if l.bad[last.Release] && !known && (s.Running == nil || s.Running.Digest != last.Digest) {
				l.ReportFailed(name, "bad")
			} else if known {
				l.Obs.Cells[name] = l.Receive(s, cells.Report{
					Cell: name, State: cells.StateHealthy, Running: s.Running, Failures: Plain(s.Failures),
				})
			} else {
				l.Report(name, cells.StateHealthy)
			}
		}
		l.countSoaks()
		if l.Now.Minute()%4 != 0 { // sometimes no answer comes
			l.answerProbes(true)
		}
		l.carryOutPlans()
	}
}

// countSoaks finds out independently, in the plainest way, which releases soaked where.
func (l *life) countSoaks() {
	d := l.Desired()
	for name, s := range l.Obs.Cells {
		key := name + "/" + s.Release
		if s.State != cells.StateHealthy {
			delete(l.onSince, key)
			continue
		}
		for other := range l.onSince {
			if other != key && strings.Contains(other, name+"/") {
				delete(l.onSince, other)
			}
		}
		if _, ok := l.onSince[key]; !ok {
			l.onSince[key] = l.Now
		}
		if l.Now.Sub(l.onSince[key]) >= 20*time.Minute {
			l.soaked[d.Cells[name].Channel+"/"+s.Release] = true
		}
	}
}

func (l *life) carryOutPlans() {
	for range 10 {
		before := l.Desired()
		p := l.Run()
		if len(p.Actions) == 0 {
			return
		}
		for _, a := range p.Actions {
			l.checkAction(before, a)
		}
	}
	l.t.Fatalf("plans never end")
}

func (l *life) checkAction(d *plan.Desired, a plan.Action) {
	c := d.Channels[a.Channel]
	switch a.Kind {
	case plan.Promote, plan.Rollback:
		if a.Sequence <= l.served[a.Channel] {
			l.t.Fatalf("sequence %d after %d in %s", a.Sequence, l.served[a.Channel], a.Channel)
		}
		l.served[a.Channel] = a.Sequence
	}
	if a.Kind != plan.Promote {
		return
	}
	for _, up := range c.Policy.After {
		if !a.Hotfix && !l.soaked[up+"/"+a.Release] {
			l.t.Fatalf("%s into %s, and it never soaked in %s", a.Release, a.Channel, up)
		}
	}
	if l.bad[a.Release] && !a.Hotfix && a.Channel != "staging" {
		l.t.Fatalf("bad %s reached %s", a.Release, a.Channel)
	}
	if len(c.Holds) > 0 {
		l.t.Fatalf("%s into %s, which is held", a.Release, a.Channel)
	}
	for _, g := range c.Policy.Gates {
		if open, _, _ := window.JudgeAny(g.AnyWindow(), l.Now); !a.Hotfix && !open {
			l.t.Fatalf("%s into %s outside of its window", a.Release, a.Channel)
		}
	}
}

// Invariant 1, R2, R3, R7: a channel gets no release whose gates never held, and its sequences rise.
func TestPromotionsAreGated(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(rt, t)
		for range rapid.IntRange(5, 25).Draw(rt, "steps") {
			l.stepRandomly()
		}
	})
}

// Time alone does not change a plan before the plan's Next.
func TestNothingChangesBeforeNext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(rt, t)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			l.stepRandomly()
		}
		d := l.Desired()
		p := plan.Make(d, &l.Obs, l.Now)
		until := l.Now.Add(48 * time.Hour)
		if !p.Next.IsZero() {
			until = p.Next
		}
		at := l.Now.Add(time.Duration(rapid.Int64Range(0, int64(until.Sub(l.Now))-1).Draw(rt, "at")))
		later := plan.Make(d, &l.Obs, at)
		if a, b := encodeTimeless(rt, p), encodeTimeless(rt, later); a != b {
			rt.Fatalf("next is %s, and at %s\n%s\nbecame\n%s", p.Next, at, a, b)
		}
	})
}

// Invariant 10: a verdict explains each reporting cell that is not on its channel's head, and each release that all
// upstreams of a channel run and the channel does not, unless it moves or is under way.
func TestEverythingHeldHasAWhy(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLife(rt, t)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			l.stepRandomly()
		}
		p, d := l.Plan(), l.Desired()
		told := func(channel, cell string) bool {
			return slices.ContainsFunc(p.Actions, func(a plan.Action) bool { return a.Channel == channel }) ||
				slices.ContainsFunc(p.Blocked, func(b channels.Verdict) bool {
					return b.Channel == channel && (b.Cell == "" || b.Cell == cell) && b.Reason != ""
				})
		}
		for name, cell := range d.Cells {
			s, e := l.Obs.Cells[name], d.Channels[cell.Channel].Effective
			if s == nil || l.Now.Sub(s.LastReport) >= 5*time.Minute || s.Digest == e.Digest {
				continue
			}
			underWay := s.Granted != nil && s.Granted.Sequence == e.Sequence &&
				!slices.ContainsFunc(s.Failures, func(f plan.Failure) bool {
					return f.Assignment.Sequence == e.Sequence
				})
			if !underWay && !told(cell.Channel, name) {
				rt.Fatalf("%s runs %s, not %s, and nothing says why: %v", name, s.Release, e.Release, p.Blocked)
			}
		}
		for _, name := range d.Order {
			c := d.Channels[name]
			for _, r := range d.Versions {
				ready := c.Effective.Release != r.Version.String() && l.older(c.Effective.Release, r) &&
					!slices.ContainsFunc(c.Policy.After, func(up string) bool {
						return d.Channels[up].Effective.Release != r.Version.String()
					})
				if ready && !told(name, "") {
					rt.Fatalf("%s is at %s, not %s, and nothing says why: %v", name, c.Effective.Release,
						r.Version, p.Blocked)
				}
			}
		}
	})
}

func (l *life) older(version string, r *plan.Release) bool {
	v, err := releases.ParseVersion(version)
	return err == nil && v.Less(r.Version)
}

// encodeTimeless encodes a plan without the instant at which it was made.
func encodeTimeless(t *rapid.T, p plan.Plan) string {
	p.Now, p.Next = time.Time{}, time.Time{}
	p.Learned.Accepted = slices.Clone(p.Learned.Accepted)
	for i := range p.Learned.Accepted {
		p.Learned.Accepted[i].At = time.Time{}
	}
	p.Learned.Finished = slices.Clone(p.Learned.Finished)
	for i := range p.Learned.Finished {
		p.Learned.Finished[i].At = time.Time{}
	}
	p.Learned.Cohorts = slices.Clone(p.Learned.Cohorts)
	for i := range p.Learned.Cohorts {
		p.Learned.Cohorts[i].Since = time.Time{}
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
