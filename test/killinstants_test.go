package test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"
)

// installKillHook installs a hook of the git host that kills the control plane when the control plane pushes.
func (w *world) installKillHook(name string, code int) {
	w.t.Helper()
	w.installKillHookIn(w.repo, name, "", code)
}

// installKillHookIn is installKillHook in a repository, for commits whose subject begins with subject.
func (w *world) installKillHookIn(repo, name, subject string, code int) {
	w.t.Helper()
	text := fmt.Sprintf(`#!/bin/sh
case "$1" in prepared|aborted) exit 0 ;; esac # of a reference-transaction, only the end counts
new=
while read -r old id ref; do
	if test "$ref" = refs/heads/main; then new=$id; fi
done
test -n "$new" || exit 0
case "$(git log -1 --format=%%an:%%s "$new")" in "Sluice:%s"*) ;; *) exit 0 ;; esac
kill -9 %d
exit %d
`, subject, w.server.cmd.Process.Pid, code)
	if err := os.MkdirAll(filepath.Join(repo, "hooks"), 0o755); err != nil { //nolint:gosec // a test's
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(repo, "hooks", name), []byte(text), 0o755); err != nil { //nolint:gosec
		w.t.Fatal(err)
	}
}

// awaitHookKill waits until the hook has killed the control plane, and removes the hook.
func (w *world) awaitHookKill(name string) {
	w.t.Helper()
	<-w.server.done
	w.server.cmd = nil
	if err := os.Remove(w.path("repo.git", "hooks", name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) queryText(query string, args ...any) (text string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", w.path("data", "sluice.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(w.t.Context(), query, args...).Scan(&text); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	return text
}

// checkPromotedAfterRestart restarts the control plane, and checks that the promotion is there once: in git, in the
// store, and announced.
func (w *world) checkPromotedAfterRestart() {
	w.t.Helper()
	w.server.start()
	w.eventually(func() (string, bool) {
		s := w.status()
		return fmt.Sprintf("staging: %+v", s), len(s.Channels) == 2 &&
			s.Channels[1].Release+s.Channels[0].Release == "1.0.0"
	})
	w.server.stop()
	checkPromotedOnce(w.t, w.repo, "staging")
	if got := w.headSubjects("staging"); len(got) != 1 {
		w.t.Errorf("staging: %v", got)
	}
	if got := w.storedDecisions(); len(got) != 1 || got[0] != "staging 1: promote 1.0.0" {
		w.t.Errorf("the store: %v", got)
	}
}

func (w *world) countAnnounced() int {
	w.t.Helper()
	log, err := os.ReadFile(w.path("serve.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return bytes.Count(log, []byte(`"message":"decided"`))
}

// Fault 1: killed before the push lands, the control plane leaves the branch unchanged; restarted, it makes one commit.
func TestKilledBeforeThePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.server.start()
	w.awaitFirstRead()
	w.installKillHook("pre-receive", 1)
	w.cutRelease("1.0.0", "fine")
	w.awaitHookKill("pre-receive")
	if tip := git(t, w.repo, "rev-parse", "main"); tip != git(t, w.clone, "rev-parse", "HEAD") {
		t.Errorf("the branch is at %s", tip)
	}
	w.checkPromotedAfterRestart()
}

// Fault 2: killed after the push landed but before it was recorded, the control plane recognises the commit from git,
// and does not push again.
func TestKilledAfterThePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.server.start()
	w.awaitFirstRead()
	w.installKillHook("reference-transaction", 0) // the branch has moved, but the host has not answered
	w.cutRelease("1.0.0", "fine")
	w.awaitHookKill("reference-transaction")
	w.eventually(func() (string, bool) { return "the push did not land", w.headRelease("staging") == "1.0.0" })
	if n := w.queryText(`SELECT count(*) FROM decisions`); n != "0" {
		t.Fatalf("%s decisions are written down already", n)
	}
	tip := git(t, w.repo, "rev-parse", "main")
	w.checkPromotedAfterRestart()
	if now := git(t, w.repo, "rev-parse", "main"); now != tip {
		t.Errorf("it pushed again: %s", now)
	}
}

// Fault 3: killed after a decision was recorded but before it was announced, the control plane announces it once.
func TestKilledBeforeTheEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.cutRelease("1.0.0", "fine")
	w.checkPromotedAfterRestart()
	if n := w.countAnnounced(); n != 1 {
		t.Fatalf("announced %d times", n)
	}
	db, err := sql.Open("sqlite", w.path("data", "sluice.db"))
	if err != nil {
		t.Fatal(err)
	}
	// as a kill at this point leaves it
	if _, err := db.ExecContext(t.Context(), `UPDATE decisions SET announced = 0`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w.checkPromotedAfterRestart()
		if n := w.countAnnounced(); n != 2 {
			t.Errorf("announced %d times, want once more than before", n-1)
		}
	}
}
