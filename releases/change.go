package releases

import (
	"slices"
	"time"
)

// Person is a name and an address as git writes them. Nothing proves them: see Change.Key.
type Person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Change is one commit on the first-parent history of a branch, as far as Sluice reads it.
type Change struct {
	Commit    string // object id, 40 hex digits
	Parent    string // first parent; empty at the root
	Author    Person
	Committer Person
	When      time.Time // the committer's word, never evidence
	Message   string
	Files     []FileChange // against Parent, by path
	Key       string       // the SSH public key (authorized_keys form, no comment) whose signature of the raw commit verified; else empty
}

// Touches reports whether c changed a path.
func (c Change) Touches(path string) bool {
	return slices.ContainsFunc(c.Files, func(f FileChange) bool { return f.Path == path })
}

// FileChange is one path that a Change touched. Paths are sluice.yaml and the files below channels, quarantine and
// cells/*/identity.yaml; a release is one path, its folder. Of a flags repository they are sluice.yaml and the files below
// flags, announcements, approvals, overrides, heads and records.
type FileChange struct {
	Path    string
	Old     string   // object id of the blob (for a release: of the tree); empty: it was not there
	New     string   // empty: removed
	Authors []Person // who wrote it: the commit's author, its Co-authored-by, and for a merge the authors of what it brought; of a release the committers too
	Keys    []string // releases only: whose signatures of those commits hold, in the form of Change.Key
	Key     string   // approvals only: who signed the very commit that wrote this content and nothing but approvals (R52)
}

// Draft is a commit to be made: it changes Files against the commit it stands on, and nothing else.
type Draft struct {
	Message string
	When    time.Time
	Files   map[string][]byte // by path; nil removes the file or, given a folder, all below it
	Tags    map[string]string // tags to push with it: name to commit id; an existing tag is left as it is
}
