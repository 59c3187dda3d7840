package controlplane_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
)

// addDecision stores a decision and sets a view with its commit.
func (s *site) addDecision(t *testing.T, n int64) {
	t.Helper()
	d := plan.Decided{Commit: fmt.Sprintf("c%d", n), Kind: plan.Promote, Channel: "staging",
		Release: fmt.Sprintf("1.0.%d", n), Sequence: n, At: noon}
	if _, err := s.store.RecordDecisions(t.Context(), []plan.Decided{d}); err != nil {
		t.Fatal(err)
	}
	v := viewOf("1.0.1")
	v.Desired.Commit = d.Commit
	s.setView(v)
}

func (s *site) followEvents(t *testing.T, headers ...string) (*http.Response, *eventReader) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Body.Close() })
	e := &eventReader{bufio.NewReader(w.Body)}
	if w.StatusCode == 200 {
		if first, err := e.nextBlock(); err != nil || !strings.HasPrefix(first, ":") {
			t.Fatalf("it begins with %q (%v)", first, err)
		}
	}
	return w, e
}

// Decisions are streamed as they come; a client resumes after a cut and misses none.
func TestFollowEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.addDecision(t, 1)
	_, e := s.followEvents(t)
	cursor := ""
	want := func(e *eventReader, release string) {
		t.Helper()
		block, err := e.nextBlock()
		if err != nil || !strings.HasPrefix(block, "event: decision\n") ||
			!strings.Contains(block, `"release":"`+release+`"`) {
			t.Fatalf("sent %q (%v), not %s", block, err, release)
		}
		if _, id, ok := strings.Cut(block, "id: "); ok {
			cursor, _, _ = strings.Cut(id, "\n")
		}
	}
	want(e, "1.0.1")
	s.addDecision(t, 2)
	want(e, "1.0.2")
	before := cursor
	s.addDecision(t, 3)
	s.addDecision(t, 4)
	_, again := s.followEvents(t, "Last-Event-ID", before)
	want(again, "1.0.3")
	want(again, "1.0.4")
	if cursor == before {
		t.Error("the cursor stays")
	}
	s.server.Drain()
	for {
		block, err := again.nextBlock()
		if err != nil {
			t.Fatal("it ended without a word")
		}
		if strings.HasPrefix(block, "retry: ") {
			break
		}
	}
	if w, _ := s.followEvents(t, "Last-Event-ID", "x"); w.StatusCode != 400 {
		t.Errorf("a cursor that is none: %s", w.Status)
	}
}

func TestFollowersAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Limits.Events = 2 })
	s.followEvents(t)
	s.followEvents(t)
	if w, _ := s.followEvents(t); w.StatusCode != 503 || w.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %s", w.Status)
	}
}
