package view

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Status is the state of everything: all channels, and a page of cells.
type Status struct {
	Commit   string           `json:"commit"`
	Now      time.Time        `json:"now" doc:"when the plan was made"`
	Clock    Clock            `json:"clock" doc:"whether time can be trusted (R10)"`
	Unread   *Unread          `json:"unread,omitempty" doc:"since when the release repository can't be read, and why: what follows is as of the commit"`
	Diverged *plan.Divergence `json:"diverged,omitempty" doc:"the branch was rewritten: nothing moves until a person accepts it (R5)"`
	Faults   []releases.Fault `json:"faults,omitempty" doc:"the first 100 in the release repository"`
	Notes    []string         `json:"notes,omitempty" doc:"protections that sluice.yaml does not ask for, and what the git host does not do, each in a sentence"`
	Flags    *FlagsSummary    `json:"flags,omitempty" doc:"none: there is no flags repository, or nothing of it is known yet"`
	Images   *ImagesSummary   `json:"images,omitempty" doc:"of the replica that answers; none: it serves no images, or was not asked"`
	Channels []ChannelStatus  `json:"channels"`
	// At most the newest MaxUpdates
	Infrastructure []infrastructure.Update `json:"infrastructure,omitempty" doc:"infrastructure updates that the repository has, the newest last"`
	Cells          []CellStatus            `json:"cells" doc:"by name, after the requested one"`
	Total          int                     `json:"total" doc:"how many cells match the filter"`
	Next           string                  `json:"next,omitempty" doc:"pass it as after= to get the next page; none: this is the last page"`
}

// Clock says how much clocks differ, in seconds.
type Clock struct {
	StepSeconds float64 `json:"stepSeconds" doc:"wall-clock time minus monotonic time since the plan before"`
	SkewSeconds float64 `json:"skewSeconds" doc:"median of the cells' clocks minus the control plane's"`
}

// ChannelStatus is the state of one channel.
type ChannelStatus struct {
	Name     string             `json:"name"`
	After    []string           `json:"after,omitempty"`
	Release  string             `json:"release,omitempty" doc:"its head; empty: none yet"`
	Digest   releases.Digest    `json:"digest,omitempty"`
	Sequence int64              `json:"sequence,omitempty"`
	Since    time.Time          `json:"since,omitzero" doc:"when the head moved to this release"`
	Replaces string             `json:"replaces,omitempty"`
	Kind     plan.Kind          `json:"kind,omitempty" doc:"how the head moved to this release: promote, rollback or adopt"`
	Hotfix   bool               `json:"hotfix,omitempty" doc:"a hotfix took it there"`
	Commit   string             `json:"commit,omitempty" doc:"the commit that moved the head; its message has the evidence"`
	Request  *Request           `json:"request,omitempty" doc:"a person's change of the head that is not answered yet (R1)"`
	Refused  string             `json:"refused,omitempty" doc:"why the git host refused the last push"`
	Holds    []channels.Hold    `json:"holds,omitempty"`
	Blocked  []channels.Verdict `json:"blocked,omitempty" doc:"what keeps a release from it"`
	Cells    int                `json:"cells"`
	OnHead   int                `json:"onHead" doc:"cells that run the head's release"`
	Healthy  int                `json:"healthy" doc:"cells that are healthy on the head's release"`
	Failing  int                `json:"failing" doc:"cells that are unhealthy, failed or stuck, on any release"`
	Counts   map[Condition]int  `json:"counts,omitempty" doc:"how many of its cells are in each condition"`
}

// Request is a person's change of a head.
type Request struct {
	Release string `json:"release,omitempty"`
	By      string `json:"by"`
	Reason  string `json:"reason,omitempty" doc:"why, from the commit's message"`
	Commit  string `json:"commit"`
	Fault   string `json:"fault,omitempty" doc:"why it can't be read"`
}

