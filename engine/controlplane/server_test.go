package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// site is a control plane with a real store, a view set by the test, and releases in memory.
type site struct {
	*httptest.Server
	server  *controlplane.Server
	store   *store.Store
	files   fs.FS // of every commit
	log     *lockedBuffer
	pushes  int
	reports sync.Mutex // held while a report is folded and stored
	mu      sync.Mutex // guards pushes, view, changed
	view    *view.View
	changed chan struct{}
	options controlplane.Options
}

func (s *site) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *site) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *site) setView(v *view.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) FS(string) (fs.FS, error) { return s.files, nil }

// Receive folds and stores a report as the engine does.
func (s *site) Receive(ctx context.Context, r *cells.Report) (cells.Receipt, error) {
	v := s.View()
	if v == nil {
		return cells.Receipt{}, engine.ErrNotReady
	}
	if v.Desired.Cells[r.Cell] == nil {
		return cells.Receipt{}, fmt.Errorf("report of %q: %w", r.Cell, engine.ErrUnknownCell)
	}
	s.reports.Lock()
	defer s.reports.Unlock()
	known, err := s.store.Cells(ctx, r.Cell)
	if err != nil {
		return cells.Receipt{}, err
	}
	state := plan.Receive(known[r.Cell], *r, noon, time.Minute)
	if err := s.store.RecordReports(ctx, []plan.Reported{{State: state, Boot: r.Boot, Events: r.Events}}); err != nil {
		return cells.Receipt{}, fmt.Errorf("keep report of %s: %w", r.Cell, err)
	}
	receipt := cells.Receipt{Time: noon}
	if n := len(r.Events); n > 0 {
		receipt.Acknowledged = r.Events[n-1].Number
	}
	return receipt, nil
}

func newSite(t testing.TB, so store.Options, change func(*controlplane.Options)) *site {
	t.Helper()
	kept, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), so)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	s := &site{store: kept, files: releaseFiles(), log: &lockedBuffer{}, view: viewOf("1.0.1"),
		changed: make(chan struct{})}
	o := controlplane.Options{
		Views: s, Inbox: s, Repository: s, Journal: kept, Log: zerolog.New(s.log).Level(zerolog.DebugLevel),
		CheckStore: kept.Ready, Images: noImages(t),
		Records:    kept.Records(),
		Debug:      debugging.New(kept.Records(), func(map[string]string) {}, nil, zerolog.Nop()),
		HookSecret: "secret", OnPush: func() { s.mu.Lock(); s.pushes++; s.mu.Unlock() },
	}
	if change != nil {
		change(&o)
	}
	s.options = o
	if s.server, err = controlplane.New(o); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(s.server.Handler())
	t.Cleanup(s.Close)
	return s
}

func releaseFiles() fstest.MapFS {
	return fstest.MapFS{
		"releases/1.0.1/release.yaml": {Data: []byte("version: 1.0.1\n# " + strings.Repeat("padding ", 500)),
			Mode: 0o644},
		"releases/1.0.2/release.yaml": {Data: []byte("version: 1.0.2\n# " + strings.Repeat("padding ", 500)),
			Mode: 0o644},
		"releases/1.0.3/release.yaml": {Data: []byte("version: 1.0.3\n"), Mode: 0o644},
	}
}

func digestOf(version string) releases.Digest {
	d, err := releases.DigestOf(releaseFiles(), "releases/"+version)
	if err != nil {
		panic(err)
	}
	return d
}

