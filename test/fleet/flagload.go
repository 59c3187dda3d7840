package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// openFlagStreams opens a stream for each of n cells, whose flags awaitVariant evaluates.
func (l *load) openFlagStreams(n int) (any, error) {
	l.flagCells = make([]flagCell, n)
	for i := range l.flagCells {
		l.flagCells[i] = flagCell{load: l, cell: i}
	}
	return l.openStreams(n, func(i int, events *swarm.EventStream) error {
		go l.recordArrivals(i, events)
		return nil
	})
}

// evaluateArrivals evaluates the watched flag for each event that arrived, in order. A cell does what an agent does: it
// takes the bundle from the event, or fetches it over a connection of its own, checks the digest, compiles and folds
// the bundle. The bundle is compiled once for all cells.
func (l *load) evaluateArrivals(all []arrival) error {
	for _, a := range all {
		variant, err := l.flagCells[a.cell].handleDesired(a.data)
		if err != nil {
			return err
		}
		l.evaluations, l.eventSize = append(l.evaluations, evaluation{a.cell, a.at, variant}), len(a.data)
	}
	return nil
}

// flagCell holds the flags of one cell.
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
	p.load.bundlesFetched++
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
	if known := l.compiled[digest]; known != nil {
		return known, nil
	}
	b, err := flags.ParseBundle(body)
	if err != nil {
		return nil, err
	}
	compiled, err := flags.Compile(b)
	if err == nil {
		l.compiled[digest] = compiled
	}
	return compiled, err
}

// variantQuery names the variant that cells should evaluate to, and the start of the measurement.
type variantQuery struct {
	Since   time.Time
	Variant string
	Wait    time.Duration
}

// evaluateAfter is how long events of all cells are waited for before those that came are evaluated.
const evaluateAfter = 2 * time.Second

// awaitVariant waits until every cell evaluates the watched flag to the variant, and returns when the events with that
// arrived. They are evaluated when all have come, so that the cells' own work, for which each has a machine, does not
// count as the server's time. Clocks of two processes on one machine agree.
func (l *load) awaitVariant(s variantQuery) (any, error) {
	begun := time.Now()
	for {
		l.mu.Lock()
		arrived, broken := l.arrivals[len(l.evaluations):], l.broken
		l.mu.Unlock()
		if len(arrived) < len(l.conns) && time.Since(begun) < evaluateAfter {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err := l.evaluateArrivals(arrived); err != nil {
			return nil, err
		}
		first := map[int]time.Duration{}
		for _, n := range l.evaluations {
			if _, known := first[n.cell]; !known && n.variant == s.Variant && n.at.Round(0).After(s.Since) {
				first[n.cell] = n.at.Round(0).Sub(s.Since)
			}
		}
		if len(first) == len(l.conns) {
			told := newSpread(first, len(l.evaluations))
			told.Size, told.Fetched = l.eventSize, l.bundlesFetched
			return told, nil
		}
		if time.Since(begun) > s.Wait {
			return nil, fmt.Errorf("%d of %d evaluate to %s within %s, %d streams broke", len(first), len(l.conns),
				s.Variant, s.Wait, broken)
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
