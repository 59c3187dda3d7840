package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/test/child"
)

// pipeNetwork is a network within the process, so that time can be virtual: real HTTP and TLS run over it.
type pipeNetwork struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeNetwork() *pipeNetwork {
	return &pipeNetwork{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipeNetwork) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeNetwork) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipeNetwork) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipeNetwork) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// requestRecorder records requests with their times.
type requestRecorder struct {
	http.Handler
	mu       sync.Mutex
	requests []recordedRequest
}

type recordedRequest struct {
	at     time.Time
	path   string
	stream bool
}

func (h *requestRecorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests = append(h.requests, recordedRequest{time.Now(), r.URL.Path,
		r.Header.Get("Accept") == "text/event-stream"})
	h.mu.Unlock()
	h.Handler.ServeHTTP(w, r)
}

// desiredTimes returns when the desired state was requested, by stream or by poll.
func (h *requestRecorder) desiredTimes(stream bool) (at []time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.requests {
		if r.path == "/v1/desired" && r.stream == stream {
			at = append(at, r.at)
		}
	}
	return at
}

// runVirtual runs an agent and a server in virtual time. With k, the cell has a key. stop ends both.
func runVirtual(t *testing.T, dir string, h http.Handler, k *keyedControlPlane) (*requestRecorder, func()) {
	t.Helper()
	p, count := newPipeNetwork(), &requestRecorder{Handler: h}
	server := &http.Server{Handler: count, ErrorLog: log.New(io.Discard, "", 0)}
	o := Options{Cell: "acme", Server: "http://localhost", StateDir: filepath.Join(dir, "state"),
		ReportEvery: time.Hour}
	var err error
	o.Target, err = directory.New(filepath.Join(dir, "target"), directory.Options{Cell: "acme"})
	must(t, err)
	program, err := child.Program()
	must(t, err)
	o.Render = agenttest.RenderCommand(program)
	if k != nil {
		o.Server, server.TLSConfig = "", k.tlsConfig()
		public, private, err := ed25519.GenerateKey(nil)
		must(t, err)
		k.cells[identity.FormatKey(public)] = "acme"
		text, err := json.Marshal(credentials{Cell: "acme", Address: "control.plane:443", Pins: k.currentPins(),
			Key: private.Seed(), Since: time.Now()})
		must(t, err)
		must(t, os.MkdirAll(o.StateDir, 0o700))
		must(t, os.WriteFile(credentialsFile(o.StateDir), text, 0o600))
	}
	o.transport = func(t *http.Transport) http.RoundTripper {
		t.DialContext, t.Proxy = p.dial, nil
		return t
	}
	a, err := New(o)
	must(t, err)
	serving, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(serving)
		if k != nil {
			_ = server.ServeTLS(p, "", "")
		} else {
			_ = server.Serve(p)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- a.Run(ctx) }()
	return count, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = server.Close()
		<-serving
		synctest.Wait()
	}
}

// One stream with a heartbeat is enough: nothing is polled, and news arrives at once.
func TestOneStreamIsEnough(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := prepareKeyedControlPlane(t, newBareControlPlane())
		k.streams = true
		h, stop := runVirtual(t, dir, k, k)
		time.Sleep(5 * time.Hour)
		one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
		k.assign(one)
		begun := time.Now()
		k.await(t, "it is accepted", func(r cells.Report) bool {
			return r.Acknowledged != nil && r.Acknowledged.Key() == one.Key()
		})
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it heard after %s", took)
		}
		time.Sleep(5 * time.Hour)
		if s, p := len(h.desiredTimes(true)), len(h.desiredTimes(false)); s != 1 || p != 0 {
			t.Errorf("%d streams and %d polls", s, p)
		}
		stop()
	})
}

// R33: after a stream that a proxy buffers, or that falls silent, the agent polls for a while.
func TestSilentStreamsGiveWayToPolls(t *testing.T) {
	for name, c := range map[string]struct {
		word        string        // all that the stream sends
		after       time.Duration // until the first poll
		least, most int           // streams in two hours
	}{
		"held back":   {"", firstEventTimeout, 3, 7},
		"falls still": {": as before\n\n", silenceTimeout, 15, 30},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				p := newBareControlPlane()
				still := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Accept") != "text/event-stream" {
						p.mux().ServeHTTP(w, r)
						return
					}
					if c.word != "" {
						w.Header().Set("Content-Type", "text/event-stream")
						_, _ = io.WriteString(w, c.word)
						_ = http.NewResponseController(w).Flush()
					}
					<-r.Context().Done()
				})
				h, stop := runVirtual(t, dir, still, nil)
				time.Sleep(2 * time.Hour)
				one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
				p.assign(one)
				p.await(t, "it hears all the same", func(r cells.Report) bool { return r.Acknowledged != nil })
				streams, polls := h.desiredTimes(true), h.desiredTimes(false)
				if n := len(streams); n < c.least || n > c.most {
					t.Errorf("%d streams were tried", n)
				}
				if took := polls[0].Sub(streams[0]); took != c.after {
					t.Errorf("it polled after %s, not %s", took, c.after)
				}
				stop()
			})
		})
	}
}

