package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/engine/plan"
)

// R29: of two processes that write a fact at once, one succeeds.
func facts(t *testing.T, open Open) {
	s, other, ctx := opened(t, open), opened(t, open), t.Context()
	want := func(s Store, value string) {
		t.Helper()
		got, err := s.Fact(ctx, "pins")
		must(t, err)
		if got != value {
			t.Errorf("kept %q, not %q", got, value)
		}
	}
	want(s, "")
	must(t, s.SetFact(ctx, "pins", "", "a"))
	want(other, "a")
	for before, value := range map[string]string{"": "a", "b": "c"} {
		if err := other.SetFact(ctx, "pins", before, value); !errors.Is(err, plan.ErrStale) {
			t.Errorf("%q on %q: %v, not ErrStale", value, before, err)
		}
	}
	want(s, "a")
	var mu sync.Mutex
	var kept []string
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			value := fmt.Sprint("b", i)
			err := []Store{s, other}[i%2].SetFact(ctx, "pins", "a", value)
			if err == nil {
				mu.Lock()
				kept = append(kept, value)
				mu.Unlock()
			} else if !errors.Is(err, plan.ErrStale) {
				t.Errorf("%v, not ErrStale", err)
			}
		})
	}
	all.Wait()
	if len(kept) != 1 {
		t.Fatalf("%d were kept: %q", len(kept), kept)
	}
	want(reopen(t, s, open), kept[0])
}
