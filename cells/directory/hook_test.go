package directory_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/cells/targettest"
)

// supervisor returns the command of a supervisor: this test program.
func supervisor(t *testing.T) []string {
	t.Helper()
	t.Setenv(superviseVariable, "1")
	self, err := os.Executable()
	must(t, err)
	return []string{self, "supervise"}
}

// Faults 46, 47: what a hook that is ended left behind ends before another begins, in whatever session it is.
func TestHooksNeverOverlap(t *testing.T) {
	supervise := supervisor(t)
	for name, work := range map[string]string{
		"in its session":      `setsid sh -c 'echo begins >>trace; exec sleep 600' >/dev/null 2>&1 & wait`,
		"as an orphan":        `(setsid sh -c 'echo begins >>trace; exec sleep 600' >/dev/null 2>&1 &); sleep 600`,
		"without environment": `(env -i setsid sh -c 'echo begins; exec sleep 600' >/dev/null 2>&1 &); sleep 600`,
	} {
		dir, run := t.TempDir(), t.TempDir()
		work = strings.Replace(work, "echo begins", "echo $$ >pid; echo begins", 1)
		target := newTarget(t, dir, directory.Options{
			Hook:        "cd " + run + `; if test "$SLUICE_RELEASE" = 1.1.0; then ` + work + `; fi`,
			HookTimeout: 5 * time.Second, HookGrace: 100 * time.Millisecond, Supervisor: supervise,
		})
		err := target.Apply(t.Context(), targettest.Rendered("1.1.0", map[string]string{"a": "1"}))
		if err == nil || !strings.Contains(err.Error(), "not finished after 5s") {
			t.Errorf("%s: %v", name, err)
		}
		pid := strings.TrimSpace(readFile(t, filepath.Join(run, "pid")))
		if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("%s: %s is at work still", name, stat)
		}
		must(t, target.Apply(t.Context(), renderedWith("1")))
	}
}

