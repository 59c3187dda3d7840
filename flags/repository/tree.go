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
	// Invalid says that a fault outside overrides is no warning: the rest of the commit is refused whole (fault 33).
	Invalid bool

	keysByFeature map[string][]string // keys of Flags by feature; nil: not made by Load
}
