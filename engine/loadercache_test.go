package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
)

// A cache file leads to the same Desired as reading everything, and a damaged one does no harm.
func TestLoaderCache(t *testing.T) {
	w := TwoChannels(t, map[string]string{"cells/acme/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\n" +
		"channel: dedicated\nvalues: {a: 1, b: [x, {c: 2.5}]}\n"}).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	b := newBranch(w)
	load := func(keep string) string {
		t.Helper()
		l := Loader{Repo: b, CacheFile: keep}
		d, err := l.Load(t.Context(), w.Tip)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := load("")
	file := filepath.Join(t.TempDir(), "kept", "history")
	if got := load(file); got != want {
		t.Fatalf("the first time:\n%s\nwant\n%s", got, want)
	}
	if got := load(file); got != want {
		t.Fatalf("from what was kept:\n%s\nwant\n%s", got, want)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w.Commit("bob", "cut", Release("1.2.0"))
	want = load("")
	if got := load(file); got != want {
		t.Fatalf("one commit later:\n%s\nwant\n%s", got, want)
	}
	flipped := append([]byte{}, whole...)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"empty": {}, "cut off": whole[:len(whole)/2], "a bit flipped": flipped} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := load(file); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	w.Rewind(2)
	w.Commit("eve", "another way", Release("1.3.0"))
	want = load("")
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := load(file); got != want {
		t.Errorf("after a force-push:\n%s\nwant\n%s", got, want)
	}
}

// A copy of the history is the history, and what is folded into the copy is not in the original.
func TestCopyOfTheHistory(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	b := newBranch(w)
	l := Loader{Repo: b}
	if _, err := l.CopyHistory(); !errors.Is(err, ErrNotReady) {
		t.Errorf("before anything was loaded: %v", err)
	}
	if _, err := l.Load(t.Context(), w.Tip); err != nil {
		t.Fatal(err)
	}
	encoded := func() string {
		h, err := l.CopyHistory()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		h.Tip, h.Channels["staging"].Heads[0].Release = "another", "9.9.9"
		return string(text)
	}
	first, want := encoded(), ""
	h, err := w.CopyHistory()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(h); err == nil {
		want = string(text)
	}
	if first != want || encoded() != want {
		t.Errorf("the copy is\n%s, want\n%s", first, want)
	}
}

// Releases that gob would change are not kept: it leaves out a bound of zero.
func TestSurvivesGob(t *testing.T) {
	zero, one := 0.0, 1.0
	for name, tc := range map[string]struct {
		p    releases.Parameter
		want bool
	}{
		"no bounds":     {releases.Parameter{Type: "integer", Default: 0}, true},
		"bounds":        {releases.Parameter{Type: "integer", Minimum: &one, Maximum: &one}, true},
		"at least 0":    {releases.Parameter{Type: "integer", Minimum: &zero}, false},
		"at most 0":     {releases.Parameter{Type: "number", Maximum: &zero}, false},
		"off, if unset": {releases.Parameter{Type: "boolean", Default: false}, true},
	} {
		e := releases.Entry{StoredRelease: releases.StoredRelease{Release: releases.Release{
			Parameters: map[string]releases.Parameter{"p": tc.p}}}, Loaded: true}
		file := filepath.Join(t.TempDir(), "kept")
		var back releaseCache
		if !encodeFile(file, releaseCache{Releases: []releases.Entry{e}}) || !decodeFile(file, &back) {
			t.Fatalf("%s: can't be kept", name)
		}
		same := reflect.DeepEqual(back.Releases[0].Parameters, e.Parameters)
		if got := survivesGob(e); got != tc.want || got != same {
			t.Errorf("%s: survives %t, and comes back the same %t", name, got, same)
		}
	}
}
