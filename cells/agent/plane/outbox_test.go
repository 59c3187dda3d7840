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
	o, aside, err := openOutbox(dir, limit)
	if err != nil || aside != "" {
		t.Fatal(aside, err)
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
		o, _, err := openOutbox(dir, 1<<20)
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

// Events whose write failed, or was not made durable, leave nothing in the file that is followed by others of their
// numbers.
func TestFailedAddLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	o := openTestOutbox(t, dir, 1<<20)
	must(t, o.Add(newEvents(2), time.Now()))
	out, in, err := os.Pipe() // takes the lines, and can't be synced
	must(t, err)
	defer func() { _ = out.Close() }()
	must(t, o.file.Close())
	o.file = in
	if err := o.Add(newEvents(2), time.Now()); err == nil {
		t.Fatal("added without a sync")
	}
	must(t, o.Add(newEvents(3), time.Now()))
	must(t, o.Close())
	got := eventNumbers(openTestOutbox(t, dir, 1<<20).nextBatch(1<<20, 10))
	if !slices.Equal(got, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("kept %v", got)
	}
}

// A line in the middle that is no event, or has a number again, costs no event after it, and the file stays as it was.
func TestDamagedInTheMiddle(t *testing.T) {
	text := `{"acknowledged":3}
{"number":4,"kind":"healed"}
{"number":5,"ki` + "\x00\x00" + `
{"number":6,"kind":"healed"}
{"number":6,"kind":"degraded"}
{"number":7,"kind":"healed"}
`
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "outbox"), []byte(text), 0o600))
	o, aside, err := OpenOutbox(dir)
	must(t, err)
	must(t, o.Add(newEvents(1), time.Now()))
	must(t, o.Close())
	if kept, err := os.ReadFile(aside); err != nil || string(kept) != text {
		t.Errorf("aside is %q (%v)", kept, err)
	}
	got := eventNumbers(openTestOutbox(t, dir, 1<<20).nextBatch(1<<20, 10))
	if !slices.Equal(got, []int64{4, 6, 7, 8}) {
		t.Errorf("kept %v", got)
	}
}
