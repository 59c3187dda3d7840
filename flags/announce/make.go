package announce

import (
	"maps"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Make decides. It is pure: equal inputs yield equal Plans.
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
	featureSets    []map[string]bool // distinct sets of features of cells
	bundleGates    []map[string]bool // distinct sets of gate IDs last sent to cells
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
	baseTree   *repository.Tree // provides the definitions of flags without a record
	precedence []*channelState  // lowest precedence first; nil in an entry channel
	looseHash  string           // of baseTree, see planner.hashLooseFlags

	on map[string][]*channelState // what findOn returns; nil: not asked for yet
}

// cell is a Cell with indexes into planner.featureSets and planner.bundleGates, and the reported states other than on.
type cell struct {
	*Cell
	featureSet, bundleIndex int
	notOn                   []reported
}

type reported struct {
	id    string
	state flags.CellState
}

// announcement is an announcement and what holds for all channels.
type announcement struct {
	planner          *planner
	id               string
	tip              *repository.Announcement // the current file; nil: only records are left
	hash, text       string
	approvers        []string // people whose approvals count, sorted
	missingApprovals string   // missing approvals in words; empty: none
	states           []*channelState
}

// channelState is an announcement in one channel. decideState and then countCells fill it in.
type channelState struct {
	scope
	planner      *planner
	announcement *announcement

	record *repository.Record // the committed record; nil: none
	at     time.Time          // zero: as soon as a cell is ready, or without a time
	sent   bool               // the selected cells receive the gate
	state  State              // empty: not for this channel
	reason string             // why the announcement is not further, in words
	stale  string             // unapproved edits since the record, in words

	knownTo []bool // by bundleIndex: the bundle has the gate

	kills   []repository.Override // kills of the announcement's flags
	retired bool                  // no flag of the announcement is left
	counts  cellCounts
}

// isDue reports whether an instant has come, such as an announcement's time. If not, the instant is a candidate for
// Plan.Next.
func (p *planner) isDue(t time.Time) bool {
	if !p.now.Before(t) {
		return true
	}
	if p.next.IsZero() || t.Before(p.next) {
		p.next = t
	}
	return false
}

// treeAt returns the tree of a commit; nil: unreadable.
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
