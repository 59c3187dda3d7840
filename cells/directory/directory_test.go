package directory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/cells/targettest"
)

func TestContract(t *testing.T) {
	targettest.Run(t, func(t *testing.T) targettest.Subject {
		dir := filepath.Join(t.TempDir(), "target")
		broken := filepath.Join(t.TempDir(), "broken")
		open := func(t *testing.T) cells.Target {
			return newTarget(t, dir, directory.Options{Health: "! test -e '" + broken + "'"})
		}
		return targettest.Subject{
			Target:  open(t),
			Reopen:  open,
			Observe: func(t *testing.T) map[string]string { return observeConfigMaps(t, dir) },
			Drift: func(t *testing.T, kind targettest.Drift, name string) {
				file := filepath.Join(dir, "current", "configmap-default-"+name+".yaml")
				if kind == targettest.Removed {
					must(t, os.Remove(file))
					return
				}
				must(t, os.WriteFile(file, []byte("data: {value: \"drifted\"}\n"), 0o644))
			},
			Break: func(t *testing.T, yes bool) {
				if yes {
					must(t, os.WriteFile(broken, nil, 0o644))
				} else if err := os.Remove(broken); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			},
		}
	})
}

var valueLine = regexp.MustCompile(`value: "(.*)"`)

func observeConfigMaps(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "current", "configmap-default-*.yaml"))
	must(t, err)
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "configmap-default-"), ".yaml")
		if m := valueLine.FindStringSubmatch(readFile(t, f)); m != nil {
			got[name] = m[1]
		}
	}
	return got
}

func newTarget(t *testing.T, dir string, o directory.Options) *directory.Target {
	t.Helper()
	target, err := directory.New(dir, o)
	must(t, err)
	return target
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return string(b)
}

func renderedWith(value string) cells.Rendered {
	return targettest.Rendered("1.0.0", map[string]string{"a": value})
}

// A consumer that resolves the link once sees all of one version, whatever happens meanwhile.
func TestNoMixes(t *testing.T) {
	dir := t.TempDir()
	target := newTarget(t, dir, directory.Options{KeepVersions: 4})
	pair := func(i int) cells.Rendered {
		v := fmt.Sprint(i)
		return targettest.Rendered("1.0."+v, map[string]string{"a": v, "b": v})
	}
	must(t, target.Apply(t.Context(), pair(0)))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for reads := 0; ; reads++ {
				select {
				case <-stop:
					if reads == 0 {
						t.Error("nothing was read")
					}
					return
				default:
				}
				at, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
				if err != nil {
					continue // the version went between reading the link and its folder; the link itself never does
				}
				a, errA := os.ReadFile(filepath.Join(at, "configmap-default-a.yaml"))
				b, errB := os.ReadFile(filepath.Join(at, "configmap-default-b.yaml"))
				if errA != nil || errB != nil {
					continue // so slow a reader that four switches passed
				}
				if x, y := valueLine.FindSubmatch(a), valueLine.FindSubmatch(b); !bytes.Equal(x[1], y[1]) {
					t.Errorf("a mix: %s and %s", x[1], y[1])
					return
				}
			}
		})
	}
	for i := range 200 {
		must(t, target.Apply(t.Context(), pair(i)))
	}
	close(stop)
	readers.Wait()
}

