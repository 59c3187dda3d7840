package repository

import (
	"slices"
	"time"
)

// Announcement is announcements/ID.yaml: what is told, when, to whom, and which features turn on with it.
type Announcement struct {
	APIVersion   string          `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string          `yaml:"kind" json:"kind" required:"true" enum:"Announcement"`
	Title        string          `yaml:"title" json:"title" required:"true"`
	Notes        string          `yaml:"notes,omitempty" json:"notes,omitempty" doc:"Markdown, for users"`
	PublishAt    Local           `yaml:"publishAt,omitempty" json:"publishAt,omitzero" doc:"wall time in zone, 2026-12-01T10:00:00; none: approved, not scheduled"`
	Zone         string          `yaml:"zone,omitempty" json:"zone,omitempty" doc:"IANA zone; default: the repository's"`
	Now          bool            `yaml:"now,omitempty" json:"now,omitempty" doc:"publish although publishAt has passed"`
	Channels     map[string]When `yaml:"channels,omitempty" json:"channels,omitempty" doc:"per channel: ready, never, or a wall time; default: ready in entry channels, publishAt elsewhere"`
	Features     []string        `yaml:"features" json:"features" required:"true"`
	Cells        Selector        `yaml:"cells,omitempty" json:"cells,omitzero" doc:"which cells; default: all"`
	Ramp         Ramp            `yaml:"ramp,omitempty" json:"ramp,omitzero" doc:"default: everybody at once"`
	Embargo      bool            `yaml:"embargo,omitempty" json:"embargo,omitempty" doc:"keys and time are not shown before (R45)"`
	WhenNotReady Readiness       `yaml:"whenNotReady,omitempty" json:"whenNotReady,omitzero" doc:"wait (default), or skip 90%, or block 90%: whose share of ready cells (R41)"`
	Approvals    *ApprovalRule   `yaml:"approvals,omitempty" json:"approvals,omitempty" doc:"default: the repository's"`
	Cancelled    string          `yaml:"cancelled,omitempty" json:"cancelled,omitempty" doc:"why it is not published or, if it was, is taken back"`
	Archived     bool            `yaml:"archived,omitempty" json:"archived,omitempty" doc:"told, and its flags are retired: kept for the record"`

	ID    string         `yaml:"-" json:"id"` // the file's name
	zone  *time.Location // of Zone or Settings.Zone; nil: not loaded from a repository
	lines map[string]int // of fields that other files are held against
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
	Names    []string          `yaml:"names,omitempty" json:"names,omitempty"`
	Channels []string          `yaml:"channels,omitempty" json:"channels,omitempty"`
	Labels   map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
}

// Ramp turns a feature on for a growing share. Steps count from the time of publication.
type Ramp struct {
	By    string `yaml:"by,omitempty" json:"by,omitempty" enum:"user,cell" doc:"whose share: of users by their targeting key, or of cells; default user"`
	Steps []Step `yaml:"steps,omitempty" json:"steps,omitempty" doc:"shares that grow; the last is 100"`
}

// Step is a share of a Ramp.
type Step struct {
	Percent int      `yaml:"percent" json:"percent" required:"true" minimum:"0" maximum:"100"`
	After   Duration `yaml:"after,omitempty" json:"after,omitempty" doc:"the time since publication; default 0s"`
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
	Flag         string    `yaml:"flag,omitempty" json:"flag,omitempty" doc:"Kill: the flag's key; it has its off variant, or its default"`
	Announcement string    `yaml:"announcement,omitempty" json:"announcement,omitempty" doc:"Hold: the announcement that is not published"`
	Cells        Selector  `yaml:"cells,omitempty" json:"cells,omitzero" doc:"default: all"`
	Reason       string    `yaml:"reason" json:"reason" required:"true"`
	By           string    `yaml:"by,omitempty" json:"by,omitempty"`
	Until        time.Time `yaml:"until,omitempty" json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`

	Name string `yaml:"-" json:"name"` // the file's
}

// Duration is a time.Duration that is written like 30m or 24h.
type Duration time.Duration

// When tells the instant at which the announcement is published in a channel; or that it is as soon as a cell has the release, or
// never. None of the three: no time is given yet. entry tells whether the channel has no upstream.
func (a *Announcement) When(channel string, entry bool) (at time.Time, ready, never bool) {
	w, own := a.Channels[channel]
	switch {
	case own && (w.Ready || w.Never):
		return time.Time{}, w.Ready, w.Never
	case own:
		return w.At.inZone(a.Location()), false, false
	case entry:
		return time.Time{}, true, false
	case a.PublishAt.IsZero():
		return time.Time{}, false, false
	}
	return a.PublishAt.inZone(a.Location()), false, false
}

// Location is the zone of the announcement's times: its own, or else the repository's, or else UTC.
func (a *Announcement) Location() *time.Location {
	if a.zone != nil {
		return a.zone
	}
	if zone, err := loadZone(a.Zone); err == nil {
		return zone
	}
	return time.UTC
}

// Selects tells whether s selects a cell.
func (s Selector) Selects(name, channel string, labels map[string]string) bool {
	if len(s.Names) > 0 && !slices.Contains(s.Names, name) || len(s.Channels) > 0 && !slices.Contains(s.Channels, channel) {
		return false
	}
	for label, value := range s.Labels {
		if is, there := labels[label]; !there || is != value {
			return false
		}
	}
	return true
}

// IsZero tells whether s selects every cell.
func (s Selector) IsZero() bool {
	return len(s.Names) == 0 && len(s.Channels) == 0 && len(s.Labels) == 0
}

// Percent gives the share, 0 to 100, that is on so long after publication.
func (r Ramp) Percent(since time.Duration) int {
	percent := 100
	if len(r.Steps) > 0 {
		percent = 0
	}
	for _, s := range r.Steps {
		if time.Duration(s.After) <= since {
			percent = s.Percent
		}
	}
	return percent
}

// Next gives when, after publication, the next step begins; ok is false if there is none.
func (r Ramp) Next(since time.Duration) (after time.Duration, ok bool) {
	for _, s := range r.Steps {
		if time.Duration(s.After) > since {
			return time.Duration(s.After), true
		}
	}
	return 0, false
}

// IsZero tells whether everybody gets it at once.
func (r Ramp) IsZero() bool { return r.By == "" && len(r.Steps) == 0 }
