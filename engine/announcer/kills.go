package announcer

import (
	"context"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
)

// pending gives the stored kills that count: those whose commit is not on the branch, as far as this process has read it. From
// that commit on the file counts, and who removes it lifts the kill (R43).
func (a *Announcer) pending() (all []plan.Kill) {
	for _, k := range a.kills {
		if r := a.read; r == nil || r.kills[k.ID] == "" && (k.Landed == "" || !r.has(k.Landed)) {
			all = append(all, k)
		}
	}
	return all
}

// land finds out which kills are in git, by the commits that say so or by a file that says the same. A file counts only if the
// branch was looked at after the kill was known: before, it may have been lifted since.
func (a *Announcer) land(ctx context.Context) {
	if a.read == nil {
		return
	}
	for i, k := range a.kills {
		commit := a.read.kills[k.ID]
		if commit == "" && a.asked[k.ID] && a.split == nil && slices.ContainsFunc(a.read.newest.Overrides, func(o repository.Override) bool { return sameKill(o, k.Override) }) {
			commit = a.read.tip
		}
		if commit == "" || k.Landed != "" && a.read.has(k.Landed) {
			continue
		}
		a.kills = slices.Clone(a.kills) // it is part of what was decided on
		a.kills[i].Landed = commit
		if err := a.o.Store.MarkKillLanded(ctx, k.ID, commit); err != nil {
			a.o.Log.Warn().Err(err).Str("flag", k.Override.Flag).Str("commit", commit).Msg("that a kill is committed could not be stored: it is found again")
		}
	}
}

func sameKill(a, b repository.Override) bool {
	return a.Kind == repository.Kill && a.Flag == b.Flag && a.Reason == b.Reason && a.By == b.By && a.Until.Equal(b.Until) &&
		slices.Equal(a.Cells.Names, b.Cells.Names) && slices.Equal(a.Cells.Channels, b.Cells.Channels) && maps.Equal(a.Cells.Labels, b.Cells.Labels)
}

func sameKills(a, b []plan.Kill) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Kill) bool { return x.ID == y.ID && x.Landed == y.Landed })
}

func overrides(kills []plan.Kill) (all []repository.Override) {
	for _, k := range kills {
		all = append(all, k.Override)
	}
	return all
}
