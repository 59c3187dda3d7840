package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// newKeyedWorld returns a world whose cells have keys: eu-1 and acme, registered and running 1.0.0.
func newKeyedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, nil)
	w.server.args = append(w.server.args, "--cells", freePort(t))
	w.server.start()
	w.eventually(func() (string, bool) {
		return "the control plane is not ready", w.getJSON("/readyz", new([]byte)) == nil
	})
	for cell, channel := range map[string]string{"eu-1": "staging", "acme": "dedicated"} {
		w.startAgent(cell, cell, "--join", "@"+w.addCell(cell, channel))
	}
	w.cutRelease("1.0.0", "first")
	w.awaitRelease("eu-1", "1.0.0")
	w.awaitRelease("acme", "1.0.0")
	return w
}

func (w *world) startAgent(name, folder string, more ...string) *process {
	w.t.Helper()
	w.agents[name] = w.process(name, append([]string{
		"agent", "--dir", w.path("cells", folder), "--health", healthCommand, "--health-timeout", "300ms",
		"--healthy-for", "0s", "--health-every", "200ms", "--report-every", "200ms", "--heal-every", "300ms",
	}, more...)...)
	return w.agents[name].start()
}

// The identity is in git (R25): key, epoch and serial, by one commit of the engine for both cells, or one each.
func TestKeysAreInGit(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	for _, cell := range []string{"eu-1", "acme"} {
		w.eventually(func() (string, bool) {
			text := w.readCommitted("cells/" + cell + "/identity.yaml")
			return text, strings.Contains(text, "publicKey: ed25519:") && strings.Contains(text, "epoch: 1") &&
				strings.Contains(text, "serial: 1")
		})
	}
	// Without the database cells keep their keys, which are in git, and no cell is shut out (R26).
	w.server.kill()
	if err := os.RemoveAll(w.path("data", "sluice.db")); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		_ = os.RemoveAll(w.path("data", "sluice.db"+suffix))
	}
	w.server.start()
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("eu-1", "1.0.1")
	w.awaitRelease("acme", "1.0.1")
}

// A cell whose key is rotated has the new one in git and continues. A revoked cell is shut out within seconds, keeps
// running its release (R30), and returns with a new token.
func TestRotateAndRevoke(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	key := func() string {
		_, after, _ := strings.Cut(w.readCommitted("cells/acme/identity.yaml"), "publicKey: ")
		text, _, _ := strings.Cut(after, "\n")
		return text
	}
	w.eventually(func() (string, bool) { return "no key in git", key() != "" })
	first := key()
	w.mustRunSluice("cell", "rotate", "acme")
	w.eventually(func() (string, bool) {
		text := w.readCommitted("cells/acme/identity.yaml")
		return "the key was not changed: " + text, key() != first && !strings.Contains(text, "previous:") &&
			!strings.Contains(text, "rotate:")
	})
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("acme", "1.0.1")

	w.mustRunSluice("cell", "revoke", "acme")
	w.eventually(func() (string, bool) {
		return "acme is not revoked in git", strings.Contains(w.readCommitted("cells/acme/identity.yaml"),
			"revoked: true")
	})
	w.cutRelease("1.0.2", "third")
	w.awaitRelease("eu-1", "1.0.2")
	if text := w.installedManifests("acme"); !strings.Contains(text, "version: 1.0.1") {
		t.Errorf("the revoked cell runs %q: it was to keep what it has", text)
	}
	w.agents["acme"].stop()
	w.startAgent("acme", "acme", "--join", "@"+w.addCell("acme", "dedicated"))
	w.awaitRelease("acme", "1.0.2")
}

// Fault 38: one identity is used from two places. Both are quarantined and named, each keeps what it runs, and a new
// token admits one of them again.
func TestClone(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	w.agents["acme"].stop()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", w.path("cells", "acme"),
		w.path("cells", "copy")).CombinedOutput(); err != nil { //nolint:gosec // a test's
		t.Fatal(err, string(out))
	}
	w.agents["acme"].start()
	w.startAgent("copy", "copy")
	w.eventually(func() (string, bool) {
		text := w.readCommitted("cells/acme/identity.yaml")
		return "acme is not quarantined: " + text, strings.Contains(text, "quarantined:")
	})
	why := w.mustRunSluice("why", "acme")
	if !strings.Contains(why, "two") && !strings.Contains(why, "twice") && !strings.Contains(why, "clone") {
		t.Errorf("why acme does not name what happened:\n%s", why)
	}
	t.Logf("why acme:\n%s", why)
	w.agents["copy"].stop()
	w.agents["acme"].stop()
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("eu-1", "1.0.1")
	w.startAgent("acme", "acme", "--join", "@"+w.addCell("acme", "dedicated"))
	w.awaitRelease("acme", "1.0.1")
}

