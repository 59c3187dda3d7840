package plan

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// Desired is everything the release repository says at one commit, its history included. Immutable once built.
type Desired struct {
	Commit       string
	Pipeline     channels.Pipeline
	Channels     map[string]*Channel
	Order        []string // of the channels: upstreams first, then by name
	Releases     map[string]*Release
	Versions     []*Release // sorted, greatest last; without tombstones
	Cells        map[string]*Cell
	Quarantine   []channels.Quarantine
	Acknowledged []string // commits whose loss from the branch was accepted (R5)
	Faults       []releases.Fault

	sources func() map[releases.Digest]Source // where heads' bytes are, found out once; nil: by a walk each time
}

// Channel is one channel with what history adds to its folder.
type Channel struct {
	channels.State
	Valid     *channels.Channel // the policy in force: the tip's or, if that is invalid, the last valid one, for rollback only (R6). May be nil
	Effective *EffectiveHead    // nil: none yet
	History   []EffectiveHead   // oldest first, Effective last
	Request   *Request          // a hand's change of head.yaml that is not answered yet
	Approved  []Approved        // approvals that are proven; whether their roles count is the gate's to say
	Accepted  []Acceptance      // of this channel's releases by downstreams, as its decisions recorded them
	Halted    []int64           // sequences at which the engine halted it: once each, for a person to lift
	Down      []string          // channels that name this one in after
	Cells     []*Cell           // by name

	cache *cellCache // nil: nothing is kept
}

// Approved is a proven approval of a release (R22).
type Approved struct {
	channels.Approver
	Release string
	Digest  releases.Digest
}

// EffectiveHead is a head that the engine wrote (R1), or that the repository's root commit brought.
type EffectiveHead struct {
	channels.Head
	Kind             Kind      // Promote, Rollback or Adopted
	Written          string    // the commit that wrote it
	Moved            time.Time // when it was decided, by the engine's clock then
	Replaces         string    // the release before; empty: none
	Hotfix           bool      // it came by the hotfix lane
	Finished         bool      // it is known to have reached its cells (R19): so says a later decision, or it was adopted
	ReplacedFinished bool      // what it replaced had reached its cells
	Forward          string    // the greatest forward-only release from above the one before up to this one; nothing goes back over it (R20)
}

// Request is a person's change of head.yaml (R1).
type Request struct {
	Release string // as written; may name nothing
	By      string
	Commit  string
	Fault   string // why it can't be read as a head; then Release is empty
}

// Release is a release as found, with what history adds.
type Release struct {
	releases.Found
	Origin  string            // the first first-parent commit that has it: its bytes there count, for ever (R24)
	Authors []releases.Person // of its folder's commits
	Faults  []releases.Fault  // why it is no candidate
	Loaded  bool              // manifest and digest were read; releases far below every head are not
}

// Cell is a cell with its identity.
type Cell struct {
	cells.Cell
	Found    *cells.Found // as it was read
	Identity cells.Identity
	Faults   []releases.Fault // why it is granted nothing
}

// Source is where a release's bytes are.
type Source struct{ Commit, Version string }

// Sources tells where each head's bytes are: the first channel's newest counts. Made once for each Desired that Build gives.
func (d *Desired) Sources() map[releases.Digest]Source {
	if d.sources != nil {
		return d.sources()
	}
	return d.findSources()
}

func (d *Desired) findSources() map[releases.Digest]Source {
	all := map[releases.Digest]Source{}
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			if _, there := all[h.Digest]; !there {
				all[h.Digest] = Source{h.Commit, h.Release}
			}
		}
	}
	return all
}
