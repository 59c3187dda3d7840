package simulate

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Scenario describes what happens to a release repository and its cells. It is read from a YAML file. An instant is
// written in RFC 3339 or as the time since the start of the simulation (36h, 2d, 2d12h).
type Scenario struct {
	APIVersion string     `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string     `yaml:"kind" json:"kind" required:"true" enum:"Scenario"`
	Seed       int64      `yaml:"seed" json:"seed,omitempty" doc:"random seed: equal seeds make equal simulations, byte for byte"`
	Releases   []Cut      `yaml:"releases" json:"releases,omitempty" doc:"releases that are merged on the way"`
	Cells      Model      `yaml:"cells" json:"cells,omitzero" doc:"how cells behave, and how many to add"`
	Outages    []Outage   `yaml:"outages" json:"outages,omitempty" doc:"when cells are not in contact"`
	Skews      []Skew     `yaml:"skews" json:"skews,omitempty" doc:"when cells' clocks are off (R10)"`
	Owners     []Decision `yaml:"owners" json:"owners,omitempty" doc:"what cells' owners decide (R18)"`
	Joins      []Join     `yaml:"joins" json:"joins,omitempty" doc:"cells that are added on the way"`
	People     []Act      `yaml:"people" json:"people,omitempty" doc:"what people do, and when"`
	Notices    []Notice   `yaml:"notices" json:"notices,omitempty" doc:"delivered notices of infrastructure updates, and when customers execute them (R62)"`
	Answers    []Answer   `yaml:"answers" json:"answers,omitempty" doc:"answers to check and metric gates; the last that fits counts"`
}

// Cut is a release that is merged during the simulation, and how cells fare with it. Like names the release that it
// copies; the other fields replace what the copied manifest says.
type Cut struct {
	At           Moment            `yaml:"at" json:"at" required:"true"`
	Version      releases.Version  `yaml:"version" json:"version" required:"true"`
	Like         string            `yaml:"like" json:"like,omitempty" doc:"the release whose files it copies; default: the greatest version there is by then"`
	Fixes        []string          `yaml:"fixes" json:"fixes,omitempty"`
	Features     []string          `yaml:"features" json:"features,omitempty"`
	Rollback     releases.Rollback `yaml:"rollback" json:"rollback,omitempty" enum:"allowed,forward-only"`
	Requires     Requires          `yaml:"requires" json:"requires,omitzero"`
	Maintenance  bool              `yaml:"maintenance" json:"maintenance,omitempty" doc:"it changes a component that takes a maintenance"`
	Fails        float64           `yaml:"fails" json:"fails,omitempty" minimum:"0" maximum:"1" doc:"probability that applying it fails in a cell"`
	Stalls       float64           `yaml:"stalls" json:"stalls,omitempty" minimum:"0" maximum:"1" doc:"probability that applying it never ends"`
	Unhealthy    float64           `yaml:"unhealthy" json:"unhealthy,omitempty" minimum:"0" maximum:"1" doc:"probability that a cell turns unhealthy on it later"`
	UnhealthyIn  Span              `yaml:"unhealthyIn" json:"unhealthyIn,omitzero" doc:"how long after a cell got it; default 10m to 2h"`
	UnhealthyFor time.Duration     `yaml:"unhealthyFor" json:"unhealthyFor,omitempty" doc:"how long the cell stays unhealthy; default: until the next release"`
}

// Requires holds what a cut release requires of a cell.
type Requires struct {
	Infrastructure int    `yaml:"infrastructure" json:"infrastructure,omitempty" minimum:"0"`
	From           string `yaml:"from" json:"from,omitempty"`
}

// Model says how cells behave.
type Model struct {
	Add            map[string]int `yaml:"add" json:"add,omitempty" doc:"how many cells to add, by channel; they copy the channel's first cell"`
	Apply          Span           `yaml:"apply" json:"apply,omitzero" doc:"how long applying takes, to a healthy cell; default 2m to 8m"`
	Hear           Span           `yaml:"hear" json:"hear,omitzero" doc:"how long until a cell receives a grant; default 0s to 30s"`
	Report         time.Duration  `yaml:"report" json:"report,omitempty" doc:"how often cells report where nothing happens; default 1m"`
	Fails          float64        `yaml:"fails" json:"fails,omitempty" minimum:"0" maximum:"1" doc:"probability of a failure where the release says nothing"`
	Infrastructure *int           `yaml:"infrastructure" json:"infrastructure,omitempty" minimum:"0" doc:"infrastructure number of all cells; default: whatever a release requires or, with notices, one less than the least of theirs"`
}

// Span is a random duration between two bounds.
type Span struct {
	Min time.Duration `yaml:"min" json:"min"`
	Max time.Duration `yaml:"max" json:"max" doc:"default: min"`
}

// Select selects cells. An empty Select selects all.
type Select struct {
	Cells   []string          `yaml:"cells" json:"cells,omitempty" doc:"by name"`
	Channel string            `yaml:"channel" json:"channel,omitempty"`
	Labels  map[string]string `yaml:"labels" json:"labels,omitempty"`
	Share   float64           `yaml:"share" json:"share,omitempty" minimum:"0" maximum:"1" doc:"share of these cells, chosen at random; 0: all"`
}

// Outage is a time without contact: once, or repeatedly at random. A cell without contact goes on by itself.
type Outage struct {
	Of    Select        `yaml:"of" json:"of,omitzero"`
	From  Moment        `yaml:"from" json:"from,omitzero"`
	For   time.Duration `yaml:"for" json:"for" required:"true"`
	Every time.Duration `yaml:"every" json:"every,omitempty" doc:"at random: the mean time between a cell's outages; for is their mean length"`
}

// Skew makes all cells' clocks wrong for a while.
type Skew struct {
	From Moment        `yaml:"from" json:"from" required:"true"`
	For  time.Duration `yaml:"for" json:"for" required:"true"`
	By   time.Duration `yaml:"by" json:"by" required:"true"`
}

// Act is one commit of a person.
type Act struct {
	At      Moment `yaml:"at" json:"at,omitzero" doc:"when; for release \"*\", how long after each release was cut"`
	Do      string `yaml:"do" json:"do" required:"true" enum:"request,approve,hold,lift,quarantine"`
	Channel string `yaml:"channel" json:"channel,omitempty" doc:"quarantine: none means all"`
	Release string `yaml:"release" json:"release,omitempty" doc:"request, approve, quarantine; approve: \"*\" is every release of the scenario"`
	By      string `yaml:"by" json:"by,omitempty" doc:"approve: one of people in sluice.yaml"`
	Hold    string `yaml:"hold" json:"hold,omitempty" doc:"hold and lift: its name; lift without it lifts all"`
	Reason  string `yaml:"reason" json:"reason,omitempty"`
}

// Answer is the answer to a gate's probes from an instant on.
type Answer struct {
	Gate    string `yaml:"gate" json:"gate" required:"true"`
	Channel string `yaml:"channel" json:"channel,omitempty"`
	Release string `yaml:"release" json:"release,omitempty"`
	From    Moment `yaml:"from" json:"from,omitzero"`
	Holds   bool   `yaml:"holds" json:"holds"`
	Value   string `yaml:"value" json:"value,omitempty"`
	Reason  string `yaml:"reason" json:"reason,omitempty"`
}

// Moment is an instant, or a time after the start of the simulation.
type Moment struct {
	At    time.Time
	After time.Duration // used if At is zero
}

// UnmarshalText parses 2026-12-01T09:00:00Z, 36h, 2d or 2d12h.
func (m *Moment) UnmarshalText(text []byte) error {
	s := string(text)
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		m.At = at
		return nil
	}
	after, err := words.ParseDuration(s)
	if err != nil || after < 0 {
		return fmt.Errorf("%.40q is neither an instant such as 2026-12-01T09:00:00Z "+
			"nor a time after the start such as 36h or 2d12h", s)
	}
	m.After = after
	return nil
}

// instant returns the instant, for a simulation that starts at from.
func (m Moment) instant(from time.Time) time.Time {
	if !m.At.IsZero() {
		return m.At
	}
	return from.Add(m.After)
}
