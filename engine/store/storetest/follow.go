package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
)

// updateLog waits until want was received. If it never is, the test's own time limit fails the test.
func updateLog(t *testing.T, news <-chan engine.StoreUpdate, what string, want func(engine.StoreUpdate) bool) {
	t.Helper()
	for {
		select {
		case n := <-news:
			if n.All || want(n) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("never told of %s", what)
		}
	}
}

func follow(t *testing.T, open Open) {
	a, b := opened(t, open), opened(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	news := make(chan engine.StoreUpdate, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Follow(ctx, func(n engine.StoreUpdate) {
			select {
			case news <- n:
			case <-ctx.Done():
			}
		})
	}()
	if n := <-news; !n.All {
		t.Errorf("it begins with %+v: it was not told of what was before", n)
	}
	quiet := func(n engine.StoreUpdate) bool { return len(n.Cells) == 0 && !n.Known && !n.Flags && !n.All }
	beat := func() {
		for n := range news {
			if quiet(n) {
				return
			}
		}
	}
	about := func(cell string) func(engine.StoreUpdate) bool {
		return func(n engine.StoreUpdate) bool { return slices.Contains(n.Cells, cell) }
	}
	known := func(n engine.StoreUpdate) bool { return n.Known }
	beat() // contact, without anything new

	r := plan.Reported{State: state("acme", 1), Material: true}
	must(t, report(t, b, r))
	updateLog(t, news, "a report that says something new", about("acme"))
	r = plan.Reported{State: state("acme", 1)}
	must(t, report(t, b, r))
	updateLog(t, news, "a report that says the same", about("acme"))
	offers(t, b, offer("bolt", "staging", 3, 1))
	updateLog(t, news, "a grant", about("bolt"))
	must(t, b.FreeSlots(ctx, "staging", []string{"bolt"}))
	updateLog(t, news, "a freed slot", known)
	must(t, b.RecordSeen(ctx, "4f0c", nil))
	updateLog(t, news, "the newest commit", known)
	must(t, b.Register(ctx, registration("acme", 1, "key")))
	updateLog(t, news, "a registration", known)
	flagged := func(n engine.StoreUpdate) bool { return n.Flags }
	must(t, b.Kill(ctx, kill("k1", "gateway")))
	updateLog(t, news, "a kill", flagged)
	must(t, b.MarkKillLanded(ctx, "k1", "77aa"))
	updateLog(t, news, "a kill that landed", flagged)
	must(t, b.SetFlagsMark(ctx, plan.FlagsMark{Commit: "77aa", Height: 7}))
	updateLog(t, news, "the flags repository's newest commit", flagged)
	recorded := func(n engine.StoreUpdate) bool { return slices.Contains(n.Records, "session/ada") }
	kept := mustPut(t, b, record("ada", 0, `{}`))
	updateLog(t, news, "a record", recorded)
	must(t, b.Records().Delete(ctx, kept.Kind, kept.Key, kept.Version))
	updateLog(t, news, "a deleted record", recorded)
	must(t, b.NotifyPush(ctx))
	beat() // nothing more
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// Pushes tests that a push is notified to the other processes, and not to its sender: for stores that several control
// planes share.
func Pushes(t *testing.T, open Open) {
	a, b := opened(t, open), opened(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listen := func(s Store) <-chan engine.StoreUpdate {
		news := make(chan engine.StoreUpdate, 100)
		go func() {
			_ = s.Follow(ctx, func(n engine.StoreUpdate) {
				select {
				case news <- n:
				case <-ctx.Done():
				}
			})
		}()
		if n := <-news; !n.All {
			t.Errorf("it begins with %+v", n)
		}
		return news
	}
	ofA, ofB := listen(a), listen(b)
	must(t, b.NotifyPush(ctx))
	pushed := func(n engine.StoreUpdate) bool { return n.Pushed }
	updateLog(t, ofA, "a push", pushed)
	must(t, a.NotifyPush(ctx))
	for n := range ofB { // its own would arrive before
		if n.Pushed {
			break
		}
	}
	must(t, b.RecordSeen(ctx, "4f0c", nil))
	for n := range ofA {
		if n.Pushed {
			t.Error("told of its own push")
		}
		if n.Known {
			break
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.NotifyPush(ctx); err == nil {
		t.Error("a closed store tells of a push")
	}
}
