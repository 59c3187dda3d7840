package controlplane

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// While one handshake computes, others come to wait: what was begun goes first, and what is late does not begin.
func TestBegunHandshakesGoFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := newTurns(1)
		all.take(false)
		var order []string
		wait := func(name string, one *turn) {
			one.of = all
			go func() {
				err := one.take()
				if errors.Is(err, errLate) {
					name += " late"
				}
				order = append(order, name)
				one.end()
			}()
			synctest.Wait()
		}
		never, always := func() bool { return false }, func() bool { return true }
		wait("new 1", &turn{late: never})
		wait("new 2", &turn{late: always})
		wait("begun 1", &turn{begun: true, late: always})
		wait("new 3", &turn{late: never})
		wait("begun 2", &turn{begun: true, late: never})
		all.give()
		synctest.Wait()
		if want := []string{"begun 1", "begun 2", "new 1", "new 2 late", "new 3"}; !slices.Equal(order, want) {
			t.Errorf("in the order %q, not %q", order, want)
		}
		if all.free != 1 {
			t.Errorf("%d turns are left", all.free)
		}
	})
}