// Drift of every kind is put back, and nothing outside is touched.
func TestHealsEveryDrift(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("kept"), 0o644))
	target := newTarget(t, dir, directory.Options{})
	r := renderedWith("1")
	r.Files["deep/er/file"] = []byte("x")
	must(t, target.Apply(t.Context(), r))
	at, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
	must(t, err)
	deep, file, link := filepath.Join(at, "deep"), filepath.Join(at, "manifests.yaml"), filepath.Join(dir, "current")
	for name, drift := range map[string]func() error{
		"file added":    func() error { return os.WriteFile(filepath.Join(at, "extra"), nil, 0o644) },
		"folder added":  func() error { return os.MkdirAll(filepath.Join(at, "extra", "more"), 0o755) },
		"mode changed":  func() error { return os.Chmod(file, 0o777) },
		"folder's mode": func() error { return os.Chmod(deep, 0o755) },
		"same length":   func() error { return os.WriteFile(file, bytes.ToUpper([]byte(readFile(t, file))), 0o644) },
		"file is a link": func() error {
			return errors.Join(os.Remove(file), os.Symlink(filepath.Join(outside, "precious"), file))
		},
		"file is a folder": func() error {
			return errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "in"), 0o755))
		},
		"folder is a link": func() error { return errors.Join(os.RemoveAll(deep), os.Symlink(outside, deep)) },
		"folder is a file": func() error {
			return errors.Join(os.RemoveAll(deep), os.WriteFile(deep, nil, 0o644))
		},
		"folder removed":    func() error { return os.RemoveAll(deep) },
		"version removed":   func() error { return os.RemoveAll(at) },
		"version is a file": func() error { return errors.Join(os.RemoveAll(at), os.WriteFile(at, nil, 0o644)) },
		"link removed":      func() error { return os.Remove(link) },
		"link elsewhere":    func() error { return errors.Join(os.Remove(link), os.Symlink(outside, link)) },
		"link replaced by folder": func() error {
			return errors.Join(os.Remove(link), os.MkdirAll(filepath.Join(link, "x"), 0o755))
		},
		"staging of a dead writer": func() error { return os.MkdirAll(filepath.Join(dir, "versions", ".staging", "x"), 0o755) },
	} {
		must(t, drift())
		n, err := target.Heal(t.Context(), r)
		if err != nil || n == 0 && !strings.HasPrefix(name, "staging") {
			t.Errorf("%s: mended %d, %v", name, n, err)
		}
		if n, err := target.Heal(t.Context(), r); n != 0 || err != nil {
			t.Errorf("%s: after healing, mended %d, %v", name, n, err)
		}
		for f, content := range r.Files {
			if got := readFile(t, filepath.Join(link, f)); got != string(content) {
				t.Errorf("%s: %s is %q", name, f, got)
			}
		}
		if got := readFile(t, filepath.Join(outside, "precious")); got != "kept" {
			t.Fatalf("%s: wrote outside: %q", name, got)
		}
		if _, err := os.Lstat(filepath.Join(dir, "versions", ".staging")); err == nil {
			t.Errorf("%s: staging is left", name)
		}
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for _, name := range []string{"../escape", "/abs", "a/../b", "", ".", "a\\b", "a//b", "a\x00b"} {
		dir := t.TempDir()
		r := renderedWith("1")
		r.Files[name] = nil
		if err := newTarget(t, dir, directory.Options{}).Apply(t.Context(), r); err == nil {
			t.Errorf("%q was taken", name)
		}
		if _, err := os.Lstat(filepath.Join(dir, "current")); err == nil {
			t.Errorf("%q: switched", name)
		}
	}
	r := renderedWith("1")
	r.Files["a"], r.Files["a/b"] = nil, nil
	if err := newTarget(t, t.TempDir(), directory.Options{}).Apply(t.Context(), r); err == nil {
		t.Error("a file and a folder of one name were taken")
	}
}

