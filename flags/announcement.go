package flags

import "time"

// Announcement is announcements/ID.yaml: what is told, when, to whom, and which features turn on with it.
type Announcement struct {
	APIVersion   string          `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string          `yaml:"kind" json:"kind" required:"true" enum:"Announcement"`
	Title        string          `yaml:"title" json:"title" required:"true"`
	Notes        string          `yaml:"notes" json:"notes,omitempty" doc:"Markdown, for users"`
	PublishAt    Local           `yaml:"publishAt" json:"publishAt,omitzero" doc:"wall time in zone, 2026-12-01T10:00:00; none: approved, not scheduled"`
	Zone         string          `yaml:"zone" json:"zone,omitempty" doc:"IANA zone; default: the repository's"`
	Now          bool            `yaml:"now" json:"now,omitempty" doc:"publish although publishAt has passed"`
	Channels     map[string]When `yaml:"channels" json:"channels,omitempty" doc:"per channel: ready, never, or a wall time; default: ready in entry channels, publishAt elsewhere"`
	Features     []string        `yaml:"features" json:"features" required:"true"`
	Cells        Selector        `yaml:"cells" json:"cells,omitzero" doc:"which cells; default: all"`
	Ramp         Ramp            `yaml:"ramp" json:"ramp,omitzero" doc:"default: everybody at once"`
	Embargo      bool            `yaml:"embargo" json:"embargo,omitempty" doc:"keys and time are not shown before (R45)"`
	WhenNotReady Readiness       `yaml:"whenNotReady" json:"whenNotReady,omitzero" doc:"wait (default), or {skip: PERCENT}, or {block: PERCENT}"`
	Approvals    *ApprovalRule   `yaml:"approvals" json:"approvals,omitempty" doc:"default: the repository's"`
	Cancelled    string          `yaml:"cancelled" json:"cancelled,omitempty" doc:"why it is not published or, if it was, is taken back"`
	Archived     bool            `yaml:"archived" json:"archived,omitempty" doc:"told, and its flags are retired: kept for the record"`

	ID   string         `yaml:"-" json:"id"` // the file's name
	zone *time.Location // of Zone or Settings.Zone
}

// Local is a wall time without a zone, in whole seconds.
type Local struct{ wall time.Time } // in UTC; zero: none

// When says when an announcement is published in a channel: Ready as soon as a cell has the release, Never, or at a wall time.
type When struct {
	Ready bool
	Never bool
	At    Local
}

// Selector selects cells. All that it names must hold; the zero Selector selects every cell.
type Selector struct {
	Names    []string          `yaml:"names" json:"names,omitempty"`
	Channels []string          `yaml:"channels" json:"channels,omitempty"`
	Labels   map[string]string `yaml:"labels" json:"labels,omitempty"`
}

// Ramp turns a feature on for a growing share. Steps count from the time of publication.
type Ramp struct {
	By    string `yaml:"by" json:"by,omitempty" enum:"user,cell" doc:"whose share: of users by their targeting key, or of cells; default user"`
	Steps []Step `yaml:"steps" json:"steps,omitempty" doc:"shares that grow; the last is 100"`
}

// Step is a share of a Ramp.
type Step struct {
	Percent int      `yaml:"percent" json:"percent" required:"true" minimum:"0" maximum:"100"`
	After   Duration `yaml:"after" json:"after,omitempty" doc:"the time since publication; default 0s"`
}

// Readiness says what happens at the time of publication to cells that don't have the release (R41): they wait for it, each
// by itself; or, decided by the engine at that time, are left out if at least Percent of the cells are ready (skip); or nobody
// gets it before Percent of the cells are ready (block).
type Readiness struct {
	Mode    string // wait, skip or block; empty: wait
	Percent int
}

// Kinds of overrides.
const (
	Kill = "Kill"
	Hold = "Hold"
)

// Override is overrides/NAME.yaml. It always wins, and only a commit lifts it (R43).
type Override struct {
	APIVersion   string    `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string    `yaml:"kind" json:"kind" required:"true" enum:"Kill,Hold"`
	Flag         string    `yaml:"flag" json:"flag,omitempty" doc:"Kill: the flag's key; it has its off variant, or its default"`
	Announcement string    `yaml:"announcement" json:"announcement,omitempty" doc:"Hold: the announcement that is not published"`
	Cells        Selector  `yaml:"cells" json:"cells,omitzero" doc:"default: all"`
	Reason       string    `yaml:"reason" json:"reason" required:"true"`
	By           string    `yaml:"by" json:"by,omitempty"`
	Until        time.Time `yaml:"until" json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`

	Name string `yaml:"-" json:"name"` // the file's
}

// Duration is a time.Duration that is written like 30m or 24h.
type Duration time.Duration
