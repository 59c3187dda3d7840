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
			s.decideState()
		}
	}
	p.moveHeads()
	p.planChannels()
	for _, a := range p.announcements {
		p.plan.Announcements = append(p.plan.Announcements, a.buildStatus())
	}
	news := eventCollector{planner: p, ongoing: map[string]Event{}, lifted: map[string]int{}}
	maps.Copy(news.lifted, in.Memory.Lifted)
	p.plan.Events = news.collect()
	p.plan.Memory.Ongoing, p.plan.Memory.Lifted = news.ongoing, news.lifted
	p.checkNames()
	p.plan.Faults = manifest.Sort(p.plan.Faults)
	p.plan.Next = p.next
	p.plan.planner = p
	return p.plan
}

// planner is one run of Make. Every comparison with a time goes through reached, so that Next misses none.
type planner struct {
	input Input
	now   time.Time // whole seconds
	next  time.Time

	channels       []*channel
	channelsByName map[string]*channel
	announcements  []*announcement // by ID
	kills          []repository.Override
	featureSets    []map[string]bool // sets of features that cells contain
	bundleGates    []map[string]bool // gates that cells were told of last
	indexes        map[*repository.Tree]map[string][]*flags.Definition
	encoded        map[*flags.Definition][]byte

	plan Plan
}

// channel is a channel and what is decided for all its cells.
type channel struct {
	Channel
	planner    *planner
	entry      bool
	cells      []*cell
	states     []*channelState  // by announcement
	baseTree   *repository.Tree // whose definitions of flags without a record count
	precedence []*channelState  // whose definitions count; none in an entry channel
	looseHash  string           // see planner.loose: of base
}

// cell is a cell, which set of features it contains, which bundle it was told last, and what it says is not on.
type cell struct {
	*Cell
	featureSet, bundleIndex int
	notOn                   []reported
}

type reported struct {
	id    string
	state flags.CellState
}

// announcement is an announcement and what holds for it in all channels.
type announcement struct {
	planner          *planner
	id               string
	tip              *repository.Announcement // as it is; nil: its file is gone, and records of it are left
	hash, text       string
	approvers        []string // persons whose approvals count, sorted
	missingApprovals string   // what is missing of approvals; empty: nothing
	states           []*channelState
}

// channelState is an announcement in one channel: what settle finds out, and then count.
type channelState struct {
	scope
	planner      *planner
	announcement *announcement

	record *repository.Record // what git has; nil: nothing
	at     time.Time          // when it is published here; zero: as soon as a cell is ready, or no time is given
	sent   bool               // its gate is told to the cells that it reaches
	state  State              // empty: it is not for this channel
	reason string             // what keeps it, in words
	stale  string             // what was edited since it was decided on, and is not approved

	knownTo []bool // by bundle that cells were told last: it has the gate

	kills   []repository.Override // kills of its flags
	retired bool                  // no flag of its is left
	counts  cellCounts
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

// treeAt gives what a commit says; nil: it can't be read.
func (p *planner) treeAt(commit string) *repository.Tree {
	if commit == p.input.Commit {
		return p.input.Tip
	}
	return p.input.Trees[commit]
}

func (p *planner) addFault(code manifest.FaultCode, file, message string) {
	p.plan.Faults = append(p.plan.Faults, manifest.Fault{File: file, Code: code, Message: message})
}

func (p *planner) addWarning(code manifest.FaultCode, file string, line int, message string) {
	p.plan.Faults = append(p.plan.Faults, manifest.Fault{File: file, Line: line, Code: code,
		Message: message, Warning: true})
}
