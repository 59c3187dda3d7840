// Package channels says what a channel is: its policy, its head, and the gates that a release passes to get there.
//
// A gate is judged by a pure function over values, with now passed in, and answers with a Verdict: held, or blocked
// with a reason and, where known, until when. A closed gate is a verdict, never an error. The package does no I/O
// beyond the fs.FS that Load is given and the database of time zones, reads no clock, and decides no promotion: engine
// does. What Load returns is immutable, and so safe for concurrent use.
package channels

import (
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Promote says who begins a promotion into a channel.
type Promote string

const (
	PromoteAuto   Promote = "auto"   // the engine (default)
	PromoteManual Promote = "manual" // a person's request (R1)
)

// Advance says when a channel takes a newer release (R8).
type Advance string

const (
	AdvanceSettled Advance = "settled" // once its head soaked downstream, failed, or settleWithin passed (default)
	AdvanceNewest  Advance = "newest"  // at once
)

// OnFailure says what happens when a rollout's failure budget is spent.
type OnFailure string

const (
	OnFailureRollback OnFailure = "rollback" // back to the last good release (default)
	OnFailureHalt     OnFailure = "halt"
)

// Channel is channels/NAME/channel.yaml: the policy. People write the file, the engine never does.
type Channel struct {
	APIVersion   string            `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string            `yaml:"kind" json:"kind" required:"true" enum:"Channel"`
	Description  string            `yaml:"description" json:"description,omitempty" empty:"absent"`
	After        []string          `yaml:"after" json:"after,omitempty" doc:"upstream channels, all of which must have accepted a release; none: an entry channel"`
	Promote      Promote           `yaml:"promote" json:"promote,omitempty" enum:"auto,manual"`
	Advance      Advance           `yaml:"advance" json:"advance,omitempty" enum:"settled,newest"`
	SettleWithin time.Duration     `yaml:"settleWithin" json:"settleWithin,omitempty" positive:"true" doc:"how long settled waits at the most; default three times the longest soak downstream"`
	Prereleases  bool              `yaml:"prereleases" json:"prereleases,omitempty" doc:"takes pre-releases too"`
	Floor        *releases.Version `yaml:"floor" json:"floor,omitempty" doc:"no older release is promoted or gone back to"`
	People       People            `yaml:"people" json:"people,omitempty" enum:"bound,free" doc:"whether gates bind a person's request"`
	Gates        []Gate            `yaml:"gates" json:"gates,omitempty"`
	Freezes      []Freeze          `yaml:"freezes" json:"freezes,omitempty"`
	Rollout      Rollout           `yaml:"rollout" json:"rollout,omitzero"`
	// Bounds of the cells' maintenances
	Maintenance maintenance.Policy `yaml:"maintenance" json:"maintenance,omitzero" doc:"how cells refuse operations of the product while a component changes that is marked maintenance"`
	OnFailure   OnFailure          `yaml:"onFailure" json:"onFailure,omitempty" enum:"rollback,halt"`

	Name string `yaml:"-" json:"name"` // the folder's name
	Blob string `yaml:"-" json:"-"`    // object id (or SHA-256) of the file, by which decisions name their policy

	lines map[string]int // lines of the fields that are compared with other files, by path
}

// People says whether gates bind people's requests (R1).
type People string

const (
	PeopleBound People = "bound" // default
	PeopleFree  People = "free"
)

// Gate is one entry of gates: exactly one of its kinds is set. ID is unique in the channel: the name if there is one,
// else the kind, with -2, -3 … for repeats.
type Gate struct {
	Name     string          `yaml:"name" json:"name,omitempty" doc:"names it in verdicts; default: its kind"`
	Soak     *Soak           `yaml:"soak" json:"soak,omitempty"`
	Window   *window.Window  `yaml:"window" json:"window,omitempty"`
	Windows  []window.Window `yaml:"windows" json:"windows,omitempty" doc:"any of which may be open"`
	Approval *Approval       `yaml:"approval" json:"approval,omitempty"`
	Check    *Check          `yaml:"check" json:"check,omitempty"`
	Metric   *Metric         `yaml:"metric" json:"metric,omitempty"`
	When     *When           `yaml:"when" json:"when,omitempty"`

	ID string `yaml:"-" json:"-"`
}

// Soak requires that a release was healthy in every upstream channel for a while (R9).
type Soak struct {
	For     time.Duration `yaml:"for" json:"for" required:"true" doc:"how long each counted cell was continuously healthy on exactly this digest"`
	Cells   int           `yaml:"cells" json:"cells,omitempty" doc:"at least so many cells; default 1" minimum:"0"`
	Percent *float64      `yaml:"percent" json:"percent,omitempty" doc:"and so many percent of those eligible when the upstream's head moved; default 100"`
}

// Freeze blocks every promotion into a channel from From up to Until.
type Freeze struct {
	From   time.Time `yaml:"from" json:"from" required:"true"`
	Until  time.Time `yaml:"until" json:"until" required:"true"`
	Reason string    `yaml:"reason" json:"reason,omitempty"`
}

// Approval requires signed files of people who are not authors of the release (R22).
type Approval struct {
	Count int      `yaml:"count" json:"count,omitempty" minimum:"1" doc:"default 1"`
	From  []string `yaml:"from" json:"from,omitempty" doc:"roles, any of which counts; default: everyone in people"`
}

// Check is a GET request that must answer 2xx. {release}, {digest} and {channel} in the URL are replaced.
type Check struct {
	URL      string        `yaml:"url" json:"url" required:"true"`
	ValidFor time.Duration `yaml:"validFor" json:"validFor,omitempty" positive:"true" doc:"how long an answer counts; default 5m"`
	Timeout  time.Duration `yaml:"timeout" json:"timeout,omitempty" positive:"true" doc:"default 10s"`
}

// When is a CEL expression over release, channel and cells that must be true. In YAML and JSON it is text, which Load
// compiles; an expression that does not compile to bool is a fault.
type When struct {
	Expression string

	program whenProgram
}

// Rollout is how a head reaches the cells of its channel.
type Rollout struct {
	Waves         []Wave `yaml:"waves" json:"waves,omitempty" doc:"cumulative; none: all cells at once"`
	MaxInFlight   int    `yaml:"maxInFlight" json:"maxInFlight,omitempty" minimum:"0" doc:"cells updating at once; 0: no limit"`
	FailureBudget int    `yaml:"failureBudget" json:"failureBudget,omitempty" minimum:"0" doc:"failed or stalled cells before it stops: one more stops it"`
	// so that a policy suits 3 cells as well as 3,000
	FailurePercent float64       `yaml:"failurePercent" json:"failurePercent,omitempty" minimum:"0" maximum:"100" doc:"so many percent of the eligible cells, rounded down, if that is more than failureBudget"`
	Stall          time.Duration `yaml:"stall" json:"stall,omitempty" positive:"true" doc:"a cell that began and reports no result for so long has stalled; default 30m"`
	Watch          time.Duration `yaml:"watch" json:"watch,omitempty" positive:"true" doc:"a cell that falls ill so soon after it was first healthy counts as failed; default 1h"`
}

// Wave is one step of a rollout: the cells that run the head once the wave is finished.
type Wave struct {
	Cells   int               `yaml:"cells" json:"cells,omitempty" minimum:"0"`
	Percent float64           `yaml:"percent" json:"percent,omitempty" minimum:"0" maximum:"100"`
	Labels  map[string]string `yaml:"labels" json:"labels,omitempty"`
	Soak    time.Duration     `yaml:"soak" json:"soak,omitempty"`
}

// Head is channels/NAME/head.yaml: the desired release. Only heads that the engine wrote count (R1).
type Head struct {
	Release  string          `yaml:"release" json:"release" required:"true"`
	Commit   string          `yaml:"commit" json:"commit,omitempty"`
	Digest   releases.Digest `yaml:"digest" json:"digest,omitempty"`
	Sequence int64           `yaml:"sequence" json:"sequence,omitempty" minimum:"0"`
}

// Hold is channels/NAME/holds/ID.yaml: it stops everything but a rollback until a person removes the file.
type Hold struct {
	Reason string   `yaml:"reason" json:"reason" required:"true"`
	By     string   `yaml:"by,omitempty" json:"by,omitempty"`
	Cells  []string `yaml:"cells,omitempty" json:"cells,omitempty" doc:"it stops only these cells' grants; none: the whole channel"`

	ID   string `yaml:"-" json:"id"`
	File string `yaml:"-" json:"file"`
}

// Skip is channels/NAME/skips/SEQUENCE.yaml: the head with that sequence goes on to a wave without waiting for the
// waves before. Quarantine, holds, windows, freezes and caps still apply.
type Skip struct {
	Wave   int    `yaml:"wave" json:"wave" required:"true" minimum:"2" doc:"this wave is open, and all before it"`
	Reason string `yaml:"reason" json:"reason" required:"true"`
	By     string `yaml:"by,omitempty" json:"by,omitempty"`

	Sequence int64  `yaml:"-" json:"sequence"` // the file's name
	File     string `yaml:"-" json:"file"`
}

// Hotfix is channels/NAME/hotfixes/V.yaml: it exempts V from after, soak, windows and settled (R17).
type Hotfix struct {
	Digest         releases.Digest `yaml:"digest" json:"digest" required:"true"`
	Reason         string          `yaml:"reason" json:"reason" required:"true"`
	Expiry         time.Time       `yaml:"expiry" json:"expiry" required:"true" doc:"the lane's end; its debt stays"`
	Fixes          []string        `yaml:"fixes" json:"fixes,omitempty" doc:"what every later promotion must list until this is closed"`
	OverrideFreeze bool            `yaml:"overrideFreeze" json:"overrideFreeze,omitempty"`
	Closed         string          `yaml:"closed" json:"closed,omitempty" doc:"why its fixes no longer bind"`

	Release string `yaml:"-" json:"release"` // the file's name
	File    string `yaml:"-" json:"file"`
}

// Quarantine is quarantine/V.yaml: a release that no channel may take (R21).
type Quarantine struct {
	Digest   releases.Digest `yaml:"digest" json:"digest" required:"true"`
	Channels []string        `yaml:"channels,omitempty" json:"channels,omitempty" doc:"default: all"`
	Reason   string          `yaml:"reason" json:"reason" required:"true"`
	By       string          `yaml:"by,omitempty" json:"by,omitempty"`
	FailedIn string          `yaml:"failedIn,omitempty" json:"failedIn,omitempty" doc:"set by the engine: the channel it failed in, which alone moves back"`

	Release string `yaml:"-" json:"release"` // the file's name
	File    string `yaml:"-" json:"file"`
}

// ApprovalFile is channels/NAME/approvals/V/PERSON.yaml. Whether the approval counts depends on git's history, not on
// the file.
type ApprovalFile struct {
	Digest  releases.Digest `yaml:"digest" json:"digest" required:"true"`
	Comment string          `yaml:"comment" json:"comment,omitempty" empty:"absent"`
	// Passkey proves the approval in place of the commit's signature
	Passkey *passkey.Assertion `yaml:"passkey,omitempty" json:"passkey,omitempty" doc:"a WebAuthn assertion over channel, version and digest"`

	Release string `yaml:"-" json:"release"`
	Person  string `yaml:"-" json:"person"`
	File    string `yaml:"-" json:"file"`
}

// Pipeline is sluice.yaml: what holds for all channels.
type Pipeline struct {
	APIVersion   string             `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string             `yaml:"kind" json:"kind" required:"true" enum:"Pipeline"`
	Name         string             `yaml:"name" json:"name,omitempty"`
	StaleAfter   time.Duration      `yaml:"staleAfter" json:"staleAfter,omitempty" positive:"true" doc:"silence after which a cell no longer counts as healthy; default 5m"`
	People       map[string]*Member `yaml:"people" json:"people,omitempty"`
	TrustAuthors bool               `yaml:"trustAuthors" json:"trustAuthors,omitempty" doc:"count unsigned approvals by the commit's author: only where the git host proves authors"`
	// Releases whose commits are not all signed by people are no candidates (R52)
	SignedReleases bool       `yaml:"signedReleases" json:"signedReleases,omitempty" doc:"take only releases all of whose commits are signed by a key in people"`
	RequireDigests bool       `yaml:"requireDigests" json:"requireDigests,omitempty" doc:"an image that a release renders to without a digest is a fault, in release cut and validate"`
	Owners         []string   `yaml:"owners" json:"owners,omitempty" doc:"names in people: only these people may change people, owners, policies, freezes, hotfixes and quarantines, by signed commits"`
	Freezes        []Freeze   `yaml:"freezes" json:"freezes,omitempty" doc:"for all channels"`
	Access         *Access    `yaml:"access" json:"access,omitempty" doc:"who has which role at the control plane: groups, e-mails, workloads; tokens of operators have their own"`
	Engine         EngineKeys `yaml:"engine" json:"engine,omitzero" doc:"whose commits count as the engine's, or: unsigned"`

	Infrastructure InfrastructurePolicy `yaml:"infrastructure" json:"infrastructure,omitzero" doc:"by when cells have to have executed an infrastructure update"`
}

// InfrastructurePolicy says by when a cell has to have executed an infrastructure update, and what it gets afterwards.
type InfrastructurePolicy struct {
	Deadline time.Duration `yaml:"deadline" json:"deadline,omitempty" doc:"from a delivered notice on; 1d to 365d, default 14d"`
	Hotfixes bool          `yaml:"hotfixes" json:"hotfixes,omitempty" doc:"cells that are out of support still get hotfixes; they get nothing else"`
}

// Member is a person whose approvals count.
type Member struct {
	Email string   `yaml:"email" json:"email,omitempty"`
	Keys  []string `yaml:"keys" json:"keys,omitempty" doc:"SSH public keys, authorized_keys form"`
	// Passkeys sign approvals as Keys do, in the approval's file
	Passkeys []passkey.Key `yaml:"passkeys" json:"passkeys,omitempty" doc:"passkeys (WebAuthn) for approvals of releases"`
	Roles    []string      `yaml:"roles" json:"roles,omitempty"`
}

// Approver returns the person as gates judge them; name is their key in people.
func (m *Member) Approver(name string) Approver {
	return Approver{Person: name, Email: m.Email, Keys: m.Keys, Roles: m.Roles}
}

// State is one channel folder at a commit. Policy is nil if channel.yaml is missing, or if a file that the policy
// depends on has faults: a mistyped freeze, hold or debt must not mean that there is none (R6).
type State struct {
	Name       string
	Policy     *Channel
	Head       *Head // effective only if the engine wrote the file (R1). nil: missing, or HeadFaults
	HeadBlob   string
	HeadFaults []releases.Fault // why head.yaml can't be read; the policy stays valid
	Holds      []Hold           // of the whole channel
	CellHolds  []Hold           // of single cells
	Hotfixes   []Hotfix
	Approvals  []ApprovalFile
	Skips      []Skip
	Faults     []releases.Fault // faults that make the channel invalid (R6)
	// faults that stop nothing: warnings, and approvals that can't be read and so don't count
	Ignored []releases.Fault
}
