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

const leaseLength = 10 * time.Second

func mustLead(t *testing.T, s Store, want int64) {
	t.Helper()
	if term, led, err := s.AcquireLease(t.Context(), leaseLength); err != nil || !led || term != want {
		t.Fatalf("lead: term %d, led %v (%v), not term %d", term, led, err, want)
	}
}

func mustNotLead(t *testing.T, s Store) {
	t.Helper()
	if term, led, err := s.AcquireLease(t.Context(), leaseLength); err != nil || led {
		t.Fatalf("lead: term %d, led %v (%v), though another leads", term, led, err)
	}
}

func leaseTerms(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	mustLead(t, a, 1)
	mustNotLead(t, b)
	h.advance(9 * time.Second)
	mustLead(t, a, 1) // renewed, for ten seconds from now
	h.advance(9 * time.Second)
	mustNotLead(t, b)
	h.advance(time.Second)
	mustLead(t, b, 2) // the lease of a has run out
	mustNotLead(t, a)
	h.advance(leaseLength)
	mustLead(t, b, 3) // a new term: another may have written since the last ran out
	h.advance(leaseLength)
	mustLead(t, a, 4)
	mustLead(t, a, 4)
	mustNotLead(t, b)
}

func leaseRace(t *testing.T, open Open) {
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
				term, led, err := s.AcquireLease(t.Context(), leaseLength)
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
			t.Errorf("round %d: the lease was acquired for the terms %v", round, terms)
		}
		h.advance(leaseLength)
	}
}

func leaseReleased(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	must(t, a.ReleaseLease(t.Context())) // nothing to release
	mustLead(t, a, 1)
	must(t, b.ReleaseLease(t.Context())) // no effect: a holds the lease
	mustNotLead(t, b)
	must(t, a.ReleaseLease(t.Context()))
	wantDeposed(t, a, "after it released the lease")
	mustLead(t, b, 2)
	must(t, a.ReleaseLease(t.Context()))
	mustNotLead(t, a)
	must(t, b.ReleaseLease(t.Context()))
	mustLead(t, b, 3)
}

// ledgerWrites returns every write that only a leader may make, by its method's name, each with a visible effect.
func ledgerWrites() map[string]func(ctx context.Context, s Store) error {
	return map[string]func(ctx context.Context, s Store) error{
		"RecordLearned": func(ctx context.Context, s Store) error {
			return s.RecordLearned(ctx, plan.Learned{Finished: []plan.Finish{{Channel: "staging", Sequence: 3,
				Digest: digest(3), At: noon}}})
		},
		"RecordGrants": func(ctx context.Context, s Store) error {
			made, err := s.RecordGrants(ctx, []plan.Offer{offer("acme", "staging", 3, 10)})
			if err != nil && len(made) > 0 {
				return errors.New("it returns grants and an error")
			}
			return err
		},
		"FreeSlots": func(ctx context.Context, s Store) error { return s.FreeSlots(ctx, "staging", []string{"held"}) },
		"RecordObservations": func(ctx context.Context, s Store) error {
			return s.RecordObservations(ctx, []plan.Observation{{Gate: "check", Holds: true}})
		},
		"RecordDecisions": func(ctx context.Context, s Store) error {
			fresh, err := s.RecordDecisions(ctx, []plan.Decided{{Commit: "ccc", Channel: "staging", Sequence: 9}})
			if err != nil && len(fresh) > 0 {
				return errors.New("it returns decisions and an error")
			}
			return err
		},
		"MarkAnnounced": func(ctx context.Context, s Store) error { return s.MarkAnnounced(ctx, []string{"before"}) },
		"RecordSeen": func(ctx context.Context, s Store) error {
			return s.RecordSeen(ctx, "77aa", &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon})
		},
		"MarkKillLanded": func(ctx context.Context, s Store) error { return s.MarkKillLanded(ctx, "k1", "77aa") },
		"SetFlagsMark": func(ctx context.Context, s Store) error {
			return s.SetFlagsMark(ctx, plan.FlagsMark{Commit: "77aa", Height: 7})
		},
		"SetFlagsMemory": func(ctx context.Context, s Store) error {
			return s.SetFlagsMemory(ctx, announce.Memory{Lifted: map[string]int{"gateway": 1}})
		},
		"PostMessages": func(ctx context.Context, s Store) error {
			fresh, err := s.PostMessages(ctx, []plan.Message{message("e1", "chat")})
			if err != nil && len(fresh) > 0 {
				return errors.New("it returns messages and an error")
			}
			return err
		},
		"RecordRefusal": func(ctx context.Context, s Store) error {
			return s.RecordRefusal(ctx, "staging", &plan.Refusal{Reason: "hook", Until: noon})
		},
	}
}

func wantDeposed(t *testing.T, s Store, when string) {
	t.Helper()
	for name, write := range ledgerWrites() {
		if err := write(t.Context(), s); !errors.Is(err, plan.ErrDeposed) {
			t.Errorf("%s %s: %v, not ErrDeposed", name, when, err)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("not ready %s: %v", when, err)
	}
}

func writesOfDeposed(t *testing.T, open Open) {
	h := newManualClock()
	a, b := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	mustLead(t, a, 1)
	offers(t, a, offer("held", "staging", 1, 10))
	before := plan.Decided{Commit: "before", Channel: "staging", Sequence: 1}
	_, err := a.RecordDecisions(t.Context(), []plan.Decided{before})
	must(t, err)
	was := observed(t, b)
	h.advance(leaseLength)
	wantDeposed(t, a, "though its lease ran out")
	mustLead(t, b, 2)
	wantDeposed(t, a, "though another leads")
	h.advance(leaseLength)
	wantDeposed(t, a, "after the other's lease ran out too")
	wantDeposed(t, b, "though its lease ran out")
	wantSame(t, "what is stored", was, observed(t, b))
	mustLead(t, a, 3)
	fresh, err := a.RecordDecisions(t.Context(), nil)
	must(t, err)
	wantSame(t, "what is not announced", []plan.Decided{before}, fresh)
	for name, write := range ledgerWrites() {
		if err := write(t.Context(), a); err != nil {
			t.Errorf("%s by the leader: %v", name, err)
		}
	}
}

func writesWithoutLeader(t *testing.T, open Open) {
	h := newManualClock()
	alone, other := openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)
	offers(t, alone, offer("held", "staging", 1, 10))
	for name, write := range ledgerWrites() {
		if err := write(t.Context(), alone); err != nil {
			t.Errorf("%s by a process that runs alone: %v", name, err)
		}
	}
	mustLead(t, other, 1)
	wantDeposed(t, alone, "while another leads")
	must(t, other.ReleaseLease(t.Context()))
	must(t, alone.RecordSeen(t.Context(), "4f0c", nil))
	mustLead(t, other, 2)
	h.advance(leaseLength)
	must(t, alone.RecordSeen(t.Context(), "77aa", nil)) // the lease of other has run out
	mustLead(t, other, 3)
	wantDeposed(t, alone, "once another leads again")
}

func sharedClock(t *testing.T, open Open) {
	h := newManualClock()
	s := openedAt(t, open, h.timeNow)
	h.advance(time.Hour)
	if now, err := s.Now(t.Context()); err != nil || !now.Equal(noon.Add(time.Hour)) {
		t.Errorf("now is %v (%v)", now, err)
	}
	one, other := opened(t, open), opened(t, open)
	first, err := one.Now(t.Context())
	must(t, err)
	second, err := other.Now(t.Context())
	must(t, err)
	if d := second.Sub(first); d < -time.Second || d > time.Minute {
		t.Errorf("two stores are %v apart", d)
	}
}
