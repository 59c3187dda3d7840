package flags

import (
	"encoding/json"
	"time"
)

// Bundle holds what a cell receives about flags ahead of time, apart from overrides. All cells of a channel that the
// same announcements reach share one. A bundle names no other cell.
type Bundle struct {
	Version int    `json:"version"` // of the format: BundleVersion
	Channel string `json:"channel"`
	// flagd flags without $ref, with all metadata: see Definition.Encode
	Flags map[string]json.RawMessage `json:"flags"`
	Gates []Gate                     `json:"gates"` // by ID: armed or published announcements of the cell
	// sorted: features of embargoed announcements without a gate so far (R45)
	Hidden []string `json:"hidden,omitempty"`
}

// BundleVersion is the version of the format that this package writes and reads.
const BundleVersion = 1

// Gate is an announcement as a cell needs it.
type Gate struct {
	ID       string     `json:"id"`
	Features []string   `json:"features"`
	At       int64      `json:"at"` // Unix seconds; 0: as soon as the release runs
	By       string     `json:"by,omitempty"`
	Steps    []GateStep `json:"steps,omitempty"` // by After, growing; none: all users at once
	Embargo  bool       `json:"embargo,omitempty"`
}

// A ramp's share counts users or cells.
const (
	ByUser = "user" // the default
	ByCell = "cell"
)

// GateStep is a step of a ramp: Percent applies from After seconds past the gate's time.
type GateStep struct {
	Percent int   `json:"percent"`
	After   int64 `json:"after"`
}

// Orders are the overrides that reach a cell: what to turn off at once. They travel apart from bundles.
type Orders struct {
	Killed []KilledFlag `json:"killed,omitempty"` // by flag
	Held   []string     `json:"held,omitempty"`   // unpublished announcements, sorted
}

// KilledFlag is a flag that is off whatever else holds.
type KilledFlag struct {
	Flag   string `json:"flag"`
	Reason string `json:"reason,omitempty"`
}

// Facts are what a flag may depend on in one cell. A caller's context can't override them (R36).
type Facts struct {
	Cell    string            `json:"cell"`
	Channel string            `json:"channel"`
	Release string            `json:"release,omitempty"` // the running release, or the next one
	Region  string            `json:"region,omitempty"`  // label region
	Labels  map[string]string `json:"labels,omitempty"`

	Features []string `json:"features,omitempty"` // sorted: contained in every release that may run now (R38)
	Held     []string `json:"held,omitempty"`     // sorted: features that the cell's owner holds (R43)
}

// CellState is the state of an announcement in one cell.
type CellState string

const (
	Waiting   CellState = "waiting"   // its release lacks the features
	Armed     CellState = "armed"     // ready: turns on at its time
	Ramping   CellState = "ramping"   // on for a share
	On        CellState = "on"        // on for all users
	Suspended CellState = "suspended" // was on; a release that may run lacks the features
	Killed    CellState = "killed"    // some of its flags are killed
	Held      CellState = "held"      // held by the cell's owner or by the vendor
	LeftOut   CellState = "left out"  // the cell was not ready when others got the features (skip)
	Retired   CellState = "retired"   // the flags are gone
	Ready     CellState = "ready"     // nothing is missing in the cell, and the announcement is not sent yet
)

// Instant returns t in whole seconds, as rules see the control plane's time (R40).
func Instant(t time.Time) int64 { return t.Unix() }
