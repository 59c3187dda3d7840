package kubernetes

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Who may take the Lease. Times that a Lease names do not count, since clocks may be off; how long it was seen to stay
// as it is does.
func TestMayTake(t *testing.T) {
	me := holder{"acme", "host", "folder", "start"}
	copied := holder{"acme", "host", "folder", "copy"}.String()
	others := holder{"acme", "host", "other", "start"}.String()
	for name, c := range map[string]struct {
		holder  string
		held    bool
		seenFor time.Duration
		want    bool
	}{
		"nobody's":                           {"", false, 0, true},
		"its own":                            {me.String(), true, 0, true},
		"of the process before":              {holder{"acme", "host", "folder", "before"}.String(), false, 0, true},
		"of the process before, renamed":     {holder{"old", "other", "folder", "before"}.String(), false, 0, true},
		"taken by a copy of the folder":      {copied, true, 0, false},
		"a copy that is gone":                {copied, true, leaseDuration, true},
		"another's":                          {others, false, time.Second, false},
		"another's, not renewed":             {others, false, leaseDuration, true},
		"another's, almost long enough":      {holder{"b", "h", "o", "s"}.String(), true, leaseDuration - 1, false},
		"another program's":                  {"kube-scheduler-0", false, 0, false},
		"another program's, long gone":       {"a_b", false, time.Hour, true},
		"another's, with the folder empty":   {"acme_host__x", false, 0, false},
		"another's, with a name that is odd": {"a_b_c_d_e", false, 0, false},
	} {
		// A Lease of the future, and of the past: neither matters.
		for _, renewed := range []string{"2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"} {
			r := leaseRecord{holder: c.holder, renewed: renewed, version: "1"}
			if got := r.mayTake(me, c.held, c.seenFor); got != c.want {
				t.Errorf("%s: %t", name, got)
			}
		}
	}
}

// What runs ends when the Lease does, though a request to renew it is still under way: another may act from then on.
func TestActingEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{}
		defer l.close()
		extend := func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.extend(time.Now())
		}
		extend()
		acting, end, err := l.act(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		time.Sleep(leaseRenewEvery)
		extend()
		time.Sleep(leaseDuration - time.Nanosecond)
		synctest.Wait()
		if acting.Err() != nil {
			t.Fatal("it ended before the Lease")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if acting.Err() == nil || context.Cause(acting).Error() != l.lapsed().Error() {
			t.Errorf("it goes on, or ended because of %v", context.Cause(acting))
		}
	})
}

// The monotonic clock stands while a machine is suspended: the wall clock counts as well.
func TestLeaseOfASuspendedMachine(t *testing.T) {
	l := &lease{}
	now := time.Now()
	l.extend(now)
	defer l.lapses.Stop()
	if !l.isMine(now) || !l.isMine(now.Add(leaseDuration-1)) || l.isMine(now.Add(leaseDuration)) {
		t.Error("it is not for as long as it says")
	}
	l.byWall = l.byWall.Add(-leaseDuration)
	if l.isMine(now) {
		t.Error("it is over by the wall clock")
	}
}
