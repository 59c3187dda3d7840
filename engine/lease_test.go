package engine

import (
	"testing"
	"testing/synctest"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// A Lead that begins during another continues after the other has stopped, and the last stop releases the lease.
func TestLeadsOnAfterATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := TwoChannels(t)
		w.T, w.Now = t, time.Now()
		m := newMemoryStore()
		e, err := New(t.Context(), newBranch(w), m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		pass := e.HoldLease(t.Context())
		loop := e.HoldLease(t.Context())
		pass()
		time.Sleep(time.Minute)
		if !e.Leads() {
			t.Error("it does not lead any more")
		}
		loop()
		if e.Leads() || m.holder != nil {
			t.Errorf("leads: %v, the lease is held: %v", e.Leads(), m.holder != nil)
		}
	})
}
