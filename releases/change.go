package releases

import (
	"slices"
	"strings"
	"time"
)

// Person is a name and an address as git records them. Nothing proves either: see Change.Key.
type Person struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Trailers of commit messages that history is read by.
const (
	// AcknowledgeTrailer says what loss a person accepts (R5): a commit's, or that of a channel's head (R51).
	AcknowledgeTrailer = "Acknowledge-Divergence"
	// BaseTrailer names the commit that the engine decided on.
	BaseTrailer = "Decided-On"
)

// Trailers returns the values of all lines "key: value" of a commit message.
func Trailers(message, key string) (values []string) {
	for line := range strings.Lines(message) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// Change is one commit of a branch's main line, as far as Sluice reads it. The main line goes by first parents, except
// that a merge made the wrong way round is followed along the branch's old tip (R51).
type Change struct {
	Commit    string // object id, 40 hex digits
	Parent    string // in the main line; empty at the root
	Author    Person
	Committer Person
	When      time.Time // the committer's claim, never evidence
	Message   string
	Files     []FileChange // against Parent, by path
	// Folders that this commit changed and that can't be read in it: Files may lack what is below them (R47)
	Unreadable []string
	// The SSH public key (authorized_keys form, no comment) of a valid signature of the raw commit; else empty.
	Key     string
	Accepts []string // values of AcknowledgeTrailer, of a merge those of the merged commits too
}

// Touches reports whether c changed a path.
func (c Change) Touches(path string) bool {
	return slices.ContainsFunc(c.Files, func(f FileChange) bool { return f.Path == path })
}

// FileChange is one path that a Change touched. In a release repository, paths are sluice.yaml, audit/head.yaml, the
// files below channels, quarantine and trust, and cell.yaml, identity.yaml and infrastructure.yaml of cells; a release
// is one path, its folder. In a flags repository, they are sluice.yaml and the files below flags, announcements,
// approvals, overrides, heads and records.
type FileChange struct {
	Path string
	Old  string // object id of the blob (for a release: of the tree); empty: there was none
	New  string // empty: removed
	// OldIn is the commit that has Old; empty: the change's parent. A path that kept an older value has it elsewhere.
	OldIn string
	// The commit's author, its Co-authored-by, and for a merge the authors of the merged commits; of a release or an
	// announcement the committers too.
	Authors []Person
	// Releases and announcements only: this commit and those that it merged, as far as they touch the path
	Commits []SignedCommit
	Key     string // approvals only: signer of the very commit that wrote this content and only approvals (R52)
}

// SignedCommit is a commit that touched what people approve.
type SignedCommit struct {
	Commit string
	Key    string // as Change.Key
	// It is a merge that has the path as a parent has it, and so wrote nothing.
	MergedOnly bool
}

// Draft is a commit to be made. Relative to its parent, it changes Files and nothing else.
type Draft struct {
	Message string
	When    time.Time
	Files   map[string][]byte // by path; nil removes the file or, given a folder, all below it
	Tags    map[string]string // tags to push with the commit: name to commit id; existing tags are left unchanged
}
