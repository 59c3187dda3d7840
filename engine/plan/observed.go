package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

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

	watched    bool      // received since this process began to listen, by it or another: the time since then was watched
	receivedAt time.Time // when this process received it, by its own monotonic clock; zero: another did
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
func (k Clock) Doubt() string { return k.verdict().Reason }

// verdict is the gate "clock".
func (k Clock) verdict() channels.Verdict {
	switch {
	case k.Step.Abs() > MaxClockError:
		return channels.Blocked("clock", reason.ClockStepped, k.Step.Round(time.Second))
	case k.Store.Abs() > MaxClockError:
		return channels.Blocked("clock", reason.ClockStore, k.Store.Round(time.Second))
	case k.Skew.Abs() > MaxClockError:
		return channels.Blocked("clock", reason.ClockCells, k.Skew.Round(time.Second))
	}
	return channels.Verdict{Holds: true}
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

// FlagsSeen is what gates and decisions see of flags.
type FlagsSeen struct {
	Commit    string              `json:"commit"`
	Killed    []string            `json:"killed,omitempty"`    // flags, sorted
	Published map[string][]string `json:"published,omitempty"` // features that are published, sorted, by channel
}

func (s *FlagsSeen) Equal(other *FlagsSeen) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.Commit == other.Commit && slices.Equal(s.Killed, other.Killed) && maps.EqualFunc(s.Published, other.Published, slices.Equal)
}

// Stored returns s as a store gives it back, without what only the process that received it knows.
func (s *CellState) Stored() *CellState {
	c := *s
	c.watched, c.receivedAt = false, time.Time{}
	return &c
}

// Watch notes whether this process, listening since up, watched the time since the cell's last report; the zero up: it did not.
func (s *CellState) Watch(up time.Time) { s.watched = !up.IsZero() && !s.LastReport.Before(up) }

// Watched reports whether some process watched the time since the cell's last report.
func (s *CellState) Watched() bool { return s.watched }

// ifIn is s, if it is about a channel: what a cell that moved said of another counts for nothing here (R2).
func (s *CellState) ifIn(channel string) *CellState {
	if s != nil && s.Channel != "" && s.Channel != channel {
		return nil
	}
	return s
}
