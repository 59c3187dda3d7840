package gitrepo

import (
	"path"
	"strings"

	"github.com/sluice-cd/sluice/releases"
)

// Layout says which paths Changes reports, and which of them are approvals, whose signatures Changes verifies. Other
// paths of a repository cost nothing.
type Layout int

const (
	// ReleaseLayout is the layout of a release repository: see releases.FileChange.
	ReleaseLayout Layout = iota
	// FlagsLayout is the layout of a flags repository: sluice.yaml and all files below its folders.
	FlagsLayout
)

// flagsFolders are the folders of a flags repository.
func flagsFolders() []string {
	return []string{"flags", "announcements", approvalsDir, "overrides", "heads", "records"}
}

const (
	settings     = "sluice.yaml" // of either
	approvalsDir = "approvals"
)

// isApproval reports whether a path is a person's approval, whose signer must be known.
func (l Layout) isApproval(f releases.FileChange) bool {
	part := strings.SplitN(f.Path, "/", 4)
	if l == FlagsLayout {
		return len(part) == 3 && part[0] == approvalsDir // approvals/ID/PERSON.yaml
	}
	return len(part) == 4 && part[0] == "channels" && part[2] == approvalsDir
}

// approvalsFolder returns the root folder that contains the approvals.
func (l Layout) approvalsFolder() string {
	if l == FlagsLayout {
		return approvalsDir
	}
	return "channels"
}

// isApprovable reports whether a path is what people approve, whose authors may not: a release's folder, or an
// announcement.
func (l Layout) isApprovable(f releases.FileChange) bool {
	dir := releases.Dir
	if l == FlagsLayout {
		dir = "announcements"
	}
	return path.Dir(f.Path) == dir
}
