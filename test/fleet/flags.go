package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// What a change of a flag is measured with.
const (
	flagCells   = 1_000
	flagCount   = 50
	flagsWithin = 30 * time.Second // for one change, before it counts as lost
)

// flags measures how long after a push of the flags repository, and after a kill, the last of a thousand connected cells
// evaluates accordingly.
func (b *bench) flags(ctx context.Context) ([]figures.Row, error) {
	f, repo, err := b.flagged(ctx)
	if f != nil {
		defer f.stop()
	}
	if err != nil {
		return nil, err
	}
	l, err := b.load(ctx, f.plane(), flagCells)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	if err := l.do("lamps", flagCells, nil); err != nil {
		return nil, err
	}
	if err := l.do("shines", shining{Variant: "v0", Wait: flagsWithin}, nil); err != nil {
		return nil, err
	}
	var p99, last []time.Duration
	err = f.profiled(b.profileOf("flags"), func() (err error) {
		p99, last, err = b.change(ctx, repo, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	if b.pushes%2 == 0 { // not the variant that a killed flag has
		if _, err := repo.Land(ctx, "change one flag", map[string]string{watchedFile: watchedFlag("v1")}); err != nil {
			return nil, err
		}
		if err := l.do("shines", shining{Variant: "v1", Wait: flagsWithin}, nil); err != nil {
			return nil, err
		}
	}
	killed, err := b.kill(ctx, f, l)
	if err != nil {
		return nil, err
	}
	slices.Sort(p99)
	return []figures.Row{
		figures.Within(fmt.Sprintf("one of %d flags pushed, until %d cells evaluate it so, p99, worst of %d", flagCount, flagCells, b.pushes), p99[len(p99)-1], 2*time.Second),
		figures.Beside("  the last cell, median of pushes", figures.Time(figures.Median(last)), ""),
		figures.Within(fmt.Sprintf("a flag killed, until it is off in the last of %d cells", flagCells), killed.Last, 2*time.Second),
	}, nil
}

// change changes the watched flag again and again, and gives how long cells took.
func (b *bench) change(ctx context.Context, repo *swarm.Repository, l *child) (p99, last []time.Duration, err error) {
	for n := range b.pushes {
		variant := fmt.Sprintf("v%d", (n+1)%2)
		landed, err := repo.Land(ctx, "change one flag", map[string]string{watchedFile: watchedFlag(variant)})
		if err != nil {
			return nil, nil, err
		}
		var s spread
		if err := l.do("shines", shining{Since: landed, Variant: variant, Wait: flagsWithin}, &s); err != nil {
			return nil, nil, err
		}
		p99, last = append(p99, s.P99), append(last, s.Last)
		pause(ctx, 300*time.Millisecond)
	}
	return p99, last, nil
}

// kill kills the watched flag as an operator does.
func (b *bench) kill(ctx context.Context, f *fleet, l *child) (s spread, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sluice/v1/flags/"+watched+"/kill", strings.NewReader(`{"reason":"measured"}`))
	if err != nil {
		return s, err
	}
	r.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	w, err := f.administrator().Do(r)
	if err != nil {
		return s, err
	}
	_ = w.Body.Close()
	if w.StatusCode/100 != 2 {
		return s, errors.New("kill: " + w.Status)
	}
	return s, l.do("shines", shining{Since: begun, Variant: "off", Wait: flagsWithin}, &s)
}

// flagged makes a fleet whose control plane has a flags repository.
func (b *bench) flagged(ctx context.Context) (*fleet, *swarm.Repository, error) {
	files := map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Flags\n", watchedFile: watchedFlag("v0")}
	for i := range flagCount - 1 {
		files[fmt.Sprintf("flags/more-%d.yaml", i)] = moreFlag(i)
	}
	repo, err := swarm.MakeRepository(ctx, filepath.Join(b.dir, "flags.git"), files, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	f, err := b.settle(ctx, flagCells, "")
	if err != nil {
		return f, nil, err
	}
	f.stop()
	f.flags, f.socket = repo.Dir, filepath.Join(b.dir, "people")
	return f, repo, f.start(ctx)
}

const watchedFile = "flags/watched.yaml"

func watchedFlag(variant string) string {
	return "flags:\n  " + watched + ":\n    state: ENABLED\n    variants: {v0: a, v1: b, 'off': 'no'}\n    defaultVariant: " + variant + "\n    metadata: {'off': 'off'}\n"
}

// moreFlag is one of those that stay the same: a rule and a share each.
func moreFlag(i int) string {
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
