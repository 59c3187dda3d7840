// Package plan decides which release each channel and each cell gets.
//
// Make decides. Its inputs are what the repository says at one commit (Desired), what was observed (Observed) and the
// time; equal inputs make equal Plans, byte for byte. The engine's loop, the API, the commands plan, why and simulate,
// and the golden tests all use the same Plan. Build makes a Desired from files and from History, which folds commits.
// A Memory makes the same Plans more quickly, one after the other, for it looks only at cells whose state was replaced,
// and may leave out what its caller does not read.
// ReportArrival.Fold folds a report into a cell's observed state, and Carry applies a Plan to an Observed. Drafts turns
// a Plan into commits.
//
// The package does no I/O except on the fs.FS it is passed, reads no clock and starts no goroutine.
//
// Several goroutines may read a Plan or a Desired: neither changes after Make or Build has returned. An Observed, a
// Memory and a History belong to the goroutine that holds them.
package plan

import (
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/releases"
)

// Kind names what an Action does.
type Kind string

const (
	Promote     Kind = "promote"    // move a channel's head up
	Rollback    Kind = "rollback"   // move a channel's head down, by a new commit
	Quarantine  Kind = "quarantine" // stop a release, in one commit with the rollback or halt that it causes
	Halt        Kind = "halt"       // put a hold on a channel
	Grant       Kind = "grant"      // let cells have their channel's head
	Identify    Kind = "identify"   // write cells' keys to their identity.yaml, one commit for all (R25)
	Adopt       Kind = "adopt"      // list the engine's key in sluice.yaml, once (R46)
	CommitAudit Kind = "audit"      // write how far the audit is to audit/head.yaml, once a day
	SignHeads   Kind = "sign"       // sign channels' heads for cells, one commit for all (see trust.Head)
	Adopted     Kind = "adopted"    // no action: a head that the repository's root commit brought
)

// Plan says what to do now, what is blocked, and when to make the next plan.
type Plan struct {
	Commit  string             `json:"commit"`
	Now     time.Time          `json:"now"`
	Actions []Action           `json:"actions"`
	Blocked []channels.Verdict `json:"blocked"`
	Wants   []Probe            `json:"wants,omitempty"` // what only outside observations can decide now (R11)
	Learned Learned            `json:"learned,omitzero"`
	// The earliest instant at which time alone changes the plan; zero: never
	Next          time.Time `json:"next,omitzero"`
	NextInContact time.Time `json:"-"` // Next, provided that every cell in contact stays so
	Flags         string    `json:"-"` // commit of the flags repository that gates saw; empty: none
}

// BlockedIn returns the verdicts about a channel, with those about all channels, and separately the verdicts about
// single cells in it.
func (p *Plan) BlockedIn(channel string) (about, cells []channels.Verdict) {
	for _, b := range p.Blocked {
		switch {
		case b.Channel != channel && b.Channel != "":
		case b.Cell == "":
			about = append(about, b)
		default:
			cells = append(cells, b)
		}
	}
	return about, cells
}

// Turn sums up the verdicts of one gate about cells of a channel that wait only for their wave, or for a free slot:
// there may be thousands, all with different reasons.
type Turn struct {
	Channel, Release, Gate string

	Cells  int
	First  []string // the first of them by name, at most MaxTurnNames
	Reason string   // of the first cell's verdict
}

// MaxTurnNames is how many cells a Turn names at most.
const MaxTurnNames = 3

