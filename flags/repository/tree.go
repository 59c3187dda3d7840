package repository

import (
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Tree is the content of a commit of a flags repository. Immutable.
type Tree struct {
	Settings      Settings
	Flags         map[string]*flags.Definition
	Announcements map[string]*Announcement
	Approvals     []Approval                   // as written; the history proves whether they count
	Records       map[string]map[string]Record // by announcement and channel
	Heads         map[string]Head              // by channel
	Overrides     []Override                   // by name; the readable ones
	Faults        []manifest.Fault             // of all files
	Standing      []Standing                   // files that are not in force as the commit has them
	// Invalid says that a fault outside overrides is no warning: the commit is not in force as it is (fault 33).
	Invalid bool

	keysByFeature map[string][]string // keys of Flags by feature; nil: not made by Load
}

// Standing is a file that is not in force as a commit has it, since it has a fault there.
type Standing struct {
	File    string
	Fault   manifest.Fault
	Commit  string   // whose content of the file is in force; empty: the file is left out
	Instead []string // of a file that is left out: what the commit that added it removed, which stays
}
