// Package plan decides which release each channel and each cell gets.
//
// Make is the decision: a function of what the repository says at one commit (Desired), what was observed (Observed) and now.
// The same inputs give the same Plan, byte for byte. The loop, the API, plan, why, simulate and the golden tests all show that
// one value. Desired comes from Build and History, which fold commits; Observed comes from Arrival.Fold, which folds reports,
// and from Carry, which applies a plan. Drafts turns a plan into commits.
//
// The package does no I/O beyond the fs.FS that it is given, reads no clock, and starts no goroutine.
//
// A Plan and a Desired may be read from several goroutines: nothing in them is changed after Make and Build returned. An
// Observed and a History belong to their holder.
package plan

import (
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// Kind is what an Action does.
type Kind string

const (
	Promote     Kind = "promote"    // move a channel's head up
	Rollback    Kind = "rollback"   // move it down, by a forward commit
	Quarantines Kind = "quarantine" // stop a release; in one commit with the rollback or halt it belongs to
	Halt        Kind = "halt"       // put a hold on a channel
	Grant       Kind = "grant"      // let cells have their channel's head
	Identify    Kind = "identify"   // write cells' keys to their identity.yaml, one commit for all (R25)
	Adopted     Kind = "adopted"    // no action: a head that the repository's root commit brought
)

// Plan is what to do now, what is blocked, and when to look again.
type Plan struct {
	Commit        string             `json:"commit"`
	Now           time.Time          `json:"now"`
	Actions       []Action           `json:"actions"`
	Blocked       []channels.Verdict `json:"blocked"`
	Wants         []Probe            `json:"wants,omitempty"` // outside observations that would now decide something (R11)
	Learned       Learned            `json:"learned,omitzero"`
	Next          time.Time          `json:"next,omitzero"` // the earliest instant at which time alone changes the plan; zero: never
	NextInContact time.Time          `json:"-"`             // the same, as long as all cells that are in contact now stay so
	Flags         string             `json:"-"`             // the flags repository's commit that gates saw; empty: none
}

// BlockedIn returns the verdicts about a channel, those about single cells apart.
func (p *Plan) BlockedIn(channel string) (about, cells []channels.Verdict) {
	for _, b := range p.Blocked {
		switch {
		case b.Channel != channel:
		case b.Cell == "":
			about = append(about, b)
		default:
			cells = append(cells, b)
		}
	}
	return about, cells
}

// Action is one thing to do. Promote, Rollback, Quarantines and Halt are git commits, one a channel, Identify is one; Grant is
// a store transaction.
type Action struct {
	Kind      Kind            `json:"kind"`
	Channel   string          `json:"channel"`
	Release   string          `json:"release"`
	Digest    releases.Digest `json:"digest"`
	From      string          `json:"from,omitempty"`      // upstream@commit of its head, hotfix, request, or entry
	Replaces  string          `json:"replaces,omitempty"`  // the release that was the head
	Sequence  int64           `json:"sequence,omitempty"`  // the head's new sequence
	Requested string          `json:"requested,omitempty"` // who asked by hand (R1)
	Reason    string          `json:"reason,omitempty"`
	Wave      int             `json:"wave,omitempty"`  // grant: 1-based
	Cells     []string        `json:"cells,omitempty"` // grant, identify: to whom or whose, sorted
	Evidence  []string        `json:"evidence"`        // the verdicts that held, in words

	Offers        []Offer            `json:"-"` // grant: to each of Cells, in their order. One takes a slot if what it offers is new to the cell, and the cell has none in use
	Verdicts      []channels.Verdict `json:"-"` // the same as values, for decision.json
	Deadline      time.Time          `json:"-"` // no push may start after it (R3); zero: none
	Hotfix        bool               `json:"-"` // promote: by the hotfix lane
	Accepted      []Acceptance       `json:"-"` // of the release that is replaced, by downstreams
	Finished      bool               `json:"-"` // what is replaced had reached its cells
	Commit        string             `json:"-"` // whose releases/V is meant
	forwardOnly   string             // see EffectiveHead.Forward
	Holds         bool               `json:"-"` // rollback: leaves a hold behind, for a person to lift (R1)
	registrations []Registration     // identify: what is to be written, in the order of Cells
}

// Probe asks for one outside observation: the fetcher carries it out, the next plan reads the answer.
type Probe struct {
	Channel string           `json:"channel"`
	Gate    string           `json:"gate"`    // the gate's ID
	Subject releases.Digest  `json:"subject"` // what it is about
	Release string           `json:"release"`
	Policy  string           `json:"policy"` // hash of the gate's definition: an answer to another definition does not count
	Check   *channels.Check  `json:"check,omitempty"`
	Metric  *channels.Metric `json:"metric,omitempty"`
}

// Learned is what this plan found out and the next must remember. It is written to the store before anything that rests on it.
type Learned struct {
	Accepted []Acceptance `json:"accepted,omitempty"`
	Finished []Finish     `json:"finished,omitempty"`
	Waves    []Through    `json:"waves,omitempty"`
	Rollouts []Rollout    `json:"-"` // long lists of names, and nothing that a reader of plans decides on
	Freed    []Freed      `json:"-"` // slots that ended: the store's are freed before anything is granted (R14); what was freed is found again until it is
	Lapsed   []string     `json:"-"` // cells whose offers ended untaken (R14): forgotten in memory; the store's are found to have lapsed again
}

// Acceptance latches: Upstream soaked Digest as Downstream's soak gate asks (R7).
type Acceptance struct {
	Upstream   string          `json:"upstream"`
	Downstream string          `json:"downstream"`
	Release    string          `json:"release"`
	Digest     releases.Digest `json:"digest"`
	At         time.Time       `json:"at"`
	Evidence   string          `json:"evidence"` // "5 of 5 cells healthy for 24h2m"
}

// Finish says that a head reached all the cells it was for: a rollback may go back to it (R19).
type Finish struct {
	Channel  string          `json:"channel"`
	Sequence int64           `json:"sequence"`
	Digest   releases.Digest `json:"digest"`
	At       time.Time       `json:"at"`
}

// Through says that a wave of a head's rollout is through: it stays so, whoever comes later or falls ill (R14).
type Through struct {
	Channel  string          `json:"channel"`
	Sequence int64           `json:"sequence"`
	Digest   releases.Digest `json:"digest"`
	Wave     int             `json:"wave"` // 1-based
	At       time.Time       `json:"at"`
}

// Freed names cells of a channel whose slots ended.
type Freed struct {
	Channel string
	Cells   []string // sorted
}

// Rollout is who counts for a head: the cells that were eligible when it moved (R9).
type Rollout struct {
	Channel  string    `json:"channel"`
	Sequence int64     `json:"sequence"`
	Since    time.Time `json:"since"`
	Eligible []string  `json:"eligible"` // sorted
}
