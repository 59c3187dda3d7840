package exporter_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases/export"
)

const minute = time.Second // of these tests

func list(names ...string) export.List {
	var l export.List
	for _, name := range names {
		l.Metrics = append(l.Metrics, export.Metric{Name: name, Type: export.Gauge})
	}
	return l
}

// cell is an exporter with its control plane: the keeper that the real one uses, and an OTLP endpoint behind it.
type cell struct {
	*exporter.Exporter
	t      *testing.T
	dir    string
	keeper *exports.Keeper
	stop   func()

	taking sync.Mutex // so that what the keeper has is read as of a whole batch

	mu       sync.Mutex
	down     int    // the status that the endpoint answers with; 0: it takes what comes
	refused  int    // how often it was down when it was asked
	lose     bool   // the next answer of the control plane is lost
	received []byte // what the endpoint was sent
	batches  []cells.ExportHeader
}

func newCell(t *testing.T) *cell {
	t.Parallel()
	c := &cell{t: t, dir: t.TempDir()}
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	endpoint := httptest.NewServer(http.HandlerFunc(c.serveEndpoint))
	t.Cleanup(endpoint.Close)
	sink, err := exports.NewOTLP(endpoint.URL, "", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	c.keeper = exports.New(st.Records(), sink)
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cell) start() {
	c.t.Helper()
	c.Exporter = exporter.Open(exporter.Options{StateDir: c.dir, Cell: "acme", To: controlPlane{c},
		Minute: minute, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
}

func (c *cell) serveEndpoint(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != 0 {
		c.refused++
		http.Error(w, "the endpoint is down", c.down)
		return
	}
	body, _ := io.ReadAll(r.Body)
	c.received = append(c.received, body...)
}

// controlPlane answers the exporter as the cells' API does.
type controlPlane struct{ *cell }

func (c controlPlane) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	batch, err := exports.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return w.Result(), nil
	}
	c.taking.Lock()
	receipt, err := c.keeper.Take(r.Context(), batch, 1, time.Now())
	c.taking.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return w.Result(), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.batches); receipt.Sequence == batch.Sequence && (n == 0 || c.batches[n-1].Sequence < batch.Sequence) {
		c.batches = append(c.batches, batch.ExportHeader)
	}
	if c.lose {
		c.lose = false
		return nil, errors.New("the connection was reset")
	}
	_ = json.NewEncoder(w).Encode(receipt)
	return w.Result(), nil
}

func (c *cell) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *cell) eventually(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	files, err := exporter.List(c.dir)
	c.t.Fatalf("still not: %s; %v waits (%v)", what, files, err)
}

// measure sends a gauge as a program does.
func (c *cell) measure(name string, value float64) *http.Response {
	c.t.Helper()
	body, err := proto.Marshal(&metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{{Name: name,
			Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: []*metricspb.NumberDataPoint{{
				Attributes: []*commonpb.KeyValue{{Key: "password", Value: &commonpb.AnyValue{
					Value: &commonpb.AnyValue_StringValue{StringValue: "hunter2"}}}},
				Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: value}}}}}}}}}}}})
	if err != nil {
		c.t.Fatal(err)
	}
	return c.post("/v1/metrics", "application/x-protobuf", "", body)
}

func (c *cell) post(path, kind, encoding string, body []byte) *http.Response {
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Content-Encoding", encoding)
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w.Result()
}

// awaitFiles measures a gauge until so many files wait.
func (c *cell) awaitFiles(name string, least int) {
	c.t.Helper()
	c.eventually("files wait", func() bool {
		c.measure(name, 1)
		files, _ := exporter.List(c.dir)
		return len(files) >= least
	})
}

// awaitValue measures a gauge until its value arrived.
func (c *cell) awaitValue(name string, value float64) {
	c.t.Helper()
	c.eventually("the value arrived", func() bool {
		c.measure(name, value)
		return c.last(name) == value
	})
}

// last returns the newest value of a metric that the control plane has; -1: none.
func (c *cell) last(name string) float64 {
	c.t.Helper()
	c.taking.Lock()
	defer c.taking.Unlock()
	state, err := c.keeper.Load(c.t.Context(), "acme")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, l := range state.Values {
		if l.Metric == name && l.Value != nil {
			return *l.Value
		}
	}
	return -1
}

func (c *cell) state() exports.State {
	c.t.Helper()
	c.taking.Lock()
	defer c.taking.Unlock()
	state, err := c.keeper.Load(c.t.Context(), "acme")
	if err != nil {
		c.t.Fatal(err)
	}
	return state
}

