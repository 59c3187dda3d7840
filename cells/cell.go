// Package cells defines what a cell is (an instance of the product in a customer's account that only dials out), what
// it is assigned, what it reports, and what a Target must do.
//
// The package holds values and pure functions: it does no I/O but through the fs.FS that Load is passed, keeps no state
// and logs nothing. What Load returns is immutable, and its functions may be called at once, except Report.Validate and
// Owner.Validate, which write to their receiver. The agent that runs in a cell is cells/agent; cells/directory is a
// Target, and cells/targettest tests what every Target must do.
package cells

import (
	"errors"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Dir is the folder of all cells in a release repository.
const Dir = "cells"

// Cell is the content of cells/NAME/cell.yaml.
type Cell struct {
	APIVersion string            `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string            `yaml:"kind" json:"kind" required:"true" enum:"Cell"`
	Channel    string            `yaml:"channel" json:"channel" required:"true"`
	Profile    string            `yaml:"profile" json:"profile,omitempty" doc:"one of the release's profiles; default: default"`
	Values     map[string]any    `yaml:"values" json:"values,omitempty" empty:"absent" doc:"by parameter of the release"`
	Labels     map[string]string `yaml:"labels" json:"labels,omitempty" empty:"absent"`
	Paused     string            `yaml:"paused" json:"paused,omitempty" doc:"why the vendor grants nothing new for now; rollbacks go on"`
	Pin        string            `yaml:"pin" json:"pin,omitempty" doc:"the only new release that the vendor grants for now; rollbacks go on"`
	Windows    []window.Window   `yaml:"windows" json:"windows,omitempty" doc:"when the vendor grants new releases: in any of them; none: at any time; rollbacks go on"`
	Contacts   []Contact         `yaml:"contacts" json:"contacts,omitempty" doc:"who hears of what the customer has to do; at most 16"`
	Retry      time.Time         `yaml:"retry" json:"retry,omitzero" doc:"when the vendor last asked that the cell try again what failed there; each time counts once"`

	// What users see in a maintenance, in place of the release's texts
	Texts releases.Texts `yaml:"maintenanceTexts" json:"maintenanceTexts,omitempty" doc:"what users see in a maintenance, in place of the release's texts: by language and then by kind of operation, or default"`

	Name       string `yaml:"-" json:"name"` // name of the folder
	Revision   string `yaml:"-" json:"-"`    // hash of profile and values; empty: the defaults
	LabelsHash string `yaml:"-" json:"-"`    // hash of the labels; empty: no labels
	TextsHash  string `yaml:"-" json:"-"`    // hash of the texts; empty: no texts
	Blob       string `yaml:"-" json:"-"`
}

// Identity is the content of cells/NAME/identity.yaml. The engine writes the file (R25); people may set Revoked.
type Identity struct {
	APIVersion  string `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind        string `yaml:"kind" json:"kind" required:"true" enum:"Identity"`
	Epoch       int64  `yaml:"epoch" json:"epoch" minimum:"0"`
	Serial      int64  `yaml:"serial,omitempty" json:"serial,omitempty" minimum:"0" doc:"grows with every change of the fields below; of two, the greater counts"`
	PublicKey   string `yaml:"publicKey,omitempty" json:"publicKey,omitempty" doc:"ed25519:BASE64"`
	Previous    string `yaml:"previous,omitempty" json:"previous,omitempty" doc:"the previous key, valid until the new one is used"`
	Rotate      bool   `yaml:"rotate,omitempty" json:"rotate,omitempty" doc:"the cell is asked to make a new key"`
	Revoked     bool   `yaml:"revoked,omitempty" json:"revoked,omitempty"`
	Quarantined string `yaml:"quarantined,omitempty" json:"quarantined,omitempty" doc:"why this key is refused (R27); a new token ends it"`
}

// Assignment names the release, profile and values that a cell runs: one value, delivered and journalled as one (R13).
type Assignment struct {
	Channel     string          `json:"channel"`
	Epoch       int64           `json:"epoch"`
	Sequence    int64           `json:"sequence"`
	Release     string          `json:"release"`
	Digest      releases.Digest `json:"digest"`
	Profile     string          `json:"profile,omitempty"`
	Values      map[string]any  `json:"values,omitempty"`
	Revision    string          `json:"revision,omitempty"`    // hash of profile and values, set by whoever assigns
	ForwardOnly bool            `json:"forwardOnly,omitempty"` // the release is forward-only (R20)
	// When the vendor last asked for another try, in RFC 3339; empty: never. A failure under an earlier request does
	// not keep the cell from trying again (R56).
	Retry string `json:"retry,omitempty"`
}

// State is the state that a cell reports of itself.
type State string

const (
	StatePending   State = "pending"   // nothing is installed yet
	StateApplying  State = "applying"  // an assignment has begun
	StateHealthy   State = "healthy"   // the assignment runs, and its health holds
	StateUnhealthy State = "unhealthy" // the assignment runs, and its health does not hold
	StateFailed    State = "failed"    // the assignment could not be applied, and the cell could not roll back either
	StateStuck     State = "stuck"     // a forward-only release could not be completed (R20)
)

// Report is a cell's current state. Reports are not numbered, and only they drive soak and budgets (R35).
type Report struct {
	Cell         string       `json:"cell"`
	Boot         string       `json:"boot"`            // random for each start of the agent (R27)
	Sent         time.Time    `json:"sent"`            // by the cell's clock: shown as skew, never trusted for soak
	Agent        string       `json:"agent,omitempty"` // version of the agent
	State        State        `json:"state"`
	Running      *Assignment  `json:"running,omitempty"`      // last good, or target of a rollback if Applying is nil
	Applying     *Assignment  `json:"applying,omitempty"`     // begun, without a result so far
	Acknowledged *Assignment  `json:"acknowledged,omitempty"` // newest accepted assignment, before it begins (R14)
	Message      string       `json:"message,omitempty"`
	Unhealthy    *Unhealthy   `json:"unhealthy,omitempty"` // which objects do not work; nil: all do, or it is not known
	Failures     []Failure    `json:"failures,omitempty"`  // remembered failures, at most MaxFailures, newest last
	Owner        *Owner       `json:"owner,omitempty"`     // decisions of the cell's owner; nil: none
	Flags        *FlagsReport `json:"flags,omitempty"`     // nil: the cell received no flags
	Confirmed    int64        `json:"confirmed,omitempty"` // newest event known to be acknowledged (R27)
	Events       []Event      `json:"events,omitempty"`    // history, in order; acknowledged by number

	Infrastructure ActualInfrastructure `json:"infrastructure,omitzero"`
	Maintenance    *MaintenanceReport   `json:"maintenance,omitempty"` // nil: there never was one
	Debug          []DebugState         `json:"debug,omitempty"`       // requests for debug access, at most MaxDebugRequests
	Signatures     *SignaturesReport    `json:"signatures,omitempty"`  // nil: it verifies none
}

// MaintenanceReport is what a cell says of its maintenances for updates, by its own clock.
type MaintenanceReport struct {
	Phase   maintenance.Phase  `json:"phase,omitempty"`   // announced, draining or drained; empty: there is none
	Release string             `json:"release,omitempty"` // that the update brings
	Begins  time.Time          `json:"begins,omitzero"`   // when operations are refused, or were first
	Until   time.Time          `json:"until,omitzero"`    // refusing ends then; zero: it has not begun
	Overran time.Time          `json:"overran,omitzero"`  // when one ended, while its update is still not through
	Totals  maintenance.Totals `json:"totals,omitzero"`
}

// Owner holds the decisions that the cell's owner made on the cell's machine. The vendor sees them and can't override
// them (R18): the agent enforces them, and the engine grants nothing against them.
type Owner struct {
	Paused string `json:"paused,omitempty"` // why the cell is paused; empty: it is not
	Pin    string `json:"pin,omitempty"`    // the only release that may begin
	// PinDigest is the digest that Pin names; empty: pinned by name alone. It stays in the cell: an older control plane
	// would refuse a report with a field that it does not know.
	PinDigest releases.Digest   `json:"-"`
	Approval  bool              `json:"approval,omitempty"` // only releases in Approved may begin
	Approved  []releases.Digest `json:"approved,omitempty"` // newest last
	Windows   []window.Window   `json:"windows,omitempty"`  // nothing begins outside all of them; none: at any time
	Features  []string          `json:"features,omitempty"` // held features: off here, whatever is announced (R43)
	Reasons   map[string]string `json:"reasons,omitempty"`  // why, by held feature
	// Maintenance is one that the owner began; nil: none. It stays in the cell, as PinDigest does.
	Maintenance *maintenance.Owner `json:"-"`
	// Export says what may leave the cell beside its reports; nil: nothing. It stays in the cell, too.
	Export *ExportConsent `json:"-"`
}

// MaxFailures is how many failures a cell remembers.
const MaxFailures = 16

// Failure is an assignment that did not work and is not tried again under the same key.
type Failure struct {
	Assignment Assignment `json:"assignment"`
	Values     bool       `json:"values,omitempty"` // only values or profile had changed: not the release's fault (R13)
	Cause      Cause      `json:"cause,omitempty"`  // what was at fault; empty: CauseUnknown (R49)
	Reason     string     `json:"reason"`
	At         time.Time  `json:"at"` // by the cell's clock
}

// Cause says what was at fault when an assignment failed (R49).
type Cause string

const (
	CauseRelease Cause = "release" // its content, its hook's own exit, or health that does not hold
	CauseCell    Cause = "cell"    // the cell's machine: never counts against the release
	CauseUnknown Cause = "unknown"
)

// CauseOf returns what an error of applying an assignment names as at fault: an error in its chain may have a method
// FailureCause.
func CauseOf(err error) Cause {
	var named interface{ FailureCause() Cause }
	if errors.As(err, &named) {
		return named.FailureCause()
	}
	return CauseUnknown
}

// UnavailableError says that content, disk space or a process is not available now, but may be later. Nothing is wrong
// with the release: the agent waits and tries again (R49).
type UnavailableError struct{ Cause error }

func (e *UnavailableError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

func (e *UnavailableError) FailureCause() Cause { return CauseCell }

// Event is one entry of a cell's history. Numbers grow by one.
type Event struct {
	Number  int64     `json:"number"`
	At      time.Time `json:"at"`   // by the cell's clock
	Kind    string    `json:"kind"` // started, applied, healthy, unhealthy, failed, rolled-back, healed, stuck, gap …
	Release string    `json:"release,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Receipt is the response to a report. It is sent once the report is durable.
type Receipt struct {
	Acknowledged int64     `json:"acknowledged"`   // all events up to this number are stored
	Time         time.Time `json:"time"`           // the server's clock; zero: it can't be trusted now (R10)
	Pins         []string  `json:"pins,omitempty"` // of the control plane's keys: agents of older versions take them

	// SignedPins lead from older sets of pins to Pins, oldest first; none: the pins never changed (R29).
	SignedPins []SignedPins `json:"signedPins,omitempty"`
}

// SignedPins is a set of pins, active and standby, signed by the key that was standby in the set before (R29).
type SignedPins struct {
	Pins      []string `json:"pins"`
	Serial    int64    `json:"serial"` // of two sets, the greater is newer
	Key       []byte   `json:"key"`    // the public key that signed, in PKIX form
	Signature []byte   `json:"signature"`
}

// Desired is the state that the control plane wants of a cell: one resource, whether a stream or a poll delivers it.
type Desired struct {
	Cell       string      `json:"cell"`
	Head       Sealed      `json:"head"`                 // the channel's newest effective head: a sealed Head
	Assignment *Assignment `json:"assignment,omitempty"` // what the cell was granted; nil: nothing yet
	Hold       *Hold       `json:"hold,omitempty"`       // why the assignment is not the head
	Notices    []Notice    `json:"notices,omitempty"`
	// Maintenance bounds the cell's maintenances; nil: the defaults.
	Maintenance *Maintenance `json:"maintenance,omitempty"`
	// Debug changes with the requests for debug access that the cell finds at /v1/debug; empty: there are none.
	Debug string `json:"debug,omitempty"`
	Flags *Flags `json:"flags,omitempty"` // nil: the control plane has no flags repository
}

// Maintenance is what a cell must know of maintenances beside its releases: its channel's policy, and its own texts.
type Maintenance struct {
	Policy maintenance.Policy `json:"policy,omitzero"`
	Texts  releases.Texts     `json:"texts,omitempty"`
}

// Flags is the control plane's word on feature flags. A cell refuses flags of a lower height than it has (R39).
type Flags struct {
	Height int64             `json:"height"`           // position of the flags commit in the first-parent history
	Bundle FlagBundle        `json:"bundle"`           // sent ahead of time
	Orders Sealed            `json:"orders"`           // sealed flags.Orders: off at once, whatever the bundle (R43)
	Labels map[string]string `json:"labels,omitempty"` // of the cell; rules may refer to them
}

// FlagBundle names the bytes of a flags.Bundle, with room for signatures (R32). GET /v1/flagbundles/{digest} returns
// the bytes.
type FlagBundle struct {
	Digest   releases.Digest `json:"digest"`
	Size     int64           `json:"size"` // bytes
	Metadata []any           `json:"metadata"`
	// Content has the bytes, compressed with zstd, where a stream tells of another bundle and that is small. Without it
	// the cell fetches them. The ETag does not depend on it.
	Content []byte `json:"content,omitempty"`
}

// MaxBundleContent bounds FlagBundle.Content when it is unpacked, in bytes.
const MaxBundleContent = 1 << 20

// FlagsReport is the part of the received flags that a cell has in force.
type FlagsReport struct {
	Height int64                      `json:"height"`
	Bundle releases.Digest            `json:"bundle,omitempty"`
	Orders releases.Digest            `json:"orders,omitempty"`
	States map[string]flags.CellState `json:"states,omitempty"` // by announcement, at most MaxFlagStates
	Fault  string                     `json:"fault,omitempty"`  // why the flags received last are not in force
}

// MaxFlagStates is how many announcements a report holds. Announcements that are not simply on come first.
const MaxFlagStates = 128

// Notice is something that a cell should know or do. Agents ignore a code that they don't know.
type Notice struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// NoticeRotate asks the agent to make a new key.
const NoticeRotate = "rotate-key"

// NoticeOutOfSupport says that the cell lacks an infrastructure update that is overdue (R62). The agent shows it to the
// cell's owner.
const NoticeOutOfSupport = "out-of-support"

// NoticeInfrastructure says which infrastructure update the cell lacks, and by when it is due (R62). The agent shows it
// to the cell's owner.
const NoticeInfrastructure = "infrastructure-due"

// Head is a channel's head as a cell sees it.
type Head struct {
	Channel  string          `json:"channel"`
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
}

// Sealed is opaque bytes with their digest and room for signatures (R32). Today's cells ignore Metadata.
type Sealed struct {
	Payload  []byte          `json:"payload,omitempty"` // JSON
	Digest   releases.Digest `json:"digest,omitempty"`
	Metadata []any           `json:"metadata"`
}

// Hold is the first verdict that keeps a cell from its head (R31), without a countdown or a position in a queue.
type Hold struct {
	Gate   string    `json:"gate"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"`
}
