package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/test/swarm"
)

// channel is where all cells are.
const channel = "fleet"

// first is the release that the repository begins with; later ones count up.
const first = "1.0.0"

// The channel's policies: everyone at once, and in waves, as it is most of the time.
const (
	atOncePolicy = "apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"
	wavesPolicy  = atOncePolicy + "rollout:\n  waves: [{cells: 10, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}]\n  maxInFlight: 100\n  failureBudget: 20\n"
)

// policyFile is the channel's.
const policyFile = "channels/" + channel + "/channel.yaml"

// fleet is a release repository with cells that have installed its first release, and a control plane that knows so.
type fleet struct {
	*server
	repo *swarm.Repository
	n    int
	cut  int // releases after the first

	words []swarm.Word // the cells, as the swarm left them
}

// settle makes a fleet of n cells, lets a swarm install the first release, and starts the control plane again.
// database is PostgreSQL's URL, or empty for SQLite. Whoever asked for it closes it.
func (b *bench) settle(ctx context.Context, n int, database string) (f *fleet, err error) {
	b.fleets++
	dir := filepath.Join(b.dir, fmt.Sprintf("fleet-%d", b.fleets))
	files := swarm.Release(first, 3)
	files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\nstaleAfter: 1h\n" // those who listen report nothing
	files[policyFile] = atOncePolicy
	repo, err := swarm.MakeRepository(ctx, filepath.Join(dir, "releases.git"), files, swarm.Members(prefix, n, seed), func(int) string { return channel })
	if err != nil {
		return nil, err
	}
	f = &fleet{repo: repo, n: n, server: &server{binary: b.binary, repo: repo.Dir, data: filepath.Join(dir, "data"), database: database}}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	if err := f.start(ctx); err != nil {
		return f, err
	}
	l, err := b.load(ctx, f.plane(), n)
	if err != nil {
		return f, err
	}
	defer l.stop()
	if err := l.do("live", living{ReportEvery: 10 * time.Minute, Dialing: atOnce}, nil); err != nil {
		return f, err
	}
	if err := l.do("until", until{Release: first, Within: 5 * time.Minute}, nil); err != nil {
		return f, err
	}
	if err := l.do("words", struct{}{}, &f.words); err != nil {
		return f, err
	}
	if err := l.do("end", struct{}{}, nil); err != nil {
		return f, err
	}
	f.stop()
	return f, f.start(ctx)
}

// shared is the fleet on SQLite that most groups work on, one after the other.
func (b *bench) shared(ctx context.Context) (*fleet, error) {
	if b.common == nil {
		f, err := b.settle(ctx, b.cells, "")
		if err != nil {
			return nil, err
		}
		b.common = f
	}
	return b.common, nil
}

// load starts a child that plays the first n cells.
func (b *bench) load(ctx context.Context, to swarm.Plane, n int) (*child, error) {
	l, err := startChild(ctx, "load")
	if err != nil {
		return nil, err
	}
	if err := l.do("be", who{Plane: to, N: n, Seed: seed}, nil); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

// bareServer starts the baseline.
func (b *bench) bareServer(ctx context.Context) (c *child, at bareAt, err error) {
	if c, err = startChild(ctx, "bare"); err != nil {
		return nil, at, err
	}
	if err = c.do("listen", struct{}{}, &at); err != nil {
		c.stop()
	}
	return c, at, err
}

func (at bareAt) plane(address string) swarm.Plane {
	return swarm.Plane{Addresses: []string{address}, Pins: []string{at.Pin}}
}

// release cuts the next one, and gives its version and the instant at which it landed.
func (f *fleet) release(ctx context.Context) (version string, landed time.Time, err error) {
	f.cut++
	version = fmt.Sprintf("1.%d.0", f.cut)
	landed, err = f.repo.Land(ctx, "cut "+version, swarm.Release(version, 3))
	return version, landed, err
}

// policy gives the channel another, and waits until the control plane has read it.
func (f *fleet) policy(ctx context.Context, text string) error {
	if _, err := f.repo.Land(ctx, "another policy", map[string]string{policyFile: text}); err != nil {
		return err
	}
	tip, err := f.repo.Tip(ctx)
	if err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(20 * time.Millisecond) {
		var s struct {
			Commit string `json:"commit"`
		}
		if err := f.status(ctx, &s); err != nil {
			return err
		}
		if s.Commit == tip {
			return nil
		}
	}
	return errors.New("the control plane did not read another policy within a minute")
}

// assigned is what the first cell is told to run.
func assigned(l *child) (cells.Assignment, error) {
	var d cells.Desired
	if err := l.do("head", struct{}{}, &d); err != nil {
		return cells.Assignment{}, err
	}
	if d.Assignment == nil {
		return cells.Assignment{}, errors.New("the first cell is assigned nothing")
	}
	return *d.Assignment, nil
}
