package repository

import (
	"slices"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/window"
)

// Announcement is announcements/ID.yaml: what is announced, when, to whom, and which features turn on with it.
type Announcement struct {
	APIVersion   string                 `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string                 `yaml:"kind" json:"kind" required:"true" enum:"Announcement"`
	Title        string                 `yaml:"title" json:"title" required:"true"`
	Notes        string                 `yaml:"notes,omitempty" json:"notes,omitempty" empty:"absent" doc:"Markdown, for users"`
	PublishAt    LocalTime              `yaml:"publishAt,omitempty" json:"publishAt,omitzero" doc:"wall time in zone, 2026-12-01T10:00:00; none: approved, not scheduled"`
	Zone         string                 `yaml:"zone,omitempty" json:"zone,omitempty" doc:"IANA zone; default: the repository's"`
	Now          bool                   `yaml:"now,omitempty" json:"now,omitempty" doc:"publish although publishAt has passed"`
	Channels     map[string]PublishTime `yaml:"channels,omitempty" json:"channels,omitempty" doc:"per channel: ready, never, or a wall time; default: ready in entry channels, publishAt elsewhere"`
	Features     []string               `yaml:"features" json:"features" required:"true"`
	Cells        Selector               `yaml:"cells,omitempty" json:"cells,omitzero" doc:"which cells; default: all"`
	Ramp         Ramp                   `yaml:"ramp,omitempty" json:"ramp,omitzero" doc:"default: everybody at once"`
	Embargo      bool                   `yaml:"embargo,omitempty" json:"embargo,omitempty" doc:"hide keys and time until publication (R45)"`
	WhenNotReady Readiness              `yaml:"whenNotReady,omitempty" json:"whenNotReady,omitzero" doc:"wait (default), skip 90% or block 90%: the required share of ready cells (R41)"`
	Approvals    *ApprovalRule          `yaml:"approvals,omitempty" json:"approvals,omitempty" doc:"default: the repository's"`
	Cancelled    string                 `yaml:"cancelled,omitempty" json:"cancelled,omitempty" doc:"why it is not published, or is retracted after publication"`
	Archived     bool                   `yaml:"archived,omitempty" json:"archived,omitempty" doc:"announced, and its flags are retired: kept for the record"`

	ID    string         `yaml:"-" json:"id"` // the file name without ending
	zone  *time.Location // of Zone or Settings.Zone; nil: not loaded from a repository
	lines map[string]int // by field: lines for faults that need other files
}

// LocalTime is a wall time without a zone, in whole seconds.
type LocalTime struct{ wall time.Time } // in UTC; zero: none

// PublishTime says when an announcement is published in a channel: Ready means as soon as a cell has the release;
// otherwise Never, or at a wall time.
type PublishTime struct {
	Ready bool
	Never bool
	At    LocalTime
}

// Selector selects cells that match all given fields; the zero Selector selects every cell.
type Selector struct {
	Names    []string          `yaml:"names,omitempty" json:"names,omitempty"`
	Channels []string          `yaml:"channels,omitempty" json:"channels,omitempty"`
	Labels   map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
}

// Ramp turns a feature on for a growing share. Steps count from publication.
type Ramp struct {
	By    string `yaml:"by,omitempty" json:"by,omitempty" enum:"user,cell" doc:"share of users, by targeting key, or of cells; default user"`
	Steps []Step `yaml:"steps,omitempty" json:"steps,omitempty" doc:"growing shares; the last is 100"`
}

// Step is one share of a Ramp.
type Step struct {
	Percent int      `yaml:"percent" json:"percent" required:"true" minimum:"0" maximum:"100"`
	After   Duration `yaml:"after,omitempty" json:"after,omitempty" doc:"the time since publication; default 0s"`
}

// Readiness says what happens at publication to cells without the release (R41). In mode wait, each cell gets the
// features once it has the release. In modes skip and block the engine decides at that time: skip leaves these cells
// out if at least Percent of the cells are ready; block publishes to no cell before Percent of the cells are ready.
type Readiness struct {
	Mode    string // wait, skip or block; empty: wait
	Percent int
}

// Kinds of overrides.
const (
	Kill = "Kill"
	Hold = "Hold"
)

// Override is overrides/NAME.yaml. An override always wins, and only a commit lifts it (R43).
type Override struct {
	APIVersion   string    `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string    `yaml:"kind" json:"kind" required:"true" enum:"Kill,Hold"`
	Flag         string    `yaml:"flag,omitempty" json:"flag,omitempty" doc:"Kill: the flag's key; the flag gets its off variant, or its default, and is turned on for nobody"`
	Announcement string    `yaml:"announcement,omitempty" json:"announcement,omitempty" doc:"Hold: the announcement that is not published"`
	Cells        Selector  `yaml:"cells,omitempty" json:"cells,omitzero" doc:"default: all"`
	Reason       string    `yaml:"reason" json:"reason" required:"true"`
	By           string    `yaml:"by,omitempty" json:"by,omitempty"`
	Until        time.Time `yaml:"until,omitempty" json:"until,omitzero" doc:"when somebody should look at it again: nothing ends by itself"`

	Name string `yaml:"-" json:"name"` // the file name without ending
}

// Duration is a time.Duration that is written as 30m or 24h.
type Duration time.Duration

// When returns the instant at which the announcement is published in a channel, or ready, as soon as a cell has the
// release, or never. Without any of the three no time is given yet. entry says whether the channel has no upstream.
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

// Gate returns the announcement's gate as bundles have it and signers sign it, but for its ID and its time.
func (a *Announcement) Gate() flags.Gate {
	g := flags.Gate{Features: slices.Compact(slices.Sorted(slices.Values(a.Features))), By: a.Ramp.By,
		Embargo: a.Embargo}
	for _, s := range a.Ramp.Steps {
		g.Steps = append(g.Steps, flags.GateStep{Percent: s.Percent,
			After: int64(time.Duration(s.After) / time.Second)})
	}
	return g
}

// Location returns the zone of the announcement's times: its own, otherwise the repository's, otherwise UTC.
func (a *Announcement) Location() *time.Location {
	if a.zone != nil {
		return a.zone
	}
	if zone, err := window.LoadZone(a.Zone); err == nil {
		return zone
	}
	return time.UTC
}

// Selects reports whether s selects a cell.
func (s Selector) Selects(name, channel string, labels map[string]string) bool {
	if len(s.Names) > 0 && !slices.Contains(s.Names, name) ||
		len(s.Channels) > 0 && !slices.Contains(s.Channels, channel) {
		return false
	}
	for label, value := range s.Labels {
		if actual, present := labels[label]; !present || actual != value {
			return false
		}
	}
	return true
}

// IsZero reports whether s selects every cell.
func (s Selector) IsZero() bool {
	return len(s.Names) == 0 && len(s.Channels) == 0 && len(s.Labels) == 0
}

// Percent returns the share, 0 to 100, that is on at a time after publication.
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

// Next returns when, after publication, the next step begins; ok is false if there is none.
func (r Ramp) Next(since time.Duration) (after time.Duration, ok bool) {
	for _, s := range r.Steps {
		if time.Duration(s.After) > since {
			return time.Duration(s.After), true
		}
	}
	return 0, false
}

// IsZero reports whether r has neither steps nor By, so that all users get the features at once.
func (r Ramp) IsZero() bool { return r.By == "" && len(r.Steps) == 0 }
