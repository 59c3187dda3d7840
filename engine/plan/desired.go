package plan

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/engine/plan/kept"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Desired is everything the release repository says at one commit, including its history. Immutable once built.
type Desired struct {
	Commit       string
	Pipeline     channels.Pipeline
	Channels     map[string]*Channel
	Order        []string // names of channels: upstreams first, then by name
	Releases     map[string]*Release
	Versions     []*Release // sorted, greatest last; no tombstones
	Cells        map[string]*Cell
	Quarantine   []channels.Quarantine
	Acknowledged []Acknowledgement  // what losses people accepted (R5, R51), oldest first
	AuditHeads   []audithead.Head   // how far the audit was, as the engine committed it, oldest first; the newest few
	Authority    Authority          // who counts as the engine, and as an owner
	Withheld     WithheldFiles      // files that are in force as they were before, by path
	Unconfirmed  []kept.Unconfirmed // removals that wait for a person's confirmation (R47)
	Ended        map[string]string  // see kept.State.Ended
	Passkeys     passkey.Log        // people's passkeys, as approvals used them up to this commit
	Faults       []releases.Fault

	Infrastructure []infrastructure.Update // sorted by number
	Trust          *trust.Ledger           // what signers say of releases; nil: the repository has none
	SignedHeads    map[string]*trust.Head  // by channel; those that the engine need not sign anew because of a fault

	// The text of sluice.yaml where the engine may have to list its key; nil: it need not, or it can't.
	pipelineText []byte
	sources      func() map[releases.Digest]Source // findSources, called at most once; nil: Sources calls it each time
	passed       func() *Release                   // findPassedRelease, called at most once; nil: it is not looked for
}

// Channel is one channel's folder, with what history adds to it.
type Channel struct {
	channels.State
	// The policy in force: the tip's or, if the tip's is invalid, the last valid one, for rollback only (R6). May be
	// nil.
	Valid     *channels.Channel
	Effective *EffectiveHead   // nil: no head yet
	History   []EffectiveHead  // oldest first; Effective is the last
	Request   *Request         // a person's change of head.yaml that is not answered yet
	Approved  []Approved       // proven approvals; the gate decides which roles count
	Judged    []JudgedApproval // all approvals, with whether they are proven
	Accepted  []Acceptance     // downstreams' acceptances of this channel's releases, as its decisions recorded them
	Halted    []int64          // sequences at which the engine halted the channel, at most once each
	Down      []string         // downstream channels: those that name this one in after
	Cells     []*Cell          // by name

	cache *cellCache // nil: nothing is cached
}

// Approved is a proven approval of a release (R22).
type Approved struct {
	channels.Approver
	Release string
	Digest  releases.Digest
}

// JudgedApproval is an approval's file, with what the history says of it.
type JudgedApproval struct {
	File, Person, Release string
	Digest                releases.Digest
	Passkey               string // id of the passkey whose assertion the file has; empty: it has none
	Fact                  Approval
	Counts                bool // it is proven to be the person's
}

// EffectiveHead is a head that the engine wrote (R1) or that the repository's root commit brought.
type EffectiveHead struct {
	channels.Head
	Kind     Kind      // Promote, Rollback or Adopted
	Written  string    // the commit that wrote head.yaml
	Moved    time.Time // when the engine decided, by its clock
	Replaces string    // the release of the head before; empty: there was none
	Hotfix   bool      // promoted by a hotfix
	// The head is known to have reached its cells (R19), because a later decision says so or because it was adopted.
	Finished         bool
	ReplacedFinished bool // the replaced head had reached its cells
	// The greatest forward-only release above the head before, up to this head; nothing rolls back over it (R20).
	Forward string
}

// ApproversOf returns who approved a release for the channel.
func (c *Channel) ApproversOf(r *Release) (all []channels.Approver) {
	for _, a := range c.Approved {
		if a.Release == r.Version.String() && a.Digest == r.Digest {
			all = append(all, a.Approver)
		}
	}
	return all
}

// Request is a person's change of head.yaml (R1).
type Request struct {
	Release string // as written; the release may not exist
	By      string
	Reason  string // why, from the message of the commit; empty: it gives none
	Commit  string
	Fault   string // why head.yaml can't be read; then Release is empty
	Lapsed  bool   // a person accepted a loss of the branch since: what the file says may be of before (R51)
}

// Release is a release as the repository has it, with what history adds.
type Release struct {
	releases.StoredRelease
	// The first first-parent commit that has the release. The release's bytes are those in this commit (R24).
	Origin  string
	Order   int               // the place of Origin among those of all releases, from 1
	Authors []releases.Person // authors of commits that changed the release's folder
	Keys    []string          // keys whose signatures of those commits hold
	Faults  []releases.Fault  // why the release is no candidate
	Loaded  bool              // manifest and digest were read; Build skips releases far below every head
	Unread  bool              // not Loaded yet, and will be: see releases.Budget
	Bytes   int64             // of all files, if Loaded
}

// Authorship returns who had a hand in the release: their approvals of it do not count.
func (r *Release) Authorship() channels.Authorship {
	return channels.Authorship{People: r.Authors, Keys: r.Keys, Names: r.Release.Authors}
}

// Cell is a cell of the repository, with its identity.
type Cell struct {
	cells.Cell
	Found    *cells.LoadedCell // as read from the repository
	Identity cells.Identity
	Former   []string         // keys that it had before, and that are refused
	Faults   []releases.Fault // why the cell is granted nothing

	KeyChanges []KeyChange // in git, oldest first, the newest few
}

// Standing returns where a cell stands with its infrastructure updates. s is its last report; nil: there is none.
func (d *Desired) Standing(cell *Cell, s *CellState, now time.Time) deadline.Standing {
	var record *cells.InfrastructureRecord
	if cell.Found != nil {
		record = cell.Found.Infrastructure
	}
	var actual deadline.Actual
	if s != nil {
		actual.Number, actual.Phase = s.Infrastructure, phaseOf(s.Actual)
	}
	return deadline.Judge(d.Infrastructure, record, actual, d.Pipeline.Infrastructure.Hotfixes, now)
}

// phaseOf returns what a cell's infrastructure is doing. What drifted is not what the update's templates say, as if the
// update had failed.
func phaseOf(i *cells.ActualInfrastructure) deadline.Phase {
	switch {
	case i == nil:
	case i.Status == cells.InfrastructureApplying:
		return deadline.PhaseApply
	case i.Status == cells.InfrastructureFailed, i.Status == cells.InfrastructureDrifted, len(i.Drift) > 0:
		return deadline.PhaseFailed
	}
	return deadline.Settled
}

// Source says where a release's bytes are: in releases/Version at Commit.
type Source struct{ Commit, Version string }

// Sources returns where each head's bytes are. Of several heads with one digest, the newest head of the first channel
// counts. A Desired that Build returned computes the result once.
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

// LastAuditHead returns the newest head of the audit that was committed; zero: none was.
func (d *Desired) LastAuditHead() audithead.Head {
	if n := len(d.AuditHeads); n > 0 {
		return d.AuditHeads[n-1]
	}
	return audithead.Head{}
}

// RootFor returns the digest of the root from which a new cell verifies releases; empty: its channel needs no
// signatures.
func (d *Desired) RootFor(cell string) releases.Digest {
	c := d.Cells[cell]
	if c == nil || d.Trust == nil || d.Trust.Root() == nil || !d.Trust.Binds(c.Channel) {
		return ""
	}
	return d.Trust.Root().Digest
}
