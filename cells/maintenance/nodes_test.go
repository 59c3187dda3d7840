package maintenance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// store is where the agent and the node parts meet: what it has is one after the other, as an API server's.
type store struct {
	id        int // of what is published; 0: nothing
	published PublishedState
	leases    map[string]Node
}

// nodePart is a node part in the property test, which has one request under way at a time.
type nodePart struct {
	name      string
	offset    time.Duration // of its clock from the agent's
	alive     bool
	table     *Operations
	id        int            // of the state that it goes by
	published PublishedState // on its disk
	doing     string
	granting  bool      // it might grant operations when the agent last asked for the heartbeats
	known     bool      // the same, when the agent asked for those that it goes by
	asked     time.Time // of the heartbeat under way, by the node's clock
	confirm   bool      // after the read under way
	got       store     // what the read under way answers
	running   map[Operation]bool
}

func (n *nodePart) start(now time.Time) {
	n.alive, n.doing, n.id, n.confirm = true, "", 0, false
	n.table = NewNodeOperations(now)
	n.table.Set(n.published.Anchor(now), now)
}

// step goes on with what the node part does; write makes its heartbeat durable, now or later.
func (n *nodePart) step(s *store, now time.Time, write func(NodeReport)) {
	switch n.doing {
	case "":
		n.asked, n.doing = now, "said"
		write(NodeReport{Published: fmt.Sprint(n.id), At: now, Busy: n.table.Busy(now)})
	case "answered":
		n.doing = ""
		if n.table.Renewed(n.asked, now) || n.published.State.Phase != Off {
			n.doing, n.confirm = "reads", true
		}
	case "reads":
		n.doing, n.got = "read", *s
	case "read":
		n.doing = ""
		if n.got.id != n.id {
			n.id, n.published = n.got.id, n.got.published
			n.table.Set(n.published.Anchor(now), now)
		}
		if n.confirm {
			n.table.Confirm(n.asked)
		}
		n.confirm = false
	}
}

// nodesTest is an agent with node parts.
type nodesTest struct {
	t       *rapid.T
	now     time.Time
	store   store
	nodes   []*nodePart
	late    []func() // requests that the API server has not carried out yet
	version int

	policy Policy
	record *Record
	facts  Facts
	spread State // that was written last
	table  Nodes
	busy   Busy
	asked  time.Time // of the list under way; zero: none is
	list   []Node
	forced bool
}

func (w *nodesTest) advance() {
	next, events := Advance(w.record, w.facts, w.policy, w.busy, w.now)
	w.record = next
	for _, e := range events {
		w.forced = w.forced || e.Kind == EventForced || e.Kind == EventOverran
	}
	if s := Combine(w.record, nil, nil, w.now); !s.Equal(w.spread) {
		w.spread, w.busy, w.asked = s, Busy{}, time.Time{}
		w.store.id++
		w.store.published = PublishedState{State: s, At: w.now}
	}
	switch w.facts.Stage {
	case Ready:
		if w.record.Holds(w.now) {
			w.facts.Stage = Writing
			w.checkUnderWay()
		}
	case Writing:
		w.facts.Stage = Watching
	case Watching:
		w.facts.Stage = Idle
	}
}

// look asks for all heartbeats, and takes the answer the next time.
func (w *nodesTest) look() {
	if w.asked.IsZero() {
		w.asked, w.list = w.now, slices.Collect(maps.Values(w.store.leases))
		for _, n := range w.nodes {
			n.granting = n.alive && n.table.standing.holds(w.now.Add(n.offset))
		}
		return
	}
	w.table.Seen(w.list, w.now)
	w.busy = w.table.Judge(fmt.Sprint(w.store.id), w.store.published, w.asked)
	w.asked = time.Time{}
	for _, n := range w.nodes {
		n.known = n.granting
	}
}

// checkUnderWay: what runs when the update begins runs on a node that the agent can't know of. One that had been silent
// for NodeGone when the agent asked may be back since, with what it had granted before.
func (w *nodesTest) checkUnderWay() {
	for _, n := range w.nodes {
		if len(n.running) > 0 && !w.forced && n.alive && n.known && n.table.standing.holds(w.now.Add(n.offset)) {
			w.t.Fatalf("%v run on %s while a marked component is replaced", n.running, n.name)
		}
	}
}

// ask has a product ask on a node for a new operation.
func (w *nodesTest) ask(n *nodePart, op Operation) {
	if !n.alive || n.running[op] || n.table.Begin(op, false, w.now.Add(n.offset)) != Granted {
		return
	}
	n.running[op] = true
	end := w.store.published.State.Until.Add(-maxClockAhead) // by a clock that may be ahead by so much
	if w.facts.Stage >= Writing && !w.forced && w.record.Refuses(w.now) && w.now.Before(end) {
		w.t.Fatalf("%s starts on %s at %s, after the drain was through: it goes by %d, and %d is published: %+v", op.Key,
			n.name, w.now, n.id, w.store.id, w.store.published)
	}
}

