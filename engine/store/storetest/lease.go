package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
)

const length = 10 * time.Second

func mustLead(t *testing.T, s Store, want int64) {
	t.Helper()
	if term, led, err := s.AcquireLease(t.Context(), length); err != nil || !led || term != want {
		t.Fatalf("lead: term %d, led %v (%v), not term %d", term, led, err, want)
	}
}

func mustNotLead(t *testing.T, s Store) {
	t.Helper()
	if term, led, err := s.AcquireLease(t.Context(), length); err != nil || led {
		t.Fatalf("lead: term %d, led %v (%v), though another leads", term, led, err)
	}
}

func lead(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	mustLead(t, a, 1)
	mustNotLead(t, b)
	h.advance(9 * time.Second)
	mustLead(t, a, 1) // renewed, for ten seconds from now
	h.advance(9 * time.Second)
	mustNotLead(t, b)
	h.advance(time.Second)
	mustLead(t, b, 2) // a's has run out
	mustNotLead(t, a)
	h.advance(length)
	mustLead(t, b, 3) // its own had run out, so anything may have been written meanwhile
	h.advance(length)
	mustLead(t, a, 4)
	mustLead(t, a, 4)
	mustNotLead(t, b)
}

func leadRace(t *testing.T, open Open) {
	h := newManualClock()
	stores := make([]Store, 6)
	for i := range stores {
		stores[i] = openedAt(t, open, h.timeNow)
	}
	for round := int64(1); round <= 5; round++ {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var terms []int64
		for _, s := range stores {
			wg.Go(func() {
				term, led, err := s.AcquireLease(t.Context(), length)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if led {
					terms = append(terms, term)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(terms, []int64{round}) {
			t.Errorf("round %d: the terms %v were given", round, terms)
		}
		h.advance(length)
	}
}

func resign(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	must(t, a.ReleaseLease(t.Context())) // nothing to release
	mustLead(t, a, 1)
	must(t, b.ReleaseLease(t.Context())) // not its own
	mustNotLead(t, b)
	must(t, a.ReleaseLease(t.Context()))
	wantDeposed(t, a, "after it gave the lease back")
	mustLead(t, b, 2)
	must(t, a.ReleaseLease(t.Context()))
	mustNotLead(t, a)
	must(t, b.ReleaseLease(t.Context()))
	mustLead(t, b, 3)
}

// writes lists all writes of a Ledger, each with a visible effect.
func writes() map[string]func(ctx context.Context, s Store) error {
	return map[string]func(ctx context.Context, s Store) error{
		"Learn": func(ctx context.Context, s Store) error {
			return s.RecordLearned(ctx, plan.Learned{Finished: []plan.Finish{{Channel: "staging", Sequence: 3,
				Digest: digest(3), At: noon}}})
		},
		"Grant": func(ctx context.Context, s Store) error {
			made, err := s.RecordGrants(ctx, []plan.Offer{offer("acme", "staging", 3, 10)})
			if err != nil && len(made) > 0 {
				return errors.New("it gives grants beside an error")
			}
			return err
		},
		"Free": func(ctx context.Context, s Store) error { return s.FreeSlots(ctx, "staging", []string{"held"}) },
		"Observe": func(ctx context.Context, s Store) error {
			return s.RecordObservations(ctx, []plan.Observation{{Gate: "check", Holds: true}})
		},
		"Decided": func(ctx context.Context, s Store) error {
			fresh, err := s.RecordDecisions(ctx, []plan.Decided{{Commit: "ccc", Channel: "staging", Sequence: 9}})
			if err != nil && len(fresh) > 0 {
				return errors.New("it gives decisions beside an error")
			}
			return err
		},
		"Announced": func(ctx context.Context, s Store) error { return s.MarkAnnounced(ctx, []string{"before"}) },
		"Seen": func(ctx context.Context, s Store) error {
			return s.RecordSeen(ctx, "77aa", &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon})
		},
		"Landed": func(ctx context.Context, s Store) error { return s.MarkKillLanded(ctx, "k1", "77aa") },
		"MarkFlags": func(ctx context.Context, s Store) error {
			return s.SetFlagsMark(ctx, plan.FlagsMark{Commit: "77aa", Height: 7})
		},
		"RememberFlags": func(ctx context.Context, s Store) error {
			return s.SetFlagsMemory(ctx, announce.Memory{Lifted: map[string]int{"gateway": 1}})
		},
		"Post": func(ctx context.Context, s Store) error {
			fresh, err := s.PostMessages(ctx, []plan.Message{message("e1", "chat")})
			if err != nil && len(fresh) > 0 {
				return errors.New("it gives events beside an error")
			}
			return err
		},
		"Refused": func(ctx context.Context, s Store) error {
			return s.RecordRefusal(ctx, "staging", &plan.Refusal{Reason: "hook", Until: noon})
		},
	}
}

func wantDeposed(t *testing.T, s Store, when string) {
	t.Helper()
	for name, write := range writes() {
		if err := write(t.Context(), s); !errors.Is(err, plan.ErrDeposed) {
			t.Errorf("%s %s: %v, not ErrDeposed", name, when, err)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("not ready %s: %v", when, err)
	}
}

func deposed(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	mustLead(t, a, 1)
	offers(t, a, offer("held", "staging", 1, 10))
	before := plan.Decided{Commit: "before", Channel: "staging", Sequence: 1}
	_, err := a.RecordDecisions(t.Context(), []plan.Decided{before})
	must(t, err)
	was := observed(t, b)
	h.advance(length)
	wantDeposed(t, a, "though its lease ran out")
	mustLead(t, b, 2)
	wantDeposed(t, a, "though another leads")
	h.advance(length)
	wantDeposed(t, a, "after the other's lease ran out too")
	wantDeposed(t, b, "though its lease ran out")
	wantSame(t, "what is kept", was, observed(t, b))
	mustLead(t, a, 3)
	fresh, err := a.RecordDecisions(t.Context(), nil)
	must(t, err)
	wantSame(t, "what is not announced", []plan.Decided{before}, fresh)
	for name, write := range writes() {
		if err := write(t.Context(), a); err != nil {
			t.Errorf("%s by who leads: %v", name, err)
		}
	}
}

func unled(t *testing.T, open Open) {
	h := newManualClock()
	alone, other := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	offers(t, alone, offer("held", "staging", 1, 10))
	for name, write := range writes() {
		if err := write(t.Context(), alone); err != nil {
			t.Errorf("%s by a process alone: %v", name, err)
		}
	}
	mustLead(t, other, 1)
	wantDeposed(t, alone, "beside one who leads")
	must(t, other.ReleaseLease(t.Context()))
	must(t, alone.RecordSeen(t.Context(), "4f0c", nil))
	mustLead(t, other, 2)
	h.advance(length)
	must(t, alone.RecordSeen(t.Context(), "77aa", nil)) // nobody leads any more
	mustLead(t, other, 3)
	wantDeposed(t, alone, "once another leads again")
}

func clock(t *testing.T, open Open) {
	h := newManualClock()
	s := openedAt(t, open, h.timeNow)
	h.advance(time.Hour)
	if now, err := s.Now(t.Context()); err != nil || !now.Equal(noon.Add(time.Hour)) {
		t.Errorf("now is %v (%v)", now, err)
	}
	real, other := opened(t, open), opened(t, open)
	first, err := real.Now(t.Context())
	must(t, err)
	second, err := other.Now(t.Context())
	must(t, err)
	if d := second.Sub(first); d < -time.Second || d > time.Minute {
		t.Errorf("two stores are %v apart", d)
	}
}