// viewOf returns a view of staging at a release, with the cells acme and bolt, and of dedicated without one, with the
// cell crow.
func viewOf(version string) *view.View {
	head := plan.EffectiveHead{Kind: plan.Promote, Written: "c1", Moved: noon}
	head.Release, head.Commit, head.Digest, head.Sequence = version, "c0", digestOf(version), 3
	staging := &plan.Channel{State: channels.State{Name: "staging"}, Effective: &head,
		History: []plan.EffectiveHead{head}}
	dedicated := &plan.Channel{State: channels.State{Name: "dedicated"}}
	d := &plan.Desired{
		Commit: "c9", Channels: map[string]*plan.Channel{"staging": staging, "dedicated": dedicated},
		Order: []string{"staging", "dedicated"},
		Cells: map[string]*plan.Cell{},
	}
	o := &plan.Observed{Cells: map[string]*plan.CellState{}}
	for name, c := range map[string]*plan.Channel{"acme": staging, "bolt": staging, "crow": dedicated} {
		cell := &plan.Cell{}
		cell.Name, cell.Channel = name, c.Name
		d.Cells[name] = cell
		c.Cells = append(c.Cells, cell)
		if c == staging {
			o.Cells[name] = &plan.CellState{
				Name: name, Channel: c.Name, Sequence: 3, Release: version, Digest: head.Digest,
				State: cells.StateHealthy, LastReport: noon,
				Granted: &cells.Assignment{Channel: c.Name, Sequence: 3, Release: version, Digest: head.Digest,
					Values: map[string]any{"replicas": 3}},
			}
		}
	}
	return &view.View{Desired: d, Observed: o, Plan: plan.Plan{
		Commit: "c9", Now: noon,
		Blocked: []channels.Verdict{
			{Channel: "dedicated", Release: version, Gate: "soak", Reason: "1 of 2 cells healthy for 1h",
				Until: noon.Add(time.Hour)}},
	}}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// request sends a request and reads the response's body. headers holds names and values in turn.
func (s *site) request(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return w, string(b)
}

// wantProblem fails the test unless the response is problem+json that says what is wanted.
func wantProblem(t *testing.T, w *http.Response, body string, status int, says string) {
	t.Helper()
	var p struct {
		Status int
		Title  string
		Detail string
	}
	if w.StatusCode != status || w.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: %s, %s, not a problem %d: %s", w.Request.Method, w.Request.URL, w.Status,
			w.Header.Get("Content-Type"), status, body)
		return
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" ||
		!strings.Contains(body, says) {
		t.Errorf("%s %s: %s (%v), wanted %q in it", w.Request.Method, w.Request.URL, body, err, says)
	}
	if w.Header.Get("X-Request-Id") == "" {
		t.Error("no request id")
	}
}

func TestProblemsEverywhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/nowhere", 404, "openapi.json"},
		{"GET", "/", 404, "openapi.json"},
		{"POST", "/v1/desired", 405, "Allow"},
		{"DELETE", "/v1/reports", 405, "Allow"},
		{"BREW", "/v1/reports", 405, "BREW"},
		{"GET", "/v1/desired", 400, "query.cell"},
		{"GET", "/v1/desired?cell=acme&wait=soon", 400, "query.wait"},
		{"GET", "/v1/desired?cell=acme&wait=-1s", 400, "query.wait"},
		{"GET", "/v1/desired?cell=nobody", 404, "no such cell"},
		{"GET", "/v1/why/nobody", 404, "neither"},
		{"GET", "/v1/status?channel=nobody", 404, "no such channel"},
		{"GET", "/v1/status?limit=0", 422, "query.limit"},
		{"GET", "/v1/status?page=2", 422, "page"},
		{"GET", "/v1/releases/sha256:00", 404, "offered"},
	} {
		w, body := s.request(t, c.method, c.path, "")
		wantProblem(t, w, body, c.status, c.says)
		if c.status == 405 && w.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", c.method, c.path)
		}
	}
	// A page of another site resolves its own name to this server.
	w, body := s.request(t, "GET", "/v1/status", "", "Host", "evil.example")
	wantProblem(t, w, body, 421, "this machine")
	s.setView(nil)
	for _, path := range []string{"/v1/desired?cell=acme", "/v1/desired?cell=acme&wait=1s", "/v1/plan", "/v1/status",
		"/v1/why/acme", "/v1/releases/" + string(digestOf("1.0.1")), "/readyz"} {
		w, body := s.request(t, "GET", path, "")
		wantProblem(t, w, body, 503, "not been read yet")
		if w.Header.Get("Retry-After") == "" && path != "/readyz" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
}

func TestPanicIsAProblem(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{},
		func(o *controlplane.Options) { o.CheckStore = func(context.Context) error { panic("out of order") } })
	w, body := s.request(t, "GET", "/readyz", "", "X-Request-Id", "mine-1")
	wantProblem(t, w, body, 500, "X-Request-Id")
	if strings.Contains(body, "out of order") {
		t.Error("the answer tells of the inside")
	}
	if log := s.log.String(); !strings.Contains(log, "out of order") || !strings.Contains(log, `"id":"mine-1"`) {
		t.Errorf("the log does not tell what happened: %s", log)
	}
	if w, _ := s.request(t, "GET", "/livez", "", "X-Request-Id", "bad id\tforged"); w.StatusCode != 200 ||
		w.Header.Get("X-Request-Id") == "bad id\tforged" {
		t.Errorf("after a panic: %s, id %q", w.Status, w.Header.Get("X-Request-Id"))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := controlplane.New(controlplane.Options{})
	for _, name := range []string{"Views", "Inbox", "Repository", "Journal"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

// noImages serves the images of no registry.
func noImages(t testing.TB) *images.Service {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"auths": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	registries, err := images.OpenRegistries(file)
	if err != nil {
		t.Fatal(err)
	}
	service, err := images.New(images.Options{Dir: t.TempDir(), Registries: registries,
		Files: func(releases.Digest) (fs.FS, string, error) { return nil, "", fs.ErrNotExist }})
	if err != nil {
		t.Fatal(err)
	}
	return service
}
