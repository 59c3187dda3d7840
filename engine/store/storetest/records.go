package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/records"
)

// recording tests the table of records.
func recording() map[string]func(t *testing.T, open Open) {
	return map[string]func(t *testing.T, open Open){
		"a record is compared and swapped":                          recordSwapped,
		"a record that was made again is another":                   recordMadeAgain,
		"records are listed by kind, in pages, in order of the key": recordsListed,
		"records have limits":                                       recordLimits,
		"of many who make a record one does":                        recordMadeByMany,
		"many who count in one record lose nothing":                 recordCountedByMany,
		"whoever does not lead may write records":                   recordsWithoutLease,
		"records end with their context and their store":            recordsEnded,
	}
}

func record(key string, version int64, body string) records.Record {
	return records.Record{Kind: "session", Key: key, Version: version, Body: json.RawMessage(body)}
}

func mustPut(t *testing.T, s Store, r records.Record) records.Record {
	t.Helper()
	kept, err := s.Records().Put(t.Context(), r)
	must(t, err)
	return kept
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, not %v", what, err, want)
	}
}

func wantRecord(t *testing.T, s Store, want records.Record) {
	t.Helper()
	got, err := s.Records().Get(t.Context(), want.Kind, want.Key)
	must(t, err)
	wantSame(t, want.Key, want, got)
}

func recordSwapped(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	_, err := s.Records().Get(ctx, "session", "ada")
	wantErr(t, "none", err, records.ErrNotFound)
	_, err = s.Records().Put(ctx, record("ada", 7, `{}`))
	wantErr(t, "in place of none", err, records.ErrConflict)
	wantErr(t, "delete none", s.Records().Delete(ctx, "session", "ada", 7), records.ErrConflict)
	wantErr(t, "delete none", s.Records().Delete(ctx, "session", "ada", 0), records.ErrConflict)

	body := "{\"b\": 1,\n \"a\": 9007199254740993, \"text\": \"\\u0000 é\"}" // every byte counts
	first := mustPut(t, s, record("ada", 0, body))
	if first.Version == 0 || !first.Updated.Equal(noon) || string(first.Body) != body {
		t.Errorf("kept %+v", first)
	}
	_, err = s.Records().Put(ctx, record("ada", 0, `{}`))
	wantErr(t, "make it twice", err, records.ErrConflict)
	mustPut(t, s, records.Record{Kind: "cursor", Key: "ada", Body: json.RawMessage(`1`)})
	h.advance(time.Second + time.Microsecond)
	second := mustPut(t, s, record("ada", first.Version, body))
	if second.Version == first.Version || !second.Updated.Equal(noon.Add(time.Second)) {
		t.Errorf("after %+v kept %+v", first, second)
	}
	_, err = s.Records().Put(ctx, record("ada", first.Version, `{}`))
	wantErr(t, "on an older version", err, records.ErrConflict)
	wantErr(t, "delete an older version", s.Records().Delete(ctx, "session", "ada", first.Version), records.ErrConflict)

	s = reopenAt(t, s, open, h.timeNow)
	wantRecord(t, s, second)
	must(t, s.Records().Delete(ctx, "session", "ada", second.Version))
	_, err = s.Records().Get(ctx, "session", "ada")
	wantErr(t, "deleted", err, records.ErrNotFound)
	if got, err := s.Records().Get(ctx, "cursor", "ada"); err != nil || string(got.Body) != `1` {
		t.Errorf("the record of another kind: %+v (%v)", got, err)
	}
}

func recordMadeAgain(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	first := mustPut(t, s, record("ada", 0, `1`))
	must(t, s.Records().Delete(ctx, "session", "ada", first.Version))
	again := mustPut(t, s, record("ada", 0, `1`))
	_, err := s.Records().Put(ctx, record("ada", first.Version, `2`))
	wantErr(t, "in place of the deleted one", err, records.ErrConflict)
	wantErr(t, "delete the deleted one", s.Records().Delete(ctx, "session", "ada", first.Version), records.ErrConflict)
	wantRecord(t, s, again)
}

