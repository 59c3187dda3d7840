package debugrecords_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
)

func openStore(t *testing.T) records.Store {
	t.Helper()
	s, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "s.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Records()
}

func read(t *testing.T, k *debugrecords.Keeper, request string) string {
	t.Helper()
	from, err := k.Open(t.Context(), "acme", request)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// count returns how many documents of a kind are kept.
func count(t *testing.T, s records.Store, kind string) int {
	t.Helper()
	all, err := s.List(t.Context(), kind, records.Page{})
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

var now = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)

// What is kept is not replaced, and uploads at the same time do not mix.
func TestRecordsNeverChange(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	texts := []string{strings.Repeat("a", 100<<10), strings.Repeat("b", 120<<10)}
	results := make(chan error, len(texts))
	for _, text := range texts {
		go func() {
			slow := iotest.HalfReader(strings.NewReader(text))
			results <- debugrecords.New(s).Put(context.Background(), "acme", "1", text[:1], slow, now)
		}()
	}
	first, second := <-results, <-results
	if errors.Join(first, second) == nil || first != nil && second != nil {
		t.Fatal("not one of both uploads was kept: ", first, second)
	}
	if !errors.Is(errors.Join(first, second), debugrecords.ErrOther) {
		t.Error(first, second)
	}
	k := debugrecords.New(s)
	got := read(t, k, "1")
	if got != texts[0] && got != texts[1] {
		t.Fatalf("%d bytes: both records are mixed", len(got))
	}
	for _, text := range texts {
		want := error(nil)
		if text != got {
			want = debugrecords.ErrOther
		}
		if err := k.Put(t.Context(), "acme", "1", text[:1], strings.NewReader("newer"), now); !errors.Is(err, want) {
			t.Errorf("a later upload: %v, want %v", err, want)
		}
	}
	if read(t, k, "1") != got {
		t.Error("a record was replaced")
	}
	if err := k.Clean(t.Context(), now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "debug-record-part"); n != 3 || read(t, k, "1") != got {
		t.Errorf("%d parts are left", n)
	}
}

// A broken upload leaves nothing that could be read, and nothing for ever; records go with their requests, or after
// the retention.
func TestCleanAndRemove(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	k := debugrecords.New(s)
	broken := io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(io.ErrClosedPipe))
	if err := k.Put(t.Context(), "acme", "1", "a", broken, now); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	if _, err := k.Open(t.Context(), "acme", "1"); !errors.Is(err, records.ErrNotFound) {
		t.Error("a part of a record can be read: ", err)
	}
	for _, id := range []string{"2", "3"} {
		if err := k.Put(t.Context(), "acme", id, "a", strings.NewReader(id), now); err != nil {
			t.Fatal(err)
		}
	}
	later := records.Record{Kind: "debug-record", Key: "acme/9", Body: json.RawMessage(`["a later version's"]`)}
	if _, err := s.Put(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	clean := func(at time.Duration, parts int) {
		t.Helper()
		if err := k.Clean(t.Context(), now.Add(at)); err != nil {
			t.Fatal(err)
		}
		if n := count(t, s, "debug-record-part"); n != parts {
			t.Errorf("%d parts after %s, want %d", n, at, parts)
		}
	}
	clean(time.Minute, 22+2)
	clean(2*time.Hour, 2)
	if n := count(t, s, "debug-record-upload"); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
	if err := k.Remove(t.Context(), "acme", "2"); err != nil {
		t.Fatal(err)
	}
	clean(debugrecords.Retention-time.Hour, 1)
	if read(t, k, "3") != "3" {
		t.Error("another request's record was removed")
	}
	clean(debugrecords.Retention, 0)
	if n := count(t, s, "debug-record"); n != 1 {
		t.Errorf("%d records are left: what a later version wrote stays", n)
	}
}
