package engine

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// held is a branch whose host does not answer a look until it is let go.
type held struct {
	*branch
	gate chan struct{} // closed: it answers
}

func (h held) Fetch(ctx context.Context) (string, error) {
	select {
	case <-h.gate:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return h.branch.Fetch(ctx)
}

// A loop that begins while a single pass is under way goes on leading when that has ended.
func TestLeadsOnAfterATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := twoChannels(t)
		w.t, w.now = t, time.Now()
		repo := held{newBranch(w), make(chan struct{})}
		e, err := New(t.Context(), repo, newMemory(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if _, err := e.Tick(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		running.Go(func() {
			if err := e.Run(ctx, nil); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(repo.gate)
		time.Sleep(time.Minute)
		if !e.Leads() {
			t.Error("it does not lead any more")
		}
		cancel()
		running.Wait()
	})
}
