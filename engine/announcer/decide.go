package announcer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
)

// idleWait is how long the loop waits when nothing is due.
const idleWait = time.Hour

// storeRetryDelay is the delay before reading the store again after an error.
const storeRetryDelay = time.Second

// loadStored reads the mark, the kills and, once, the memory. After an error the known values stay: a known kill is
// never forgotten.
func (a *Announcer) loadStored(ctx context.Context) {
	kills, err := a.opts.Store.Kills(ctx)
	if err == nil {
		a.kills = kills
		var mark plan.FlagsMark
		if mark, err = a.opts.Store.FlagsMark(ctx); err == nil {
			a.mark = mark
		}
	}
	if err == nil && !a.loaded {
		if a.storedMemory, err = a.opts.Store.FlagsMemory(ctx); err == nil {
			a.memory, a.loaded = a.storedMemory, true
		}
	}
	a.storeUnread = err != nil
	if err != nil && ctx.Err() == nil {
		a.opts.Log.Warn().Err(err).Msg("stored flag data can't be read: what is known stays in force")
	}
}

// decide makes a plan if anything changed or is due, publishes it, and does the leader's work except commits. It
// reports whether to fetch the branch.
func (a *Announcer) decide(ctx context.Context) (fetch bool) {
	if !a.loaded || a.storeUnread {
		a.loadStored(ctx)
	}
	v := a.opts.Engine.View()
	if !a.loaded || v == nil || a.snapshot == nil && a.fault() == "" && len(a.pendingKills()) == 0 {
		return false // there is nothing to publish yet
	}
	if leads := a.opts.Engine.Leads(); leads != a.leads {
		if leads && !a.takeOver(ctx) {
			return false
		}
		a.leads, fetch = leads, leads
	}
	if a.leads {
		a.storeMark(ctx)
		a.recordLandedKills(ctx)
	}
	fetch = fetch || a.isBehind()
	now, doubt := a.decisionTime()
	states := a.opts.Engine.CellStates()
	inputs := planInputs{a.snapshot, a.kills, a.diverged, a.fault(), a.observeFleet(v, states, a.publishedFlags()),
		a.leads, doubt}
	if inputs.equal(a.planInputs) && (a.plan.Next.IsZero() || now.Before(a.plan.Next)) {
		return fetch
	}
	a.plan, a.planInputs = a.makePlan(inputs, now), inputs
	a.publish(inputs, states, now)
	if doubt != "" && a.lastTrusted.IsZero() {
		return fetch // events wait until their time is known
	}
	a.memory = a.plan.Memory
	if a.leads {
		a.postEvents(ctx, now)
	}
	return fetch
}

// decisionTime returns the instant to decide at: the last one that could be trusted, while time can't be trusted (R10).
func (a *Announcer) decisionTime() (now time.Time, doubt string) {
	now, doubt = a.opts.Engine.TrustedTime()
	switch {
	case doubt == "":
		a.lastTrusted = now
	case !a.lastTrusted.IsZero():
		now = a.lastTrusted
	}
	return now, doubt
}

// takeOver reads what the previous leader stored.
func (a *Announcer) takeOver(ctx context.Context) bool {
	memory, err := a.opts.Store.FlagsMemory(ctx)
	if err != nil {
		a.opts.Log.Warn().Err(err).Msg("the announcements' memory can't be read: nothing is committed until it can")
		return false
	}
	a.memory, a.storedMemory = memory, memory
	clear(a.postedEvents)
	a.loadStored(ctx)
	return true
}

// isBehind reports whether another process acted upon a commit that this one has not read.
func (a *Announcer) isBehind() bool {
	return a.snapshot != nil && a.diverged == nil && a.repoFault == "" && a.mark.Commit != "" &&
		!a.snapshot.contains(a.mark.Commit)
}

func (a *Announcer) publishedFlags() map[string]*cells.Flags {
	if a.published == nil {
		return nil
	}
	return a.published.ByCell
}

func (a *Announcer) makePlan(inputs planInputs, now time.Time) announce.Plan {
	a.planCount++
	in := announce.Input{
		Now: now, Doubt: inputs.doubt, Kills: killOverrides(a.pendingKills()), Channels: inputs.fleet.channels,
		Cells: inputs.fleet.cells, Releases: inputs.fleet.releases, Memory: a.memory,
	}
	if r := inputs.snapshot; r != nil && r.inForce != nil {
		in.Tip, in.Commit, in.Trees, in.Proven, in.Authors = r.inForce, r.valid, r.trees, r.proven, r.authors
	}
	return announce.Make(in)
}

func (a *Announcer) publish(inputs planInputs, states map[string]*plan.CellState, now time.Time) {
	f := &view.Flags{Diverged: a.diverged, Plan: a.plan, Fault: inputs.repoFault,
		Kills: killOverrides(a.pendingKills())}
	kills := slices.Clone(f.Kills)
	if r := inputs.snapshot; r != nil {
		f.Commit, f.Height, f.Tip = r.tip, r.height, r.inForce
		f.Faults = manifest.Sort(slices.Concat(r.tipTree.Faults, r.withheld, a.plan.Faults))
		if r.valid != r.tip && f.Fault == "" {
			f.Fault = whyNotInForce(r)
		}
		f.Fault = cmp.Or(f.Fault, whyFilesStand(r.tipTree))
		if f.Fault == "" && inputs.doubt != "" {
			f.Fault = "announcements wait until time can be trusted: " + inputs.doubt
		}
		for _, o := range r.tipTree.Overrides {
			if o.Kind == repository.Kill {
				kills = append(kills, o)
			}
		}
	}
	if f.Tip != nil {
		f.ByCell, f.Bundles = a.bundles.flagsForCells(a.plan, f.Height, now, a.publishedFlags())
	} else {
		f.ByCell = flagsWithoutRepository(inputs.fleet.desired, states, kills)
	}
	f.Seen = flagsSeen(f, kills)
	a.published = f
	a.opts.Engine.Announce(f)
}

func whyNotInForce(r *snapshot) string {
	why := "the tip can't be read"
	for _, f := range r.tipTree.Faults {
		if !f.Warning {
			why = f.String()
			break
		}
	}
	if r.valid == "" {
		return why + ": no commit before it is valid either, and nothing is in force but overrides"
	}
	return why + ": the flags and announcements of " + words.ShortCommit(r.valid) +
		" stay in force, and the overrides of the tip"
}

// flagsSeen returns what gates see; without a plan, only the kills.
func flagsSeen(f *view.Flags, kills []repository.Override) plan.FlagsSeen {
	s := plan.FlagsSeen{Commit: f.Commit, Published: f.Plan.Published()}
	for _, k := range kills {
		s.Killed = append(s.Killed, k.Flag)
	}
	slices.Sort(s.Killed)
	s.Killed = slices.Compact(s.Killed)
	return s
}

// nextWait returns how long to wait until something is due.
func (a *Announcer) nextWait() time.Duration {
	wait := idleWait
	if !a.loaded || a.storeUnread {
		wait = storeRetryDelay
	}
	if !a.plan.Next.IsZero() {
		left := a.plan.Next.Sub(a.opts.Engine.Now())
		if left <= 0 { // a plan must not lead to another one at once, for ever
			left = time.Second
		}
		wait = min(wait, left)
	}
	if x := a.exchange; x != nil && !x.isSlow() {
		wait = min(wait, time.Until(x.began.Add(engine.SlowHost))) // people are told then
	}
	// Writes that are due now start after git's current job.
	if left := time.Until(a.pushes.notBefore); left > 0 && a.hasWrites() {
		wait = min(wait, left)
	}
	return max(wait, time.Millisecond)
}
