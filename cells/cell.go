// Package cells says what a cell is: an instance of the product in a customer's account
// that only dials out; what it is assigned, what it reports, and what a Target must do.
//
// The package holds values and pure functions. The agent that runs in a cell is cells/agent; what it applies to is a Target,
// such as cells/directory, and cells/targettest says what every Target must do.
package cells

import (
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Dir is the folder of all cells in a release repository.
const Dir = "cells"

// Cell is cells/NAME/cell.yaml.
type Cell struct {
	APIVersion string            `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string            `yaml:"kind" json:"kind" required:"true" enum:"Cell"`
	Channel    string            `yaml:"channel" json:"channel" required:"true"`
	Profile    string            `yaml:"profile" json:"profile,omitempty" doc:"one of the release's profiles; default: default"`
	Values     map[string]any    `yaml:"values" json:"values,omitempty" doc:"by parameter of the release"`
	Labels     map[string]string `yaml:"labels" json:"labels,omitempty"`
	Paused     string            `yaml:"paused" json:"paused,omitempty" doc:"why the vendor gives it nothing new for now; rollbacks go on"`
	Pin        string            `yaml:"pin" json:"pin,omitempty" doc:"the only release that the vendor gives it for now; rollbacks go on"`
	Windows    []window.Window   `yaml:"windows" json:"windows,omitempty" doc:"when the vendor gives it something new: in any of them; none: at any time; rollbacks go on"`

	Name     string `yaml:"-" json:"name"` // the folder's name
	Revision string `yaml:"-" json:"-"`    // hash of profile and values; empty: the defaults
	Tags     string `yaml:"-" json:"-"`    // hash of the labels; empty: there are none
	Blob     string `yaml:"-" json:"-"`
}

// Identity is cells/NAME/identity.yaml. The engine writes it (R25); people may write Revoked.
type Identity struct {
	APIVersion  string `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind        string `yaml:"kind" json:"kind" required:"true" enum:"Identity"`
	Epoch       int64  `yaml:"epoch" json:"epoch" minimum:"0"`
	Serial      int64  `yaml:"serial,omitempty" json:"serial,omitempty" minimum:"0" doc:"grows with every change of what follows: of two, the greater counts"`
	PublicKey   string `yaml:"publicKey,omitempty" json:"publicKey,omitempty" doc:"ed25519:BASE64"`
	Previous    string `yaml:"previous,omitempty" json:"previous,omitempty" doc:"the key before, good until the new one was used"`
	Rotate      bool   `yaml:"rotate,omitempty" json:"rotate,omitempty" doc:"the cell is asked to make a new key"`
	Revoked     bool   `yaml:"revoked,omitempty" json:"revoked,omitempty"`
	Quarantined string `yaml:"quarantined,omitempty" json:"quarantined,omitempty" doc:"why nobody is served under this key (R27): a new token ends it"`
}

// Assignment is what a cell runs, one value, delivered and journalled as one (R13).
type Assignment struct {
	Channel  string          `json:"channel"`
	Epoch    int64           `json:"epoch"`
	Sequence int64           `json:"sequence"`
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Profile  string          `json:"profile,omitempty"`
	Values   map[string]any  `json:"values,omitempty"`
	Revision string          `json:"revision,omitempty"`    // hash of profile and values, by whoever assigns
	Forward  bool            `json:"forwardOnly,omitempty"` // the release is forward-only (R20)
}

// State is what a cell says of itself.
type State string

const (
	StatePending   State = "pending"   // nothing installed yet
	StateApplying  State = "applying"  // has begun an assignment
	StateHealthy   State = "healthy"   // runs its assignment, and its health holds
	StateUnhealthy State = "unhealthy" // runs its assignment, and its health does not hold
	StateFailed    State = "failed"    // could not apply, and could not go back either
	StateStuck     State = "stuck"     // a forward-only release that could not be completed (R20)
)

// Report is a cell's current state. It travels unsequenced, and only it drives soak and budgets (R35).
type Report struct {
	Cell           string       `json:"cell"`
	Boot           string       `json:"boot"`            // random for each start of the agent (R27)
	Sent           time.Time    `json:"sent"`            // the cell's clock: shown as skew, never trusted for soak
	Agent          string       `json:"agent,omitempty"` // the agent's version
	State          State        `json:"state"`
	Running        *Assignment  `json:"running,omitempty"`      // last good, or what it is going to if Applying is nil
	Applying       *Assignment  `json:"applying,omitempty"`     // begun, without a result so far
	Acknowledged   *Assignment  `json:"acknowledged,omitempty"` // the newest assignment accepted, before it begins (R14)
	Message        string       `json:"message,omitempty"`
	Failures       []Failure    `json:"failures,omitempty"` // remembered failures, at most MaxFailures, newest last
	Infrastructure int          `json:"infrastructure,omitempty"`
	Owner          *Owner       `json:"owner,omitempty"`     // what the cell's owner decided; nil: nothing
	Flags          *FlagsReport `json:"flags,omitempty"`     // nil: it was told nothing of flags
	Confirmed      int64        `json:"confirmed,omitempty"` // the newest event that it knows to be acknowledged (R27)
	Events         []Event      `json:"events,omitempty"`    // history, in order; acknowledged by number
}

// Owner is what the cell's owner decided on the cell's machine. The vendor sees it and can't override it (R18): the
// agent enforces it, the engine grants nothing against it.
type Owner struct {
	Paused   string            `json:"paused,omitempty"`   // why; empty: not paused
	Pin      string            `json:"pin,omitempty"`      // the only release that may be begun
	Approval bool              `json:"approval,omitempty"` // only releases in Approved may be begun
	Approved []releases.Digest `json:"approved,omitempty"` // newest last
	Windows  []window.Window   `json:"windows,omitempty"`  // nothing is begun outside all of them; none: at any time
	Features []string          `json:"features,omitempty"` // held: they stay off here, whatever is announced (R43)
	Reasons  map[string]string `json:"reasons,omitempty"`  // why, by feature that is held
}

// MaxFailures is how many failures a cell remembers.
const MaxFailures = 16

// Failure is an assignment that did not work, and will not be tried again under the same key.
type Failure struct {
	Assignment Assignment `json:"assignment"`
	Values     bool       `json:"values,omitempty"` // only values or profile had changed: never counts against the release (R13)
	Reason     string     `json:"reason"`
	At         time.Time  `json:"at"` // the cell's clock
}

// Event is one line of a cell's history. Number grows by one.
type Event struct {
	Number  int64     `json:"number"`
	At      time.Time `json:"at"`   // the cell's clock
	Kind    string    `json:"kind"` // started, applied, healthy, unhealthy, failed, rolled-back, healed, stuck, gap …
	Release string    `json:"release,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Receipt answers a report, after it is durable.
type Receipt struct {
	Acknowledged int64     `json:"acknowledged"`   // all events up to this number are kept
	Time         time.Time `json:"time"`           // the server's clock; zero: it can't be trusted now (R10)
	Pins         []string  `json:"pins,omitempty"` // of the control plane's keys: the cell's new set (R29); none: as before
}

// Desired is what the control plane wants of a cell: one resource, however it travels.
type Desired struct {
	Cell       string      `json:"cell"`
	Head       Sealed      `json:"head"`                 // the channel's newest effective head: a sealed Head
	Assignment *Assignment `json:"assignment,omitempty"` // what the cell was granted; nil: nothing yet
	Hold       *Hold       `json:"hold,omitempty"`       // why the assignment is not the head
	Notices    []Notice    `json:"notices,omitempty"`
	Flags      *Flags      `json:"flags,omitempty"` // nil: the control plane has no flags repository
}

// Flags is what a cell is told of feature flags. It takes none of a lower height than it has (R39).
type Flags struct {
	Height int64             `json:"height"`           // of the flags repository's commit: its place in the first-parent history
	Bundle FlagBundle        `json:"bundle"`           // sent ahead of time
	Orders Sealed            `json:"orders"`           // sealed flags.Orders: what is off at once; they apply whatever becomes of the bundle (R43)
	Labels map[string]string `json:"labels,omitempty"` // the cell's own, which rules may ask for
}

// FlagBundle names the bytes of a flags.Bundle, with room for signatures (R32). GET /v1/flagbundles/{digest} gives them.
type FlagBundle struct {
	Digest   releases.Digest `json:"digest"`
	Size     int64           `json:"size"` // bytes
	Metadata []any           `json:"metadata"`
}

// FlagsReport is what a cell has in force of what it was told of flags.
type FlagsReport struct {
	Height int64                      `json:"height"`
	Bundle releases.Digest            `json:"bundle,omitempty"`
	Orders releases.Digest            `json:"orders,omitempty"`
	States map[string]flags.CellState `json:"states,omitempty"` // by announcement, at most MaxFlagStates
	Fault  string                     `json:"fault,omitempty"`  // why what it was told last is not in force
}

// MaxFlagStates is how many announcements a report tells of: those that are not simply on come first.
const MaxFlagStates = 128

// Notice is something that a cell should know or do. Agents leave a code that they don't know alone.
type Notice struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// NoticeRotate asks the agent to make a new key.
const NoticeRotate = "rotate-key"

// Head is what a channel's head looks like to a cell.
type Head struct {
	Channel  string          `json:"channel"`
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
}

// Sealed is opaque bytes with their digest and room for signatures (R32): today's cells ignore Metadata.
type Sealed struct {
	Payload  []byte          `json:"payload,omitempty"` // JSON
	Digest   releases.Digest `json:"digest,omitempty"`
	Metadata []any           `json:"metadata"`
}

// Hold is the first verdict that keeps a cell from its head (R31): no countdown, no place in a queue.
type Hold struct {
	Gate   string    `json:"gate"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
}
