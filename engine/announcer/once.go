package announcer

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// Look gives what a plan would be made of at now, for whoever wants to see it without carrying it out: what the flags repository
// says at tip, and what v knows of channels and cells; without v, nothing. Where no commit is valid, the tip is given all the same.
func Look(ctx context.Context, repo engine.Repository, tip string, v *view.View, now time.Time) (announce.Input, error) {
	in := announce.Input{Now: now}
	r := reader{repo: repo}
	read, err := r.readSnapshot(ctx, tip)
	if err != nil {
		return in, err
	}
	in.Tip, in.Commit, in.Trees, in.Proven, in.Authors = read.inForce, read.valid, read.trees, read.proven, read.authors
	if in.Tip == nil {
		in.Tip, in.Commit = &repository.Tree{Overrides: read.tipTree.Overrides}, tip
	}
	if v != nil {
		fleet := Survey(v)
		in.Channels, in.Cells, in.Releases = fleet.Channels, fleet.Cells, fleet.Releases
	}
	return in, nil
}

// Survey gives what v has to say of channels, cells and releases, and nothing else of an Input.
func Survey(v *view.View) announce.Input {
	f := new(Announcer).observeFleet(v, v.Observed.Cells, nil)
	return announce.Input{Channels: f.channels, Cells: f.cells, Releases: f.releases}
}

// errNoView: the engine has not decided yet.
var errNoView = errors.New("nothing is known of the release repository: let the engine look first")

// Tick is one pass of what Run does all the time, after one of the engine's: it looks at the branch, decides, and commits what is
// to be remembered, until nothing is left. did is what was committed. Not beside Run.
func (a *Announcer) Tick(ctx context.Context) (p announce.Plan, did []announce.Write, err error) {
	if a.opts.Engine.View() == nil {
		return announce.Plan{}, nil, errNoView
	}
	fetch := true
	var failed error // of the last exchange
	for range maxMoves {
		a.loadStored(ctx)
		if !a.loaded {
			return a.plan, did, plan.ErrBusy
		}
		do := a.nextJob(fetch)
		if do == nil {
			break
		}
		r := do(ctx)
		if r.err != nil || r.writes != nil {
			failed = r.err
		}
		if r.err == nil {
			did = append(did, r.writes...)
		}
		if fetch, _ = a.handleResult(ctx, r); r.err != nil && !fetch {
			break
		}
		fetch = a.decide(ctx) || fetch
	}
	return a.plan, did, failed
}