// Fault 36: whatever the control plane answers, the agent sends a bounded number of requests.
func TestHostileAnswers(t *testing.T) {
	events := func(n int, end string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range n {
				if _, err := fmt.Fprintf(w, "event: desired\nid: \"%d\"\ndata: {}\n\n", i); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, end)
		}
	}
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	const hour = time.Hour
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		most    int // requests in an hour
	}{
		"streams end at once":          {events(0, ""), 1000},
		"streams end after an event":   {events(1, ""), 1000},
		"streams say come back now":    {events(0, "retry: 0\n\n"), 1000},
		"streams say come in a moment": {events(1, "retry: 1\n\n"), 1000},
		"streams say stay away":        {events(0, "retry: 99999999\n\n"), 200},
		"more news than can be":        {events(1<<30, ""), 2},
		"comments without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, err := w.Write([]byte(":\n")); err == nil; _, err = w.Write([]byte(strings.Repeat(":\n", 500))) {
				if http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		}, 2},
		"a line without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, err := io.WriteString(w, "data: "); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
				if http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		}, 1000},
		"news that is none":     {events(0, "event: desired\nid: 1\ndata: {\n\n"), 1000},
		"another cell's news":   {events(0, "event: desired\nid: 1\ndata: {\"cell\":\"globex\"}\n\n"), 1000},
		"nothing changed":       {status(304), 3600},
		"nothing at all":        {status(204), 1000},
		"go elsewhere":          {status(302, "Location", "/v1/desired"), 1000},
		"come back at once":     {status(503, "Retry-After", "0"), 1000},
		"come back before":      {status(503, "Retry-After", "-100"), 1000},
		"come back never":       {status(429, "Retry-After", "99999999999999999999"), 1000},
		"poll at once":          {status(304, nextPoll, "0"), 3600},
		"poll before":           {status(304, nextPoll, "-9223372036854775808"), 3600},
		"poll in a moment":      {status(304, nextPoll, "1"), 3700},
		"poll never":            {status(304, nextPoll, "9223372036854775807"), 20},
		"who are you":           {status(401, "Retry-After", "0"), 20},
		"a header without end":  {status(200, "X-Long", strings.Repeat("x", 1<<20)), 1000},
		"no HTTP in the answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				length := hour
				if strings.Contains(name, "without end") || strings.Contains(name, "more news") {
					length = 30 * time.Second
				}
				only := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						_ = json.NewEncoder(w).Encode(cells.Receipt{})
						return
					}
					c.handler(w, r)
				})
				h, stop := runVirtual(t, dir, only, nil)
				time.Sleep(length)
				stop()
				asked := len(h.desiredTimes(true)) + len(h.desiredTimes(false))
				if asked == 0 || asked > c.most {
					t.Errorf("it asked %d times in %s", asked, length)
				}
				t.Logf("asked %d times", asked)
			})
		})
	}
}

// R30, R33: right after a registration, a 401 may mean a replica that does not know the key yet; later it means 300 s.
func TestDeniedRightAfterJoining(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := prepareKeyedControlPlane(t, newBareControlPlane())
		k.denyAll, k.streams = true, true
		h, stop := runVirtual(t, dir, k, k)
		begun := time.Now()
		time.Sleep(2 * time.Hour)
		var early, late []time.Duration
		all := h.desiredTimes(true)
		for i, at := range all[1:] {
			if pause := at.Sub(all[i]); all[i].Sub(begun) < newKeyPeriod {
				early = append(early, pause)
			} else {
				late = append(late, pause)
			}
		}
		if len(early) < 5 || slices.Max(early) > maxRetryPause+time.Second {
			t.Errorf("in the first minute it waited %v", early)
		}
		if len(late) < 10 || slices.Min(late) < 270*time.Second {
			t.Errorf("then it waited %v", late)
		}
		k.updateKeys(func() { k.denyAll = false })
		one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
		k.assign(one)
		time.Sleep(10 * time.Minute)
		k.await(t, "it is let in again", func(r cells.Report) bool { return r.Acknowledged != nil })
		stop()
	})
}

// A download that stops midway, half-open or cut, continues over another connection, and counts not against the
// release.
func TestDownloadThatStops(t *testing.T) {
	for name, stop := range map[string]func(r *http.Request){
		"half-open": func(r *http.Request) { <-r.Context().Done() },
		"cut":       func(*http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				p := newBareControlPlane()
				tries := 0
				half := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasPrefix(r.URL.Path, "/v1/releases/") {
						p.mux().ServeHTTP(w, r)
						return
					}
					if tries++; tries > 3 {
						p.mux().ServeHTTP(w, r)
						return
					}
					w.Header().Set("Content-Length", "20000")
					_, _ = w.Write(p.tars[digest(strings.TrimPrefix(r.URL.Path, "/v1/releases/"))][:1000])
					_ = http.NewResponseController(w).Flush()
					stop(r)
				})
				one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
				p.assign(one)
				_, end := runVirtual(t, dir, half, nil)
				begun := time.Now()
				time.Sleep(3 * time.Minute)
				p.await(t, "it is there", func(r cells.Report) bool {
					return r.Running != nil && r.Running.Key() == one.Key()
				})
				if kinds := p.eventKinds(); slices.Contains(kinds, "refused") || tries != 4 {
					t.Errorf("after %s and %d tries: %v", time.Since(begun), tries, kinds)
				}
				end()
			})
		})
	}
}