// Only a hook that succeeded leaves something behind: what another one started would run beside the next.
func TestFailedHookLeavesNothing(t *testing.T) {
	for ends, left := range map[string]bool{"exit 0": true, "exit 1": false, "exit 75": false, "kill -9 $$": false} {
		run := t.TempDir()
		target := newTarget(t, t.TempDir(), directory.Options{HookGrace: 100 * time.Millisecond, Hook: "cd " + run +
			"; (setsid sh -c 'echo $$ >pid; exec sleep 60' >/dev/null 2>&1 &); until test -s pid; do sleep 0.05; done; " +
			ends})
		if err := target.Apply(t.Context(), renderedWith("1")); (err == nil) != left {
			t.Errorf("%s: %v", ends, err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, filepath.Join(run, "pid"))))
		must(t, err)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if runs := err == nil && !strings.Contains(string(stat), ") Z "); runs != left {
			t.Errorf("%s: %s, %v", ends, stat, err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
}

// A hook whose agent was killed goes on for its grace, and the next agent waits for it.
func TestInterruptedHookHasItsGrace(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	marker := filepath.Join(dir, ".sluice", "hook-running")
	hook := "cd " + run + "; echo begins $SLUICE_RELEASE >>trace; if test $SLUICE_RELEASE = 1.0.0; then " +
		"cp " + marker + " kept; (setsid sh -c 'sleep 1; echo ends >>trace' >/dev/null 2>&1 &); fi"
	must(t, newTarget(t, dir, directory.Options{Hook: hook}).Apply(t.Context(), renderedWith("1")))
	must(t, os.Rename(filepath.Join(run, "kept"), marker)) // as if the agent had been killed before the hook's end
	target := newTarget(t, dir, directory.Options{Hook: hook, HookGrace: time.Minute})
	must(t, target.Apply(t.Context(), targettest.Rendered("1.1.0", map[string]string{"a": "1"})))
	if got := readFile(t, filepath.Join(run, "trace")); got != "begins 1.0.0\nends\nbegins 1.1.0\n" {
		t.Errorf("got %q", got)
	}
}

// A health command that hangs leaves nothing behind, time after time.
func TestHungHealthCommandLeavesNothing(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	target := newTarget(t, dir, directory.Options{HealthTimeout: 3 * time.Second,
		Health: "cd " + run + "; (setsid sh -c 'echo $$ >pid; exec sleep 600' >/dev/null 2>&1 &); sleep 600"})
	must(t, target.Apply(t.Context(), renderedWith("1")))
	var unhealthy *cells.Unhealthy
	if err := target.Health(t.Context()); !errors.As(err, &unhealthy) {
		t.Errorf("got %v", err)
	}
	pid := strings.TrimSpace(readFile(t, filepath.Join(run, "pid")))
	if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("%s is there still", stat)
	}
}

// A loop of drift, whoever makes it, ends after a few hooks, is told for as long as it lasts, and heals are normal
// again once it is over.
func TestDriftLoopIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		writes string // by the hook
		left   bool   // what it made is left in place
	}{
		"a file beside the manifests": {`echo $$ >"$SLUICE_DIR/.env"`, true},
		"a folder":                    {`mkdir -p "$SLUICE_DIR/cache/x"; date >"$SLUICE_DIR/cache/x/y"`, true},
		"an edited manifest":          {`echo '# edited' >>"$SLUICE_DIR/manifests.yaml"`, false},
		"a removed manifest":          {`rm "$SLUICE_DIR/manifests.yaml"`, false},
		"another version":             {`ln -sfn elsewhere "$SLUICE_CURRENT"`, false},
		"no version":                  {`rm -r "$SLUICE_DIR"`, false},
		"a mode":                      {`chmod 0644 "$SLUICE_DIR/manifests.yaml"`, false},
	} {
		dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
		target := newTarget(t, dir, directory.Options{Hook: "echo $SLUICE_REASON >>" + log + "; " + c.writes})
		r := renderedWith("1")
		must(t, target.Apply(t.Context(), r))
		var recurring *cells.RecurringDriftError
		for i := range 6 {
			_, err := target.Heal(t.Context(), r)
			looped := errors.As(err, &recurring)
			if err != nil && !looped || i >= 2 && !looped && c.left || i < 2 && looped {
				t.Errorf("%s, heal %d: %v", name, i+1, err)
			}
		}
		if n := strings.Count(readFile(t, log), "heal"); n > 3 {
			t.Errorf("%s: the hook ran %d times to heal", name, n)
		}
		if recurring == nil || !strings.Contains(recurring.Reason, "drift comes back") {
			t.Errorf("%s: told %v", name, recurring)
		}
		entries, err := os.ReadDir(filepath.Join(dir, "current"))
		must(t, err)
		if got := len(entries) == 3; got != c.left {
			t.Errorf("%s: %v", name, entries)
		}
		if got, want := readFile(t, filepath.Join(dir, "current", "manifests.yaml")),
			string(r.Files["manifests.yaml"]); got != want {
			t.Errorf("%s: %q", name, got)
		}
		// Other drift is healed as ever, and the hook runs for it.
		must(t, os.Remove(filepath.Join(dir, "current", "configmap-default-a.yaml")))
		before := strings.Count(readFile(t, log), "heal")
		if n, err := target.Heal(t.Context(), r); n != 1 || err != nil && !errors.As(err, &recurring) {
			t.Errorf("%s: mended %d, %v", name, n, err)
		}
		if n := strings.Count(readFile(t, log), "heal"); n != before+1 {
			t.Errorf("%s: the hook ran %d times, and then %d", name, before, n)
		}
		// A new version starts anew.
		must(t, target.Apply(t.Context(), renderedWith("2")))
		if _, err := target.Heal(t.Context(), renderedWith("2")); err != nil {
			t.Errorf("%s: after the next version: %v", name, err)
		}
	}
}

// Drift that happens again and again, but not each time, is no loop.
func TestRepeatedDriftIsNoLoop(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	target := newTarget(t, dir, directory.Options{Hook: "echo $SLUICE_REASON >>" + log})
	must(t, target.Apply(t.Context(), renderedWith("1")))
	for range 5 {
		must(t, os.Remove(filepath.Join(dir, "current", "manifests.yaml")))
		for range 2 {
			_, err := target.Heal(t.Context(), renderedWith("1"))
			must(t, err)
		}
	}
	if n := strings.Count(readFile(t, log), "heal"); n != 5 {
		t.Errorf("the hook ran %d times", n)
	}
}

