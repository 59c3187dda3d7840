package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/releases"
)

type digest = releases.Digest

// Constants of the protocol and of package plane.
const (
	registerPath = "/v1/register"
	keyPath      = "/v1/key"
	nextPoll     = "Sluice-Next-Poll"
	maxPins      = 16

	heartbeat         = 15 * time.Second            // of a stream
	silenceTimeout    = 2*heartbeat + 2*time.Second // then the stream is dead
	firstEventTimeout = 5 * time.Second             // a proxy buffers the stream if nothing comes within that time
	newKeyPeriod      = time.Minute                 // a key is new for that time
)

// controlPlane is the control plane's end of the protocol; the test decides its responses.
type controlPlane struct {
	server *httptest.Server

	mu             sync.Mutex
	changed        chan struct{} // closed and replaced at every change
	version        int
	desired        cells.Desired
	tars           map[digest][]byte
	fetched        map[digest]int
	reports        []cells.Report
	events         map[int64]cells.Event
	eventConflicts []string // events that came twice and differ, and gaps
	lastSeen       int64
	onReport       func(r cells.Report)                              // called for each report; nil: not called
	refuse         func(w http.ResponseWriter, r *http.Request) bool // responds instead if it returns true; nil: never
	streams        bool                                              // streams are served
	streamCount    int                                               // streams that were begun
	signedPins     []cells.SignedPins                                // sent with each receipt
	pins           []string                                          // sent with each receipt
	bundles        map[digest][]byte                                 // of flags
	clockSkew      time.Duration                                     // how far its clock is ahead
	extraSkew      func() time.Duration                              // added to the next receipt's time; nil: nothing
}

func newControlPlane(t testing.TB) *controlPlane {
	t.Helper()
	p := newBareControlPlane()
	mux := p.mux()
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		// One machine's clock: receipts have the agreed time.
		w.Header().Set("Date", p.now().Add(72*time.Hour).UTC().Format(http.TimeFormat))
		if refuse != nil && refuse(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.close)
	return p
}

func (p *controlPlane) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/desired", p.serveDesired)
	mux.HandleFunc("GET /v1/releases/{digest}", p.serveContent)
	mux.HandleFunc("GET /v1/flagbundles/{digest}", p.serveBundle)
	mux.HandleFunc("POST /v1/reports", p.serveReport)
	return mux
}

func (p *controlPlane) close() {
	p.update(func() {}) // release long-polls
	p.server.CloseClientConnections()
	p.server.Close()
}

func (p *controlPlane) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *controlPlane) assign(a cells.Assignment) {
	p.update(func() { p.version++; p.desired.Assignment = &a })
}

// setDown makes every request fail with a closed connection, or lets requests through again.
func (p *controlPlane) setDown(yes bool) {
	p.update(func() {
		p.refuse = nil
		if yes {
			p.refuse = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		}
	})
	if yes {
		p.server.CloseClientConnections()
	}
}

func (p *controlPlane) serveDesired(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	streams := p.streams
	p.mu.Unlock()
	if streams && r.Header.Get("Accept") == "text/event-stream" {
		p.serveStream(w, r)
		return
	}
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	end := time.After(wait)
	for {
		p.mu.Lock()
		tag, d, changed := strconv.Quote(strconv.Itoa(p.version)), p.desired, p.changed
		p.mu.Unlock()
		if tag != r.Header.Get("If-None-Match") {
			d.Cell = r.URL.Query().Get("cell")
			w.Header().Set("ETag", tag)
			_ = json.NewEncoder(w).Encode(d)
			return
		}
		select {
		case <-changed:
		case <-end:
			w.WriteHeader(http.StatusNotModified)
			return
		case <-r.Context().Done():
			return
		}
	}
}

// serveStream sends the desired state as it changes, with a heartbeat.
func (p *controlPlane) serveStream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	known := r.Header.Get("Last-Event-ID")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	p.mu.Lock()
	p.streamCount++
	p.mu.Unlock()
	for begun := false; ; begun = true {
		p.mu.Lock()
		tag, d, changed := strconv.Quote(strconv.Itoa(p.version)), p.desired, p.changed
		p.mu.Unlock()
		switch {
		case tag != known:
			known, d.Cell = tag, r.URL.Query().Get("cell")
			body, _ := json.Marshal(d)
			_, _ = fmt.Fprintf(w, "event: desired\nid: %s\ndata: %s\n\n", tag, body)
		case !begun:
			_, _ = io.WriteString(w, ": as before\n\n")
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			_, _ = io.WriteString(w, ":\n\n")
		case <-r.Context().Done():
			return
		}
	}
}

