package transport

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
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

// While many started handshakes wait for their peers, new ones wait to start; silent peers count for a short time only.
func TestUnansweredHandshakesHoldNewOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := newSemaphore(1, 2)
		never := func() bool { return false }
		begin := func() *permit {
			one := &permit{semaphore: all, late: never}
			if err := one.acquire(); err != nil {
				t.Fatal(err)
			}
			return one
		}
		waiting := make([]*permit, maxUnanswered)
		for i := range waiting {
			waiting[i] = begin()
			waiting[i].awaitPeer()
		}
		state := func() (free, unanswered int) {
			all.mu.Lock() // timers write
			defer all.mu.Unlock()
			return all.free, all.unanswered
		}
		started, begun := 0, time.Now()
		for range 2 {
			go func() {
				if all.acquire(false) {
					started++
					all.release()
				}
			}()
		}
		synctest.Wait()
		if free, _ := state(); started != 0 || free != 1 {
			t.Errorf("%d started though %d wait for their peers", started, maxUnanswered)
		}
		waiting[0].heardPeer()
		synctest.Wait()
		if started != 2 || time.Since(begun) != 0 { // the first gives its permit back
			t.Errorf("%d started after a peer had answered", started)
		}
		waiting[0].awaitPeer()
		go all.acquire(false)
		synctest.Wait()
		if free, _ := state(); free != 1 {
			t.Error("one started though all wait for their peers")
		}
		time.Sleep(answerPatience)
		synctest.Wait()
		if free, unanswered := state(); free != 0 || unanswered != 0 {
			t.Errorf("%d are waited for after %s", unanswered, answerPatience)
		}
		for _, one := range waiting {
			one.heardPeer()
		}
		if _, unanswered := state(); unanswered != 0 {
			t.Errorf("%d are waited for in the end", unanswered)
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
