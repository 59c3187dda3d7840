package announcer

import (
	"context"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/repository"
)

// pendingKills returns the stored kills that count: those whose commit is not in the snapshot. From that commit on the
// file counts, and removing the file lifts the kill (R43).
func (a *Announcer) pendingKills() (all []plan.Kill) {
	for _, k := range a.kills {
		if r := a.snapshot; r == nil || r.kills[k.ID] == "" && (k.Landed == "" || !r.contains(k.Landed)) {
			all = append(all, k)
		}
	}
	return all
}

// recordLandedKills finds the kills that git has, by a commit's trailer or by an equal file. A file counts only if the
// branch was fetched after the kill was known, for an earlier one may have been lifted since.
func (a *Announcer) recordLandedKills(ctx context.Context) {
	if a.snapshot == nil {
		return
	}
	for i, k := range a.kills {
		commit := a.snapshot.kills[k.ID]
		if commit == "" && a.knownKills[k.ID] && a.diverged == nil &&
			slices.ContainsFunc(a.snapshot.tipTree.Overrides,
				func(o repository.Override) bool { return sameKill(o, k.Override) }) {
			commit = a.snapshot.tip
		}
		if commit == "" || k.Landed != "" && a.snapshot.contains(k.Landed) {
			continue
		}
		a.kills = slices.Clone(a.kills) // planInputs shares the old slice
		a.kills[i].Landed = commit
		if err := a.opts.Store.MarkKillLanded(ctx, k.ID, commit); err != nil {
			a.opts.Log.Warn().Err(err).Str("flag", k.Override.Flag).Str("commit", commit).
				Msg("could not store that a kill was committed: it will be found again")
		}
	}
}

func sameKill(a, b repository.Override) bool {
	return a.Kind == repository.Kill && a.Flag == b.Flag && a.Reason == b.Reason && a.By == b.By &&
		a.Until.Equal(b.Until) &&
		slices.Equal(a.Cells.Names, b.Cells.Names) && slices.Equal(a.Cells.Channels, b.Cells.Channels) &&
		maps.Equal(a.Cells.Labels, b.Cells.Labels)
}

func sameKills(a, b []plan.Kill) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Kill) bool { return x.ID == y.ID && x.Landed == y.Landed })
}

func killOverrides(kills []plan.Kill) (all []repository.Override) {
	for _, k := range kills {
		all = append(all, k.Override)
	}
	return all
}
