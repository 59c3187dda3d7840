package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
)

func offer(cell, channel string, sequence int64, limit int) plan.Offer {
	return plan.Offer{Granted: plan.Granted{Cell: cell, Assignment: *assignment(channel, 1, sequence), At: noon},
		Cap: limit}
}

// offers makes offers, and returns the names of those that were granted.
func offers(t *testing.T, s Store, all ...plan.Offer) []string {
	t.Helper()
	made, err := s.RecordGrants(t.Context(), all)
	must(t, err)
	names := []string{}
	for _, g := range made {
		names = append(names, g.Cell)
	}
	return names
}

func slotsOf(t *testing.T, s Store, channel string) []string {
	t.Helper()
	o, err := s.Known(t.Context())
	must(t, err)
	return o.Slots[channel]
}

func capped(t *testing.T, open Open) {
	s := opened(t, open)
	offerConcurrently(t, func(int) Store { return s })
}

func twoGranters(t *testing.T, open Open) {
	two := []Store{opened(t, open), opened(t, open)} // nobody leads, so both may write
	offerConcurrently(t, func(n int) Store { return two[n%2] })
}

// offerConcurrently makes 64 offers at once for one cell each, under a cap of 10.
func offerConcurrently(t *testing.T, of func(n int) Store) {
	const askers, limit = 64, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	var made []string
	for n := range askers {
		wg.Go(func() {
			got, err := of(n).RecordGrants(t.Context(),
				[]plan.Offer{offer(fmt.Sprintf("cell-%02d", n), "staging", 3, limit)})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, g := range got {
				made = append(made, g.Cell)
			}
		})
	}
	wg.Wait()
	slices.Sort(made)
	o := observed(t, of(0))
	if len(made) != limit {
		t.Errorf("%d of %d offers were made, not %d", len(made), askers, limit)
	}
	wantSame(t, "the slots", made, o.Slots["staging"])
	for name, c := range o.Cells {
		if c.Granted == nil || !slices.Contains(made, name) {
			t.Errorf("%s has %v, and was not told of it", name, c.Granted)
		}
	}
	if len(o.Cells) != limit {
		t.Errorf("%d cells were granted something", len(o.Cells))
	}
}

func slots(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	step := func(what string, want, got []string) {
		t.Helper()
		wantSame(t, what, want, got)
	}
	step("three under a cap of 2", []string{"a", "b"},
		offers(t, s, offer("a", "staging", 3, 2), offer("b", "staging", 3, 2), offer("c", "staging", 3, 2)))
	step("without a cap", []string{"free"}, offers(t, s, offer("free", "staging", 3, 0)))
	step("again, and as the next head", []string{"a", "a"},
		offers(t, s, offer("a", "staging", 3, 2), offer("a", "staging", 4, 2)))
	step("an older one", []string{}, offers(t, s, offer("a", "staging", 3, 2)))
	step("under a lower cap", []string{"b"}, offers(t, s, offer("b", "staging", 4, 1), offer("c", "staging", 4, 1)))
	step("in another channel", []string{"c"}, offers(t, s, offer("c", "dedicated", 1, 1),
		offer("d", "dedicated", 1, 1)))
	wantSame(t, "a's grant", assignment("staging", 1, 4), observed(t, s).Cells["a"].Granted)
	if c := observed(t, s).Cells["d"]; c != nil {
		t.Errorf("d was not granted anything, and has %+v", c)
	}
	s = reopen(t, s, open)
	step("the slots in use", []string{"a", "b"}, slotsOf(t, s, "staging"))
	step("those of the other channel", []string{"c"}, slotsOf(t, s, "dedicated"))
	must(t, s.FreeSlots(ctx, "staging", []string{"a", "c", "nobody"}))
	must(t, s.FreeSlots(ctx, "staging", nil))
	step("the slots after a's end", []string{"b"}, slotsOf(t, s, "staging"))
	step("the other channel's after a's end", []string{"c"}, slotsOf(t, s, "dedicated"))
	step("the next one", []string{"e"}, offers(t, s, offer("e", "staging", 4, 2), offer("a", "staging", 4, 2)))
	step("one that is older takes no slot", []string{}, offers(t, s, offer("c", "staging", 0, 9)))
	step("the slots at last", []string{"b", "e"}, slotsOf(t, s, "staging"))
	wantSame(t, "a's grant, which has no slot any more", assignment("staging", 1, 4), observed(t, s).Cells["a"].Granted)
}
