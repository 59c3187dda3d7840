package swarm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// DialAll connects the first n members, atOnce at a time. It returns how long each connection took, sorted. ready, if
// not nil, is called for each connection after the handshake, and may use it.
func (d *Dialer) DialAll(ctx context.Context, n, atOnce int, ready func(i int, l *Conn) error) ([]*Conn,
	[]time.Duration, error) {
	links, took := make([]*Conn, n), make([]time.Duration, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, atOnce))
	begun := time.Now()
	for i := range n {
		g.Go(func() error {
			l, err := d.Dial(ctx, i, 0)
			if err != nil {
				return err
			}
			links[i] = l
			if ready != nil {
				if err := ready(i, l); err != nil {
					return fmt.Errorf("cell %d: %w", i, err)
				}
			}
			took[i] = time.Since(begun)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		CloseAll(links)
		return nil, nil, err
	}
	slices.Sort(took)
	return links, took, nil
}

// CloseAll closes connections; nil ones are skipped.
func CloseAll(links []*Conn) {
	for _, l := range links {
		if l != nil {
			l.Close()
		}
	}
}

type Measurement struct {
	Answered int
	Took     time.Duration
	P50, P99 time.Duration // of response times
}

func (m Measurement) Rate() float64 { return float64(m.Answered) / m.Took.Seconds() }

// Hammer sends requests over all connections, atOnce at any time, each connection in its turn, for the time lasts. A
// connection has one request at a time. The order is shuffled, since neighbours in a table would flatter a database.
func Hammer(ctx context.Context, links []*Conn, atOnce int, lasts time.Duration,
	ask func(i int, l *Conn) error) (Measurement, error) {
	order := rand.Perm(len(links))
	var over atomic.Bool
	defer context.AfterFunc(ctx, func() { over.Store(true) })()
	t := time.AfterFunc(lasts, func() { over.Store(true) })
	defer t.Stop()
	var mu sync.Mutex
	var all []time.Duration
	var g errgroup.Group
	begun := time.Now()
	for w := range atOnce {
		g.Go(func() error {
			mine := make([]time.Duration, 0, 1<<14)
			defer func() {
				mu.Lock()
				all = append(all, mine...)
				mu.Unlock()
			}()
			for k := w; !over.Load(); k += atOnce {
				if k >= len(order) {
					k = w
				}
				i, asked := order[k], time.Now()
				if err := ask(i, links[i]); err != nil {
					over.Store(true)
					return fmt.Errorf("cell %d: %w", i, err)
				}
				mine = append(mine, time.Since(asked))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Measurement{}, err
	}
	took := time.Since(begun)
	if len(all) == 0 {
		return Measurement{}, fmt.Errorf("no answer within %s", lasts)
	}
	slices.Sort(all)
	return Measurement{Answered: len(all), Took: took, P50: all[len(all)/2], P99: all[len(all)*99/100]}, nil
}
