// Package releases says what a release is: its version, manifest and digest, and the canonical tar that the digest is
// computed over. It also has the plain values that a release repository's history consists of (Change) and that are
// written to it (Draft).
//
// The package is pure: it reads an fs.FS that a caller hands in, and decides nothing. It does no network I/O, runs no
// git (gitrepo does), and never changes a payload: the bytes that soaked are the bytes that ship. Everything may be
// called at once.
package releases

import (
	"regexp"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// APIVersion is the value of apiVersion in every kind of document that has the field.
const APIVersion = "sluice/v1"

// Dir is the folder of all releases in a release repository.
const Dir = "releases"

// Rollback says whether a cell may go back from a release.
type Rollback string

const (
	RollbackAllowed Rollback = "allowed" // the default
	ForwardOnly     Rollback = "forward-only"
)

// Release is releases/V/release.yaml. It is immutable once merged.
type Release struct {
	APIVersion string               `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string               `yaml:"kind" json:"kind" required:"true" enum:"Release"`
	Version    Version              `yaml:"version" json:"version" required:"true" doc:"[v]N.N.N[-pre], ordered as SemVer; the folder's name"`
	Source     Source               `yaml:"source" json:"source,omitzero" empty:"absent" doc:"where its code comes from"`
	Components []Component          `yaml:"components" json:"components,omitempty" empty:"absent"`
	Features   []string             `yaml:"features" json:"features,omitempty" empty:"absent" doc:"flags whose code it contains"`
	Fixes      []string             `yaml:"fixes" json:"fixes,omitempty" empty:"absent" doc:"what it fixes, CVEs for instance; a hotfix's fixes bind later releases"`
	Requires   Requires             `yaml:"requires" json:"requires,omitzero"`
	Rollback   Rollback             `yaml:"rollback" json:"rollback,omitempty" enum:"allowed,forward-only" doc:"forward-only: it carries a migration that can't be undone"`
	Parameters map[string]Parameter `yaml:"parameters" json:"parameters,omitempty" doc:"what cells may set"`
	Profiles   map[string]string    `yaml:"profiles" json:"profiles,omitempty" doc:"profile name to the kustomize folder inside the release; default: \".\""`
	// What users of the product meet while a component changes that is marked so
	Maintenance Maintenance `yaml:"maintenance" json:"maintenance,omitzero" doc:"what users of the product meet while a component changes that is marked maintenance"`
	AllowEmpty  bool        `yaml:"allowEmpty" json:"allowEmpty,omitempty" doc:"it may render to nothing, which removes all that a cell runs"`
	Kubernetes  Kubernetes  `yaml:"kubernetes" json:"kubernetes,omitzero" doc:"rules for cells that are Kubernetes clusters"`
	Authors     []string    `yaml:"authors" json:"authors,omitempty" doc:"people (or e-mail addresses) who may not approve it, beside the authors of its commits"`
}

// Source is where a release's code comes from.
type Source struct {
	Repository string `yaml:"repository" json:"repository,omitempty"`
	Commit     string `yaml:"commit" json:"commit,omitempty"`
}

// Component is one image of a release.
type Component struct {
	Name        string `yaml:"name" json:"name" required:"true"`
	Image       string `yaml:"image" json:"image" required:"true" doc:"with its digest: name@sha256:…"`
	Maintenance bool   `yaml:"maintenance" json:"maintenance,omitempty" doc:"a change of it takes a maintenance mode"`
}

// Requires lists the conditions for granting a cell the release (R16).
type Requires struct {
	Infrastructure int     `yaml:"infrastructure" json:"infrastructure,omitempty" doc:"least infrastructure template number"`
	From           Version `yaml:"from" json:"from,omitzero" doc:"least release that it may be installed over"`
}

// ParameterType names the type of a parameter's values.
type ParameterType string

// Parameter declares one value that cells may set. Bounds apply to integer and number, Pattern and Enum to string.
type Parameter struct {
	Type     ParameterType `yaml:"type" json:"type" required:"true" enum:"string,integer,number,boolean"`
	Required bool          `yaml:"required" json:"required,omitempty"`
	Default  any           `yaml:"default" json:"default,omitempty" empty:"absent"`
	Minimum  *float64      `yaml:"minimum" json:"minimum,omitempty"`
	Maximum  *float64      `yaml:"maximum" json:"maximum,omitempty"`
	Pattern  string        `yaml:"pattern" json:"pattern,omitempty" doc:"RE2 that the whole value must match"`
	Enum     []string      `yaml:"enum" json:"enum,omitempty"`
	Owner    string        `yaml:"owner" json:"owner,omitempty" enum:"vendor,cell" doc:"cell: set in the cell only, never in the repository (R13)"`
	Doc      string        `yaml:"description" json:"description,omitempty" empty:"absent"`

	// compiled compiles Pattern when it is first needed: of thousands of releases, few are. Set by Load; nil before.
	compiled func() (*regexp.Regexp, error)
}

// Tombstone is releases/V/tombstone.yaml, which prune leaves so that V is never used again (R24).
type Tombstone struct {
	APIVersion string  `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string  `yaml:"kind" json:"kind" required:"true" enum:"Tombstone"`
	Version    Version `yaml:"version" json:"version" required:"true"`
	Digest     Digest  `yaml:"digest" json:"digest" required:"true"`
	Reason     string  `yaml:"reason" json:"reason,omitempty"`
}

// IsForwardOnly reports whether a cell that began to apply r never goes back from r (R20).
func (r *Release) IsForwardOnly() bool { return r.Rollback == ForwardOnly }

// Profile returns the kustomize folder of a profile; the empty name means "default". ok is false if the release
// declares profiles and name is not among them.
func (r *Release) Profile(name string) (dir string, ok bool) {
	if name == "" {
		name = "default"
	}
	dir, ok = r.Profiles[name]
	if !ok && name == "default" {
		return ".", true
	}
	return dir, ok
}

// StoredRelease is a release found in a repository: the manifest, and what the files around it add.
type StoredRelease struct {
	Release
	Digest    Digest
	Tree      string     // the git tree id of its folder, where known
	Tombstone *Tombstone // not nil: the release was pruned
}

// Fault is a fault in a file of the repository.
type Fault = manifest.Fault
