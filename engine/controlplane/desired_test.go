package controlplane_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

func TestDesired(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	w, body := s.request(t, "GET", "/v1/desired?cell=acme", "")
	var d cells.Desired
	if err := json.Unmarshal([]byte(body), &d); err != nil || w.StatusCode != 200 {
		t.Fatal(w.Status, err, body)
	}
	if d.Cell != "acme" || d.Assignment == nil || d.Assignment.Digest != digestOf("1.0.1") || len(d.Head.Payload) == 0 {
		t.Errorf("desired: %s", body)
	}
	etag := w.Header.Get("ETag")
	if next, err := strconv.Atoi(w.Header.Get("Sluice-Next-Poll")); etag == "" || err != nil || next < 8 || next > 23 {
		t.Errorf("ETag %q, next poll %q", etag, w.Header.Get("Sluice-Next-Poll"))
	}
	for _, known := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		w, body := s.request(t, "GET", "/v1/desired?cell=acme", "", "If-None-Match", known)
		if w.StatusCode != 304 || body != "" || w.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %s %q, ETag %s", known, w.Status, body, w.Header.Get("ETag"))
		}
	}
	// R31: the ETag stays while the answer does, and differs between cells.
	same := viewOf("1.0.1")
	same.Plan.Now = noon.Add(time.Hour)
	same.Observed.Cells["acme"].LastReport = noon.Add(time.Hour)
	s.setView(same)
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme", "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("the ETag changed with a view that says the same: %s", w.Status)
	}
	if w, _ := s.request(t, "GET", "/v1/desired?cell=bolt", ""); w.Header.Get("ETag") == etag {
		t.Error("two cells share an ETag")
	}
	s.setView(viewOf("1.0.2"))
	if w, body := s.request(t, "GET", "/v1/desired?cell=acme", "", "If-None-Match", etag); w.StatusCode != 200 ||
		!strings.Contains(body, "1.0.2") {
		t.Errorf("after a change: %s %s", w.Status, body)
	}
}

// awaitLongPolls reads the metrics until n polls wait.
func (s *site) awaitLongPolls(t *testing.T, n string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		_, body := s.request(t, "GET", "/metrics", "")
		if strings.Contains(body, "\nsluice_long_polls "+n+"\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %s long polls", n)
		}
	}
}

// Ten cells' polls wait through a view with the same answers, and end at a view with others.
func TestLongPollsWake(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	w, _ := s.request(t, "GET", "/v1/desired?cell=acme", "")
	etag := w.Header.Get("ETag")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			w, body := s.request(t, "GET", "/v1/desired?cell=acme&wait=60s", "", "If-None-Match", etag)
			if w.StatusCode != 200 || !strings.Contains(body, "1.0.2") || w.Header.Get("Sluice-Next-Poll") != "0" {
				t.Errorf("%s, next poll %s: %s", w.Status, w.Header.Get("Sluice-Next-Poll"), body)
			}
		})
	}
	s.awaitLongPolls(t, "10")
	other := viewOf("1.0.1")
	other.Observed.Cells["bolt"].State = cells.StateUnhealthy
	s.setView(other)
	s.awaitLongPolls(t, "10")
	s.setView(viewOf("1.0.2"))
	wg.Wait()
	s.awaitLongPolls(t, "0")
}

func TestLongPollEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	w, _ := s.request(t, "GET", "/v1/desired?cell=acme", "")
	etag := w.Header.Get("ETag")
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme&wait=1ms", "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("the time is over: %s, not 304", w.Status)
	}
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme&wait=60", ""); w.StatusCode != 200 {
		t.Errorf("a cell that knows nothing waits: %s", w.Status)
	}
	gone := make(chan *http.Response)
	go func() {
		w, _ := s.request(t, "GET", "/v1/desired?cell=acme&wait=60s", "", "If-None-Match", etag)
		gone <- w
	}()
	s.awaitLongPolls(t, "1")
	without := viewOf("1.0.1")
	delete(without.Desired.Cells, "acme")
	s.setView(without)
	if w := <-gone; w.StatusCode != 404 {
		t.Errorf("its cell is removed: %s, not 404", w.Status)
	}
	s.setView(viewOf("1.0.1"))
	drained := make(chan *http.Response)
	go func() {
		w, _ := s.request(t, "GET", "/v1/desired?cell=acme&wait=60s", "", "If-None-Match", etag)
		drained <- w
	}()
	s.awaitLongPolls(t, "1")
	s.server.Drain()
	s.server.Drain()
	if w := <-drained; w.StatusCode != 304 || w.Header.Get("Sluice-Next-Poll") == "0" {
		t.Errorf("the server stops: %s, next poll %s", w.Status, w.Header.Get("Sluice-Next-Poll"))
	}
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme&wait=60s", "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("a poll waits for a server that stops: %s", w.Status)
	}
	if w, _ := s.request(t, "GET", "/readyz", ""); w.StatusCode != 503 {
		t.Errorf("a server that stops is ready: %s", w.Status)
	}
}

// For the race detector: views are read and replaced at once, and each body matches its ETag.
func TestDesiredUnderChange(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	views := []*view.View{viewOf("1.0.1"), viewOf("1.0.2")}
	var wg sync.WaitGroup
	var seen sync.Map
	for range 4 {
		wg.Go(func() {
			for range 50 {
				w, body := s.request(t, "GET", "/v1/desired?cell=acme", "")
				if before, ok := seen.LoadOrStore(w.Header.Get("ETag"), body); ok && before != body {
					t.Errorf("one ETag, two bodies")
				}
			}
		})
	}
	for i := range 200 {
		s.setView(views[i%2])
	}
	wg.Wait()
}

// discardResponse is a ResponseWriter that keeps only the status.
type discardResponse struct {
	h      http.Header
	status int
}

func (d *discardResponse) Header() http.Header         { return d.h }
func (d *discardResponse) WriteHeader(status int)      { d.status = status }
func (d *discardResponse) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkIdlePoll(b *testing.B) {
	h := newSite(b, store.Options{}, withoutLimits).server.Handler()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "/v1/desired?cell=acme", nil)
	if err != nil {
		b.Fatal(err)
	}
	first := &discardResponse{h: http.Header{}}
	h.ServeHTTP(first, r)
	r.Header.Set("If-None-Match", first.h.Get("ETag"))
	b.ReportAllocs()
	for b.Loop() {
		w := &discardResponse{h: http.Header{}}
		if h.ServeHTTP(w, r); w.status != http.StatusNotModified {
			b.Fatal(w.status)
		}
	}
}
