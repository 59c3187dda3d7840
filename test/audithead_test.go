package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/store"
)

// recordAudit stores rows of the audit as of an instant, as serve would have.
func (w *world) recordAudit(data string, at time.Time, what ...string) {
	w.t.Helper()
	st, err := store.Open(w.t.Context(), filepath.Join(data, "sluice.db"), zerolog.Nop())
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Close()
	for _, did := range what {
		if err := st.RecordAudit(w.t.Context(), access.Entry{At: at, Who: "ada", What: did}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// The engine commits, signed, how far the audit was, and sluice audit verify finds by it a database that was restored
// from a backup, and one whose chain was written anew.
func TestAuditHeadInTheRepository(t *testing.T) {
	w := newWorld(t, nil)
	data, backup := w.path("data"), w.path("copy.db")
	today := time.Now().UTC()
	w.mustRunSluice("tick", "--data", data)
	w.recordAudit(data, today.Add(-26*time.Hour), "the first")
	w.mustRunSluice("backup", "--data", data, "--to", backup)
	w.recordAudit(data, today.Add(-25*time.Hour), "the second", "the third")
	w.mustRunSluice("tick", "--data", data)
	if got := w.readCommitted("audit/head.yaml"); !strings.HasPrefix(got, "row: 3\nhash: sha256:") {
		t.Fatalf("audit/head.yaml: %q", got)
	}
	tip := git(t, w.repo, "rev-parse", "HEAD")
	if raw := git(t, w.repo, "cat-file", "commit", "HEAD"); !strings.Contains(raw, "BEGIN SSH SIGNATURE") {
		t.Errorf("not signed:\n%s", raw)
	}
	w.mustRunSluice("tick", "--data", data)
	w.recordAudit(data, today, "today's")
	w.mustRunSluice("tick", "--data", data)
	if again := git(t, w.repo, "rev-parse", "HEAD"); again != tip {
		t.Errorf("a second commit in a day: %s", git(t, w.repo, "log", "-1", "--format=%B"))
	}
	if out := w.mustRunSluice("audit", "verify", "--data", data); !strings.Contains(out, "the same as 1 earlier head") {
		t.Errorf("verified: %s", out)
	}
	if out, err := w.runSluice("validate", w.repo); err != nil || strings.Contains(out, "audit") {
		t.Errorf("validate: %v: %s", err, out)
	}

	// Restored from a backup, at first with fewer rows, then with others in their place.
	w.mustRunSluice("restore", "--data", data, "--from", backup)
	out, err := w.runSluice("audit", "verify", "--data", data)
	if err == nil || !strings.Contains(out, "ends with row 3, and the audit with row 1") {
		t.Errorf("restored: %v: %s", err, out)
	}
	w.recordAudit(data, today.Add(-24*time.Hour), "another second", "another third", "another fourth")
	w.mustRunSluice("tick", "--data", data)
	out, err = w.runSluice("audit", "verify", "--data", data)
	if err == nil || !strings.Contains(out, "row 3 is not the one that the audit as of commit "+tip[:7]) {
		t.Errorf("others in their place: %v: %s", err, out)
	}

	// An export is compared too, wherever it is verified.
	export := w.path("audit.jsonl")
	if err := os.WriteFile(export, []byte(w.mustRunSluice("audit", "export", "--data", data)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.runSluice("audit", "verify", export, "--repo", w.repo); err == nil ||
		!strings.Contains(out, "row 3 is not the one") {
		t.Errorf("an export: %v: %s", err, out)
	}
}