func (p *controlPlane) serveContent(w http.ResponseWriter, r *http.Request) {
	d := releases.Digest(r.PathValue("digest"))
	p.mu.Lock()
	tar, ok := p.tars[d]
	p.fetched[d]++
	p.mu.Unlock()
	if !ok {
		http.Error(w, `{"title":"Not Found","detail":"no such release"}`, http.StatusNotFound)
		return
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "zstd") {
		w.Header().Set("Content-Encoding", "zstd")
		z, _ := zstd.NewWriter(w)
		_, _ = z.Write(tar)
		_ = z.Close()
		return
	}
	_, _ = w.Write(tar)
}

func (p *controlPlane) serveReport(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	var report cells.Report
	if err := json.Unmarshal(body, &report); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := report.Validate(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	receipt := cells.Receipt{Time: p.now()}
	p.update(func() {
		if p.extraSkew != nil {
			receipt.Time = receipt.Time.Add(p.extraSkew())
		}
		receipt.Pins, receipt.SignedPins = p.pins, p.signedPins
		p.reports = append(p.reports, report)
		if p.onReport != nil {
			p.onReport(report)
		}
		for _, e := range report.Events {
			old, known := p.events[e.Number]
			if known && (old.Kind != e.Kind || !old.At.Equal(e.At)) {
				p.eventConflicts = append(p.eventConflicts,
					fmt.Sprintf("event %d was %s and is %s", e.Number, old.Kind, e.Kind))
			}
			if !known && e.Number != p.lastSeen+1 {
				p.eventConflicts = append(p.eventConflicts, fmt.Sprintf("event %d after %d", e.Number, p.lastSeen))
			}
			p.events[e.Number] = e
			p.lastSeen = max(p.lastSeen, e.Number)
			receipt.Acknowledged = e.Number
		}
	})
	_ = json.NewEncoder(w).Encode(receipt)
}

func (p *controlPlane) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.clockSkew)
}

// setFlags makes f the desired flags.
func (p *controlPlane) setFlags(f *cells.Flags) {
	p.update(func() { p.version++; p.desired.Flags = f })
}

func (p *controlPlane) serveBundle(w http.ResponseWriter, r *http.Request) {
	d := releases.Digest(r.PathValue("digest"))
	p.mu.Lock()
	raw, ok := p.bundles[d]
	p.fetched[d]++
	p.mu.Unlock()
	if !ok { // R39
		http.Error(w, `{"title":"Service Unavailable","detail":"this replica does not know these flags yet"}`,
			http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Encoding", "zstd")
	z, _ := zstd.NewWriter(w)
	_, _ = z.Write(raw)
	_ = z.Close()
}

// await waits until any report so far, or a later one, satisfies want.
func (p *controlPlane) await(t testing.TB, what string, want func(r cells.Report) bool) cells.Report {
	t.Helper()
	return p.awaitAfter(t, 0, what, want)
}

func (p *controlPlane) reportCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.reports)
}

// received returns the reports so far.
func (p *controlPlane) received() []cells.Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.reports)
}

// timesFetched returns how often a release's or a bundle's bytes were served.
func (p *controlPlane) timesFetched(d digest) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched[d]
}

func (p *controlPlane) awaitAfter(t testing.TB, since int, what string, want func(r cells.Report) bool) cells.Report {
	t.Helper()
	giveUp := time.After(3 * time.Minute)
	for {
		p.mu.Lock()
		changed, reports := p.changed, p.reports
		p.mu.Unlock()
		for ; since < len(reports); since++ {
			if want(reports[since]) {
				return reports[since]
			}
		}
		select {
		case <-changed:
		case <-giveUp:
			last, _ := json.MarshalIndent(reports[max(0, len(reports)-1):], "", " ")
			t.Fatalf("no report was: %s. The last one: %s", what, last)
		}
	}
}

func (p *controlPlane) eventKinds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kinds []string
	for n := int64(1); n <= p.lastSeen; n++ {
		kinds = append(kinds, p.events[n].Kind)
	}
	return kinds
}

func healthyOn(a cells.Assignment) func(cells.Report) bool {
	return func(r cells.Report) bool {
		return r.State == cells.StateHealthy && r.Running != nil && r.Running.Key() == a.Key()
	}
}

func failedAt(a cells.Assignment) func(cells.Report) bool {
	return func(r cells.Report) bool {
		return slices.ContainsFunc(r.Failures, func(f cells.Failure) bool { return f.Assignment.Key() == a.Key() })
	}
}

// addRelease adds a release to the control plane and returns its assignment.
func (p *controlPlane) addRelease(t testing.TB, version string, sequence int64,
	files map[string]string) cells.Assignment {
	t.Helper()
	tar := agenttest.Pack(t, files)
	d := releases.DigestBytes(tar)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tars[d] = tar
	return cells.Assignment{Channel: "staging", Epoch: 1, Sequence: sequence, Release: version, Digest: d}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// appManifest returns the app's manifest in the cell's folder, or "".
func appManifest(t testing.TB, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "current", "configmap-shop-app.yaml"))
	if os.IsNotExist(err) {
		return ""
	}
	must(t, err)
	return string(text)
}
