// Package announce decides what happens to announcements: when one is armed, published or missed, what each cell is
// sent, and which status people see.
//
// Make is pure: equal Inputs, with the instant among them, yield equal Plans. The package does no I/O. The engine
// carries a Plan out by commits to the flags repository, and sends cells what the Plan says.
//
// Make keeps no state. A decision that rests on a past instant is a record in git (repository.Record): that an
// announcement was armed before its time with what was approved, that it was published, that its time passed without
// publication, or that something kept it from being armed. A Plan goes by committed records, never by its own writes:
// features turn on only after the commit of a record, and turn off at once.
package announce

import (
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Input is everything that Make looks at.
type Input struct {
	Now time.Time
	// Doubt says why Now can't be trusted (R10): then nothing is written that lets a time come. Empty: Now can be
	// trusted.
	Doubt string
	// Tip is the newest valid commit, with the overrides, records, heads and readable approvals of the newest commit.
	Tip      *repository.Tree
	Commit   string                      // the commit of Tip
	Trees    map[string]*repository.Tree // by commit: the readable ones that records and heads name
	Proven   []ProvenApproval
	Authors  map[string][]string   // by announcement: addresses and SSH keys of the authors of the current file
	Kills    []repository.Override // stored but not committed yet
	Channels []Channel             // upstreams before downstreams
	Cells    []Cell                // by name
	// Releases are the supported releases that a cell runs or a channel has as its head, newest last.
	Releases []Release
	Memory   Memory // from the last Plan
}

// Memory holds what a Plan passes to the next one: observations, no intent. Without Memory a soak begins again, and
// ends that happened meanwhile go unreported. Store the Memory only after the Plan's events.
type Memory struct {
	Served  map[string]Served `json:"served,omitempty"`  // by channel
	Ongoing map[string]Event  `json:"ongoing,omitempty"` // reported events that have not ended
	// Lifted counts ended kills by flag, and repeated retractions by event ID.
	Lifted map[string]int `json:"lifted,omitempty"`
}

// Served says since when every answering cell of a channel has had the definitions, outside announcements, that hash to
// Flags.
type Served struct {
	Flags string    `json:"flags"`
	Since time.Time `json:"since,omitzero"` // zero: sent, but not in force in every cell yet
}

// ProvenApproval is an approval whose commit was proven to be from the approver (R22).
type ProvenApproval struct{ repository.Approval }

// Channel is a channel of the release repository.
type Channel struct {
	Name  string
	After []string // upstreams; none: an entry channel
}

// Cell holds what the control plane knows about a cell.
type Cell struct {
	Name, Channel string
	Labels        map[string]string
	Silent        bool   // no contact within the stale limit
	Known         bool   // the cell reported the release that it runs
	Release       string // the running release
	Assignment    string // the assignment; another after each move: "2/41"
	// contained in every release that may run there, sorted; cells may share the slice
	Features []string
	HeadWait HeadWait // why the cell is not on its channel's head; zero: it is
	Report   *Report  // the cell's last report; nil: none
	Current  bool     // Report is about the last bundle and orders

	Bundle *flags.Bundle // last sent; nil: not known
}

// HeadWait says why a cell is not on its channel's head.
type HeadWait struct {
	Text  string // "soak until …"
	Owner bool   // the owner keeps the cell: Text follows the cell's name, "is paused by its owner"
}

// Report holds what a cell reports about the announcements of the bundle in force. Unnamed announcements of the bundle
// are on.
type Report struct {
	States map[string]flags.CellState
}

// Release is a release with the features of its code.
type Release struct {
	Version  string
	Features []string
}

// Plan holds what Make decided.
type Plan struct {
	Writes        []Write               // for one commit to the flags repository, in order
	Announcements []Status              // by ID, without cells: see Plan.Detail
	CellFlags     map[string]*CellFlags // by cell
	Events        []Event               // report each once, by ID
	// warnings that need both repositories, and errors for commits that can't be read
	Faults []manifest.Fault
	Memory Memory    // for the next Input
	Next   time.Time // the earliest instant at which time alone changes the plan; zero: none

	planner *planner // for Detail and Published; nil in a Plan not made by Make
}

// Write is a file to write, or to remove if Content is nil. Why is a line for the commit's message.
type Write struct {
	Path    string
	Content []byte
	Why     string // "arm workspace-classes in dedicated for 2026-12-01T10:00:00+01:00"
}

// CellFlags holds what to send to a cell. Equal cells share one Told, and cells with the same gates share one Bundle.
type CellFlags struct {
	Bundle *flags.Bundle // nil: the channel is unknown, so the cell keeps its bundle
	Orders flags.Orders
}

// State is the state of an announcement.
type State string

const (
	Draft      State = "draft"      // approvals are missing
	Approved   State = "approved"   // approved, without a time
	Scheduled  State = "scheduled"  // has a time, and is not armed yet or waits for enough cells (block)
	Armed      State = "armed"      // sent ahead: cells flip at the time by themselves
	Publishing State = "publishing" // the time has come; some cells wait, or the ramp goes on
	Published  State = "published"
	Held       State = "held"
	Missed     State = "missed"    // the time passed without publication: needs a new time, or now
	Cancelled  State = "cancelled" // cancelled before publication
	Retracted  State = "retracted" // cancelled after publication
	Archived   State = "archived"
	Gone       State = "gone" // the file was removed, and nothing of it is in force
)

// Status is an announcement as people see it.
type Status struct {
	// never nil; only the ID if the file is gone and no readable commit on record has it
	Announcement *repository.Announcement `json:"announcement"`
	// the zone of all times: the announcement's, or the repository's
	Zone  string `json:"zone,omitempty"`
	Hash  string `json:"hash"`  // the hash that an approval names
	State State  `json:"state"` // the state in the last unfinished channel
	// "18 of 20 cells will light up at 10:00 Europe/Berlin; acme waits for 2026.11.3"
	Summary   string          `json:"summary"`
	Approvals []string        `json:"approvals,omitempty"` // people whose approvals count
	Needs     string          `json:"needs,omitempty"`     // what a person has to do next
	Channels  []ChannelStatus `json:"channels"`
	Warnings  []string        `json:"warnings,omitempty"`
}

// ChannelStatus is the status of an announcement in one channel.
type ChannelStatus struct {
	Channel string                  `json:"channel"`
	State   State                   `json:"state"`
	At      time.Time               `json:"at,omitzero"` // zero: as soon as a cell is ready, or never
	Percent int                     `json:"percent"`     // of the ramp, now
	Record  *repository.Record      `json:"record,omitempty"`
	Summary string                  `json:"summary"`
	Counts  map[flags.CellState]int `json:"counts"`          // of cells
	Cells   []CellStatus            `json:"cells,omitempty"` // by name; filled in by Plan.Detail only
}

// CellStatus is the status of an announcement in one cell.
type CellStatus struct {
	Cell      string          `json:"cell"`
	State     flags.CellState `json:"state"`
	Why       string          `json:"why,omitempty"`
	Confirmed bool            `json:"confirmed"` // reported by the cell itself
}

// Event is a notification for webhooks and the log. Events with equal IDs are the same event.
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
