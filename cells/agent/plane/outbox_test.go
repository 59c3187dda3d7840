package plane

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
)

func openTestOutbox(t interface {
	Helper()
	Fatal(...any)
}, dir string, limit int64) *Outbox {
	t.Helper()
	o, err := openOutbox(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func newEvents(n int) []cells.Event {
	var all []cells.Event
	for i := range n {
		all = append(all, cells.Event{Kind: "healed", Detail: fmt.Sprint("detail ", i)})
	}
	return all
}

func eventNumbers(all []cells.Event) []int64 {
	var n []int64
	for _, e := range all {
		n = append(n, e.Number)
	}
	return n
}

// Invariant 8: every added event is there after any restart, in order and once, until it is acknowledged.
func TestOutboxKeepsEverything(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		o := openTestOutbox(t, dir, 1<<20)
		var added, acked int64
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"add", "add", "acknowledge", "reopen", "torn"}).Draw(t, "step") {
			case "add":
				n := rapid.IntRange(0, 5).Draw(t, "n")
				if err := o.Add(newEvents(n), time.Unix(added, 0)); err != nil {
					t.Fatal(err)
				}
				added += int64(n)
			case "acknowledge":
				to := rapid.Int64Range(0, added+2).Draw(t, "to") // may be more than there are
				if _, err := o.acknowledge(to); err != nil {
					t.Fatal(err)
				}
				acked = max(acked, min(to, added))
			case "torn":
				f, err := os.OpenFile(filepath.Join(dir, "outbox"), os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = f.WriteString(`{"number":99,"ki`)
				_ = f.Close()
				fallthrough
			case "reopen":
				_ = o.Close()
				o = openTestOutbox(t, dir, 1<<20)
			}
			var want []int64
			for n := acked + 1; n <= added; n++ {
				want = append(want, n)
			}
			if got := eventNumbers(o.nextBatch(1<<20, 1000)); !slices.Equal(got, want) {
				t.Fatalf("kept %v, want %v", got, want)
			}
		}
		_ = o.Close()
	})
}

// R35: beyond the limit, one visible gap event replaces what was dropped; numbers go on.
func TestOutboxIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := openTestOutbox(t, dir, 4<<10)
	for i := range 500 {
		must(t, o.Add(newEvents(1), time.Unix(int64(i), 0)))
		info, err := os.Stat(o.path)
		must(t, err)
		if info.Size() > 4<<10 {
			t.Fatalf("%d bytes", info.Size())
		}
	}
	_ = o.Close()
	o = openTestOutbox(t, dir, 4<<10)
	kept := o.nextBatch(1<<20, 1000)
	gaps := slices.DeleteFunc(slices.Clone(kept), func(e cells.Event) bool { return e.Kind != "gap" })
	if len(gaps) != 1 || kept[0].Kind != "gap" ||
		!strings.Contains(kept[0].Detail, fmt.Sprintf("events 1 to %d were dropped", kept[0].Number)) {
		t.Fatalf("gaps: %+v", gaps)
	}
	for i, e := range kept[1:] {
		if e.Number != kept[0].Number+int64(i)+1 {
			t.Fatalf("numbers: %v", eventNumbers(kept))
		}
	}
	if last := kept[len(kept)-1].Number; last != 500 {
		t.Errorf("the last is %d", last)
	}
	if _, err := o.acknowledge(500); err != nil || len(o.nextBatch(1<<20, 1000)) != 0 {
		t.Errorf("left: %v, %v", o.nextBatch(1<<20, 1000), err)
	}
}

func TestBatchIsBounded(t *testing.T) {
	o := openTestOutbox(t, t.TempDir(), 1<<20)
	must(t, o.Add(newEvents(100), time.Now()))
	for _, limit := range []int{0, 10, 100, 1000, 5000} {
		size := 0
		for _, e := range o.nextBatch(limit, 1000) {
			size += len(fmt.Sprintf(`{"number":%d,"at":"2026-11-22T20:44:00.123456789Z","kind":%q,"detail":%q},`,
				e.Number, e.Kind, e.Detail)) - 1
		}
		if size > limit+100 {
			t.Errorf("limit %d: about %d bytes", limit, size)
		}
	}
	if n := len(o.nextBatch(1<<20, 7)); n != 7 {
		t.Errorf("%d events, want 7", n)
	}
}

func FuzzOutbox(f *testing.F) {
	f.Add([]byte("{\"acknowledged\":3}\n{\"number\":4,\"kind\":\"healed\"}\n{\"num"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "outbox"), text, 0o600))
		o, err := openOutbox(dir, 1<<20)
		if err != nil {
			return
		}
		must(t, o.Add(newEvents(1), time.Unix(0, 0)))
		_ = o.Close()
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An outbox that can't be written when the agent starts is written once it can.
func TestOutboxIsWrittenLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not there yet")
	o := openTestOutbox(t, dir, 1<<20)
	if err := o.Add(newEvents(1), time.Now()); err == nil {
		t.Fatal("written to a folder that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := o.Add(newEvents(2), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if got := eventNumbers(openTestOutbox(t, dir, 1<<20).nextBatch(1<<20, 10)); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("kept %v", got)
	}
}