// A cell that is renamed goes on with its key and what it runs: its agent follows by itself, also one that was off and
// is started with the token and the name of before. A cell that is copied gets no key.
func TestRename(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	w.eventually(func() (string, bool) {
		return "no key in git", strings.Contains(w.readCommitted("cells/acme/identity.yaml"), "publicKey")
	})
	identity := w.readCommitted("cells/acme/identity.yaml")
	healthyOn := func(cell, version string) func() (string, bool) {
		return func() (string, bool) {
			c := w.cellStatus(cell)
			return fmt.Sprintf("%s: %+v", cell, c), c.Release == version && c.State == cells.StateHealthy
		}
	}
	w.mustRunSluice("cell", "rename", "acme", "acme-eu")
	w.eventually(healthyOn("acme-eu", "1.0.0"))
	if got := w.readCommitted("cells/acme-eu/identity.yaml"); got != identity {
		t.Errorf("the identity became %q", got)
	}
	if log := w.processLog("acme"); !strings.Contains(log, "the vendor renamed this cell") {
		t.Errorf("the agent's log: %s", log)
	}
	w.cutRelease("1.0.1", "second")
	w.eventually(healthyOn("acme-eu", "1.0.1"))
	w.agents["acme"].stop()
	w.mustRunSluice("cell", "rename", "acme-eu", "globex")
	w.agents["acme"].start() // with the token of acme
	w.eventually(healthyOn("globex", "1.0.1"))
	w.pushFiles("copy", map[string]string{"cells/initech/cell.yaml": w.readCommitted("cells/globex/cell.yaml"),
		"cells/initech/identity.yaml": w.readCommitted("cells/globex/identity.yaml")})
	w.cutRelease("1.0.2", "third")
	w.eventually(healthyOn("globex", "1.0.2"))
	if out, err := w.runSluice("validate", w.repo); err == nil || !strings.Contains(out, "has the key of cell") {
		t.Errorf("validate: %v, %s", err, out)
	}
	if out, err := w.runSluice("cell", "rename", "globex", "eu-1"); err == nil || !strings.Contains(out, "already") {
		t.Errorf("onto another cell: %v, %s", err, out)
	}
}

// A machine that was restored from a snapshot older than the last rotation is shut out, and both sides are told why and
// what to do, also by a control plane that was restarted since; a new token lets it in.
func TestSnapshotFromBeforeARotation(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	identity := func() string { return w.readCommitted("cells/acme/identity.yaml") }
	w.eventually(func() (string, bool) { return "no key in git", strings.Contains(identity(), "publicKey") })
	first := identity()
	copyFolder := func(from, to string) {
		if err := os.RemoveAll(w.path("cells", to)); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", w.path("cells", from),
			w.path("cells", to)).CombinedOutput(); err != nil { //nolint:gosec // a test's
			t.Fatal(err, string(out))
		}
	}
	w.agents["acme"].stop()
	copyFolder("acme", "snapshot")
	w.agents["acme"].start()
	w.mustRunSluice("cell", "rotate", "acme")
	w.eventually(func() (string, bool) {
		text := identity()
		return text, text != first && !strings.Contains(text, "previous:") && !strings.Contains(text, "rotate:")
	})
	if why := w.mustRunSluice("why", "acme"); strings.Contains(why, "former key") {
		t.Errorf("before anything happened: %s", why)
	}
	w.agents["acme"].stop()
	copyFolder("snapshot", "acme")
	w.server.stop()
	w.server.start()
	w.agents["acme"].start()
	w.eventually(func() (string, bool) {
		why, _ := w.runSluice("why", "acme")
		return why, strings.Contains(why, "asked with a former key of this cell") &&
			strings.Contains(why, "sluice cell add acme")
	})
	if log := w.processLog("serve"); !strings.Contains(log, "a former key of this cell was refused") {
		t.Errorf("serve's log: %s", log)
	}
	w.eventually(func() (string, bool) { // the answer may come after the control plane has noted it
		log := w.processLog("acme")
		return "the agent's log: " + log, strings.Contains(log, "This key was the cell's and was replaced since")
	})
	w.agents["acme"].stop()
	w.startAgent("acme", "acme", "--join", "@"+w.addCell("acme", "dedicated"))
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("acme", "1.0.1")
}

// R18: a paused cell gets nothing new, and why says so; the control plane can't override the cell's owner.
func TestOwnerPauses(t *testing.T) {
	t.Parallel()
	w := newKeyedWorld(t)
	state := w.path("cells", "acme", ".agent")
	w.mustRunSluice("cell", "pause", "--state", state, "--reason", "inventory")
	w.eventually(func() (string, bool) {
		why, _ := w.runSluice("why", "acme")
		return "why does not show the pause: " + why, strings.Contains(why, "inventory") ||
			strings.Contains(w.mustRunSluice("cell", "show", "acme"), "inventory")
	})
	w.cutRelease("1.0.1", "second")
	w.awaitRelease("eu-1", "1.0.1")
	w.eventually(func() (string, bool) {
		return "dedicated did not get 1.0.1", w.headRelease("dedicated") == "1.0.1"
	})
	w.eventually(func() (string, bool) {
		why := w.mustRunSluice("why", "acme")
		return "why does not name the owner: " + why, strings.Contains(why, "owner") &&
			strings.Contains(why, "inventory")
	})
	began := time.Now() // time for a few reports
	w.eventually(func() (string, bool) { return "", time.Since(began) > 2*time.Second })
	if text := w.installedManifests("acme"); !strings.Contains(text, "version: 1.0.0") {
		t.Errorf("the paused cell runs %q", text)
	}
	w.mustRunSluice("cell", "unpause", "--state", state)
	w.awaitRelease("acme", "1.0.1")
}
