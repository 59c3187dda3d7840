package debugger

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/debug"
)

// D7: healing waits while a session is live. Afterwards what it changed is healed, or kept for a day at most if the
// owner had it kept.
func TestD7HealingWaitsForSessions(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	changes := 0
	d := New(Options{StateDir: t.TempDir(), Log: zerolog.Nop(), OnChange: func() { changes++ }})
	for _, keep := range []bool{false, true} {
		if why := d.HealingWaits(noon); why != "" {
			t.Fatal(why)
		}
		p := &debug.Permission{KeepChanges: keep}
		d.setLive("two", &debug.Request{Scope: debug.Logs}) // which changes nothing
		if why := d.HealingWaits(noon); why != "" {
			t.Error(why)
		}
		d.setLive("two", nil)
		changes = 0
		d.setLive("one", &debug.Request{Scope: debug.Read})
		if d.HealingWaits(noon) == "" {
			t.Error("what a live session changes is healed")
		}
		d.keepChanges("one", p, noon)
		d.setLive("one", nil)
		if changes != 2 {
			t.Errorf("the agent heard of %d changes", changes)
		}
		if waits := d.HealingWaits(noon) != ""; waits != keep {
			t.Errorf("keep %v: healing waits: %v", keep, waits)
		}
	}
	if why := d.HealingWaits(noon.Add(keptFor)); why != "" {
		t.Errorf("after a day: %s", why)
	}
	d.ReleaseBegan()
	if why := d.HealingWaits(noon); why != "" {
		t.Errorf("after another release began: %s", why)
	}
}
