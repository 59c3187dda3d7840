package infrastructure_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/infrastructure"
)

func TestFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{ // the state in words, or the fault
		"number: 7":                              "7, applied, read from ",
		"number: 0\nstatus: applying":            "0, applying, read from ",
		"number: 8\nstatus: failed":              "8, failed, read from ",
		"number: 8\ndrift: [NodeGroup, Cluster]": "8, drifted, read from ; changed by hand: NodeGroup, Cluster",
		"number: 8\nstatus: failed\nchangeSet: {name: sluice-8, status: FAILED}": "8, failed, read from ; change set " +
			"sluice-8 is FAILED",
		"{number: 8, status: failed, drift: [A]}": "8, failed, read from ; changed by hand: A",
		"":                                       "i.yaml",
		"7":                                      "i.yaml:1",
		"status: applied":                        "number",
		"number: seven":                          "i.yaml:1: number",
		"number: -1":                             "i.yaml:1: number",
		"number: 1000001":                        "i.yaml:1: number",
		"number: 7.5":                            "i.yaml:1: number",
		"number:":                                "number",
		"number: 7\nstatus: UPDATE_COMPLETE":     "i.yaml:2: status must be applied or applying",
		"number: 7\nstate: applied":              "i.yaml:2: ",
		"number: 7\nstatus: applied\ndrift: [A]": "i.yaml:2: what drifted is not applied",
		"number: 7\nchangeSet: {status: x}":      "name",
		"number: 7\ndrift: [" + strings.Repeat("a,", 20) + "a]":          "21 resources: at most 20",
		"number: 7\ndrift: [" + strings.Repeat("a", 257) + "]":           "more than 256 bytes",
		"number: 7\nchangeSet: {name: " + strings.Repeat("a", 257) + "}": "changeSet.name has more than 256 bytes",
		"number: 7 # " + strings.Repeat("x", 1<<20):                      "is larger than",
	} {
		if err := os.WriteFile("i.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newFile(t, "i.yaml")
		is, err := r.Read(t.Context())
		got := is.String()
		if err != nil {
			got = err.Error()
		}
		good := strings.Contains(want, "read from")
		if good != (err == nil) || good && got != want || !strings.Contains(got, want) {
			t.Errorf("%.80q: %q, want %q", text, got, want)
		}
	}
}

// The fault names the file and not where it is on the machine; what is no file is none.
func TestFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{"none.yaml": "there is no file none.yaml", ".": "regular file"} {
		_, err := newFile(t, filepath.Join(dir, name)).Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newFile(t *testing.T, path string) infrastructure.Reader {
	t.Helper()
	r, err := infrastructure.NewFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// On virtual time, a real file comes, changes, is broken, and is whole again.
func TestFollowerKeepsWhatItKnows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "i.yaml")
		changes := 0
		f := infrastructure.NewFollower(newFile(t, path), 5*time.Second, func(infrastructure.State) { changes++ })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		wantState := func(what, want string, wantChanges int) infrastructure.State {
			t.Helper()
			is := f.Last()
			if got := is.String(); !strings.Contains(got, want) || changes != wantChanges {
				t.Errorf("%s: %q after %d changes, want %q after %d", what, got, changes, want, wantChanges)
			}
			return is
		}
		wantState("before the first read", "never read from file: the agent has just started", 0)
		go func() { f.Run(ctx); close(done) }()
		synctest.Wait()
		wantState("no file", "never read from file: there is no file i.yaml", 1)
		write := func(text string, wait time.Duration) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Error(err)
			}
			time.Sleep(wait)
			synctest.Wait()
		}
		write("number: 7", 7*time.Second)
		first := wantState("there", "7, applied, read from file", 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if again := wantState("unchanged", "7, applied, read from file", 2); !again.At.After(first.At) {
			t.Errorf("it was read at %s, and at %s a minute later", first.At, again.At)
		}
		write("number: 8\nstatus: failed", 7*time.Second)
		failed := wantState("rolled back", "8, failed, read from file", 3)
		write("number: eight", time.Hour)
		broken := wantState("broken", "8, failed, read from file; not read since ", 4)
		if age := failed.At.Sub(broken.At).Abs(); age > 7*time.Second || broken.Status != cells.InfrastructureFailed {
			t.Errorf("an hour of faults later: %+v", broken)
		}
		write("number: 8", 7*time.Minute) // the longest pause
		wantState("whole", "8, applied, read from file", 5)
		cancel()
		<-done
	})
}

// deaf is a reader that is denied.
type deaf struct{ reads atomic.Int32 }

func (d *deaf) Source() cells.InfrastructureSource { return cells.SourceCloudFormation }

func (d *deaf) Read(context.Context) (infrastructure.State, error) {
	d.reads.Add(1)
	return infrastructure.State{}, errors.New("denied " + strings.Repeat("é", 2000) + "\n")
}

// Reads that fail become rare, and a long fault is cut so that reports may hold it.
func TestFollowerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{}
		f := infrastructure.NewFollower(d, 5*time.Second, func(infrastructure.State) {})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		f.Run(ctx)
		if n := d.reads.Load(); n < 240 || n > 400 { // one in 5 minutes or so, for a day
			t.Errorf("%d reads in a day", n)
		}
		r := cells.Report{Cell: "acme", Boot: "b", State: cells.StatePending, Infrastructure: f.Last()}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	})
}
