package maintenance

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

const (
	// NodeRenews is how often a node part says that it is there.
	NodeRenews = 10 * time.Second
	// NodeConfirmed is how long a node part may grant operations after it began to say so.
	NodeConfirmed = 30 * time.Second
	// NodeGone is how long a node part is silent, by the agent's clock, before it is not waited for. By then it grants
	// nothing, and the leases that it granted have ended unless it lives, cut off from the API server.
	NodeGone = NodeConfirmed + LeaseTime
	// nodeForgotten is how long a node part is silent before nothing of it is kept.
	nodeForgotten = time.Hour
	// maxClockAhead bounds by how much a node's clock may be ahead of the agent's.
	maxClockAhead = 30 * time.Second
)

// PublishedState is a State as the agent tells it to the node parts.
type PublishedState struct {
	State State     `json:"state"`
	At    time.Time `json:"at"` // by the agent's clock
}

// NodeReport is what a node part says of itself. Its JSON is that of earlier versions: an agent and its node parts may
// be of different ones.
type NodeReport struct {
	Published string    `json:"word"` // identifies the PublishedState by which it grants; empty: it has none
	At        time.Time `json:"at"`   // by the node's clock
	Busy      Busy      `json:"busy"`
}

// Node is a node part as it is found where node parts say that they are there.
type Node struct {
	Name    string
	Version string // another one each time the node part says something
	Report  NodeReport
}

// Nodes is what the agent knows of its node parts, which grant operations as it does itself, and which it meets only
// through the API server. It is for one goroutine at a time.
//
// An operation never starts after a drain was through, for a node part grants only while it is confirmed (see
// Operations.Renewed), and what Judge calls quiet waits for each node part that may be confirmed: whoever was found
// after the PublishedState was written has taken it, or has been silent for NodeGone; whoever comes later reads it
// first.
type Nodes struct {
	seen map[string]sighting
}

type sighting struct {
	Node
	at time.Time // when this version was found first
}

// Seen takes the node parts that are found at now, all of them.
func (n *Nodes) Seen(all []Node, now time.Time) {
	next := make(map[string]sighting, len(all))
	for _, found := range all {
		s := sighting{found, now}
		if before, ok := n.seen[found.Name]; ok && before.Version == found.Version {
			s.at = before.at
		}
		next[found.Name] = s
	}
	n.seen = next
}

// Forgotten returns node parts that have been silent for so long that nothing of them is kept.
func (n *Nodes) Forgotten(asked time.Time) (all []Node) {
	for _, s := range n.seen {
		if asked.Sub(s.at) >= nodeForgotten {
			all = append(all, s.Node)
		}
	}
	return all
}

// Judge returns what is under way on all nodes. Those that were Seen last were looked for at asked, which was after the
// PublishedState that id identifies had been written.
func (n *Nodes) Judge(id string, p PublishedState, asked time.Time) Busy {
	all := Busy{Quiet: true, Unasked: true}
	for _, name := range slices.Sorted(maps.Keys(n.seen)) {
		if s := n.seen[name]; asked.Sub(s.at) < NodeGone {
			all = all.With(s.judge(name, id, p))
		}
	}
	return all
}

func (s sighting) judge(name, id string, p PublishedState) Busy {
	b := s.Report.Busy.bounded()
	ahead := s.Report.At.Sub(s.at)
	switch {
	case s.Report.Published != id:
		b.Quiet, b.Count = false, 0
		b.Names = "node " + name + " has not said yet that it refuses operations"
	case ahead > min(maxClockAhead, p.State.Until.Sub(p.At)/8):
		b.Quiet = false // it would end the maintenance before its time
		b.Names = fmt.Sprintf("the clock of node %s is %s ahead of the agent's: set it", name, ahead.Round(time.Second))
	case b.Names != "":
		b.Names = "on node " + name + ": " + words.Clip(b.Names, 200)
	}
	return b
}

// maxCounted bounds what a node part counts: another process wrote it, and the sums go into reports.
const maxCounted = 1 << 30

func (b Busy) bounded() Busy {
	b.Count, b.Ignored.Count = min(max(0, b.Count), maxCounted), min(max(0, b.Ignored.Count), maxCounted)
	b.Refused = maps.Clone(b.Refused)
	maps.DeleteFunc(b.Refused, func(kind string, n int64) bool { return n < 0 || n > maxCounted || !validKind(kind) })
	return b
}

// With returns what is under way in both places.
func (b Busy) With(other Busy) Busy {
	both := Busy{Quiet: b.Quiet && other.Quiet, Count: b.Count + other.Count, Unasked: b.Unasked && other.Unasked}
	both.Names = joined(b.Names, other.Names)
	both.Ignored = Ignored{b.Ignored.Count + other.Ignored.Count, joined(b.Ignored.Names, other.Ignored.Names)}
	both.Refused = maps.Clone(b.Refused)
	for kind, count := range other.Refused {
		if both.Refused == nil {
			both.Refused = map[string]int64{}
		}
		both.Refused[kind] += count
	}
	return both
}

// joined returns two lists of names as one, or what there is of them.
func joined(a, b string) string {
	if a != "" && b != "" {
		a += ", "
	}
	return words.Clip(a+b, maxNamesText)
}

// maxNamesText bounds what names operations, in bytes.
const maxNamesText = 600

// standing is a node part's right to grant operations; the zero value of an agent's own: it always has it.
type standing struct {
	needed bool
	until  time.Time
	// The state was over by this node's clock when it was set: that clock may be ahead, or no agent lives.
	stale bool
}

// holds reports whether it holds at now, by the monotonic clock and by the wall clock: either may stand while the
// machine is suspended.
func (s standing) holds(now time.Time) bool {
	return !s.needed || !s.stale && now.Before(s.until) && now.Round(0).Before(s.until.Round(0))
}

// NewNodeOperations returns an empty table of a node part, which grants nothing until it is confirmed.
func NewNodeOperations(now time.Time) *Operations {
	o := NewOperations(now)
	o.standing.needed = true
	return o
}

// Renewed takes note that the node part's report, which was sent at asked, was durable at now. It reports whether the
// PublishedState must be read and set, and Confirm be called, before the node part grants operations: the agent may
// have stopped waiting for it.
func (o *Operations) Renewed(asked, now time.Time) (lapsed bool) {
	if !o.standing.holds(now) {
		return true
	}
	o.standing.until = asked.Add(NodeConfirmed)
	return false
}

// Confirm says that the PublishedState was read after the report that was sent at asked, and set.
func (o *Operations) Confirm(asked time.Time) { o.standing.until = asked.Add(NodeConfirmed) }

// Anchor returns the state as a node part goes on with it that takes it at now: a clock that is set while it holds does
// not move its end.
func (p PublishedState) Anchor(now time.Time) State {
	s := p.State
	s.Until = anchor(s.Until, now, MaxOwner)
	return s
}
