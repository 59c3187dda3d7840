// Package repository reads and checks a commit of a flags repository.
//
// Definitions are in flagd's schema v0, unchanged. Announcements say what is announced, to whom, when and with which
// features. Overrides kill flags or hold announcements. Approvals, heads and records say what was approved and decided.
// Load reads all of these into a Tree, and returns every fault with file and line, likely mistakes included: rules that
// never match, wall times that no clock shows, probable secrets.
//
// The package decides nothing: flags/announce decides what is committed and when. It reads a given fs.FS only: no
// clock, no git, no network. A Tree is immutable and safe for concurrent use. No input makes the package panic.
package repository

import "time"

// Folders of a flags repository, beside sluice.yaml.
const (
	DefinitionsDir   = "flags"         // *.yaml, *.json: flagd flag sets
	AnnouncementsDir = "announcements" // ID.yaml
	ApprovalsDir     = "approvals"     // ID/PERSON.yaml, of announcements
	OverridesDir     = "overrides"     // NAME.yaml
	HeadsDir         = "heads"         // CHANNEL.yaml, written by the engine
	RecordsDir       = "records"       // ID/CHANNEL.yaml, written by the engine
	settingsFile     = "sluice.yaml"
)

// Settings is sluice.yaml of a flags repository.
type Settings struct {
	APIVersion   string             `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind         string             `yaml:"kind" json:"kind" required:"true" enum:"Flags"`
	Zone         string             `yaml:"zone,omitempty" json:"zone,omitempty" doc:"IANA zone of announcements without one; default UTC"`
	Approvals    ApprovalRule       `yaml:"approvals" json:"approvals,omitzero" doc:"what an announcement without a rule of its own needs; default: one from anybody in people"`
	People       map[string]*Person `yaml:"people,omitempty" json:"people,omitempty" doc:"who may approve announcements"`
	Owners       []string           `yaml:"owners,omitempty" json:"owners,omitempty" doc:"names in people: only these people may change this file, by signed commits"`
	TrustAuthors bool               `yaml:"trustAuthors,omitempty" json:"trustAuthors,omitempty" doc:"unsigned approvals count by their commit's author"`
	Soak         Duration           `yaml:"soak" json:"soak,omitempty" doc:"how long flags without an announcement are served upstream before a channel takes them; default 1h"`
	Link         string             `yaml:"link,omitempty" json:"link,omitempty" doc:"where people read announcements: the base of links in the feed"`
	Webhooks     []Webhook          `yaml:"webhooks,omitempty" json:"webhooks,omitempty" doc:"who is notified when something is published, suspended or killed"`
}

// Person may approve (R22).
type Person struct {
	Email string   `yaml:"email,omitempty" json:"email,omitempty"`
	Keys  []string `yaml:"keys,omitempty" json:"keys,omitempty" doc:"SSH public keys"`
	Roles []string `yaml:"roles,omitempty" json:"roles,omitempty"`
}

// ApprovalRule says whose approvals an announcement needs.
type ApprovalRule struct {
	Count int      `yaml:"count" json:"count" minimum:"0" doc:"how many people must approve; default 1; 0: none"`
	From  []string `yaml:"from,omitempty" json:"from,omitempty" doc:"roles; none: anybody in people"`
}

// Webhook receives events as CloudEvents over HTTP. Its secret is in the environment of `sluice serve` or in a file,
// never in git.
type Webhook struct {
	Name  string   `yaml:"name" json:"name" required:"true"`
	URL   string   `yaml:"url" json:"url" required:"true" doc:"https://…; http:// only on loopback"`
	Types []string `yaml:"types,omitempty" json:"types,omitempty" doc:"published, suspended, resumed, killed, warning …; none: all"`
}

// Approval is approvals/ID/PERSON.yaml: PERSON approves exactly what hashes to Hash (R42).
type Approval struct {
	Hash    string `yaml:"hash" json:"hash" required:"true" doc:"sha256:… of the announcement and its flags' definitions"`
	Comment string `yaml:"comment,omitempty" json:"comment,omitempty"`

	Announcement string `yaml:"-" json:"announcement"`
	Person       string `yaml:"-" json:"person"`
}

// Head is heads/CHANNEL.yaml: the commit whose definitions a channel with an upstream has for flags without an
// announcement (R42).
type Head struct {
	Commit string `yaml:"commit" json:"commit" required:"true" doc:"of the flags repository"`
}

// Outcome says what the engine decided about an announcement in a channel.
type Outcome string

const (
	Armed     Outcome = "armed"     // sent ahead: cells flip at At by themselves
	Published Outcome = "published" // armed when At came, or decided at At
	// Missed: At passed while the announcement was held, not approved, or too few cells were ready. It needs a new
	// time, or now (R43).
	Missed   Outcome = "missed"
	Disarmed Outcome = "disarmed" // held, edited, cancelled …: can be armed again before At
)

// Record is records/ID/CHANNEL.yaml: the engine's newest decision (R41, R42, R43).
type Record struct {
	Outcome Outcome   `yaml:"outcome" json:"outcome" required:"true" enum:"armed,published,missed,disarmed"`
	Hash    string    `yaml:"hash" json:"hash" required:"true" doc:"what the decision rests on, see Approval"`
	Text    string    `yaml:"text" json:"text" required:"true" doc:"hash of the announcement alone"`
	Commit  string    `yaml:"commit" json:"commit" required:"true" doc:"of the flags repository, with what was approved"`
	At      time.Time `yaml:"at" json:"at" required:"true" doc:"when it is, or was, published there: whole seconds"`
	Cells   []string  `yaml:"cells,omitempty" json:"cells,omitempty" doc:"skip only: cells that were ready at At"`
	Without []string  `yaml:"without,omitempty" json:"without,omitempty" doc:"cells that were held at At: they need a new time, or now (R43)"`
	Reason  string    `yaml:"reason,omitempty" json:"reason,omitempty"`
}
