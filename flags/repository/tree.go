package repository

import (
	"slices"

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

// Deciding returns the announcement by whose approval a channel has the definitions of a feature, and the commit that
// they are from (R42); empty: they come with the channel's head.
func (t *Tree) Deciding(feature, channel string) (announcement, commit string) {
	var newest Record
	for id, records := range t.Records {
		r, a := records[channel], t.Announcements[id]
		if r.Outcome != Published && (r.Outcome != Armed || newest.Outcome == Published) || a == nil || a.Archived ||
			!slices.Contains(a.Features, feature) || r.Outcome == newest.Outcome && newest.At.After(r.At) {
			continue
		}
		newest, announcement, commit = r, id, r.Commit
	}
	return announcement, commit
}

// Standing is a file that is not in force as a commit has it, since it has a fault there.
type Standing struct {
	File    string
	Fault   manifest.Fault
	Commit  string   // whose content of the file is in force; empty: the file is left out
	Instead []string // of a file that is left out: what the commit that added it removed, which stays
}
