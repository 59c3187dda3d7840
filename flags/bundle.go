package flags

import (
	"encoding/json"
	"time"
)

// Bundle is what a cell is sent of flags ahead of time, apart from overrides: the same for all cells of a channel that the same
// announcements reach. It names no other cell.
type Bundle struct {
	Version int                        `json:"version"` // of this format: BundleVersion
	Channel string                     `json:"channel"`
	Flags   map[string]json.RawMessage `json:"flags"`            // flagd flags without $ref, with all their metadata: Definition.Encode
	Gates   []Gate                     `json:"gates"`            // by ID: announcements that are armed or published for the cell
	Hidden  []string                   `json:"hidden,omitempty"` // sorted: features of announcements under embargo that have no gate yet (R45)
}

// BundleVersion is the version of the format that this package writes and reads.
const BundleVersion = 1

// Gate is an announcement as a cell needs it.
type Gate struct {
	ID       string     `json:"id"`
	Features []string   `json:"features"`
	At       int64      `json:"at"` // Unix seconds; 0: as soon as the release is there
	By       string     `json:"by,omitempty"`
	Steps    []GateStep `json:"steps,omitempty"` // by After, growing; none: everybody at once
	Embargo  bool       `json:"embargo,omitempty"`
}

// Whose share a ramp grows by.
const (
	ByUser = "user" // the default
	ByCell = "cell"
)

// GateStep is a step of a ramp: so many percent from so many seconds after At.
type GateStep struct {
	Percent int   `json:"percent"`
	After   int64 `json:"after"`
}

// Orders is what a cell is told to turn off at once: the overrides that reach it. It travels apart from bundles.
type Orders struct {
	Killed []KilledFlag `json:"killed,omitempty"` // by flag
	Held   []string     `json:"held,omitempty"`   // announcements that are not published yet, sorted
}

// Killed is a flag that is off whatever else holds.
type KilledFlag struct {
	Flag   string `json:"flag"`
	Reason string `json:"reason,omitempty"`
}

// Facts are what a flag may depend on in one cell. No caller can claim others (R36).
type Facts struct {
	Cell    string            `json:"cell"`
	Channel string            `json:"channel"`
	Release string            `json:"release,omitempty"` // that it runs, or is going to
	Region  string            `json:"region,omitempty"`  // label region
	Labels  map[string]string `json:"labels,omitempty"`

	Features []string `json:"features,omitempty"` // sorted: contained in every release that may be running now (R38)
	Held     []string `json:"held,omitempty"`     // sorted: features that the cell's owner does not want yet (R43)
}

// CellState is what an announcement is in one cell. Waiting and worse say in words why.
type CellState string

const (
	Waiting   CellState = "waiting"   // for a release that contains its features
	Armed     CellState = "armed"     // on at its time, and nothing else is missing
	Ramping   CellState = "ramping"   // on for a share
	On        CellState = "on"        // for everybody
	Suspended CellState = "suspended" // was on; the release that runs, or may run, does not contain its features
	Killed    CellState = "killed"    // some of its flags are
	Held      CellState = "held"      // by its owner, or by the vendor
	LeftOut   CellState = "left out"  // it was not ready when others got it (skip)
	Retired   CellState = "retired"   // its flags are gone
)

// Instant is a whole second of the cell's idea of the control plane's time (R40).
func Instant(t time.Time) int64 { return t.Unix() }