// CellStatus is one cell's last report, with its condition.
type CellStatus struct {
	Name         string             `json:"name"`
	Channel      string             `json:"channel"`
	Release      string             `json:"release,omitempty" doc:"the release that it runs; empty: none yet"`
	Digest       releases.Digest    `json:"digest,omitempty"`
	Epoch        int64              `json:"epoch,omitempty"`
	Sequence     int64              `json:"sequence,omitempty"`
	State        cells.State        `json:"state" doc:"unknown: it has not reported yet"`
	Condition    Condition          `json:"condition" doc:"its condition, in one word: shut-out, failing, silent, new, updating, held, behind or healthy"`
	Message      string             `json:"message,omitempty"`
	Applying     string             `json:"applying,omitempty" doc:"the release that it has begun"`
	Profile      string             `json:"profile,omitempty" doc:"of the release; none: default"`
	Granted      string             `json:"granted,omitempty" doc:"the release that it was granted last"`
	GrantedAt    time.Time          `json:"grantedAt,omitzero"`
	HealthySince time.Time          `json:"healthySince,omitzero"`
	SoakSeconds  float64            `json:"soakSeconds,omitempty"`
	LastReport   time.Time          `json:"lastReport,omitzero"`
	SkewSeconds  float64            `json:"skewSeconds,omitempty"`
	Failures     int                `json:"failures,omitempty" doc:"assignments that failed and are remembered"`
	LastFailure  *LastFailure       `json:"lastFailure,omitempty" doc:"the newest of them"`
	Blocked      []channels.Verdict `json:"blocked,omitempty" doc:"what keeps it from its channel's head, other than what keeps all cells"`

	Unhealthy      *cells.Unhealthy    `json:"unhealthy,omitempty" doc:"the objects that do not work, if it is the answer about one cell"`
	Infrastructure *CellInfrastructure `json:"infrastructure,omitempty" doc:"where it stands with infrastructure updates; none: the repository has none, and its agent reads nothing of it"`
	Maintenance    *MaintenanceStatus  `json:"maintenance,omitempty" doc:"its maintenances for updates; none: it reported none"`
	Debug          []DebugStatus       `json:"debug,omitempty" doc:"requests for debug access that are not over"`
	Signatures     *SignatureStatus    `json:"signatures,omitempty" doc:"whether it verifies what release signers signed; none: its channel needs no signatures, and it verifies none"`

	Exports *cells.ExportStanding `json:"exports,omitempty" doc:"what it exports beside its reports; none: it never exported anything"`
}

// LastFailure is the newest failure that is remembered of a cell.
type LastFailure struct {
	Release string      `json:"release"`
	Cause   cells.Cause `json:"cause,omitempty" doc:"what was at fault (R49); none: unknown"`
	Reason  string      `json:"reason"`
	At      time.Time   `json:"at,omitzero" doc:"when the report came"`
}

// CellInfrastructure is where a cell stands with infrastructure updates, and who hears of them.
type CellInfrastructure struct {
	deadline.Standing
	Actual   *cells.ActualInfrastructure `json:"actual,omitempty" doc:"what its agent read of its infrastructure; none: it only reported a number"`
	Contacts []cells.Contact             `json:"contacts,omitempty"`
}

// MaxUpdates is how many infrastructure updates a Status has.
const MaxUpdates = 20

// StateUnknown is the state of a cell that has not reported yet.
const StateUnknown cells.State = "unknown"

// StatusPage says which cells a Status has.
type StatusPage struct {
	Channel string // only this channel's cells; empty: all
	After   string // only cells whose names come after this one
	Limit   int    // 0: all
}

// MaxFaults is how many faults, or names of cells, a response lists at most.
const MaxFaults = 100

// StatusOf sums a view up. Pure.
func StatusOf(v *View, page StatusPage) Status {
	s := Status{
		Commit: v.Desired.Commit, Now: v.Plan.Now, Unread: v.Unread, Diverged: v.Observed.Diverged,
		Clock:    Clock{StepSeconds: v.Observed.Clock.Step.Seconds(), SkewSeconds: v.Observed.Clock.Skew.Seconds()},
		Faults:   v.Desired.Faults[:min(len(v.Desired.Faults), MaxFaults)],
		Notes:    slices.Concat(v.Desired.Notes(), v.Desired.Trust.Expiring(v.Plan.Now), v.HostNotes),
		Flags:    flagsSummary(v.Flags),
		Channels: make([]ChannelStatus, 0, len(v.Desired.Order)), Cells: []CellStatus{},
	}
	if v.NotObserved {
		s.Notes = append(s.Notes, NotObserved)
	}
	s.Infrastructure = v.Desired.Infrastructure[max(0, len(v.Desired.Infrastructure)-MaxUpdates):]
	blocked := map[string][]channels.Verdict{} // by channel, or by cell
	for _, b := range v.Plan.Blocked {
		key := cmp.Or(b.Cell, "\x00"+b.Channel)
		blocked[key] = append(blocked[key], b)
	}
	everywhere := blocked["\x00"]
	for _, name := range v.Desired.Order {
		c := v.Desired.Channels[name]
		blocked["\x00"+name] = append(slices.Clone(everywhere), blocked["\x00"+name]...)
		if page.Channel == "" || page.Channel == name {
			s.Channels = append(s.Channels, channelStatus(v, c, blocked))
		}
	}
	names := slices.Sorted(maps.Keys(v.Desired.Cells))
	names = slices.DeleteFunc(names, func(name string) bool {
		return page.Channel != "" && v.Desired.Cells[name].Channel != page.Channel
	})
	s.Total = len(names)
	names, s.Next = Paginate(names, page.After, page.Limit)
	for _, name := range names {
		s.Cells = append(s.Cells, cellStatus(v, name, blocked[name]))
	}
	return s
}