func recordsListed(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	for _, key := range []string{"b/2", "B", "b", "é", "b/10", "a", "b/1", "c",
		"b0"} { // by bytes: B a b b/1 b/10 b/2 b0 c é
		mustPut(t, s, record(key, 0, strconv.Quote(key)))
	}
	mustPut(t, s, records.Record{Kind: "cursor", Key: "b/0", Body: json.RawMessage(`0`)})
	for _, c := range []struct {
		page records.Page
		want string
	}{
		{records.Page{}, "B a b b/1 b/10 b/2 b0 c é"},
		{records.Page{Limit: 3}, "B a b"},
		{records.Page{Limit: 3, After: "b"}, "b/1 b/10 b/2"},
		{records.Page{After: "b/100"}, "b/2 b0 c é"},
		{records.Page{After: "é"}, ""},
		{records.Page{Prefix: "b/"}, "b/1 b/10 b/2"},
		{records.Page{Prefix: "b/", Limit: 2}, "b/1 b/10"},
		{records.Page{Prefix: "b/", Limit: 2, After: "b/10"}, "b/2"},
		{records.Page{Prefix: "b"}, "b b/1 b/10 b/2 b0"},
		{records.Page{Prefix: "%"}, ""},
		{records.Page{Prefix: "b_"}, ""},
	} {
		found, err := s.Records().List(ctx, "session", c.page)
		must(t, err)
		var keys []string
		for _, r := range found {
			keys = append(keys, r.Key)
			if string(r.Body) != strconv.Quote(r.Key) || r.Version == 0 || r.Kind != "session" {
				t.Errorf("listed %+v", r)
			}
		}
		if got := strings.Join(keys, " "); got != c.want {
			t.Errorf("%+v: %s, not %s", c.page, got, c.want)
		}
	}
	for n := range records.MaxPage + 1 {
		mustPut(t, s, records.Record{Kind: "many", Key: fmt.Sprintf("%04d", n), Body: json.RawMessage(`null`)})
	}
	for _, limit := range []int{0, -1, records.MaxPage, records.MaxPage + 1} {
		if found, err := s.Records().List(ctx, "many", records.Page{Limit: limit}); err != nil ||
			len(found) != records.MaxPage {
			t.Errorf("limit %d: a page of %d (%v)", limit, len(found), err)
		}
	}
	for _, limit := range []int{0, 1, 64, records.MaxPage, records.MaxPage + 1} {
		n := 10
		for r, err := range records.All(ctx, s.Records(), "many", records.Page{After: "0009", Limit: limit}) {
			if must(t, err); r.Key != fmt.Sprintf("%04d", n) {
				t.Fatalf("pages of %d: %s, not %04d", limit, r.Key, n)
			}
			n++
		}
		if n != records.MaxPage+1 {
			t.Errorf("pages of %d: they end at %d", limit, n)
		}
	}
	for _, err := range records.All(ctx, s.Records(), "no kind", records.Page{}) {
		wantErr(t, "all of a kind", err, records.ErrInvalid)
	}
}

