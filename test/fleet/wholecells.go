package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/test/swarm"
)

// swarmOptions are the options of whole cells, beyond loadOptions.
type swarmOptions struct {
	Apply       [2]time.Duration
	ReportEvery time.Duration
	Spread      time.Duration
	Dialing     int
	Resume      []swarm.Snapshot
}

// cellCondition is the state that whole cells should reach.
type cellCondition struct {
	Connected int           // least number of cells with a stream
	None      bool          // no cell has a stream
	Release   string        // all cells are healthy on it, and all their events are acknowledged; empty: any
	Within    time.Duration // limit of the wait
}

// startSwarm starts all cells, on streams.
func (l *load) startSwarm(v swarmOptions) (any, error) {
	if l.swarm != nil {
		return nil, errors.New("it lives already")
	}
	s, err := swarm.New(swarm.Options{Plane: l.options.Plane, Members: swarm.Members(cellPrefix, l.options.N,
		l.options.Seed), Seed: l.options.Seed, Apply: v.Apply, ReportEvery: v.ReportEvery, Idle: time.Second,
		Spread: v.Spread, Dialing: v.Dialing, Resume: v.Resume})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.swarm, l.stop, l.stopped = s, cancel, make(chan struct{})
	go func() {
		s.Run(ctx)
		close(l.stopped)
	}()
	return nil, nil
}

// awaitCells waits for a condition, and returns when it held.
func (l *load) awaitCells(u cellCondition) (any, error) {
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
	err := l.swarm.Await(ctx, func(w swarm.Snapshot) bool {
		return w.State == cells.StateHealthy && w.Running.Release == u.Release && w.Confirmed == w.Last &&
			w.Acknowledged != nil && w.Acknowledged.State == w.State && w.Acknowledged.Running == w.Running
	})
	if err != nil {
		err = fmt.Errorf("%w: %+v", err, l.swarm.Counts())
	}
	return at, err
}

// snapshots returns the state of each cell, without what is desired.
func (l *load) snapshots(struct{}) (any, error) {
	words := l.swarm.Snapshots()
	for i := range words {
		words[i].Desired = nil
	}
	return words, nil
}

func (l *load) stopSwarm(struct{}) (any, error) {
	l.stop()
	<-l.stopped
	l.swarm = nil
	return nil, nil
}
