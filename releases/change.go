package releases

import (
	"slices"
	"time"
)

// Person is a name and an address as git records them. Nothing proves either: see Change.Key.
type Person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Change is one commit of a branch's first-parent history, as far as Sluice reads it.
type Change struct {
	Commit    string // object id, 40 hex digits
	Parent    string // first parent; empty at the root
	Author    Person
	Committer Person
	When      time.Time // the committer's claim, never evidence
	Message   string
	Files     []FileChange // against Parent, by path
	// Folders that this commit changed and that can't be read in it: Files may lack what is below them (R47)
	Unreadable []string
	// The SSH public key (authorized_keys form, no comment) of a valid signature of the raw commit; else empty.
	Key string
}

// Touches reports whether c changed a path.
func (c Change) Touches(path string) bool {
	return slices.ContainsFunc(c.Files, func(f FileChange) bool { return f.Path == path })
}

// FileChange is one path that a Change touched. In a release repository, paths are sluice.yaml, the files below
// channels and quarantine, cells/*/cell.yaml and cells/*/identity.yaml; a release is one path, its folder. In a flags
// repository, they are sluice.yaml and the files below flags, announcements, approvals, overrides, heads and records.
type FileChange struct {
	Path string
	Old  string // object id of the blob (for a release: of the tree); empty: there was none
	New  string // empty: removed
	// The commit's author, its Co-authored-by, and for a merge the authors of the merged commits; of a release the
	// committers too.
	Authors []Person
	Keys    []string // releases only: keys with valid signatures of those commits, in the form of Change.Key
	Key     string   // approvals only: signer of the very commit that wrote this content and only approvals (R52)
}

// Draft is a commit to be made. Relative to its parent, it changes Files and nothing else.
type Draft struct {
	Message string
	When    time.Time
	Files   map[string][]byte // by path; nil removes the file or, given a folder, all below it
	Tags    map[string]string // tags to push with the commit: name to commit id; existing tags are left unchanged
}
