package view

import (
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
)

// FlagsSummary sums up the flags repository.
type FlagsSummary struct {
	Commit        string                 `json:"commit,omitempty" doc:"the tip"`
	Height        int64                  `json:"height" doc:"of the tip: its place in the first-parent history"`
	Fault         string                 `json:"fault,omitempty" doc:"why it can't be read, or what of its tip is not in force"`
	Diverged      *plan.Divergence       `json:"diverged,omitempty" doc:"the branch was force-pushed: cells keep what they have until that is acknowledged (R39)"`
	Killed        []string               `json:"killed,omitempty" doc:"flags, sorted"`
	Announcements map[announce.State]int `json:"announcements,omitempty" doc:"how many announcements are in each state"`
}

// flagsSummary sums f up; nil: there is no flags repository, or nothing of it is known yet.
func flagsSummary(f *Flags) *FlagsSummary {
	if f == nil {
		return nil
	}
	s := &FlagsSummary{
		Commit: f.Commit, Height: f.Height, Fault: f.Fault, Diverged: f.Diverged, Killed: f.Seen.Killed,
		Announcements: map[announce.State]int{},
	}
	for _, a := range f.Plan.Announcements {
		s.Announcements[a.State]++
	}
	return s
}
