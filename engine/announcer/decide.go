package announcer

import (
	"context"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
)

// idle is how long nothing is done while neither time nor anybody asks for it.
const idle = time.Hour

// retryStore is how soon the store is asked again that could not be read.
const retryStore = time.Second

// recall reads what the store has: the kills above all. What can't be read is as it was: a kill that is known is never forgotten so.
func (a *Announcer) recall(ctx context.Context) {
	kills, err := a.o.Store.Kills(ctx)
	if err == nil {
		a.kills = kills
		var mark plan.FlagsMark
		if mark, err = a.o.Store.FlagsMark(ctx); err == nil {
			a.mark = mark
		}
	}
	if err == nil && !a.stored {
		if a.kept, err = a.o.Store.FlagsMemory(ctx); err == nil {
			a.memory, a.stored = a.kept, true
		}
	}
	a.unread = err != nil
	if err != nil && ctx.Err() == nil {
		a.o.Log.Warn().Err(err).Msg("what is stored of flags can't be read: what is known of it stays in force")
	}
}

// decide makes a plan of what is known now, if anything changed or time asks for it, tells cells, and does what only who leads
// does beside commits. It tells whether the branch is to be looked at.
func (a *Announcer) decide(ctx context.Context) (fetch bool) {
	if !a.stored || a.unread {
		a.recall(ctx)
	}
	v := a.o.Engine.View()
	if !a.stored || v == nil || a.read == nil && a.fault == "" && len(a.pending()) == 0 {
		return false // nothing is to be told yet
	}
	if leads := a.o.Engine.Leads(); leads != a.leads {
		if leads && !a.takeOver(ctx) {
			return false
		}
		a.leads, fetch = leads, leads
	}
	if a.leads {
		a.keepMark(ctx)
		a.land(ctx)
	}
	fetch = fetch || a.behind()
	now, doubt := a.now()
	states := a.o.Engine.CellStates()
	is := situation{a.read, a.kills, a.split, a.fault, a.survey(v, states, a.told()), a.leads, doubt}
	if is.same(a.decided) && (a.plan.Next.IsZero() || now.Before(a.plan.Next)) {
		return fetch
	}
	a.plan, a.decided = a.make(is, now), is
	a.show(is, states, now)
	if doubt != "" && a.trusted.IsZero() {
		return fetch // what happened, and when, is told once that is known
	}
	a.memory = a.plan.Memory
	if a.leads {
		a.post(ctx, now)
	}
	return fetch
}

// now is the instant to decide at. It stands still while time can't be trusted (R10), at the last one that could.
func (a *Announcer) now() (now time.Time, doubt string) {
	now, doubt = a.o.Engine.Time()
	switch {
	case doubt == "":
		a.trusted = now
	case !a.trusted.IsZero():
		now = a.trusted
	}
	return now, doubt
}

// takeOver reads what the one who led before left behind.
func (a *Announcer) takeOver(ctx context.Context) bool {
	memory, err := a.o.Store.FlagsMemory(ctx)
	if err != nil {
		a.o.Log.Warn().Err(err).Msg("what announcements remember can't be read: nothing is committed before it can")
		return false
	}
	a.memory, a.kept = memory, memory
	clear(a.posted)
	a.recall(ctx)
	return true
}

// behind tells whether another process acted upon a commit that this one has not read.
func (a *Announcer) behind() bool {
	return a.read != nil && a.split == nil && a.fault == "" && a.mark.Commit != "" && !a.read.has(a.mark.Commit)
}

// told is what cells were told last.
func (a *Announcer) told() map[string]*cells.Flags {
	if a.shown == nil {
		return nil
	}
	return a.shown.Told
}

// make has announce.Make decide.
func (a *Announcer) make(is situation, now time.Time) announce.Plan {
	a.made++
	in := announce.Input{
		Now: now, Doubt: is.doubt, Kills: overrides(a.pending()), Channels: is.fleet.channels, Cells: is.fleet.cells, Releases: is.fleet.releases, Memory: a.memory,
	}
	if r := is.read; r != nil && r.tree != nil {
		in.Tip, in.Commit, in.Trees, in.Proven, in.Authors = r.tree, r.good, r.trees, r.proven, r.authors
	}
	return announce.Make(in)
}

// show tells cells and people.
func (a *Announcer) show(is situation, states map[string]*plan.CellState, now time.Time) {
	f := &view.Flags{Diverged: a.split, Plan: a.plan, Fault: a.fault, Kills: overrides(a.pending())}
	kills := slices.Clone(f.Kills)
	if r := is.read; r != nil {
		f.Commit, f.Height, f.Tip = r.tip, r.height, r.tree
		f.Faults = manifest.Sort(slices.Concat(r.newest.Faults, a.plan.Faults))
		if r.good != r.tip && f.Fault == "" {
			f.Fault = outOfForce(r)
		}
		if f.Fault == "" && is.doubt != "" {
			f.Fault = "no time comes for announcements: " + is.doubt
		}
		for _, o := range r.newest.Overrides {
			if o.Kind == repository.Kill {
				kills = append(kills, o)
			}
		}
	}
	if f.Tip != nil {
		f.Told, f.Bundles = a.press.tell(a.plan, f.Height, now, a.told())
	} else {
		f.Told = blind(is.fleet.desired, states, kills)
	}
	f.Seen = seen(f, kills)
	a.shown = f
	a.o.Engine.Announce(f)
}

// outOfForce says why the tip's definitions are not in force.
func outOfForce(r *reading) string {
	why := "the tip can't be read"
	for _, f := range r.newest.Faults {
		if !f.Warning {
			why = f.String()
			break
		}
	}
	if r.good == "" {
		return why + ": no commit before it is valid either, and nothing is in force but overrides"
	}
	return why + ": the flags and announcements of " + words.Short(r.good) + " stay in force, and the overrides of the tip"
}

// seen is what gates see. Without a plan, that is what is killed.
func seen(f *view.Flags, kills []repository.Override) plan.FlagsSeen {
	s := plan.FlagsSeen{Commit: f.Commit, Published: f.Plan.Published()}
	for _, k := range kills {
		s.Killed = append(s.Killed, k.Flag)
	}
	slices.Sort(s.Killed)
	s.Killed = slices.Compact(s.Killed)
	return s
}

// next is how long until time alone asks for something.
func (a *Announcer) next() time.Duration {
	wait := idle
	if !a.stored || a.unread {
		wait = retryStore
	}
	if !a.plan.Next.IsZero() {
		left := a.plan.Next.Sub(a.o.Engine.Now())
		if left <= 0 { // no plan is to ask for another without end
			left = time.Second
		}
		wait = min(wait, left)
	}
	if left := time.Until(a.push.after); left > 0 && a.owes() { // what is owed now is begun as soon as git's other job is done
		wait = min(wait, left)
	}
	return max(wait, time.Millisecond)
}
