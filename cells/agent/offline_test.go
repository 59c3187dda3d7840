package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/test/child"
)

// handlerTransport carries requests to a handler without sockets, so that time can be virtual.
type handlerTransport struct {
	handler http.Handler

	mu       sync.Mutex
	cut      bool
	requests []sentRequest
}

// sentRequest is one request with its time.
type sentRequest struct {
	at   time.Time
	path string
}

func (w *handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.requests = append(w.requests, sentRequest{time.Now(), r.URL.Path})
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return nil, errors.New("no route to host")
	}
	answer := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.handler.ServeHTTP(answer, r)
	}()
	select {
	case <-done:
		return answer.Result(), nil
	case <-r.Context().Done():
		<-done
		return nil, r.Context().Err()
	}
}

func (w *handlerTransport) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// pauses returns the times between requests for path since from.
func (w *handlerTransport) pauses(path string, from time.Time) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pauses []time.Duration
	for _, a := range w.requests {
		if a.path != path || a.at.Before(from) {
			continue
		}
		pauses = append(pauses, a.at.Sub(from))
		from = a.at
	}
	return pauses
}

// runInBubble runs an agent in virtual time.
func runInBubble(t *testing.T, s settings, w *handlerTransport) (stop func()) {
	t.Helper()
	self, err := child.Program()
	must(t, err)
	target, err := directory.New(s.Dir, directory.Options{Cell: s.Cell})
	must(t, err)
	a, err := New(Options{
		Cell: s.Cell, Server: "http://localhost", StateDir: s.State, Target: target,
		Render: agenttest.RenderCommand(self), HealInterval: s.HealEvery,
		transport: func(*http.Transport) http.RoundTripper { return w },
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func newBubbleControlPlane() (*controlPlane, *handlerTransport) {
	p := newBareControlPlane()
	return p, &handlerTransport{handler: p.mux()}
}

// Fault 35: a week without the control plane. What runs keeps running and is healed, across a restart too. Afterwards
// the cell goes straight to the head, and every event arrives once. With the race detector it is two days: a week takes
// minutes then.
func TestAWeekAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := settings{Cell: "acme", State: filepath.Join(dir, "state"), Dir: filepath.Join(dir, "target"),
			HealEvery: 5 * time.Minute}
		p, w := newBubbleControlPlane()
		one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
		p.assign(one)
		stop := runInBubble(t, s, w)
		p.await(t, "healthy", healthyOn(one))
		time.Sleep(time.Minute)
		w.setCut(true)
		start := time.Now()
		drifts := 14
		if child.RaceDetector {
			drifts = 4
		}
		for i := range drifts {
			time.Sleep(12 * time.Hour)
			must(t, os.WriteFile(filepath.Join(s.Dir, "current", "manifests.yaml"), []byte("drift"), 0o600))
			if i == drifts/2 {
				stop()
				stop = runInBubble(t, s, w)
			}
			time.Sleep(s.HealEvery + time.Second)
			if text := readFile(t, filepath.Join(s.Dir, "current", "manifests.yaml")); !strings.Contains(text,
				"version: 1.0.0") {
				t.Fatalf("day %d: not healed: %s", i/2, text)
			}
		}
		for _, path := range []string{"/v1/desired", "/v1/reports"} {
			pauses := w.pauses(path, start)
			slices.Sort(pauses)
			longest, typical := pauses[len(pauses)-1], pauses[len(pauses)/2]
			if longest > 31*time.Second || typical < 10*time.Second || typical > 20*time.Second {
				t.Errorf("%s was asked %d times in a week, every %s, at most %s (R33: full jitter, cap 30s)", path,
					len(pauses), typical, longest)
			}
		}
		for i := range 5 { // five heads came and went
			p.assign(p.addRelease(t, "1.1."+string(rune('0'+i)), int64(10+i),
				agenttest.Release("1.1."+string(rune('0'+i)), nil)))
		}
		head := p.addRelease(t, "1.2.0", 20, agenttest.Release("1.2.0", nil))
		p.assign(head)
		w.setCut(false)
		back := time.Now()
		p.await(t, "healthy on the head", healthyOn(head))
		if took := time.Since(back); took > 61*time.Second {
			t.Errorf("back after %s", took)
		}
		time.Sleep(time.Minute)
		kinds := p.eventKinds()
		count := func(kind string) (n int) {
			for _, k := range kinds {
				if k == kind {
					n++
				}
			}
			return n
		}
		if count("healed") != drifts || count("started") != 2 || len(p.eventConflicts) > 0 {
			t.Errorf("history %v, clashes %v", kinds, p.eventConflicts)
		}
		stop()
	})
}

