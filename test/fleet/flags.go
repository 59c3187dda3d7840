package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

const (
	flagCells   = 1_000
	flagCount   = 50
	flagTimeout = 30 * time.Second // for one change, before it counts as lost
)

// measureFlags measures the time from a push to the flags repository, and from a kill, until a thousand connected cells
// have what they evaluate the flag by.
func (b *bench) measureFlags(ctx context.Context) ([]figures.Row, error) {
	f, repo, err := b.startWithFlags(ctx)
	if f != nil {
		defer f.stop()
	}
	if err != nil {
		return nil, err
	}
	l, err := b.startLoad(ctx, f.controlPlane(), flagCells)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := l.call("openFlagStreams", flagCells, nil); err != nil {
		return nil, err
	}
	if err := l.call("awaitVariant", variantQuery{Variant: "v0", Wait: flagTimeout}, nil); err != nil {
		return nil, err
	}
	var told []spread
	err = f.withProfile(profilePath(b.profile, "flags"), func() (err error) {
		told, err = b.timeFlagChanges(ctx, repo, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	changes, newest := medianSpread(told), told[len(told)-1]
	bare, err := b.timeBareBroadcasts(ctx, flagCells, newest.Size)
	if err != nil {
		return nil, err
	}
	if b.pushCount%2 == 0 { // a killed flag has variant v0
		if _, err := repo.Commit(ctx, "change one flag",
			map[string]string{watchedFlagPath: watchedFlagFile("v1")}); err != nil {
			return nil, err
		}
		if err := l.call("awaitVariant", variantQuery{Variant: "v1", Wait: flagTimeout}, nil); err != nil {
			return nil, err
		}
	}
	killed, err := b.timeKill(ctx, f, l)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow(fmt.Sprintf("one of %d flags pushed, until %d cells have what evaluates so, p99, median of %d",
			flagCount, flagCells, b.pushCount), changes.P99, "bare broadcast", bare.P99, 3),
		figures.NoteRow("  the last cell, and bundles that cells fetched", fmt.Sprintf("%s, %d",
			figures.Time(changes.Last), newest.Fetched), fmt.Sprintf("bare %s, %d bytes", figures.Time(bare.Last),
			newest.Size)),
		figures.TimeRow(fmt.Sprintf("a flag killed, until the last of %d cells has what turns it off", flagCells),
			killed.Last, "bare broadcast", bare.Last, 10),
	}, nil
}

// timeBareBroadcasts returns how long a bare server takes to send so many bytes to so many cells.
func (b *bench) timeBareBroadcasts(ctx context.Context, cells, size int) (spread, error) {
	bare, at, err := b.startBare(ctx)
	if err != nil {
		return spread{}, err
	}
	defer bare.stop()
	l, err := b.startLoad(ctx, at.controlPlane(at.Streams), cells)
	if err != nil {
		return spread{}, err
	}
	defer l.stop()
	if err := l.call("followHeads", cells, nil); err != nil {
		return spread{}, err
	}
	all := make([]spread, b.pushCount)
	for i := range all {
		if err := l.call("forgetArrivals", struct{}{}, nil); err != nil {
			return spread{}, err
		}
		var since time.Time
		if err := bare.call("broadcast", size, &since); err != nil {
			return spread{}, err
		}
		if err := l.call("awaitHead", headQuery{Since: since, Wait: fanoutTimeout}, &all[i]); err != nil {
			return spread{}, err
		}
	}
	return medianSpread(all), nil
}

// timeFlagChanges changes the watched flag pushCount times, and returns how long cells took.
func (b *bench) timeFlagChanges(ctx context.Context, repo *swarm.Repository, l *child) (told []spread, err error) {
	for n := range b.pushCount {
		variant := fmt.Sprintf("v%d", (n+1)%2)
		landed, err := repo.Commit(ctx, "change one flag", map[string]string{watchedFlagPath: watchedFlagFile(variant)})
		if err != nil {
			return nil, err
		}
		var s spread
		if err := l.call("awaitVariant", variantQuery{Since: landed, Variant: variant, Wait: flagTimeout},
			&s); err != nil {
			return nil, err
		}
		told = append(told, s)
		sleep(ctx, 300*time.Millisecond)
	}
	return told, nil
}

func (b *bench) timeKill(ctx context.Context, f *fleet, l *child) (s spread, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sluice/v1/flags/"+watchedFlagKey+"/kill",
		strings.NewReader(`{"reason":"measured"}`))
	if err != nil {
		return s, err
	}
	r.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	w, err := f.adminClient().Do(r)
	if err != nil {
		return s, err
	}
	_ = w.Body.Close()
	if w.StatusCode/100 != 2 {
		return s, errors.New("kill: " + w.Status)
	}
	return s, l.call("awaitVariant", variantQuery{Since: begun, Variant: "off", Wait: flagTimeout}, &s)
}

// startWithFlags starts a fleet whose control plane has a flags repository.
func (b *bench) startWithFlags(ctx context.Context) (*fleet, *swarm.Repository, error) {
	files := map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Flags\n",
		watchedFlagPath: watchedFlagFile("v0")}
	for i := range flagCount - 1 {
		files[fmt.Sprintf("flags/more-%d.yaml", i)] = otherFlagFile(i)
	}
	repo, err := swarm.CreateRepository(ctx, filepath.Join(b.dir, "flags.git"), files, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	f, err := b.prepareFleet(ctx, flagCells, "")
	if err != nil {
		return f, nil, err
	}
	f.stop()
	f.flagsRepo, f.socket = repo.Dir, filepath.Join(b.dir, "people")
	return f, repo, f.start(ctx)
}

const watchedFlagPath = "flags/watched.yaml"

func watchedFlagFile(variant string) string {
	return "flags:\n  " + watchedFlagKey +
		":\n    state: ENABLED\n    variants: {v0: a, v1: b, 'off': 'no'}\n    defaultVariant: " +
		variant + "\n    metadata: {'off': 'off'}\n"
}

// otherFlagFile returns a flag that never changes, with a rule and a share.
func otherFlagFile(i int) string {
	return fmt.Sprintf(`flags:
  more-%d:
    state: ENABLED
    variants: {'on': true, 'off': false}
    defaultVariant: 'off'
    targeting:
      if:
      - ends_with: [{var: email}, '@example.com']
      - 'on'
      - fractional: [['on', 20], ['off', 80]]
`, i)
}