// release returns a rendered release with objects, given as apiVersion/kind/namespace/name.
func release(version string, objects ...cells.Object) cells.Rendered {
	r := targettest.Rendered(version, map[string]string{"a": version})
	r.Objects = objects
	return r
}

// The hook is told which objects are gone: since the last hook that succeeded, whatever failed in between, across a
// restart, and for a way back too.
func TestHookKnowsWhatIsGone(t *testing.T) {
	dir, gate := t.TempDir(), filepath.Join(t.TempDir(), "broken")
	seen := filepath.Join(t.TempDir(), "gone")
	open := func() *directory.Target {
		return newTarget(t, dir, directory.Options{Hook: `cp "$SLUICE_GONE" ` + seen + "; ! test -e " + gate})
	}
	object := func(apiVersion, kind, name string) cells.Object {
		return cells.Object{APIVersion: apiVersion, Kind: kind, Namespace: "shop", Name: name}
	}
	web, old := object("apps/v1", "Deployment", "web"), object("v1", "ConfigMap", "old")
	job, job1 := object("batch/v1", "CronJob", "tidy"), object("batch/v1beta1", "CronJob", "tidy")
	space := cells.Object{APIVersion: "v1", Kind: "Namespace", Name: "shop"}
	want := func(what, gone string) {
		t.Helper()
		if got := readFile(t, seen); got != gone {
			t.Errorf("%s: the hook saw %q, want %q", what, got, gone)
		}
	}
	document := func(o cells.Object) string {
		return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q,"namespace":%q}}`+"\n",
			o.APIVersion, o.Kind, o.Name, o.Namespace)
	}
	must(t, open().Apply(t.Context(), release("1.0.0", space, web, old, job1)))
	want("the first version", "")
	must(t, os.WriteFile(gate, nil, 0o600))
	if err := open().Apply(t.Context(), release("1.1.0", web, job)); err == nil {
		t.Fatal("the hook succeeded")
	}
	want("with another version of an API, and a namespace that stays", document(old))
	if err := open().Apply(t.Context(), release("1.2.0", web)); err == nil {
		t.Fatal("the hook succeeded")
	}
	want("after a failure", document(old)+"---\n"+document(job))
	must(t, os.Remove(gate))
	must(t, open().Apply(t.Context(), release("1.0.0", space, web, old, job1)))
	want("on the way back", "")
	must(t, open().Apply(t.Context(), release("2.0.0")))
	want("of a release without objects", "")
	must(t, open().Apply(t.Context(), release("2.1.0", web)))
	want("after a release without objects", document(job1)+"---\n"+document(old))
	must(t, os.Remove(filepath.Join(dir, "current", "manifests.yaml")))
	_, err := open().Heal(t.Context(), release("2.1.0", web))
	must(t, err)
	want("once all is gone", "")
}

// An object whose namespace became explicit, or ceased to be, may be the one that the hook just put into effect: it is
// never listed as gone. One that is in two namespaces by name is.
func TestNamespaceThatBecomesExplicit(t *testing.T) {
	dir, seen := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	var told []string
	target := newTarget(t, dir, directory.Options{Hook: `cp "$SLUICE_GONE" ` + seen,
		OnProblem: func(err error) { told = append(told, err.Error()) }})
	in := func(namespace string) cells.Object {
		return cells.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: "web"}
	}
	for i, c := range []struct {
		object cells.Object
		gone   string // its namespace
	}{{in(""), ""}, {in("shop"), ""}, {in(""), ""}, {in("shop"), ""}, {in("other"), "shop"}} {
		told = nil
		must(t, target.Apply(t.Context(), release(fmt.Sprintf("1.%d.0", i), c.object)))
		if got := readFile(t, seen); (got != "") != (c.gone != "") ||
			c.gone != "" && !strings.Contains(got, `"namespace":"`+c.gone+`"`) {
			t.Errorf("step %d: the hook saw %q", i, got)
		}
		if warned := strings.Contains(strings.Join(told, "\n"), "Deployment web"); warned != (i > 0 && c.gone == "") {
			t.Errorf("step %d: told %q", i, told)
		}
	}
}