func agreed(hold time.Duration, names ...string) *cells.ExportConsent {
	return &cells.ExportConsent{Hold: hold, Allowed: list(names...)}
}

// Nothing leaves before the owner agreed. Then what was agreed to arrives, at the control plane and at the vendor's
// endpoint, and a wider wish of a later release adds nothing (E1, E2).
func TestE2NothingLeavesWithoutConsent(t *testing.T) {
	c := newCell(t)
	wish := list("queue", "users")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(nil)
	c.measure("queue", 1)
	time.Sleep(3 * minute) // a file would be there
	if files, err := exporter.List(c.dir); err != nil || len(files) > 0 {
		t.Fatalf("%v waits without consent (%v)", files, err)
	}
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	if got, err := exporter.LoadWish(c.dir); err != nil || got.Release != "1.0.0" ||
		!slices.Equal(export.Wider(got.List, list("queue")),
			[]string{"metric users: a gauge, at most one point in 1m0s"}) {
		t.Errorf("the owner reads the wish %+v (%v)", got, err)
	}
	c.eventually("the value arrived", func() bool {
		c.measure("queue", 2)
		c.measure("users", 3)
		return c.last("queue") == 2
	})
	if c.last("users") != -1 {
		t.Error("a metric that the owner did not agree to left")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for text, want := range map[string]bool{"queue": true, "acme": true, telemetry.DroppedMetric: true,
		"users": false, "password": false, "hunter2": false} {
		if bytes.Contains(c.received, []byte(text)) != want {
			t.Errorf("the endpoint was sent %q: %v", text, !want)
		}
	}
}

// What leaves is byte for byte what the owner could read (E1).
func TestE1WhatTheOwnerReadLeaves(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue"))
	read := func() (all [][]byte) {
		files, err := exporter.List(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := exporter.Read(c.dir, f.Name)
			if err != nil || !f.Held {
				t.Fatalf("the owner reads %s of %+v (%v)", text, f, err)
			}
			all = append(all, text)
		}
		return all
	}
	c.eventually("a file waits", func() bool { // the first may have only the count of what came before the consent
		c.measure("queue", 7)
		return bytes.Contains(bytes.Join(read(), nil), []byte(`"metric":"queue"`))
	})
	c.stop()
	texts := read()
	sent := make(chan []byte, 100)
	c.Exporter = exporter.Open(exporter.Options{StateDir: c.dir, Cell: "acme", Minute: time.Hour,
		Log: zerolog.Nop(),
		To: roundTripper(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			sent <- body
			r.Body = io.NopCloser(bytes.NewReader(body))
			return controlPlane{c}.RoundTrip(r)
		})})
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
	for _, text := range texts {
		lines := unpack(t, <-sent)
		if _, content, _ := bytes.Cut(lines, []byte("\n")); !bytes.Equal(content, text) {
			t.Errorf("there left\n%s\nand the owner read\n%s", content, text)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// unpack returns the lines of a batch, after the control plane's reader found it good.
func unpack(t *testing.T, body []byte) []byte {
	t.Helper()
	if _, err := exports.Parse(body); err != nil {
		t.Fatal(err)
	}
	reader, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The owner's off stops what waits, too, and the vendor sees the gap and nothing of what was in it (E3).
func TestE3OffRemovesWhatWaits(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue"))
	c.awaitFiles("queue", 2)
	c.SetConsent(&cells.ExportConsent{Off: true})
	began := time.Now()
	c.eventually("nothing waits", func() bool {
		c.measure("queue", 1)
		files, _ := exporter.List(c.dir)
		return len(files) == 0
	})
	t.Logf("what waited was gone after %s", time.Since(began))
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 5)
	if gaps := c.state().Gaps; len(gaps) != 1 || !strings.Contains(gaps[0].Why, "owner") {
		t.Errorf("the vendor sees the gaps %+v", gaps)
	}
}

// An off that is taken back at once removes what waited all the same.
func TestOffForAMoment(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue"))
	c.awaitFiles("queue", 1)
	c.SetConsent(&cells.ExportConsent{Off: true})
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 5)
	if gaps := c.state().Gaps; len(gaps) != 1 || c.state().Sequence != 1 {
		t.Errorf("%d batches left, with the gaps %+v", c.state().Sequence, gaps)
	}
}

// A word of the owner's that was given while the agent was down counts for what waited before.
func TestConsentThatShrankWhileDown(t *testing.T) {
	c := newCell(t)
	wish := list("queue", "users")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue", "users"))
	c.awaitFiles("users", 1)
	c.stop()
	c.start()
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 5)
	if c.last("users") != -1 {
		t.Error("a value left that the owner no longer agreed to")
	}
}

// While the owner's word can't be read nothing leaves, and nothing is removed. Then all of it leaves, and the vendor is
// told why something is missing (E3).
func TestE3InvalidWordHolds(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue"))
	c.awaitFiles("queue", 1)
	c.Hold()
	before, _ := exporter.List(c.dir)
	c.measure("queue", 2)
	time.Sleep(3 * minute)
	if after, err := exporter.List(c.dir); err != nil || len(after) < len(before) || c.state().Sequence != 0 {
		t.Errorf("%d files waited, now %d (%v); the control plane has %d batches", len(before), len(after), err,
			c.state().Sequence)
	}
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 3)
	state := c.state()
	if len(state.Gaps) != 1 || state.Gaps[0].Why != "the owner's decisions could not be read" {
		t.Errorf("the vendor sees the gaps %+v", state.Gaps)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.batches[0].At.Equal(before[0].At) {
		t.Errorf("the first batch is of %s, not of %s, which waited", c.batches[0].At, before[0].At)
	}
}

// A file that the owner removes is a gap, which the next batch tells of (E5).
func TestE5DroppedFileIsAGap(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Hour, "queue"))
	c.awaitFiles("queue", 1)
	files, err := exporter.List(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := exporter.Drop(c.dir, files[0].Name); len(gone) != 1 || err != nil {
		t.Fatal(gone, err)
	}
	if _, err := exporter.Drop(c.dir, files[0].Name); !errors.Is(err, exporter.ErrNoFile) {
		t.Errorf("to remove it again: %v", err)
	}
	if _, err := exporter.Read(c.dir, "../state"); !errors.Is(err, exporter.ErrNoFile) {
		t.Errorf("to read another file: %v", err)
	}
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 2)
	if gaps := c.state().Gaps; len(gaps) != 1 || !gaps[0].From.Equal(files[0].At) {
		t.Errorf("the vendor sees the gaps %+v, and %s was removed", gaps, files[0].At)
	}
}

