package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// Observed is everything that was seen outside of the repository, as of one instant.
type Observed struct {
	// When observing began. Until Since + staleAfter, cells have time to report (R26). Zero: long ago.
	Since time.Time
	// When this process began to listen to cells. Time before Up counts towards no stall (R10). Zero: long ago.
	ListeningSince time.Time
	Clock          Clock                 // R10
	Cells          map[string]*CellState // by name; where Replaced is kept, only SetCell changes it
	Observations   []Observation
	Learned        Learned                 // what all plans so far learned
	Served         map[string]int64        // highest sequence ever decided or granted, by channel (R2)
	Decided        map[string]Decided      // newest decision recorded, by channel (R51)
	Seen           string                  // newest commit that was acted on; empty: none yet
	Diverged       *Divergence             // R5
	Refused        map[string]Refusal      // pushes that the git host refused, by channel
	Registered     map[string]Registration // newest change of each cell's identity that git may not have yet
	Slots          map[string][]string     // cells that use a slot of maxInFlight, by channel, as the store counts them
	// SSH public key that this engine signs with; empty: it pushes nothing
	Key   string           `json:"-"`
	Audit *audithead.Chain `json:"-"` // nil: it is not known, or was not asked for
	Flags *FlagsSeen       // what gates see of flags; nil: no flags repository
	// Fetches of heads' images that are under way; nil: there are none, or no images are served.
	Warming map[releases.Digest]Warming `json:"-"`

	// Names of the cells whose states SetCell replaced since the last plan, for the Memory that made it; nil: that is
	// not kept, and any may have been.
	Replaced []string `json:"-"`
}

// SetCell replaces the state of a cell; nil: it has none any more.
func (o *Observed) SetCell(name string, s *CellState) {
	if s == nil {
		delete(o.Cells, name)
	} else {
		o.Cells[name] = s
	}
	switch {
	case o.Replaced == nil:
	case len(o.Replaced) <= len(o.Cells):
		o.Replaced = append(o.Replaced, name)
	default: // to compare all is quicker
		o.Replaced = nil
	}
}

// Warming says how much of a head's images is at hand. Cells are not granted the head before all of them are, or it is
// Until.
type Warming struct {
	Images, Ready int
	Bytes, Here   int64
	Until         time.Time
}

// CellState is a cell's last report, with what earlier reports added up to.
type CellState struct {
	Name         string
	Channel      string
	Epoch        int64
	Sequence     int64
	Release      string
	Digest       releases.Digest // what the cell runs
	State        cells.State
	Message      string
	Unhealthy    *cells.Unhealthy `json:",omitempty"` // as reported; nil: it named no objects
	HealthySince time.Time        // when the unbroken healthy time on Digest began, by receipt
	// Sum of the gaps between reports, each within the stale limit, over which the cell was healthy on exactly Digest
	// (R9).
	Soaked         time.Duration
	Gaps           []Gap         `json:",omitempty"` // what the soak on Digest leaves out, newest last, at most maxGaps
	LastReport     time.Time     // by receipt
	Skew           time.Duration // the cell's clock minus ours
	Infrastructure int           // number of the newest update that counts as executed (R62)
	// What the cell read of its infrastructure, At by our clock; nil: it reported a bare number
	Actual    *cells.ActualInfrastructure `json:",omitempty"`
	Running   *cells.Assignment           // as reported; nil: nothing
	Applying  *cells.Assignment
	Granted   *cells.Assignment // newest grant; nil: none is known
	GrantedAt time.Time
	// Releases granted in channels that the cell has left, newest last, at most maxLeft: the cell may have to go back
	// to one.
	Left []releases.Digest
	// Key of the newest assignment that the cell acknowledged: from then on it may apply the assignment for good (R14).
	Taken     string
	StartedAt time.Time // when the cell reported that it began Granted; a stall counts from here (R14)
	// When the cell was first healthy on the release of Granted: its own rollout is over (R49). Zero: not yet.
	ReachedAt time.Time
	IllSince  time.Time // since when it has not been healthy on that release, after ReachedAt; zero: it is (R50)
	Failures  []Failure
	Owner     *cells.Owner       // as reported; nil: the owner decided nothing
	Flags     *cells.FlagsReport `json:",omitempty"` // flags in force in the cell; nil: it reported none
	// What it does about maintenances; nil: it reported none
	Maintenance *cells.MaintenanceReport `json:",omitempty"`
	Debug       []cells.DebugState       `json:",omitempty"` // requests for debug access, as reported
	Signatures  *cells.SignaturesReport  `json:",omitempty"` // nil: it verifies none
	Boots       []Boot                   // starts of its agent by last report, newest last, at most maxBoots (R27)
	Confirmed   int64                    // number of the newest event acknowledged to the cell
	// Last disorder of its event numbers; nil: there never was one
	Miscount *Miscount `json:",omitempty"`
	Clone    string    // evidence that two machines use its key (R27); empty: none
	Joined   int64     // epoch of the identity that Boots and Clone belong to; a new key resets both
	Version  int64     // version of the store's row; grows by 1 with every stored report

	// A process was listening ever since the last report, so the time since then counts.
	watched bool
	// When this process received the report, by its own monotonic clock; zero: another process did.
	receivedAt time.Time
	live       bool // see SetLive
	// The assignment whose key is Taken, so that the next report of the same one needs no hash; nil: unknown.
	taken *cells.Assignment
}

// Gap is a time since a cell first ran its digest that no soak counts, by receipt.
type Gap struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Cause GapCause  `json:"cause"`
}

