package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

// watchedFlagKey is the flag that cells evaluate after each event with news about flags.
const watchedFlagKey = "watched"

// evaluation is a cell's result for the watched flag.
type evaluation struct {
	cell    int
	at      time.Time
	variant string
}

// openFlagStreams opens a stream for each of n cells. For each event about flags a cell does what an agent does: it
// takes the bundle from the event, or fetches it over a connection of its own, checks the digest, compiles and folds
// the bundle, and evaluates the watched flag. The bundle is compiled once while all cells wait: a real cell would have
// a processor of its own for that.
func (l *load) openFlagStreams(n int) (any, error) {
	return l.openStreams(n, func(i int, events *swarm.EventStream) error {
		go l.followFlags(i, events)
		return nil
	})
}

func (l *load) followFlags(i int, events *swarm.EventStream) {
	current := flagCell{load: l, cell: i}
	for {
		e, err := events.ReadEvent()
		if err == nil && e.Data == nil {
			continue
		}
		variant := ""
		if err == nil {
			variant, err = current.handleDesired(e.Data)
		}
		at := time.Now()
		l.mu.Lock()
		if err != nil {
			l.broken++
			l.streamError = err
			l.mu.Unlock()
			return
		}
		l.evaluations, l.eventSize = append(l.evaluations, evaluation{i, at, variant}), len(e.Data)
		l.mu.Unlock()
	}
}

// flagCell holds the flags of one cell. One goroutine uses it.
type flagCell struct {
	load     *load
	cell     int
	digest   releases.Digest
	compiled *flags.Compiled
}

// handleDesired takes what is desired, and returns the watched flag's variant.
func (p *flagCell) handleDesired(data []byte) (variant string, err error) {
	var d cells.Desired
	if err := json.Unmarshal(data, &d); err != nil {
		return "", err
	}
	if d.Flags == nil {
		return "", nil
	}
	if d.Flags.Bundle.Digest != p.digest {
		if err := p.takeBundle(d.Flags.Bundle); err != nil {
			return "", err
		}
	}
	var orders flags.Orders
	if err := json.Unmarshal(d.Flags.Orders.Payload, &orders); err != nil {
		return "", err
	}
	now := time.Now().Unix()
	facts := flags.Facts{Cell: p.load.names[p.cell], Channel: channelName, Labels: d.Flags.Labels}
	return p.compiled.Fold(orders, facts, now).Evaluate(watchedFlagKey, flags.Context{"targetingKey": facts.Cell},
		now).Variant, nil
}

func (p *flagCell) takeBundle(b cells.FlagBundle) error {
	if len(b.Content) == 0 {
		return p.fetchBundle(b.Digest)
	}
	body, err := p.load.unpacker.DecodeAll(b.Content, nil)
	if err != nil {
		return err
	}
	return p.install(b.Digest, body)
}

func (p *flagCell) fetchBundle(digest releases.Digest) error {
	p.load.mu.Lock()
	p.load.bundlesFetched++
	p.load.mu.Unlock()
	link, err := p.load.dialer.Dial(context.Background(), p.cell, 0)
	if err != nil {
		return err
	}
	defer link.Close()
	a, body, err := link.RoundTrip(time.Minute, "GET", "/v1/flagbundles/"+string(digest), "", nil)
	switch {
	case err != nil:
		return err
	case a.Status != 200:
		return fmt.Errorf("the answer is %d: %.300s", a.Status, body)
	}
	return p.install(digest, body)
}

func (p *flagCell) install(digest releases.Digest, body []byte) (err error) {
	if releases.DigestBytes(body) != digest {
		return errors.New("the bundle is not what its digest says")
	}
	p.digest = digest
	p.compiled, err = p.load.compileOnce(digest, body)
	return err
}

func (l *load) compileOnce(digest releases.Digest, body []byte) (*flags.Compiled, error) {
	l.mu.Lock()
	do := l.compiled[digest]
	if do == nil {
		do = sync.OnceValues(func() (*flags.Compiled, error) {
			b, err := flags.ParseBundle(body)
			if err != nil {
				return nil, err
			}
			return flags.Compile(b)
		})
		l.compiled[digest] = do
	}
	l.mu.Unlock()
	return do()
}

// variantQuery names the variant that cells should evaluate to, and the start of the measurement.
type variantQuery struct {
	Since   time.Time
	Variant string
	Wait    time.Duration
}

// awaitVariant waits until every cell evaluates the watched flag to the variant, and returns the times. Clocks of two
// processes on one machine agree.
func (l *load) awaitVariant(s variantQuery) (any, error) {
	deadline := time.Now().Add(s.Wait)
	for {
		l.mu.Lock()
		all, broken, trouble := slices.Clone(l.evaluations), l.broken, l.streamError
		size, fetched := l.eventSize, l.bundlesFetched
		l.mu.Unlock()
		first := map[int]time.Duration{}
		for _, n := range all {
			if _, known := first[n.cell]; !known && n.variant == s.Variant && n.at.Round(0).After(s.Since) {
				first[n.cell] = n.at.Round(0).Sub(s.Since)
			}
		}
		if len(first) == len(l.conns) {
			told := newSpread(first, len(all))
			told.Size, told.Fetched = size, fetched
			return told, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d evaluate to %s within %s, %d streams broke: %w", len(first), len(l.conns),
				s.Variant, s.Wait, broken, trouble)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// newSpread summarizes the times by cell.
func newSpread(first map[int]time.Duration, events int) spread {
	all := make([]time.Duration, 0, len(first))
	for _, d := range first {
		all = append(all, d)
	}
	slices.Sort(all)
	return spread{
		Told: len(first), Events: events,
		First: all[0], P50: figures.Quantile(all, 0.5), P99: figures.Quantile(all, 0.99), Last: all[len(all)-1],
	}
}