// Over random schedules of operations, crashes, partitions, late requests and clocks that are off: no operation starts
// on any node after the drain was through, and none that the agent could know of runs then.
func TestNoOperationStartsOnANodeAfterTheDrain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &nodesTest{t: t, now: time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC),
			store:  store{leases: map[string]Node{}, published: PublishedState{State: State{Phase: Off}}},
			spread: State{Phase: Off},
			policy: Policy{Drain: rapid.SampledFrom([]time.Duration{0, 4 * time.Minute}).Draw(t, "drain"),
				Overdue: rapid.SampledFrom([]Overdue{Postpone, Force}).Draw(t, "overdue"), Again: time.Minute}}
		for i := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			n := &nodePart{name: fmt.Sprint("n", i), running: map[Operation]bool{}, published: w.store.published,
				offset: rapid.SampledFrom([]time.Duration{0, 0, 5 * time.Second, time.Hour, -time.Hour}).
					Draw(t, "clock")}
			n.start(w.now.Add(n.offset))
			w.nodes = append(w.nodes, n)
		}
		for range rapid.IntRange(1, 300).Draw(t, "events") {
			kind := rapid.SampledFrom([]string{"ask", "ask", "end", "node", "node", "node", "node", "hint", "lost",
				"crash",
				"late", "update", "second", "second", "long", "agent", "agent", "look", "look"}).Draw(t, "event")
			n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
			local := w.now.Add(n.offset)
			op := Operation{"start", fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "key"))}
			switch kind {
			case "ask":
				w.ask(n, op)
			case "end":
				delete(n.running, op)
				if n.alive {
					n.table.End(op)
				}
			case "node":
				if !n.alive {
					break
				}
				n.step(&w.store, local, func(r NodeReport) {
					commit := func() {
						w.version++
						w.store.leases[n.name] = Node{n.name, fmt.Sprint(w.version), r}
					}
					if rapid.IntRange(0, 5).Draw(t, "fate") == 0 { // the answer never comes
						w.late, n.doing = append(w.late, commit), ""
					} else {
						commit()
						n.doing = "answered"
					}
				})
			case "late":
				if len(w.late) > 0 {
					w.late[0]()
					w.late = w.late[1:]
				}
			case "hint":
				if n.alive && n.doing == "" {
					n.doing = "reads"
				}
			case "lost":
				n.doing, n.confirm = "", false
			case "crash":
				if n.alive = !n.alive; n.alive {
					n.start(local)
				}
			case "update":
				if w.facts.Stage == Idle && w.record == nil {
					w.facts, w.forced = Facts{Stage: Ready, Changes: true, Release: "1.1.0"}, false
				}
			case "second":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
			case "long":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
			case "agent":
				w.advance()
			case "look":
				w.look()
			}
			for _, n := range w.nodes { // holders renew well before their leases end
				for op := range n.running {
					if n.alive {
						n.table.Begin(op, true, w.now.Add(n.offset))
					}
				}
			}
		}
	})
}

// What keeps a drain from being through names the node, and who is silent for long enough does not.
func TestNodesAreJudged(t *testing.T) {
	now := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	published := PublishedState{State: State{Phase: Draining, Until: now.Add(10 * time.Minute)}, At: now}
	report := func(id string, quiet bool, more Busy) NodeReport {
		more.Quiet = quiet
		return NodeReport{Published: id, At: now, Busy: more}
	}
	for name, test := range map[string]struct {
		report NodeReport
		quiet  bool
		names  string
	}{
		"through":          {report("w", true, Busy{}), true, ""},
		"of before":        {report("v", true, Busy{}), false, "node a has not said yet"},
		"nothing readable": {NodeReport{}, false, "node a has not said yet"},
		"under way":        {report("w", false, Busy{Count: 1, Names: "start 7"}), false, "on node a: start 7"},
		"clock":            {NodeReport{"w", now.Add(time.Hour), Busy{Quiet: true}}, false, "the clock of node a is 1h0m0s ahead"},
	} {
		var n Nodes
		other := report("w", true, Busy{Refused: map[string]int64{"stop": 2}})
		n.Seen([]Node{{"a", "1", test.report}, {"b", "1", other}}, now)
		b := n.Judge("w", published, now.Add(time.Second))
		if b.Quiet != test.quiet || !strings.Contains(b.Names, test.names) || b.Refused["stop"] != 2 {
			t.Errorf("%s: %+v", name, b)
		}
		n.Seen([]Node{{"a", "1", test.report}}, now.Add(NodeGone))
		if b := n.Judge("w", published, now.Add(NodeGone)); !b.Quiet {
			t.Errorf("%s, and silent: %+v", name, b)
		}
		if len(n.Forgotten(now.Add(NodeGone))) > 0 || len(n.Forgotten(now.Add(time.Hour))) != 1 {
			t.Errorf("%s: forgotten", name)
		}
	}
	if b := new(Nodes).Judge("w", published, now); !b.Quiet {
		t.Errorf("no node at all: %+v", b)
	}
}

// A node part grants nothing before it is confirmed, nor after its report is too old; what is under way stays known.
func TestANodePartThatIsNotConfirmed(t *testing.T) {
	now := time.Now()
	o := NewNodeOperations(now)
	a, b := Operation{"start", "a"}, Operation{"start", "b"}
	if o.Begin(a, false, now) != Unknown || o.Begin(a, true, now) != Granted || o.Begin(a, false, now) != Renewed {
		t.Error("before anything was published")
	}
	if !o.Renewed(now, now.Add(time.Second)) {
		t.Error("it must read")
	}
	o.Confirm(now)
	if o.Begin(b, false, now.Add(NodeConfirmed-1)) != Granted || o.Begin(Operation{"start", "c"}, false,
		now.Add(NodeConfirmed)) != Unknown {
		t.Error("for as long as it is confirmed")
	}
	if o.Renewed(now.Add(10*time.Second), now.Add(NodeConfirmed-1)) ||
		!o.Renewed(now.Add(10*time.Second), now.Add(10*time.Second+NodeConfirmed)) {
		t.Error("in time, and too late")
	}
}