// An endpoint that is down, answers that are lost and restarts of the agent lose nothing and duplicate nothing (E5):
// the batches are one chain.
func TestE5ChainOverTrouble(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	begin := func() {
		c.SetWish("1.0.0", &wish)
		c.SetConsent(agreed(time.Nanosecond, "queue"))
	}
	begin()
	for round := range 3 {
		value := float64(10 + round)
		c.set(func() { c.down, c.lose = http.StatusServiceUnavailable, true })
		c.eventually("files wait", func() bool {
			c.measure("queue", value)
			files, _ := exporter.List(c.dir)
			return len(files) >= 2
		})
		c.stop()
		if round == 1 { // while the answer about another file is lost
			files, err := exporter.List(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := exporter.Drop(c.dir, files[len(files)-1].Name); err != nil {
				t.Fatal(err)
			}
		}
		c.start()
		begin()
		c.set(func() { c.down = 0 })
		c.eventually("the value arrived", func() bool { return c.last("queue") == value })
		c.eventually("nothing waits", func() bool {
			files, _ := exporter.List(c.dir)
			return len(files) == 0
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	gaps := 0
	for i, b := range c.batches {
		if b.Gap != nil {
			gaps++
		}
		if b.Sequence != int64(i+1) || i > 0 && !b.At.After(c.batches[i-1].At) {
			t.Errorf("batch %d is %+v", i+1, b)
		}
	}
	if len(c.batches) < 5 || gaps != 1 {
		t.Errorf("%d batches were taken, and %d told of a gap", len(c.batches), gaps)
	}
}

// A cell whose state is lost goes on where the control plane is, and a damaged position is put aside.
func TestLostPosition(t *testing.T) {
	c := newCell(t)
	wish := list("queue")
	begin := func(value float64) {
		c.SetWish("1.0.0", &wish)
		c.SetConsent(agreed(time.Nanosecond, "queue"))
		c.awaitValue("queue", value)
	}
	begin(1)
	c.stop()
	if err := os.WriteFile(filepath.Join(c.dir, "export", "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	begin(2)
	if gaps := c.state().Gaps; len(gaps) != 1 {
		t.Errorf("the vendor sees the gaps %+v", gaps)
	}
}

// More than three days, or more than the budget, gives way by half, and the gap is visible (E4, E5).
func TestE4Budget(t *testing.T) {
	c := newCell(t)
	c.stop()
	folder := filepath.Join(c.dir, "export")
	now := time.Now().UTC()
	for i := range 10 {
		at := now.Add(-exporter.MaxAge - time.Hour + time.Duration(i)*time.Minute)
		if err := os.WriteFile(filepath.Join(folder, at.Format("20060102T150405Z")+".jsonl"), []byte("{}\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start()
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.awaitValue("queue", 2)
	if gaps := c.state().Gaps; len(gaps) == 0 {
		t.Error("the vendor sees no gap")
	}
}

func TestIntakeRefuses(t *testing.T) {
	c := newCell(t)
	var bomb bytes.Buffer
	packed := gzip.NewWriter(&bomb)
	_, _ = packed.Write(make([]byte, 5<<20))
	_ = packed.Close()
	for name, r := range map[string]struct {
		status         int
		kind, encoding string
		body           []byte
	}{
		"JSON":         {http.StatusUnsupportedMediaType, "application/json", "", []byte("{}")},
		"snappy":       {http.StatusUnsupportedMediaType, "application/x-protobuf", "snappy", nil},
		"a bomb":       {http.StatusRequestEntityTooLarge, "application/x-protobuf", "gzip", bomb.Bytes()},
		"no gzip":      {http.StatusBadRequest, "application/x-protobuf", "gzip", []byte("no")},
		"no protobuf":  {http.StatusBadRequest, "application/x-protobuf", "", []byte("\x0ano")},
		"nothing":      {http.StatusOK, "application/x-protobuf", "", nil},
		"an empty one": {http.StatusOK, "application/x-protobuf; charset=utf-8", "identity", nil},
	} {
		if got := c.post("/v1/metrics", r.kind, r.encoding, r.body); got.StatusCode != r.status {
			t.Errorf("%s: status %d, want %d", name, got.StatusCode, r.status)
		}
	}
	if got := c.post("/v1/traces", "application/x-protobuf", "", nil); got.StatusCode != http.StatusNotFound {
		t.Errorf("traces: status %d", got.StatusCode)
	}
	for target, good := range map[string]bool{"http://127.0.0.1:9100/metrics": true, "http://localhost:1/": true,
		"http://[::1]:9100/metrics": true, "http://169.254.169.254/latest": false, "https://127.0.0.1/": false,
		"http://a:b@127.0.0.1/": false, "http://example.com/metrics": false, "127.0.0.1:9100": false} {
		if err := exporter.CheckTarget(target); (err == nil) != good {
			t.Errorf("scrape %s: %v", target, err)
		}
	}
}

// A target on this machine is scraped, and a slow or endless one does no harm.
func TestScrape(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# TYPE queue gauge\nqueue 4\nsecret 1\n")
	}))
	t.Cleanup(target.Close)
	c := newCell(t)
	c.stop()
	c.Exporter = exporter.Open(exporter.Options{StateDir: c.dir, Cell: "acme", To: controlPlane{c}, Minute: minute,
		Scrape: []string{target.URL, "http://127.0.0.1:1/metrics"}, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
	wish := list("queue")
	c.SetWish("1.0.0", &wish)
	c.SetConsent(agreed(time.Nanosecond, "queue"))
	c.eventually("the value arrived", func() bool { return c.last("queue") == 4 })
}

// Of a file that a crash left in two states, the later one counts.
func TestLaterStateCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, exporter.FolderName), 0o700); err != nil {
		t.Fatal(err)
	}
	const files = 40
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for i := range files {
		at := noon.Add(time.Duration(i) * time.Minute)
		name := filepath.Join(dir, exporter.FolderName, at.Format("20060102T150405Z"))
		later := name + ".jsonl.zst"
		if i%2 == 1 {
			later = name + ".gone"
		}
		if err := errors.Join(os.WriteFile(name+".jsonl", nil, 0o600), os.WriteFile(later, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := exporter.List(dir)
	isHeld := func(f exporter.File) bool { return f.Held }
	if err != nil || len(waiting) != files/2 || slices.ContainsFunc(waiting, isHeld) {
		t.Errorf("%+v (%v)", waiting, err)
	}
}