// R30, R33: after a 401 the agent keeps running and polls every five minutes. Retry-After is honoured, plus up to half
// of it.
func TestRefusedPoliteness(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		after       string
		least, most time.Duration
	}{
		"401":             {http.StatusUnauthorized, "", 270 * time.Second, 300 * time.Second},
		"503 Retry-After": {http.StatusServiceUnavailable, "120", 120 * time.Second, 180 * time.Second},
		"429 Retry-After": {http.StatusTooManyRequests, "7", 7 * time.Second, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := &handlerTransport{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if c.after != "" {
						w.Header().Set("Retry-After", c.after)
					}
					w.WriteHeader(c.status)
				})}
				start := time.Now()
				stop := runInBubble(t, settings{Cell: "acme", State: filepath.Join(dir, "state"),
					Dir: filepath.Join(dir, "target")}, w)
				time.Sleep(2 * time.Hour)
				stop()
				for _, path := range []string{"/v1/desired", "/v1/reports"} {
					pauses := w.pauses(path, start)[1:]
					if len(pauses) < 10 || slices.Min(pauses) < c.least || slices.Max(pauses) > c.most {
						t.Errorf("%s: %d pauses from %s to %s", path, len(pauses), slices.Min(pauses),
							slices.Max(pauses))
					}
				}
			})
		})
	}
}

// A control plane that does not wait, or that says when to poll again, is polled at a bounded rate.
func TestBriskAnswersSlowThePuller(t *testing.T) {
	for name, c := range map[string]struct {
		after string
		tag   func(n int) string
		most  int // requests in an hour
	}{
		"at once":       {"", func(int) string { return `"1"` }, 3600},
		"without a tag": {"", func(int) string { return "" }, 3600},
		"always news":   {"", strconv.Itoa, 4 * 3600 * 2},
		"told when":     {"20", func(int) string { return `"1"` }, 190}, // a stream is tried now and then
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				w := &handlerTransport{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodGet {
						n++
						w.Header().Set("ETag", c.tag(n))
					}
					if c.after != "" {
						w.Header().Set(nextPoll, c.after)
					}
					_, _ = w.Write([]byte("{}"))
				})}
				start := time.Now()
				stop := runInBubble(t, settings{Cell: "acme", State: filepath.Join(dir, "state"),
					Dir: filepath.Join(dir, "target")}, w)
				time.Sleep(time.Hour)
				stop()
				if n := len(w.pauses("/v1/desired", start)); n > c.most || n < 60 {
					t.Errorf("asked %d times in an hour", n)
				}
			})
		})
	}
}

// Fault 36: reports are sent as a heartbeat with jitter, and at once on a change.
func TestHeartbeatIsJittered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p, w := newBubbleControlPlane()
		stop := runInBubble(t, settings{Cell: "acme", State: filepath.Join(dir, "state"),
			Dir: filepath.Join(dir, "target")}, w)
		start := time.Now()
		time.Sleep(time.Hour)
		stop()
		pauses := w.pauses("/v1/reports", start)[1:]
		distinct := map[time.Duration]bool{}
		for _, d := range pauses {
			distinct[d] = true
		}
		if slices.Min(pauses) < 9*time.Second || slices.Max(pauses) > 10*time.Second || len(distinct) < 100 {
			t.Errorf("%d heartbeats, from %s to %s, %d lengths", len(pauses), slices.Min(pauses), slices.Max(pauses),
				len(distinct))
		}
		if p.reportCount() != len(pauses)+1 {
			t.Errorf("%d reports arrived", p.reportCount())
		}
	})
}
