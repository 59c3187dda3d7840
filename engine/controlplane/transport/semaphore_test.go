package transport

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// Waiting handshakes compute in order, started ones first, and late ones do not start.
func TestStartedHandshakesComputeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := newSemaphore(1, 3)
		all.acquire(false)
		var order []string
		wait := func(name string, one *permit) {
			one.semaphore = all
			go func() {
				err := one.acquire()
				if errors.Is(err, errLate) {
					name += " late"
				} else if errors.Is(err, errBacklog) {
					name += " refused"
				}
				order = append(order, name)
				one.release()
			}()
			synctest.Wait()
		}
		never, always := func() bool { return false }, func() bool { return true }
		wait("new 1", &permit{late: never})
		wait("new 2", &permit{late: always})
		wait("begun 1", &permit{started: true, late: always})
		wait("new 3", &permit{late: never})
		wait("new 4", &permit{late: never}) // three wait already
		wait("begun 2", &permit{started: true, late: never})
		all.release()
		synctest.Wait()
		if want := []string{"new 4 refused", "begun 1",
			"begun 2", "new 1", "new 2 late", "new 3"}; !slices.Equal(order, want) {
			t.Errorf("in the order %q, not %q", order, want)
		}
		if all.free != 1 {
			t.Errorf("%d slots are left", all.free)
		}
	})
}

func TestLimitsDefaults(t *testing.T) {
	t.Parallel()
	l := Limits{ConcurrentHandshakes: -1}.withDefaults()
	if l.ConcurrentHandshakes <= 0 || l.Backlog <= 0 {
		t.Errorf("%+v", l)
	}
}