func TestHookKnowsWhatRuns(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	target := newTarget(t, dir, directory.Options{
		Cell: "acme",
		Hook: `cat "$SLUICE_DIR/manifests.yaml" >/dev/null && echo "$SLUICE_REASON $SLUICE_CELL $SLUICE_CHANNEL $SLUICE_RELEASE $SLUICE_DIGEST" >>` + log,
	})
	r := renderedWith("1")
	must(t, target.Apply(t.Context(), r))
	must(t, os.Remove(filepath.Join(dir, "current", "manifests.yaml")))
	for range 2 { // the second finds nothing to mend, and runs no hook
		_, err := target.Heal(t.Context(), r)
		must(t, err)
	}
	line := "acme staging 1.0.0 " + string(r.Assignment.Digest) + "\n"
	if got, want := readFile(t, log), "apply "+line+"heal "+line; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A hook that failed after drift was mended is owed: the next Heal runs it again.
func TestFailedHookIsRunAgain(t *testing.T) {
	dir, gate := t.TempDir(), filepath.Join(t.TempDir(), "gate")
	target := newTarget(t, dir, directory.Options{Hook: "test -e " + gate})
	if err := target.Apply(t.Context(), renderedWith("1")); err == nil ||
		!strings.Contains(err.Error(), "hook: exit status 1") {
		t.Fatalf("got %v", err)
	}
	if _, err := target.Heal(t.Context(), renderedWith("1")); err == nil {
		t.Error("the hook was not run again")
	}
	must(t, os.WriteFile(gate, nil, 0o644))
	if _, err := target.Heal(t.Context(), renderedWith("1")); err != nil {
		t.Error(err)
	}
}

// Fault 46: a hook that hangs is ended with its group; one that prints without end is kept as a tail.
func TestHookIsBounded(t *testing.T) {
	dir := t.TempDir()
	child := filepath.Join(t.TempDir(), "child")
	hook := "sleep 600 & echo $! >" + child +
		"; noise=$(head -c 4096 /dev/zero | tr '\\0' n); while :; do echo $noise; done"
	err := newTarget(t, dir, directory.Options{Hook: hook, HookTimeout: 2 * time.Second}).Apply(t.Context(),
		renderedWith("1"))
	if err == nil || !strings.Contains(err.Error(), "hook: not finished after 2s, killed: ") ||
		len(err.Error()) > 2000 {
		t.Errorf("got %v", err)
	}
	for {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(readFile(t, child)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if log := readFile(t, filepath.Join(dir, "hook.log")); len(log) > 65<<10 ||
		!strings.Contains(log, "earlier bytes were dropped") {
		t.Errorf("hook.log has %d bytes", len(log))
	}
}

// An interrupted hook's orphan is ended before another hook begins, by whichever agent comes next.
func TestOrphanOfAnInterruptedHookIsEnded(t *testing.T) {
	dir, pidFile := t.TempDir(), filepath.Join(t.TempDir(), "pid")
	marker := filepath.Join(dir, ".sluice", "hook-running")
	hook := "cp " + marker + " " + marker + ".kept; sleep 600 >/dev/null 2>&1 & echo $! >" + pidFile
	must(t, newTarget(t, dir, directory.Options{Hook: hook}).Apply(t.Context(), renderedWith("1")))
	pid := strings.TrimSpace(readFile(t, pidFile))
	must(t, os.Rename(marker+".kept", marker)) // as if the agent had been killed before the hook's end
	must(t, newTarget(t, dir, directory.Options{HookGrace: time.Millisecond}).Apply(t.Context(), renderedWith("2")))
	for {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestHealthCommandIsBounded(t *testing.T) {
	target := newTarget(t, t.TempDir(), directory.Options{Health: "echo why; sleep 600",
		HealthTimeout: 2 * time.Second})
	var unhealthy *cells.Unhealthy
	if err := target.Health(t.Context()); !errors.As(err, &unhealthy) {
		t.Errorf("nothing applied, and health says %v", err)
	}
	must(t, target.Apply(t.Context(), renderedWith("1")))
	if err := target.Health(t.Context()); !errors.As(err, &unhealthy) ||
		!strings.Contains(unhealthy.Reason, "not finished after 2s, killed: why") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	superseded := errors.New("superseded")
	cancel(superseded)
	if err := target.Health(ctx); !errors.Is(err, superseded) {
		t.Errorf("got %v", err)
	}
}

func TestOldVersionsGo(t *testing.T) {
	dir := t.TempDir()
	for i := range 7 {
		target := newTarget(t, dir, directory.Options{KeepVersions: 3}) // new each time: memory does not matter
		must(t, target.Apply(t.Context(), renderedWith(fmt.Sprint(i))))
		left, err := os.ReadDir(filepath.Join(dir, "versions"))
		must(t, err)
		if want := min(i+1, 3); len(left) != want {
			t.Errorf("after %d: %d versions, want %d", i+1, len(left), want)
		}
	}
}
