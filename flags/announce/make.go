package announce

import (
	"maps"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Make decides. It is pure: the same values give the same Plan.
func Make(in Input) Plan {
	if in.Tip == nil {
		return Plan{Memory: in.Memory}
	}
	p := newPlanner(in)
	p.commitKills()
	for _, a := range p.announcements {
		for _, s := range a.states {
			s.settle()
		}
	}
	p.moveHeads()
	p.tell()
	for _, a := range p.announcements {
		p.plan.Announcements = append(p.plan.Announcements, a.status())
	}
	news := news{p: p, ongoing: map[string]Event{}, lifted: map[string]int{}}
	maps.Copy(news.lifted, in.Memory.Lifted)
	p.plan.Events = news.all()
	p.plan.Memory.Ongoing, p.plan.Memory.Lifted = news.ongoing, news.lifted
	p.check()
	p.plan.Faults = manifest.Sort(p.plan.Faults)
	p.plan.Next = p.next
	p.plan.p = p
	return p.plan
}

// planner is one run of Make. Every comparison with a time goes through reached, so that Next misses none.
type planner struct {
	in   Input
	now  time.Time // whole seconds
	next time.Time

	channels      []*channel
	named         map[string]*channel
	announcements []*announcement // by ID
	kills         []repository.Override
	codes         []map[string]bool // sets of features that cells contain
	bundles       []map[string]bool // gates that cells were told of last
	indexes       map[*repository.Tree]map[string][]*flags.Definition
	encoded       map[*flags.Definition][]byte

	plan Plan
}

// channel is a channel and what is decided for all its cells.
type channel struct {
	Channel
	p      *planner
	entry  bool
	cells  []*cell
	states []*channelState  // by announcement
	base   *repository.Tree // whose definitions of flags without a record count
	ranked []*channelState  // whose definitions count; none in an entry channel
	loose  string           // see planner.loose: of base
}

// cell is a cell, which set of features it contains, which bundle it was told last, and what it says is not on.
type cell struct {
	*Cell
	code, bundle int
	odd          []said
}

type said struct {
	id    string
	state flags.CellState
}

// announcement is an announcement and what holds for it in all channels.
type announcement struct {
	p          *planner
	id         string
	tip        *repository.Announcement // as it is; nil: its file is gone, and records of it are left
	hash, text string
	approvers  []string // persons whose approvals count, sorted
	short      string   // what is missing of approvals; empty: nothing
	states     []*channelState
}

// channelState is an announcement in one channel: what settle finds out, and then count.
type channelState struct {
	scope
	p *planner
	a *announcement

	rec   *repository.Record // what git has; nil: nothing
	at    time.Time          // when it is published here; zero: as soon as a cell is ready, or no time is given
	sent  bool               // its gate is told to the cells that it reaches
	state State              // empty: it is not for this channel
	why   string             // what keeps it, in words
	stale string             // what was edited since it was decided on, and is not approved

	known []bool // by bundle that cells were told last: it has the gate

	dead    []repository.Override // kills of its flags
	retired bool                  // no flag of its is left
	tally   tally
}

// reached reports whether an instant has come; if not, it may be the next at which the plan changes.
func (p *planner) reached(t time.Time) bool {
	if !p.now.Before(t) {
		return true
	}
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
	return false
}

// tree gives what a commit says; nil: it can't be read.
func (p *planner) tree(commit string) *repository.Tree {
	if commit == p.in.Commit {
		return p.in.Tip
	}
	return p.in.Trees[commit]
}

func (p *planner) fault(code manifest.FaultCode, file, message string) {
	p.plan.Faults = append(p.plan.Faults, manifest.Fault{File: file, Code: code, Message: message})
}

func (p *planner) warn(code manifest.FaultCode, file string, line int, message string) {
	p.plan.Faults = append(p.plan.Faults, manifest.Fault{File: file, Line: line, Code: code,
		Message: message, Warning: true})
}
