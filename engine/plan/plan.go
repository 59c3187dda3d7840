package plan

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
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
	Commit  string             `json:"commit"`
	Now     time.Time          `json:"now"`
	Actions []Action           `json:"actions"`
	Blocked []channels.Verdict `json:"blocked"`
	Wants   []Probe            `json:"wants,omitempty"` // outside observations that would now decide something (R11)
	Learned Learned            `json:"learned,omitzero"`
	Next    time.Time          `json:"next,omitzero"` // the earliest instant at which time alone changes the plan; zero: never
	Heard   time.Time          `json:"-"`             // the same, as long as all cells that are in contact now stay so
	Flags   string             `json:"-"`             // the flags repository's commit that gates saw; empty: none
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

	Offers   []Offer            `json:"-"` // grant: to each of Cells, in their order. One takes a slot if what it offers is new to the cell, and the cell has none in use
	Verdicts []channels.Verdict `json:"-"` // the same as values, for decision.json
	Deadline time.Time          `json:"-"` // no push may start after it (R3); zero: none
	Hotfix   bool               `json:"-"` // promote: by the hotfix lane
	Accepted []Acceptance       `json:"-"` // of the release that is replaced, by downstreams
	Finished bool               `json:"-"` // what is replaced had reached its cells
	Commit   string             `json:"-"` // whose releases/V is meant
	forward  string             // see EffectiveHead.Forward
	Holds    bool               `json:"-"` // rollback: leaves a hold behind, for a person to lift (R1)
	members  []Registration     // identify: what is to be written, in the order of Cells
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

// Observed is all that was seen from outside, as of one instant.
type Observed struct {
	Since        time.Time             // when observing began; cells are given until Since + staleAfter to report (R26). Zero: long ago
	Up           time.Time             // when this process began to listen to cells: no stall counts from before. Zero: long ago
	Clock        Clock                 // R10
	Cells        map[string]*CellState // by name
	Observations []Observation
	Learned      Learned                 // everything learned so far
	Served       map[string]int64        // highest sequence ever served or reported, by channel (R2)
	Seen         string                  // the newest commit that was acted upon; empty: none yet
	Diverged     *Divergence             // R5
	Refused      map[string]Refusal      // pushes that the git host refused, by channel: blocked until then
	Registered   map[string]Registration // changes of identity that git may not have yet, newest of each cell
	Slots        map[string][]string     // cells that have a slot of maxInFlight in use, by channel, as the store counts them
	Flags        *FlagsSeen              // what gates see of flags; nil: there are none
}

// CellState is the last word of a cell, with what the receipt of its reports added up to.
type CellState struct {
	Name           string
	Channel        string
	Epoch          int64
	Sequence       int64
	Release        string
	Digest         releases.Digest // what it runs
	State          cells.State
	Message        string
	HealthySince   time.Time     // when the unbroken healthy time on Digest began, by receipt
	Soaked         time.Duration // sum of report gaps within the stale limit, healthy on exactly Digest (R9)
	LastReport     time.Time     // by receipt
	Skew           time.Duration // the cell's clock against ours
	Infrastructure int
	Running        *cells.Assignment // as reported, if it was
	Applying       *cells.Assignment
	Granted        *cells.Assignment // newest grant; nil: none known
	GrantedAt      time.Time
	Left           []releases.Digest // what it was granted in channels that it has left, newest last; a few: it may have to go back there
	Taken          string            // key of the newest assignment that the cell acknowledged: permission for good (R14)
	StartedAt      time.Time         // when it reported to have begun Granted; stall counts from here (R14)
	Failures       []Failure
	Owner          *cells.Owner       // as reported; nil: it decided nothing
	Flags          *cells.FlagsReport `json:",omitempty"` // what it has in force of flags; nil: it said nothing of them
	Boots          []Boot             // of its agent, by last report, newest last; a few (R27)
	Confirmed      int64              // the newest event that was acknowledged to it
	Miscount       *Miscount          `json:",omitempty"` // what was last out of order in its event numbers; nil: nothing ever was
	Clone          string             // what gave two users of its key away (R27); empty: nothing
	Joined         int64              // epoch of the identity that Boots and Clone were seen under: a new key starts them again
	Version        int64              // of the store's row: grows by one with every report kept

	live  bool      // received since this process began to listen, by it or another: the time since then was watched
	heard time.Time // when this process received it, by its own monotonic clock; zero: another did
}

// Boot is one start of a cell's agent, as its reports tell it apart.
type Boot struct {
	ID    string    `json:"id"`
	First time.Time `json:"first"` // by receipt
	Last  time.Time `json:"last"`
	Backs int       `json:"backs,omitempty"` // how often it was heard again soon after another

	Sent      time.Time     `json:"sent,omitzero"`       // its last report, by the cell's clock
	Skew      time.Duration `json:"skew,omitempty"`      // of that clock against ours, then
	Confirmed int64         `json:"confirmed,omitempty"` // what it said to be acknowledged, then
	Rewound   int           `json:"rewound,omitempty"`   // how often its event numbers went back

	Marks []Mark `json:"marks,omitempty"` // of its newest events; a few
}

// Miscount says how a cell's event numbers were out of order (fault 45). Immutable.
type Miscount struct {
	What  string    `json:"what"`
	At    time.Time `json:"at"`    // by receipt
	Times int64     `json:"times"` // so far
}

// Mark is what is remembered of an event, to know it again.
type Mark struct {
	Number int64     `json:"number"`
	Sum    uint64    `json:"sum"` // of its content
	At     time.Time `json:"at"`  // by receipt
}

// Failure is a failure that a cell remembers, and when we first heard of it.
type Failure struct {
	cells.Failure
	Seen time.Time `json:"seen,omitzero"` // by receipt
}

// Observation is the answer to a Probe.
type Observation struct {
	Channel    string    `json:"channel,omitempty"` // empty: any channel
	Gate       string    `json:"gate"`
	Subject    string    `json:"subject"` // digest or release
	Policy     string    `json:"policy,omitempty"`
	Holds      bool      `json:"holds"`
	Value      string    `json:"value,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	ObservedAt time.Time `json:"observedAt,omitzero"`
	ValidUntil time.Time `json:"validUntil,omitzero"`
}

// Clock says whether time can be trusted (R10).
type Clock struct {
	Step time.Duration // wall clock against monotonic time since the last tick
	Skew time.Duration // median skew of the cells' clocks

	Store time.Duration // how far the store's clock is ahead of this machine's
}

// Doubt says why time can't be trusted (R10); empty: it can.
func (k Clock) Doubt() string {
	switch {
	case k.Step.Abs() > MaxClockError:
		return fmt.Sprintf("this machine's clock was stepped by %s; check its time service", k.Step.Round(time.Second))
	case k.Store.Abs() > MaxClockError:
		return fmt.Sprintf("the store's clock differs from this machine's by %s; check their time services", k.Store.Round(time.Second))
	case k.Skew.Abs() > MaxClockError:
		return fmt.Sprintf("the cells' clocks differ from this one by %s in the median; check its time service", k.Skew.Round(time.Second))
	}
	return ""
}

// Divergence is a branch that no longer contains a commit that was acted upon (R5).
type Divergence struct {
	Seen string // the commit that is gone
	Tip  string // what the branch is now
	At   time.Time
}

// Refusal is a push that the git host turned down.
type Refusal struct {
	Reason string
	Until  time.Time // not tried again before
}
