package maintenance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/releases"
)

func component(name, image string, marked bool) releases.Component {
	return releases.Component{Name: name, Image: image, Maintenance: marked}
}

// A maintenance is for a change of a marked component, on the way there and back; what is added, removed or renamed
// changes, too.
func TestChanges(t *testing.T) {
	a, b := component("server", "a", true), component("server", "b", true)
	free, other := component("web", "a", false), component("web", "b", false)
	list := func(c ...releases.Component) []releases.Component { return c }
	for name, test := range map[string]struct {
		running, coming []releases.Component
		changes         bool
	}{
		"nothing changes":          {list(a, free), list(a, free), false},
		"unmarked changes":         {list(a, free), list(a, other), false},
		"marked changes":           {list(a, free), list(b, free), true},
		"marked is added":          {list(free), list(free, a), true},
		"marked is removed":        {list(a, free), list(free), true},
		"marked is renamed":        {list(a), list(component("srv", "a", true)), true},
		"only the mark is new":     {list(component("server", "a", false)), list(a), false},
		"the mark goes, and image": {list(a), list(component("server", "b", false)), true},
		"half way, back":           {list(a, b), list(a), true},
		"half way, on":             {list(a, b), list(b), true},
		"another order":            {list(a, free), list(free, a), false},
	} {
		if Changes(test.running, test.coming) != test.changes {
			t.Errorf("%s: changes is %v", name, !test.changes)
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	for _, p := range []Policy{{}, {Lead: time.Hour, Drain: time.Minute, Maximum: 5 * time.Minute},
		{Maximum: time.Second}, {Maximum: time.Minute, Overdue: Force, Again: time.Second}} {
		if f := p.Check(); len(f) > 0 {
			t.Errorf("%+v: %v", p, f)
		}
		if full := p.WithDefaults(); full.Drain <= 0 || full.Drain >= full.Maximum || full.Overdue == "" ||
			full.Again <= 0 {
			t.Errorf("%+v is, with defaults, %+v", p, full)
		}
	}
	for field, p := range map[string]Policy{
		"lead": {Lead: -1}, "maximum": {Maximum: time.Millisecond}, "drain": {Drain: 11 * time.Minute},
		"again": {Again: MaxLead + 1}} {
		if f := p.Check(); len(f) == 0 || f[0].Field != field {
			t.Errorf("%+v: %v", p, f)
		}
	}
}

// A text is filled in, in the best language that there is; without any, users see the default.
func TestTexts(t *testing.T) {
	now := time.Date(2026, 11, 29, 13, 30, 1, 0, time.UTC)
	s := State{Phase: Draining, Until: now.Add(90 * time.Second), Release: "1.1.0"}
	if text := s.Text("en", "start", now); !strings.HasPrefix(text, "We're in the middle of an update") ||
		!strings.Contains(text, "13:31 UTC") {
		t.Error(text)
	}
	s.Texts = releases.Texts{"de": {"default": "Bis {until}, {minutes} Minuten, {kind}, {release}"},
		"en": {"start": "later"}}
	if got := s.Text("de", "stop", now); got != "Bis 13:31 UTC, 2 Minuten, stop, 1.1.0" {
		t.Error(got)
	}
	if s.Text("en", "start", now) != "later" || !strings.HasPrefix(s.Text("en", "stop", now), "We're") {
		t.Error("a language without a text for the kind")
	}
	if got := s.Languages(); !slices.Equal(got, []string{"en", "de"}) {
		t.Error(got)
	}
}

// Where the clock went back between two starts of the agent, the end does not move away.
func TestAClockThatGoesBack(t *testing.T) {
	now := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	r := &Record{Phase: Drained, Until: now.Add(5 * time.Minute), Limit: now.Add(30 * time.Minute)}
	back := r.Restore(Policy{}, now.Add(-24*time.Hour))
	if left := back.Until.Sub(now.Add(-24 * time.Hour)); left > 10*time.Minute {
		t.Errorf("operations would be refused for %s", left)
	}
	if forth := r.Restore(Policy{}, now.Add(time.Hour)); forth.Refuses(now.Add(time.Hour)) {
		t.Error("refuses after its end")
	}
	if o := (&Owner{Until: now.Add(48 * time.Hour)}).Restore(now); o.Until.Sub(now) > MaxOwner {
		t.Error("the owner's end is out of bounds")
	}
	if (&Owner{Until: now}).Restore(now) != nil {
		t.Error("an end in the past begins nothing")
	}
}

// Both at once: the later end counts, and the owner's goes on when the update is through.
func TestOwnerAndUpdate(t *testing.T) {
	now := time.Now()
	r := &Record{Phase: Drained, Begins: now, Until: now.Add(10 * time.Minute), Release: "1.1.0",
		Shows: releases.Maintenance{Refuses: []string{"stop", "fork"}}}
	o := &Owner{Since: now, Until: now.Add(time.Hour), Reason: "disk"}
	s := Combine(r, o, nil, now)
	if s.Phase != Drained || !s.Until.Equal(o.Until) || !s.Refuses("fork", now) || s.Refuses("start", now) {
		t.Errorf("%+v", s)
	}
	if s = Combine(nil, o, nil, now); s.Phase != Draining || !s.Refuses("start", now) || s.Reason != "disk" {
		t.Errorf("%+v", s)
	}
	if s = Combine(r, nil, releases.Texts{"en": {"default": "ours"}}, now); s.Text("en", "stop", now) != "ours" {
		t.Error("the cell's own texts come first")
	}
	if s = Combine(r, o, nil, now.Add(2*time.Hour)); s.Phase != Off {
		t.Errorf("after both ends: %+v", s)
	}
}

// An operation that runs although it was refused is waited for while the cell drains, is refused again after that, and
// is named once when the maintenance ends. One that was never refused, or in another maintenance, is none.
func TestRefusalsThatAreIgnored(t *testing.T) {
	now := time.Now()
	o := NewOperations(now.Add(-LeaseTime))
	draining := State{Phase: Draining, Until: now.Add(time.Hour), Refused: DefaultKinds()}
	o.Set(draining, now)
	op := Operation{"start", "ws-1"}
	if o.Begin(op, false, now) != Refused || o.Busy(now).Ignored.Count != 0 {
		t.Fatal("refused, and nothing more")
	}
	for range 2 {
		o.Begin(op, true, now)
	}
	o.Begin(Operation{"start", "of an agent that was away"}, true, now)
	if b := o.Busy(now); b.Quiet || b.Count != 2 || b.Ignored != (Ignored{1, "start ws-1"}) {
		t.Errorf("%+v", b)
	}
	draining.Phase = Drained
	o.Set(draining, now)
	late := Operation{"stop", "ws-1"}
	for _, running := range []bool{false, true, true} {
		if o.Begin(late, running, now) != Refused {
			t.Error("after the drain nothing is taken over")
		}
	}
	b := o.Busy(now)
	if b.Ignored != (Ignored{2, "start ws-1, stop ws-1"}) || b.Refused["stop"] != 1 || b.Refused["start"] != 1 {
		t.Errorf("%+v", b)
	}
	r := &Record{Phase: Drained, Release: "1.1.0", Begins: now, Until: now.Add(time.Minute)}
	for at, last := range map[time.Time]string{now: EventLeft, r.Until: EventOverran} {
		_, events := Advance(r, Facts{}, Policy{}, b, at)
		if len(events) != 2 || events[0] != (Event{EventIgnored,
			"2 operations ran although refused (start ws-1, stop ws-1): the product does not heed refusals"}) ||
			events[1].Kind != last {
			t.Errorf("%+v", events)
		}
		if all := (Totals{}).After(r, events[0], b, at); all.Ignored != 2 || !all.Valid() {
			t.Errorf("%+v", all)
		}
	}
	o.Set(State{Phase: Off}, now)
	o.Begin(late, true, now) // nothing refuses it any longer
	o.Set(draining, now)
	o.Begin(op, true, now)
	if b := o.Busy(now); b.Ignored.Count != 0 {
		t.Errorf("of another maintenance: %+v", b)
	}
	for i := range 2 * maxDenied {
		o.Begin(Operation{"start", fmt.Sprint(i)}, false, now)
		o.Begin(Operation{"start", fmt.Sprint(i)}, true, now)
	}
	if b := o.Busy(now); b.Ignored.Count != maxDenied || len(b.Ignored.Names) > maxNamesText {
		t.Errorf("%+v", b.Ignored)
	}
}

// A drain that no program ever asked about says so: on this machine and on all nodes.
func TestADrainWithoutAnyQuestion(t *testing.T) {
	now := time.Now()
	r := &Record{Phase: Draining, Release: "1.1.0", Begins: now, Drain: now.Add(time.Minute), Until: now.Add(time.Hour)}
	for _, c := range []struct {
		here, nodes Busy
		want        int
	}{{Busy{Quiet: true, Unasked: true}, Busy{Quiet: true, Unasked: true}, 1},
		{Busy{Quiet: true}, Busy{Quiet: true, Unasked: true}, 0},
		{Busy{Quiet: true, Unasked: true}, Busy{Quiet: true}, 0}} {
		both := c.here.With(c.nodes)
		next, events := Advance(r, Facts{Stage: Ready, Changes: true, Release: "1.1.0"}, Policy{}, both, now)
		if next.Phase != Drained || len(events) != c.want {
			t.Errorf("%+v: %+v, %+v", c, next, events)
		}
		for _, e := range events {
			if all := (Totals{}).After(r, e, both, now); e.Kind != EventUnasked || all.Unasked != 1 {
				t.Errorf("%+v, %+v", e, all)
			}
		}
	}
	nodes := &Nodes{}
	if b := nodes.Judge("id", PublishedState{}, now); !b.Unasked {
		t.Error("there are no nodes")
	}
	nodes.Seen([]Node{{Name: "a", Version: "1", Report: NodeReport{Busy: Busy{Unasked: true}}},
		{Name: "b", Version: "1"}}, now)
	if b := nodes.Judge("id", PublishedState{}, now); b.Unasked {
		t.Error("node b was asked, or is of an earlier version")
	}
}

// A lease ends by itself, is renewed under its name, and counts only for its kind; a process that began anew waits for
// leases that it may not know.
func TestLeases(t *testing.T) {
	now := time.Now()
	o := NewOperations(now)
	op := Operation{"start", "ws-1"}
	if o.Begin(op, false, now) != Granted || o.Begin(op, false, now.Add(time.Second)) != Renewed {
		t.Fatal("an operation, and again")
	}
	o.Begin(Operation{"fork", "x"}, false, now)
	draining := State{Phase: Draining, Until: now.Add(time.Hour), Refused: DefaultKinds()}
	o.Set(draining, now)
	if o.Begin(Operation{"stop", "ws-1"}, false, now) != Refused || o.Begin(op, false, now) != Renewed ||
		o.Begin(Operation{"fork", "y"}, false, now) != Granted {
		t.Error("only new operations of the kinds are refused")
	}
	if o.Begin(Operation{"start", "ws-2"}, true, now) != Granted {
		t.Error("what is under way already is taken over")
	}
	if b := o.Busy(now); b.Quiet || b.Count != 2 || b.Names != "start ws-1, start ws-2" || b.Refused["stop"] != 1 {
		t.Errorf("%+v", b)
	}
	o.End(op)
	if b := o.Busy(now.Add(LeaseTime - 1)); b.Quiet || b.Count != 1 {
		t.Errorf("%+v", b)
	}
	if b := o.Busy(now.Add(LeaseTime)); !b.Quiet || b.Count != 0 {
		t.Errorf("a dead holder's lease ends: %+v", b)
	}
	again := NewOperations(now)
	again.Set(draining, now)
	if again.Busy(now.Add(LeaseTime-1)).Quiet || !again.Busy(now.Add(LeaseTime)).Quiet {
		t.Error("a new process waits for the holders")
	}
	draining.Phase = Drained
	o.Set(draining, now)
	if o.Begin(Operation{"start", "ws-2"}, true, now) != Refused {
		t.Error("after the drain nothing is taken over")
	}
}

func TestOperationsAreChecked(t *testing.T) {
	for _, op := range []Operation{{"", "k"}, {"Start", "k"}, {"start", ""}, {"start", strings.Repeat("k", 201)},
		{"start", "a\nb"}, {"start", "\xff"}, {"default", "k"}, {"start", "a\u202eb"}, {"-start", "k"}, {"start-", "k"},
		{"-", "k"},
		{"sta_rt", "k"}, {strings.Repeat("s", 64), "k"}} {
		if op.Check() == "" {
			t.Errorf("%q is no operation", op)
		}
	}
	for _, op := range []Operation{{"start", "Ada's workspace/7 ü"}, {"re-start2", "k"}, {"s", "k"},
		{strings.Repeat("s", 63), "k"}} {
		if why := op.Check(); why != "" {
			t.Errorf("%q: %s", op, why)
		}
	}
}

func TestTableIsBounded(t *testing.T) {
	now := time.Now()
	o := NewOperations(now)
	for i := range MaxLeases {
		o.Begin(Operation{"start", fmt.Sprint(i)}, false, now)
	}
	if o.Begin(Operation{"start", "one more"}, false, now) != Full {
		t.Error("no bound")
	}
	if o.Begin(Operation{"start", "later"}, false, now.Add(LeaseTime)) != Granted {
		t.Error("ended leases must make room")
	}
}

// cell is a cell in the property test: the product's operations, the agent's record as it is durable, and what the
// agent does. Its clock is the world's.
type cell struct {
	policy  Policy
	durable *Record // as of the last save
	record  *Record
	table   *Operations
	facts   Facts
	alive   bool

	running map[Operation]bool // what really runs, whoever knows of it
	renews  map[Operation]bool // whose holder lives
	forced  bool
	overran bool
}

// save makes the record durable, and tells the product.
func (c *cell) save(now time.Time) {
	c.durable = c.record
	c.table.Set(Combine(c.record, nil, nil, now), now)
}

func (c *cell) advance(now time.Time) {
	for range 4 {
		next, events := Advance(c.record, c.facts, c.policy, c.table.Busy(now), now)
		for _, e := range events {
			c.overran = c.overran || e.Kind == EventOverran
			c.forced = c.forced || e.Kind == EventForced
			if e.Kind == EventOverran {
				c.facts.NotBefore = now.Add(c.policy.WithDefaults().Again)
			}
		}
		if next == c.record && len(events) == 0 {
			break
		}
		c.record = next
	}
	c.save(now)
}

// Over random schedules of operations, holders that die, crashes of the agent and updates: no operation runs while a
// marked component is replaced, unless the policy forced that or the maintenance overran; and operations are never
// refused beyond what was durable, nor for longer than the bound.
func TestNoOperationRunsWhileAMarkedComponentIsReplaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
		c := &cell{alive: true, table: NewOperations(now), running: map[Operation]bool{}, renews: map[Operation]bool{},
			policy: Policy{Lead: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "lead"),
				Drain:   rapid.SampledFrom([]time.Duration{0, 20 * time.Second}).Draw(t, "drain"),
				Overdue: rapid.SampledFrom([]Overdue{Postpone, Force}).Draw(t, "overdue"),
				Maximum: rapid.SampledFrom([]time.Duration{0, 2 * time.Minute}).Draw(t, "maximum")}}
		full := c.policy.WithDefaults()
		refusedSince := time.Time{}
		for range rapid.IntRange(1, 150).Draw(t, "events") {
			kind := rapid.SampledFrom([]string{"ask", "ask", "end", "holder dies", "renew", "renew", "crash", "update",
				"another", "later", "later", "long", "agent", "agent", "agent"}).Draw(t, "event")
			op := Operation{"start", fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "key"))}
			switch kind {
			case "ask":
				if c.alive && !c.running[op] && c.table.Begin(op, false, now) == Granted {
					c.running[op], c.renews[op] = true, true
				}
			case "end":
				if c.running[op] && c.renews[op] {
					delete(c.running, op)
					if c.alive {
						c.table.End(op)
					}
				}
			case "holder dies": // and its operation with it
				delete(c.running, op)
				delete(c.renews, op)
			case "crash":
				c.alive = !c.alive
				if c.alive {
					c.record = c.durable.Restore(c.policy, now)
					c.table = NewOperations(now)
					c.save(now)
					if c.facts.Stage == Writing || c.facts.Stage == Watching {
						c.facts.Stage, c.facts.Resumes = Ready, true
					}
				}
			case "update":
				if c.facts.Stage == Idle {
					c.facts = Facts{Stage: Ready, Changes: true, Release: "1.1.0", NotBefore: c.facts.NotBefore}
					if c.record == nil { // else the drain of the update before is through, and goes on
						c.forced, c.overran = false, false
					}
				}
			case "another":
				if c.alive && c.facts.Stage == Ready {
					c.facts.Stage = Preparing
				} else if c.facts.Stage == Preparing {
					c.facts.Stage, c.facts.Release = Ready, c.facts.Release+"1"
				}
			case "later":
				now = now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
			case "long":
				if !c.alive {
					now = now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
				}
			case "agent":
				if !c.alive {
					break
				}
				c.advance(now)
				switch c.facts.Stage {
				case Ready:
					if c.record.Holds(now) {
						c.facts.Stage = Writing
					}
				case Writing:
					c.facts.Stage = Watching
				case Watching:
					c.facts.Stage, c.facts.Back = Idle, false
					if rapid.IntRange(0, 2).Draw(t, "outcome") == 0 {
						c.facts.Stage, c.facts.Back = Ready, true
					}
				}
			}
			for op := range c.running { // holders renew well before their leases end, and after the agent is back
				if c.alive && c.renews[op] {
					c.table.Begin(op, true, now)
				}
			}
			if c.facts.Stage == Writing && len(c.running) > 0 && !c.forced && !c.overran && c.record.Refuses(now) {
				t.Fatalf("%s: %v run while a marked component is replaced: %+v", kind, c.running, c.record)
			}
			if active := c.table.state.Active(now); active && c.alive {
				if c.durable == nil || c.table.state.Until.After(c.durable.Until) {
					t.Fatalf("%s: refused until %s, and durable is %+v", kind, c.table.state.Until, c.durable)
				}
				if left := c.table.state.Until.Sub(now); left > full.Maximum {
					t.Fatalf("%s: a dead agent would refuse for %s", kind, left)
				}
				if refusedSince.IsZero() {
					refusedSince = now
				}
				if long := now.Sub(refusedSince); long > prolongBy*full.Maximum {
					t.Fatalf("%s: refused for %s", kind, long)
				}
			} else {
				refusedSince = time.Time{}
			}
		}
	})
}
