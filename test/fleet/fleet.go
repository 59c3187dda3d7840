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

// channelName is the channel of all cells.
const channelName = "fleet"

// firstRelease is the release that the repository starts with; versions of later releases count up.
const firstRelease = "1.0.0"

// The channel's policies: all cells at once, and in waves, which is the normal case.
const (
	atOncePolicy = "apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"
	wavesPolicy  = atOncePolicy +
		"rollout:\n  waves: [{cells: 10, soak: 30m}, {percent: 25, soak: 2h}, {percent: 100}]\n  maxInFlight: 100\n" +
		"  failureBudget: 20\n"
)

const policyFile = "channels/" + channelName + "/channel.yaml"

// fleet is a release repository with cells that have installed its first release, and a control plane with their
// reports.
type fleet struct {
	*server
	repo         *swarm.Repository
	n            int
	releaseCount int // after the first

	snapshots []swarm.Snapshot // state of the cells when the swarm stopped
}

// prepareFleet makes a fleet of n cells, lets a swarm install the first release, and restarts the control plane.
// database is PostgreSQL's URL, or empty for SQLite. The caller stops the fleet.
func (b *bench) prepareFleet(ctx context.Context, n int, database string) (f *fleet, err error) {
	b.fleetCount++
	dir := filepath.Join(b.dir, fmt.Sprintf("fleet-%d", b.fleetCount))
	files := swarm.ReleaseFiles(firstRelease, 3)
	// cells that only listen send no reports
	files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\nstaleAfter: 1h\n"
	files[policyFile] = atOncePolicy
	repo, err := swarm.CreateRepository(ctx, filepath.Join(dir, "releases.git"), files,
		swarm.Members(cellPrefix, n, keySeed), func(int) string { return channelName })
	if err != nil {
		return nil, err
	}
	f = &fleet{repo: repo, n: n, server: &server{binary: b.binary, repo: repo.Dir, data: filepath.Join(dir, "data"),
		database: database}}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	if err := f.start(ctx); err != nil {
		return f, err
	}
	l, err := b.startLoad(ctx, f.controlPlane(), n)
	if err != nil {
		return f, err
	}
	defer l.stop()
	if err := l.call("startSwarm", swarmOptions{ReportEvery: 10 * time.Minute, Dialing: concurrency}, nil); err != nil {
		return f, err
	}
	if err := l.call("awaitCells", cellCondition{Release: firstRelease, Within: 5 * time.Minute}, nil); err != nil {
		return f, err
	}
	if err := l.call("snapshots", struct{}{}, &f.snapshots); err != nil {
		return f, err
	}
	if err := l.call("stopSwarm", struct{}{}, nil); err != nil {
		return f, err
	}
	f.stop()
	return f, f.start(ctx)
}

// openSharedFleet returns the fleet on SQLite that most groups use, one after the other.
func (b *bench) openSharedFleet(ctx context.Context) (*fleet, error) {
	if b.sharedFleet == nil {
		f, err := b.prepareFleet(ctx, b.reportCells, "")
		if err != nil {
			return nil, err
		}
		b.sharedFleet = f
	}
	return b.sharedFleet, nil
}

// startLoad starts a child that simulates the first n cells.
func (b *bench) startLoad(ctx context.Context, to swarm.ControlPlane, n int) (*child, error) {
	l, err := startChild(ctx, "load")
	if err != nil {
		return nil, err
	}
	if err := l.call("configure", loadOptions{Plane: to, N: n, Seed: keySeed}, nil); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (b *bench) startBare(ctx context.Context) (c *child, at bareAddresses, err error) {
	if c, err = startChild(ctx, "bare"); err != nil {
		return nil, at, err
	}
	if err = c.call("listen", struct{}{}, &at); err != nil {
		c.stop()
	}
	return c, at, err
}

func (at bareAddresses) controlPlane(address string) swarm.ControlPlane {
	return swarm.ControlPlane{Addresses: []string{address}, Pins: []string{at.Pin}}
}

// cutRelease cuts the next release, and returns its version and the instant at which the branch moved.
func (f *fleet) cutRelease(ctx context.Context) (version string, landed time.Time, err error) {
	f.releaseCount++
	version = fmt.Sprintf("1.%d.0", f.releaseCount)
	landed, err = f.repo.Commit(ctx, "cut "+version, swarm.ReleaseFiles(version, 3))
	return version, landed, err
}

// setPolicy changes the channel's policy, and waits until the control plane has read the new one.
func (f *fleet) setPolicy(ctx context.Context, text string) error {
	if _, err := f.repo.Commit(ctx, "another policy", map[string]string{policyFile: text}); err != nil {
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
		if err := f.readStatus(ctx, &s); err != nil {
			return err
		}
		if s.Commit == tip {
			return nil
		}
	}
	return errors.New("the control plane did not read another policy within a minute")
}

func firstAssignment(l *child) (cells.Assignment, error) {
	var d cells.Desired
	if err := l.call("requestDesired", struct{}{}, &d); err != nil {
		return cells.Assignment{}, err
	}
	if d.Assignment == nil {
		return cells.Assignment{}, errors.New("the first cell is assigned nothing")
	}
	return *d.Assignment, nil
}
