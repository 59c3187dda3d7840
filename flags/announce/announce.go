// Package announce decides what happens to announcements: when one is armed, published or missed, what each cell is told, and
// how far each is, for people to see.
//
// Make is pure: Input in, Plan out, the instant among the values; same input, same plan. It does no I/O. The engine carries
// a Plan out, by commits to the flags repository and to nothing else, and passes what cells are told on to them.
//
// An announcement is level-triggered: nothing here remembers. What has to be remembered, because it rests on an instant that
// is over, is a record in git (repository.Record): that it was armed before its time with what was approved, that it was
// published, that its time passed in vain, or that something kept it from being armed. A Plan goes by the records that are in
// git, never by those that it asks for: what turns on waits for its commit, what turns off does not.
package announce

import (
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Input is everything that Make looks at.
type Input struct {
	Now      time.Time
	Doubt    string                      // why Now can't be trusted (R10): then nothing is written that lets a time come; empty: it can
	Tip      *repository.Tree            // the newest valid commit, with the overrides, records, heads and readable approvals of the newest of all
	Commit   string                      // Tip's: the newest valid one
	Trees    map[string]*repository.Tree // of the commits that records and heads name, as far as they could be read
	Proven   []Proven
	Authors  map[string][]string   // by announcement: e-mail addresses of those who wrote its file as it is
	Kills    []repository.Override // stored, and not committed yet
	Channels []Channel             // upstreams first
	Cells    []Cell                // by name
	Releases []Release             // that are supported, which some cell runs or some channel has as its head: newest last
	Memory   Memory                // the last Plan's
}

// Memory is what a Plan tells the next one. It is observed, not intended: lost, a soak begins again, and what ended meanwhile is
// not told. It is to be kept after the Plan's events are.
type Memory struct {
	Served  map[string]Served `json:"served,omitempty"`  // by channel
	Ongoing map[string]Event  `json:"ongoing,omitempty"` // what began and has not ended, as it was told
	Lifted  map[string]int    `json:"lifted,omitempty"`  // how many kills of a flag ended, and how often what was retracted was given again
}

// Served says since when all cells of a channel that answer have had the definitions without an announcement that hash to Flags.
type Served struct {
	Flags string    `json:"flags"`
	Since time.Time `json:"since,omitzero"` // zero: they were told, and not all have them in force yet
}

// Proven is an approval whose commit was proven to be that person's (R22).
type Proven struct {
	repository.Approval
	Email string
}

// Channel is a channel of the release repository.
type Channel struct {
	Name  string
	After []string // upstreams; none: an entry channel
}

// Cell is what is known of a cell.
type Cell struct {
	Name, Channel string
	Labels        map[string]string
	Silent        bool     // not heard of within the stale limit
	Known         bool     // it reported what it runs
	Release       string   // that it runs
	Assignment    string   // names what it was assigned, and is another after each move: "2/41"
	Features      []string // contained in every release that may be running there, sorted; cells may share the slice
	Waits         Wait     // why it is not on its channel's head; zero: it is
	Report        *Report  // its own word; nil: none
	Current       bool     // Report is about what it was last told

	Bundle *flags.Bundle // that it was last told; nil: not known
}

// Wait is why a cell is not on its channel's head.
type Wait struct {
	Text  string // "soak until …"
	Owner bool   // its owner keeps it, whatever it waits for: Text follows its name, "is paused by its owner"
}

// Report is a cell's own word on the announcements of the bundle that it has in force. Those of it that it does not name are on.
type Report struct {
	States map[string]flags.CellState
}

// Release is a release and what its code contains.
type Release struct {
	Version  string
	Features []string
}

// Plan is what follows.
type Plan struct {
	Writes        []Write          // for one commit to the flags repository, in order
	Announcements []Status         // by ID, without cells: see Plan.Detail
	Told          map[string]*Told // by cell
	Events        []Event          // worth telling; each is told once, by its ID
	Faults        []manifest.Fault // what only both repositories together show: warnings, and what is off for want of a commit
	Memory        Memory           // for the next Make
	Next          time.Time        // the earliest instant at which time alone changes the plan; zero: none

	planner *planner // to look at cells one by one; nil: a Plan that Make did not make
}

// Write is a file to be written, or removed if Content is nil, and why: a line for the commit's message.
type Write struct {
	Path    string
	Content []byte
	Why     string // "arm workspace-classes in dedicated for 2026-12-01T10:00:00+01:00"
}

// Told is what a cell is told. Cells that are told the same share one, and those with the same gates a Bundle.
type Told struct {
	Bundle *flags.Bundle // nil: nothing is known of its channel, it keeps what it has
	Orders flags.Orders
}

// State is how far an announcement is.
type State string

const (
	Draft      State = "draft"      // approvals are missing
	Approved   State = "approved"   // it has no time
	Scheduled  State = "scheduled"  // it has one, and is not sent ahead yet, or waits for enough cells (block)
	Armed      State = "armed"      // sent ahead: it flips by itself
	Publishing State = "publishing" // its time has come; some cells wait, or the ramp goes on
	Published  State = "published"
	Held       State = "held"
	Missed     State = "missed"    // its time passed in vain: it needs a new one, or now
	Cancelled  State = "cancelled" // before its time
	Retracted  State = "retracted" // after it
	Archived   State = "archived"
)

// Status is an announcement as people see it.
type Status struct {
	Announcement *repository.Announcement `json:"announcement"`
	Zone         string                   `json:"zone,omitempty"`      // in which its times are: its own, or the repository's
	Hash         string                   `json:"hash"`                // what an approval names
	State        State                    `json:"state"`               // that of the last channel that is not done
	Summary      string                   `json:"summary"`             // "18 of 20 cells will light up at 10:00 Europe/Berlin; acme waits for 2026.11.3"
	Approvals    []string                 `json:"approvals,omitempty"` // persons whose approvals count
	Needs        string                   `json:"needs,omitempty"`     // what a person has to do next
	Channels     []ChannelStatus          `json:"channels"`
	Warnings     []string                 `json:"warnings,omitempty"`
}

// ChannelStatus is an announcement in one channel.
type ChannelStatus struct {
	Channel string                  `json:"channel"`
	State   State                   `json:"state"`
	At      time.Time               `json:"at,omitzero"` // zero: as soon as a cell is ready, or never
	Percent int                     `json:"percent"`     // of the ramp, now
	Record  *repository.Record      `json:"record,omitempty"`
	Summary string                  `json:"summary"`
	Counts  map[flags.CellState]int `json:"counts"`          // of cells
	Cells   []CellStatus            `json:"cells,omitempty"` // by name; only Plan.Detail fills it in
}

// CellStatus is an announcement in one cell.
type CellStatus struct {
	Cell      string          `json:"cell"`
	State     flags.CellState `json:"state"`
	Why       string          `json:"why,omitempty"`
	Confirmed bool            `json:"confirmed"` // the cell said so itself
}

// Event is something worth telling to webhooks and the log. Two with one ID are the same.
type Event struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"` // published, suspended, resumed, killed, lifted, retracted, missed, warning
	Announcement string    `json:"announcement,omitempty"`
	Flag         string    `json:"flag,omitempty"`
	Channel      string    `json:"channel,omitempty"`
	Cell         string    `json:"cell,omitempty"`
	At           time.Time `json:"at"`
	Text         string    `json:"text"`
}