func channelStatus(v *View, c *plan.Channel, blocked map[string][]channels.Verdict) ChannelStatus {
	s := ChannelStatus{
		Name: c.Name, Holds: c.Holds, Blocked: blocked["\x00"+c.Name], Counts: map[Condition]int{}, Cells: len(c.Cells),
		Refused: v.Observed.Refused[c.Name].Reason,
	}
	if policy := cmp.Or(c.Policy, c.Valid); policy != nil {
		s.After = policy.After
	}
	if r := c.Request; r != nil {
		s.Request = &Request{Release: r.Release, By: r.By, Reason: r.Reason, Commit: r.Commit, Fault: r.Fault}
	}
	head := c.Effective
	if head != nil {
		s.Release, s.Digest, s.Sequence = head.Release, head.Digest, head.Sequence
		s.Since, s.Replaces = head.Moved, head.Replaces
		s.Kind, s.Hotfix, s.Commit = head.Kind, head.Hotfix, head.Written
	}
	for _, cell := range c.Cells {
		s.Counts[conditionOf(v, cell, c, blocked[cell.Name])]++
		state := v.Observed.Cells[cell.Name]
		if state == nil {
			continue
		}
		if head != nil && state.Digest == head.Digest {
			s.OnHead++
			if state.State == cells.StateHealthy {
				s.Healthy++
			}
		}
		switch state.State {
		case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
			s.Failing++
		case cells.StatePending, cells.StateApplying, cells.StateHealthy:
		}
	}
	return s
}

func cellStatus(v *View, name string, blocked []channels.Verdict) CellStatus {
	cell := v.Desired.Cells[name]
	s := CellStatus{Name: name, Channel: cell.Channel, Profile: cell.Profile, State: StateUnknown, Blocked: blocked}
	s.Condition = conditionOf(v, cell, v.Desired.Channels[cell.Channel], blocked)
	state := v.Observed.Cells[name]
	s.Infrastructure = cellInfrastructure(v, cell, state)
	s.Maintenance, s.Debug = v.cellMaintenance(state), cellDebug(state)
	s.Signatures = v.cellSignatures(cell, state)
	if state == nil {
		return s
	}
	s.State = cmp.Or(state.State, StateUnknown)
	s.Release, s.Digest, s.Epoch, s.Sequence = state.Release, state.Digest, state.Epoch, state.Sequence
	s.Message, s.HealthySince, s.LastReport = state.Message, state.HealthySince, state.LastReport
	s.SoakSeconds, s.SkewSeconds, s.Failures = state.Soaked.Seconds(), state.Skew.Seconds(), len(state.Failures)
	if state.Applying != nil {
		s.Applying = state.Applying.Release
	}
	if state.Granted != nil {
		s.Granted, s.GrantedAt = state.Granted.Release, state.GrantedAt
	}
	if n := len(state.Failures); n > 0 {
		f := state.Failures[n-1]
		s.LastFailure = &LastFailure{Release: f.Assignment.Release, Cause: f.Cause, Reason: f.Reason, At: f.Seen}
	}
	return s
}

// cellInfrastructure returns where a cell stands; nil: there is no update, and its agent reads nothing. state may be
// nil.
func cellInfrastructure(v *View, cell *plan.Cell, state *plan.CellState) *CellInfrastructure {
	is := CellInfrastructure{Contacts: cell.Contacts}
	if state != nil {
		is.Actual = state.Actual
	}
	if len(v.Desired.Infrastructure) == 0 && is.Actual == nil {
		return nil
	}
	is.Standing = v.Desired.Standing(cell, state, v.Plan.Now)
	return &is
}

// CellOf returns the state of a cell, which the view must have, with the objects that do not work.
func CellOf(v *View, name string) CellStatus {
	var blocked []channels.Verdict
	for _, b := range v.Plan.Blocked {
		if b.Cell == name {
			blocked = append(blocked, b)
		}
	}
	s := cellStatus(v, name, blocked)
	if state := v.Observed.Cells[name]; state != nil {
		s.Unhealthy = state.Unhealthy
	}
	return s
}

// Paginate returns the sorted names after one, at most limit of them (0: all), and the name after which the next page
// begins; empty: this page is the last.
func Paginate(names []string, after string, limit int) (page []string, next string) {
	page = names[sort.Search(len(names), func(i int) bool { return names[i] > after }):]
	if limit > 0 && len(page) > limit {
		page = page[:limit]
		next = page[limit-1]
	}
	return page, next
}
