package announcer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// ReadInput returns the input of a plan at now, for showing a plan without carrying it out: the flags repository at
// tip, and the channels and cells of v; without v, none. If no commit is valid, Look returns the tip's overrides.
func ReadInput(ctx context.Context, repo engine.Repository, tip string, v *view.View, now time.Time) (announce.Input,
	error) {
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
		fleet := FleetInput(v)
		in.Channels, in.Cells, in.Releases = fleet.Channels, fleet.Cells, fleet.Releases
	}
	return in, nil
}

// ReadFiles returns the files of the flags repository at tip, with its settings as they are in force, and the faults of
// changes that no owner signed (R52).
func ReadFiles(ctx context.Context, repo engine.Repository, tip string) (fs.FS, []manifest.Fault, error) {
	r := reader{repo: repo}
	if err := r.foldHistory(ctx, tip); err != nil {
		return nil, nil, err
	}
	files, err := r.history.inForce(repo.FS)(tip)
	if err != nil {
		return nil, nil, fmt.Errorf("read commit %s: %w", tip, err)
	}
	return files, r.history.withheld.Faults(r.history.authority.Owners), nil
}

// Proof is what the history of the flags repository says of its approvals and settings.
type Proof struct {
	Approvals map[string]plan.Approval // by file
	Authors   map[string][]string      // by announcement: addresses and keys of its authors
	Withheld  plan.WithheldFiles       // what no owner signed (R52)
	Owners    []string
}

// ReadProof reads the history of the flags repository up to tip, for verifying offline what stands there.
func ReadProof(ctx context.Context, repo engine.Repository, tip string) (Proof, error) {
	r := reader{repo: repo}
	if err := r.foldHistory(ctx, tip); err != nil {
		return Proof{}, err
	}
	h := r.history
	return Proof{Approvals: h.approvals, Authors: h.authors, Withheld: h.withheld, Owners: h.authority.Owners}, nil
}

// FleetInput returns the channels, cells and releases of v as an Input without other fields.
func FleetInput(v *view.View) announce.Input {
	f := new(Announcer).observeFleet(v, v.Observed.Cells, nil)
	return announce.Input{Channels: f.channels, Cells: f.cells, Releases: f.releases}
}

// errNoView means that the engine has not decided yet.
var errNoView = errors.New("the release repository has not been read yet: the engine must tick first")

// Tick runs one pass of Run's loop after a tick of the engine: it fetches the branch, decides, and commits until
// nothing is left. did is what was committed. It must not run beside Run.
func (a *Announcer) Tick(ctx context.Context) (p announce.Plan, committed []announce.Write, err error) {
	if a.opts.Engine.View() == nil {
		return announce.Plan{}, nil, errNoView
	}
	fetch := true
	var failed error // of the last exchange
	for range maxMoves {
		a.loadStored(ctx)
		if !a.loaded {
			return a.plan, committed, plan.ErrBusy
		}
		_, do := a.nextJob(fetch)
		if do == nil {
			break
		}
		r := do(ctx)
		if r.err != nil || r.writes != nil {
			failed = r.err
		}
		if r.err == nil {
			committed = append(committed, r.writes...)
		}
		if fetch, _ = a.handleResult(ctx, r); r.err != nil && !fetch {
			break
		}
		fetch = a.decide(ctx) || fetch
	}
	return a.plan, committed, failed
}
