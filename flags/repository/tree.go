package repository

import (
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Tree is what a commit of a flags repository says. Immutable.
type Tree struct {
	Settings      Settings
	Flags         map[string]*flags.Definition
	Announcements map[string]*Announcement
	Approvals     []Approval                   // as written; whether they count is the history's to prove
	Records       map[string]map[string]Record // by announcement and channel
	Heads         map[string]Head              // by channel
	Overrides     []Override                   // by name; those that could be read
	Faults        []manifest.Fault             // of all of it
	Invalid       bool                         // some fault is none of an override's, and no warning: the rest is refused whole (fault 33)

	keysByFeature map[string][]string // keys of Flags; nil: not made by Load
}