func recordLimits(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	long := record(strings.Repeat("k", records.MaxKey), 0, strconv.Quote(strings.Repeat("x", records.MaxBody-2)))
	long.Kind = strings.Repeat("a", records.MaxKind)
	wantRecord(t, s, mustPut(t, s, long))
	for name, change := range map[string]func(r *records.Record){
		"no kind":                func(r *records.Record) { r.Kind = "" },
		"a kind that is long":    func(r *records.Record) { r.Kind += "a" },
		"a kind with a space":    func(r *records.Record) { r.Kind = "a b" },
		"no key":                 func(r *records.Record) { r.Key = "" },
		"a key that is long":     func(r *records.Record) { r.Key += "k" },
		"a key with a NUL":       func(r *records.Record) { r.Key = "a\x00" },
		"a key that is no text":  func(r *records.Record) { r.Key = "\xff" },
		"a negative version":     func(r *records.Record) { r.Version = -1 },
		"no body":                func(r *records.Record) { r.Body = nil },
		"a body that is long":    func(r *records.Record) { r.Body = append(r.Body, ' ') },
		"a body that is no JSON": func(r *records.Record) { r.Body = json.RawMessage(`{`) },
		"a body that is no text": func(r *records.Record) { r.Body = json.RawMessage("\"\xff\"") },
	} {
		r := long
		change(&r)
		_, err := s.Records().Put(ctx, r)
		wantErr(t, name, err, records.ErrInvalid)
	}
	for _, key := range []string{"a\x00", "\xff", long.Key + "k"} {
		_, err := s.Records().Get(ctx, "session", key)
		wantErr(t, "get", err, records.ErrInvalid)
		_, err = s.Records().List(ctx, "session", records.Page{Prefix: key})
		wantErr(t, "list by prefix", err, records.ErrInvalid)
		_, err = s.Records().List(ctx, "session", records.Page{After: key})
		wantErr(t, "list after", err, records.ErrInvalid)
		wantErr(t, "delete", s.Records().Delete(ctx, "session", key, 1), records.ErrInvalid)
	}
	must(t, s.Ready(ctx))
}

func recordMadeByMany(t *testing.T, open Open) {
	s, other := opened(t, open), opened(t, open)
	var made atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			_, err := []Store{s, other}[i%2].Records().Put(t.Context(), record("ada", 0, strconv.Itoa(i)))
			if err == nil {
				made.Add(1)
			} else {
				wantErr(t, "made by somebody else", err, records.ErrConflict)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("%d made it", n)
	}
}

func recordCountedByMany(t *testing.T, open Open) {
	s, other := opened(t, open), opened(t, open)
	mustPut(t, s, record("counter", 0, `0`))
	const writers, each = 8, 10
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for range each {
				if err := countOne(t.Context(), []Store{s, other}[i%2].Records()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := s.Records().Get(t.Context(), "session", "counter"); err != nil ||
		string(got.Body) != strconv.Itoa(writers*each) {
		t.Errorf("counted to %s (%v), not %d", got.Body, err, writers*each)
	}
}

// countOne increments the counter, and retries while others are faster.
func countOne(ctx context.Context, s records.Store) error {
	for {
		r, err := s.Get(ctx, "session", "counter")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(r.Body))
		if err != nil {
			return err
		}
		r.Body = json.RawMessage(strconv.Itoa(n + 1))
		if _, err := s.Put(ctx, r); !errors.Is(err, records.ErrConflict) {
			return err
		}
	}
}

func recordsWithoutLease(t *testing.T, open Open) {
	leader, other := opened(t, open), opened(t, open)
	if _, led, err := leader.AcquireLease(t.Context(), time.Hour); err != nil || !led {
		t.Fatalf("lead: %v (%v)", led, err)
	}
	if _, led, err := other.AcquireLease(t.Context(), time.Hour); err != nil || led {
		t.Fatalf("two lead (%v)", err)
	}
	kept := mustPut(t, other, record("ada", 0, `{}`))
	wantRecord(t, leader, kept)
	must(t, other.Records().Delete(t.Context(), "session", "ada", kept.Version))
}

func recordsEnded(t *testing.T, open Open) {
	s := opened(t, open)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Records().Put(ended, record("ada", 0, `{}`)); err == nil {
		t.Error("an ended context wrote a record")
	}
	_, err := s.Records().Get(t.Context(), "session", "ada")
	wantErr(t, "not written", err, records.ErrNotFound)
	must(t, s.Close())
	if _, err := s.Records().Put(t.Context(), record("ada", 0, `{}`)); err == nil {
		t.Error("a closed store took a record")
	}
	if _, err := s.Records().Get(t.Context(), "session", "ada"); err == nil || errors.Is(err, records.ErrNotFound) {
		t.Errorf("a closed store was read: %v", err)
	}
}
