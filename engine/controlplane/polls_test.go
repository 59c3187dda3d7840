package controlplane_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

// countingStore counts reads of the store.
type countingStore struct {
	*store.Store
	n atomic.Int64
}

func (r *countingStore) Decisions(ctx context.Context, after int64, limit int) ([]plan.Decided, int64, error) {
	r.n.Add(1)
	return r.Store.Decisions(ctx, after, limit)
}

func (r *countingStore) Ready(ctx context.Context) error {
	r.n.Add(1)
	return r.Store.Ready(ctx)
}

func (r *countingStore) Receive(context.Context, *cells.Report) (cells.Receipt, error) {
	r.n.Add(1)
	return cells.Receipt{}, nil
}

func (r *countingStore) Token(context.Context, string) (access.Token, error) {
	r.n.Add(1)
	return access.Token{}, access.ErrUnknown
}

// An idle poll reads no database and allocates little.
func TestIdlePollCosts(t *testing.T) {
	counted := &countingStore{}
	s := newSite(t, store.Options{}, func(o *controlplane.Options) {
		withoutLimits(o)
		counted.Store = o.Journal.(*store.Store)
		o.Journal, o.CheckStore, o.Inbox, o.Tokens = counted, counted.Ready, counted, counted
	})
	h := s.server.Handler()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/desired?cell=acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	first := &discardResponse{h: http.Header{}}
	h.ServeHTTP(first, r)
	r.Header.Set("If-None-Match", first.h.Get("ETag"))
	w := &discardResponse{h: http.Header{}}
	allocated := testing.AllocsPerRun(1000, func() {
		clear(w.h)
		if h.ServeHTTP(w, r); w.status != http.StatusNotModified {
			t.Fatal(w.status)
		}
	})
	if allocated > 10 {
		t.Errorf("%.0f allocations for a 304", allocated)
	}
	// So does a poll after a new view with the same answer.
	views := []*view.View{viewOf("1.0.1"), viewOf("1.0.1")}
	for i := range 100 {
		s.setView(views[i%2])
		if h.ServeHTTP(w, r); w.status != http.StatusNotModified {
			t.Fatal(w.status)
		}
	}
	if n := counted.n.Load(); n != 0 {
		t.Errorf("%d reads of the store", n)
	}
}

// An idle poll takes less than 1 KB on the wire, both ways together, with TLS and the agent's headers.
func TestIdlePollIsSmall(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	l := f.dial(t, 0)
	w := l.get(t, "/v1/desired", "")
	if _, err := io.Copy(io.Discard, w.Body); err != nil {
		t.Fatal(err)
	}
	etag := w.Header.Get("ETag")
	for _, path := range []string{"/v1/desired", "/v1/desired?wait=1ms"} {
		before := l.counter.in + l.counter.out
		if w := l.get(t, path, etag); w.StatusCode != 304 {
			t.Fatal(w.Status)
		}
		if took := l.counter.in + l.counter.out - before; took >= 1000 {
			t.Errorf("%s: %d bytes", path, took)
		}
	}
}

// Fault 40: one cell's floods of polls and reports get 429 with Retry-After; cells behind the same address do not
// (R34).
func TestFloodsAreThrottled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, func(o *controlplane.Options) {
		o.Limits.Cells.Polls = limit.Rate{PerSecond: 0.01, Burst: 5}
		o.Limits.Cells.Reports = limit.Rate{PerSecond: 0.01, Burst: 5}
	})
	l, other := f.dial(t, 0), f.dial(t, 1)
	for name, ask := range map[string]func(*cellConn, string) *http.Response{
		"poll":   func(l *cellConn, _ string) *http.Response { return l.get(t, "/v1/desired", "") },
		"report": func(l *cellConn, cell string) *http.Response { return l.report(t, cell) },
	} {
		for i := range 8 {
			w := ask(l, cellName(0))
			if _, err := io.Copy(io.Discard, w.Body); err != nil {
				t.Fatal(err)
			}
			if flood := w.StatusCode == 429; flood != (i >= 5) || flood && w.Header.Get("Retry-After") == "" {
				t.Errorf("%s %d: %s", name, i, w.Status)
			}
		}
		w := ask(other, cellName(1))
		if _, err := io.Copy(io.Discard, w.Body); err != nil {
			t.Fatal(err)
		}
		if w.StatusCode != 200 {
			t.Errorf("%s of another cell: %s", name, w.Status)
		}
	}
	if _, body := f.request(t, "GET", "/metrics", ""); !strings.Contains(body,
		`sluice_shed_total{reason="polls"} 3`) || !strings.Contains(body, `sluice_shed_total{reason="reports"} 3`) {
		t.Error("the metrics don't tell")
	}
}

// Fault 37: over the limit of requests in flight, cells are told to retry at different times. Waiting polls do not
// count, and people and probes are answered.
func TestRequestsInFlightAreBounded(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}), make(chan struct{})
	f := newFleet(t, 20, func(o *controlplane.Options) {
		o.Limits.Cells.InFlight = 1
		inbox := o.Inbox
		o.Inbox = receiverFunc(func(ctx context.Context, r *cells.Report) (cells.Receipt, error) {
			close(held)
			<-release
			return inbox.Receive(ctx, r)
		})
	})
	e := f.dial(t, 1).stream(t, "") // streams and waiting polls do not count
	e.nextDesired(t)
	reported := make(chan int)
	reporter := f.dial(t, 0)
	for f.dial(t, 2).get(t, "/v1/desired", "").StatusCode == 503 {
		// The stream's request may be in flight until a moment after its first event.
	}
	go func() { reported <- reporter.report(t, cellName(0)).StatusCode }()
	<-held
	after := map[string]bool{}
	for i := range 20 {
		w := f.dial(t, i).get(t, "/v1/desired", "")
		if w.StatusCode != 503 {
			t.Fatal(w.Status)
		}
		after[w.Header.Get("Retry-After")] = true
	}
	if len(after) < 4 || after[""] {
		t.Errorf("20 cells come back after %v", after)
	}
	if w, _ := f.request(t, "GET", "/livez", ""); w.StatusCode != 200 {
		t.Error(w.Status)
	}
	close(release)
	if status := <-reported; status != 200 {
		t.Errorf("the report got %d", status)
	}
	if w := f.dial(t, 0).get(t, "/v1/desired", ""); w.StatusCode != 200 {
		t.Error(w.Status)
	}
}

type receiverFunc func(context.Context, *cells.Report) (cells.Receipt, error)

func (r receiverFunc) Receive(ctx context.Context, report *cells.Report) (cells.Receipt, error) {
	return r(ctx, report)
}
