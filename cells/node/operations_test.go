package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/client"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/cluster"
)

func (l *cell) operations() *client.Client {
	return client.New(l.socket(), client.Options{Timeout: 30 * time.Second})
}

// awaitGranted waits until the node grants an operation, and returns it.
func (l *cell) awaitGranted(t *testing.T, key string) (op *client.Operation) {
	t.Helper()
	c := l.operations()
	eventually(t, "granted", func() (err error) {
		if op, err = c.Begin(t.Context(), "start", key); err == nil && op.Unconfirmed {
			op.End()
			return errors.New("the node does not know")
		}
		return err
	})
	return op
}

func draining(phase maintenance.Phase) maintenance.State {
	return maintenance.State{Phase: phase, Refused: []string{"start"}, Begins: time.Now(),
		Until: time.Now().Add(10 * time.Minute), Release: "1.1.0", Texts: releases.Texts{"en": {"default": "later"}}}
}

func (l *cell) awaitQuiet(t *testing.T) {
	t.Helper()
	eventually(t, "quiet", func() error {
		b, err := l.maintenances.Operations(t.Context())
		if err == nil && !b.Quiet {
			err = fmt.Errorf("under way: %+v", b)
		}
		return err
	})
}

// A thousand ask at the boundary: what is under way is waited for, and none starts once the node is quiet. What it
// knows holds without the API server, and in a node part that was started anew; when it is back, so are the operations.
func TestOperationsOfANode(t *testing.T) {
	c := cluster.New(t, 0)
	l := newCell(t, c)
	long := l.awaitGranted(t, "long")
	asker := l.operations()
	var through, late atomic.Bool
	var askers sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 1000 {
		askers.Go(func() {
			for ctx.Err() == nil {
				was := through.Load()
				op, err := asker.Begin(ctx, "start", fmt.Sprint(i))
				if err != nil {
					return // refused
				}
				late.Store(late.Load() || was && !op.Unconfirmed)
				op.End()
			}
		})
	}
	must(t, l.maintenances.TellMaintenance(t.Context(), draining(maintenance.Draining)))
	eventually(t, "the node says what is under way", func() error {
		b, err := l.maintenances.Operations(t.Context())
		if err == nil && (b.Quiet || b.Names != "on node n1: start long") {
			err = fmt.Errorf("%+v", b)
		}
		return err
	})
	long.End()
	l.awaitQuiet(t)
	through.Store(true)
	refused := new(client.Refused)
	if _, err := l.operations().Begin(t.Context(), "start", "x"); !errors.As(err, &refused) || refused.Text != "later" {
		t.Errorf("after the drain: %v", err)
	}
	askers.Wait()
	if late.Load() {
		t.Error("an operation started after the node was quiet")
	}

	c.StopAPIServer()
	l.stop()
	l.start(t)
	eventually(t, "it is served again", func() error {
		_, err := l.operations().Begin(t.Context(), "start", "x")
		if refused := new(client.Refused); !errors.As(err, &refused) || refused.Unconfirmed {
			return fmt.Errorf("started anew without the API server: %w", err)
		}
		return nil
	})
	if op, err := l.operations().Begin(t.Context(), "stop", "y"); err != nil || !op.Unconfirmed {
		t.Errorf("it can't know that nothing else is refused: %+v, %v", op, err)
	} else {
		op.End()
	}
	must(t, c.StartAPIServer(t.Context()))
	eventually(t, "told", func() error {
		return l.maintenances.TellMaintenance(t.Context(), maintenance.State{Phase: maintenance.Off})
	})
	l.awaitGranted(t, "after").End()
}

// What can't be read changes nothing, and counts as not taken; a ConfigMap that somebody removed refuses on.
func TestAWordThatCannotBeRead(t *testing.T) {
	l := newCell(t, shared.Get(t))
	l.awaitGranted(t, "first").End()
	must(t, l.maintenances.TellMaintenance(t.Context(), draining(maintenance.Drained)))
	l.awaitQuiet(t)
	must(t, l.maps.Write(t.Context(), MaintenanceName("flags"), map[string][]byte{}))
	must(t, l.maps.Write(t.Context(), MaintenanceName("flags"), map[string][]byte{stateFile: []byte("{")}))
	for range 20 {
		if _, err := l.operations().Begin(t.Context(), "start", "x"); err == nil {
			t.Fatal("an operation was granted")
		}
	}
	must(t, l.maintenances.TellMaintenance(t.Context(), maintenance.State{Phase: maintenance.Off}))
	l.awaitGranted(t, "after").End()
}