// Action is one step of a plan. Promote, Rollback, Quarantines and Halt become one git commit for each channel, and
// Identify becomes one commit for all cells, and CommitAudit and SignHeads one each of their own. Grant is a
// transaction in the store.
type Action struct {
	Kind      Kind            `json:"kind"`
	Channel   string          `json:"channel"`
	Release   string          `json:"release"`
	Digest    releases.Digest `json:"digest"`
	From      string          `json:"from,omitempty"`      // upstream@commit, hotfix, request@commit, …
	Replaces  string          `json:"replaces,omitempty"`  // the release that was the head
	Sequence  int64           `json:"sequence,omitempty"`  // the head's new sequence
	Requested string          `json:"requested,omitempty"` // who requested it in head.yaml (R1)
	Reason    string          `json:"reason,omitempty"`
	Wave      int             `json:"wave,omitempty"`     // grant: from 1
	Cells     []string        `json:"cells,omitempty"`    // grant, identify: sorted
	Evidence  []string        `json:"evidence"`           // the verdicts that held, in words
	Channels  []string        `json:"channels,omitempty"` // quarantine, sign: the channels that it names; none: all

	// Grant, promote, rollback: what the cells go through; nil: none of them takes a maintenance, or nothing tells
	Maintenance *ExpectedMaintenance `json:"maintenance,omitempty"`

	// Grant: one for each of Cells, in the same order. An offer takes a slot if its content is new to the cell and the
	// cell uses no slot yet.
	Offers        []Offer            `json:"-"`
	Verdicts      []channels.Verdict `json:"-"` // Evidence as values, for decision.json
	Deadline      time.Time          `json:"-"` // no push may start after this instant (R3); zero: no limit
	Hotfix        bool               `json:"-"` // promote: by a hotfix
	Accepted      []Acceptance       `json:"-"` // downstreams' acceptances of the replaced release
	Finished      bool               `json:"-"` // the replaced head had reached its cells
	Commit        string             `json:"-"` // the commit to read releases/Release from
	forwardOnly   string             // see EffectiveHead.Forward
	Holds         bool               `json:"-"` // rollback: leaves a hold for a person to lift (R1)
	key           string             // adopt: the engine's key
	audit         audithead.Head     // audit: what the file says
	registrations []Registration     // identify: one for each of Cells, in the same order
}

// Probe requests one outside observation. The engine makes it, and the next plan reads the answer.
type Probe struct {
	Channel string          `json:"channel"`
	Gate    string          `json:"gate"`    // the gate's ID
	Subject releases.Digest `json:"subject"` // the release's digest
	Release string          `json:"release"`
	// Hash of the gate's definition; an answer to another definition does not count
	Policy string           `json:"policy"`
	Check  *channels.Check  `json:"check,omitempty"`
	Metric *channels.Metric `json:"metric,omitempty"`
	// Of a metric that cells export: the cells of the upstream channels that run the release, by name
	Cells []ProbedCell `json:"cells,omitempty"`
}

// ProbedCell is a cell whose exports answer a probe. What it measured before Since was of another release.
type ProbedCell struct {
	Name  string        `json:"name"`
	Since time.Time     `json:"since"`          // by our clock
	Skew  time.Duration `json:"skew,omitempty"` // its clock minus ours, in whole minutes
}

// Learned holds what a plan found out and later plans must remember. The engine stores it before it acts on the plan.
type Learned struct {
	Accepted []Acceptance `json:"accepted,omitempty"`
	Finished []Finish     `json:"finished,omitempty"`
	Waves    []Through    `json:"waves,omitempty"`
	// Left out of JSON: the lists are long, and readers of plans decide nothing by them
	Cohorts []Cohort `json:"-"`
	// Slots that ended. The store frees them before it grants anything (R14); until then every plan finds them again.
	Freed []Freed `json:"-"`
	// Cells whose offers lapsed untaken (R14). These offers are removed from memory only; the store keeps them, so
	// that every plan finds them again.
	Lapsed []string `json:"-"`
}

// Acceptance records that Upstream soaked Digest as Downstream's soak gate demands. An acceptance latches: it stays
// valid when the upstream moves on to a newer release (R7).
type Acceptance struct {
	Upstream   string          `json:"upstream"`
	Downstream string          `json:"downstream"`
	Release    string          `json:"release"`
	Digest     releases.Digest `json:"digest"`
	At         time.Time       `json:"at"`
	Evidence   string          `json:"evidence"` // "5 of 5 cells healthy for 24h2m"
	// A quarantine of the release ended the acceptance at At, and no earlier acceptance counts (R50)
	Ended bool `json:"ended,omitempty"`
}

// Finish records that a head reached all the cells that it was for, so that a rollback may return to it (R19).
type Finish struct {
	Channel  string          `json:"channel"`
	Sequence int64           `json:"sequence"`
	Digest   releases.Digest `json:"digest"`
	At       time.Time       `json:"at"`
}

// Through records that a wave of a head's rollout is through. Cells that join later or turn unhealthy do not change
// that (R14).
type Through struct {
	Channel  string          `json:"channel"`
	Sequence int64           `json:"sequence"`
	Digest   releases.Digest `json:"digest"`
	Wave     int             `json:"wave"` // 1-based
	At       time.Time       `json:"at"`
}

// Freed names the cells of a channel that gave up their slots.
type Freed struct {
	Channel string
	Cells   []string // sorted
}

// Cohort names the cells that count for a head: those that were eligible when the head moved (R9).
type Cohort struct {
	Channel  string    `json:"channel"`
	Sequence int64     `json:"sequence"`
	Since    time.Time `json:"since"`
	Eligible []string  `json:"eligible"` // sorted
}
