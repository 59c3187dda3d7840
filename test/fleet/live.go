package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/test/swarm"
)

// living is how whole cells live, beyond what the load was told already.
type living struct {
	Apply       [2]time.Duration
	ReportEvery time.Duration
	Spread      time.Duration
	Dialing     int
	Resume      []swarm.Word
}

// until is what whole cells should come to.
type until struct {
	Connected int           // at least so many have a stream
	None      bool          // nobody has one
	Release   string        // all are healthy on it, and all that they said is acknowledged; empty: any
	Within    time.Duration // else it fails
}

// live lets all cells live, on streams.
func (l *load) live(v living) (any, error) {
	if l.swarm != nil {
		return nil, errors.New("it lives already")
	}
	s, err := swarm.New(swarm.Options{Plane: l.who.Plane, Members: swarm.Members(prefix, l.who.N, l.who.Seed), Seed: l.who.Seed, Apply: v.Apply, ReportEvery: v.ReportEvery, Idle: time.Second, Spread: v.Spread, Dialing: v.Dialing, Resume: v.Resume})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.swarm, l.end, l.ended = s, cancel, make(chan struct{})
	go func() {
		s.Run(ctx)
		close(l.ended)
	}()
	return nil, nil
}

// until waits, and gives the instant at which it was so.
func (l *load) until(u until) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), u.Within)
	defer cancel()
	for {
		n := int(l.swarm.Counts().Connected)
		if n >= u.Connected && (!u.None || n == 0) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%d are connected after %s: %+v", n, u.Within, l.swarm.Counts())
		case <-time.After(2 * time.Millisecond):
		}
	}
	at := time.Now()
	if u.Release == "" {
		return at, nil
	}
	err := l.swarm.Await(ctx, func(w swarm.Word) bool {
		return w.State == cells.StateHealthy && w.Running.Release == u.Release && w.Confirmed == w.Last && w.Acknowledged != nil && w.Acknowledged.State == w.State && w.Acknowledged.Running == w.Running
	})
	if err != nil {
		err = fmt.Errorf("%w: %+v", err, l.swarm.Counts())
	}
	return at, err
}

// words is what is known of each cell, at the cell; what it desires left out.
func (l *load) words(struct{}) (any, error) {
	words := l.swarm.Words()
	for i := range words {
		words[i].Desired = nil
	}
	return words, nil
}

// stopLiving ends the cells' lives.
func (l *load) stopLiving(struct{}) (any, error) {
	l.end()
	<-l.ended
	l.swarm = nil
	return nil, nil
}
