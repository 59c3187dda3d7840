package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
)

func auditHash(n int) string { return "sha256:" + fmt.Sprintf("%064x", n) }

// auditWorld has an engine whose key is listed, and an audit of n rows, of which the first was written an hour ago.
func auditWorld(t *testing.T, n int64) *World {
	t.Helper()
	w := One(t, "")
	w.Signs = map[string]string{"sluice": engineKey, "mallory": malloryKey}
	w.Obs.Key = engineKey
	w.Settle()
	w.Obs.Audit = &audithead.Chain{Row: n, Hash: auditHash(int(n)), Open: w.Now.Add(-time.Hour)}
	return w
}

// grow has a row written now, as the store would say it.
func grow(w *World, to int64) {
	last := w.Desired().LastAuditHead()
	open := w.Now
	if w.Obs.Audit.Row > last.Row {
		open = w.Obs.Audit.Open
	}
	w.Obs.Audit = &audithead.Chain{Row: to, Hash: auditHash(int(to)), Open: open}
}

// The head of the audit's chain is committed once a UTC day, on the day after the first row that no commit stands for.
func TestAuditIsCommittedOnceADay(t *testing.T) {
	w := auditWorld(t, 7)
	midnight := w.Now.Truncate(24 * time.Hour).Add(24 * time.Hour)
	if p := w.WantActions(""); p.Next.IsZero() || p.Next.After(midnight) {
		t.Errorf("next %s, want %s at the latest", p.Next, midnight)
	}
	w.Now = midnight
	w.WantActions("audit  ")
	head := w.Desired().LastAuditHead()
	if head.Row != 7 || head.Hash != auditHash(7) || !head.At.Equal(midnight) || head.Commit != w.Tip {
		t.Fatalf("%+v", head)
	}
	if got := w.Files[audithead.File]; got != "row: 7\nhash: "+auditHash(7)+"\nat: 2026-11-24T00:00:00Z\n" {
		t.Errorf("%s: %q", audithead.File, got)
	}
	w.WantActions("")
	w.Now = midnight.Add(time.Hour)
	grow(w, 9)
	w.WantActions("") // today's rows are committed tomorrow
	w.Now = midnight.Add(23 * time.Hour)
	grow(w, 12)
	w.WantActions("")
	w.Now = midnight.Add(24 * time.Hour)
	w.WantActions("audit  ")
	w.Now = midnight.Add(10 * 24 * time.Hour)
	w.WantActions("") // nothing was done for days
	if n := len(w.Desired().AuditHeads); n != 2 {
		t.Errorf("%d heads", n)
	}
	if len(w.Desired().Faults) != 0 {
		t.Errorf("faults %v", w.Desired().Faults)
	}
}

// What others than the engine write does not count, and neither hides nor delays what the engine writes (R46).
func TestR46AuditHeadsAreTheEngines(t *testing.T) {
	for name, text := range map[string]string{
		"a far day":  "row: 99\nhash: " + auditHash(99) + "\nat: 2999-01-01T00:00:00Z\n",
		"other rows": "row: 7\nhash: " + auditHash(8) + "\nat: 2026-11-24T00:00:00Z\n",
		"no file":    "",
		"no yaml":    ": {",
	} {
		t.Run(name, func(t *testing.T) {
			w := auditWorld(t, 7)
			w.Now = w.Now.Add(24 * time.Hour)
			w.WantActions("audit  ")
			before := w.Desired().LastAuditHead()
			w.Commit("mallory", "hide it", map[string]string{audithead.File: text})
			if got := w.Desired().LastAuditHead(); got != before {
				t.Errorf("%+v counts", got)
			}
			f := w.Desired().Faults
			if len(f) != 1 || f[0].File != audithead.File || !strings.Contains(f[0].Message, "put it back") {
				t.Errorf("faults %v", f)
			}
			w.Now = w.Now.Add(24 * time.Hour)
			grow(w, 8)
			w.Now = w.Now.Add(24 * time.Hour)
			w.WantActions("audit  ")
			if w.Desired().LastAuditHead().Row != 8 || len(w.Desired().Faults) != 0 {
				t.Errorf("%+v %v", w.Desired().LastAuditHead(), w.Desired().Faults)
			}
		})
	}
	w := auditWorld(t, 7)
	w.Commit("mallory", "the first", map[string]string{audithead.File: "row: 1\n"})
	if f := w.Desired().Faults; len(f) != 1 || !strings.Contains(f[0].Message, "remove it") {
		t.Errorf("faults %v", f)
	}
}

// A database that was restored from a backup has fewer rows than were committed, and commits nothing in their place.
func TestRestoredAuditCommitsNothing(t *testing.T) {
	w := auditWorld(t, 7)
	w.Now = w.Now.Add(24 * time.Hour)
	w.WantActions("audit  ")
	w.Obs.Audit = &audithead.Chain{Row: 3, Hash: auditHash(3), Open: w.Now}
	w.Now = w.Now.Add(48 * time.Hour)
	w.WantActions("")
}

// Everything else comes first, and a refused push holds nothing else up.
func TestAuditIsCommittedAlone(t *testing.T) {
	w := auditWorld(t, 7)
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Now = w.Now.Add(24 * time.Hour)
	w.WantActions("promote 1.1.0 staging")
	w.Obs.Refused[plan.AuditPushes] = plan.Refusal{Reason: "no", Until: w.Now.Add(time.Minute)}
	w.WantBlocked("", "push", "how far the audit is: no")
	w.Now = w.Now.Add(time.Minute)
	for !strings.Contains(Kinds(w.Run()), "audit") {
		if w.Now = w.Now.Add(time.Minute); w.Now.After(Start.Add(48 * time.Hour)) {
			t.Fatal("never committed")
		}
	}
}

// An engine whose key is not listed commits nothing, and says so.
func TestR46UnlistedEngineCommitsNoAudit(t *testing.T) {
	w := auditWorld(t, 7)
	w.Obs.Key = malloryKey
	w.Now = w.Now.Add(24 * time.Hour)
	w.WantActions("")
	w.WantBlocked("", "push", "does not list this engine's key")
}