// GapCause says why a gap does not count (R9).
type GapCause string

const (
	GapSilent    GapCause = "silent"    // longer than the stale limit without a report: the soak begins anew
	GapUnhealthy GapCause = "unhealthy" // it was not healthy: the soak begins anew
	GapUnwatched GapCause = "unwatched" // no control plane listened: the soak pauses
)

// maxGaps bounds the gaps of a cell.
const maxGaps = 8

// Boot is one start of a cell's agent, identified by its reports.
type Boot struct {
	ID    string    `json:"id"`
	First time.Time `json:"first"` // by receipt
	Last  time.Time `json:"last"`
	Backs int       `json:"backs,omitempty"` // how often it reported again soon after another boot

	Sent      time.Time     `json:"sent,omitzero"`       // when its last report was sent, by the cell's clock
	Skew      time.Duration `json:"skew,omitempty"`      // Skew as of that report
	Confirmed int64         `json:"confirmed,omitempty"` // what that report said to be acknowledged
	Rewound   int           `json:"rewound,omitempty"`   // how often its event numbers went back

	Ran    bool      `json:"ran,omitempty"`   // its last report said that something runs
	Lost   int       `json:"lost,omitempty"`  // how often it then said that nothing was ever installed
	LostAt time.Time `json:"lostAt,omitzero"` // the last time, by receipt

	Marks []Mark `json:"marks,omitempty"` // of its newest events, at most maxMarks
}

// Miscount says how a cell's event numbers were out of order (fault 45). Immutable.
type Miscount struct {
	What  string    `json:"what"`
	At    time.Time `json:"at"`    // by receipt
	Times int64     `json:"times"` // so far
}

// Mark identifies an event that is remembered, to recognise it when it comes again.
type Mark struct {
	Number int64     `json:"number"`
	Sum    uint64    `json:"sum"` // hash of the content
	At     time.Time `json:"at"`  // by receipt
}

// Failure is a failure that a cell reports, with the time of the first report about it.
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

// Clock holds what shows whether time can be trusted (R10).
type Clock struct {
	Step time.Duration // wall-clock time minus monotonic time since the last tick
	Skew time.Duration // median skew of the cells' clocks

	Store time.Duration // how far the store's clock is ahead of this machine's
}

// Doubt returns why time can't be trusted (R10); empty: it can.
func (k Clock) Doubt() string { return k.verdict().Reason }

// verdict is the verdict of the gate "clock".
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

// Divergence says that the branch no longer contains a commit that was acted on (R5).
type Divergence struct {
	Seen string // the commit that the branch lost
	Tip  string // the branch's new tip
	At   time.Time
}

// Refusal is a push that the git host refused.
type Refusal struct {
	Reason string
	Until  time.Time // no push is tried before this instant; zero: before the push that goes on ends
}

// FlagsSeen holds what gates and decisions see of flags.
type FlagsSeen struct {
	Commit    string              `json:"commit"`
	Killed    []string            `json:"killed,omitempty"`    // flags, sorted
	Published map[string][]string `json:"published,omitempty"` // published features, sorted, by channel
}

func (s *FlagsSeen) Equal(other *FlagsSeen) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.Commit == other.Commit && slices.Equal(s.Killed, other.Killed) &&
		maps.EqualFunc(s.Published, other.Published, slices.Equal)
}

// AssumeGrants makes the observations that a person wrote complete: a cell without a grant counts as granted the newest
// head of its channel that has what the cell runs.
func (o *Observed) AssumeGrants(d *Desired) {
	for name, s := range o.Cells {
		c, cell := d.Channels[s.Channel], d.Cells[name]
		if c == nil || cell == nil || s.Granted != nil {
			continue
		}
		for _, h := range slices.Backward(c.History) {
			if h.Digest != s.Digest {
				continue
			}
			s.SetGrant(cells.Assignment{
				Channel: c.Name, Epoch: cell.Identity.Epoch, Sequence: h.Sequence, Release: h.Release,
				Digest: h.Digest, Revision: cell.Revision,
			}, h.Moved)
			if s.State == cells.StateHealthy {
				s.ReachedAt = s.HealthySince
			}
			break
		}
	}
}

// Stored returns s as a store returns it: without what only the process that received the report knows.
func (s *CellState) Stored() *CellState {
	c := *s
	c.watched, c.receivedAt, c.live, c.taken = false, time.Time{}, false, nil
	return &c
}

// SetLive sets whether the cell is that of a model and reports all the time: at any instant it has just reported, and
// has soaked since HealthySince. Only this package heeds it.
func (s *CellState) SetLive(live bool) { s.live = live }

// Heard returns when the cell reported last, as of now, and for how long it had soaked by then.
func (s *CellState) Heard(now time.Time) (last time.Time, soaked time.Duration) {
	switch {
	case !s.live:
		return s.LastReport, s.Soaked
	case s.HealthySince.IsZero():
		return now, s.Soaked
	}
	return now, now.Sub(s.HealthySince)
}

// SetWatched sets whether the time since the cell's last report counts: it does if this process has been listening
// since before that report. A zero up means that it has not.
func (s *CellState) SetWatched(up time.Time) { s.watched = !up.IsZero() && !s.LastReport.Before(up) }

// Watched reports whether some process was listening all the time since the cell's last report.
func (s *CellState) Watched() bool { return s.watched }

// ifIn returns s if it is about channel, else nil: what a cell reported about another channel before it moved does not
// count (R2).
func (s *CellState) ifIn(channel string) *CellState {
	if s != nil && s.Channel != "" && s.Channel != channel {
		return nil
	}
	return s
}
