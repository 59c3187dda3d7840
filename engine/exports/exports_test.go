package exports_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// batch returns a batch as it is sent, and its hash.
func batch(t *testing.T, h cells.ExportHeader, lines ...string) (body []byte, hash string) {
	t.Helper()
	content := []byte(strings.Join(lines, ""))
	if h.Content == "" {
		h.Content = string(releases.DigestBytes(content))
	}
	header, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return pack(t, string(header)+"\n"+string(content)), string(releases.DigestBytes(header))
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll([]byte(text), nil)
}

func gauge(name string, value float64) string {
	l := telemetry.Line{At: start, Metric: name, Type: export.Gauge, Value: &value}
	text, _ := json.Marshal(l)
	return string(text) + "\n"
}

func newKeeper(t *testing.T, sink exports.Sink) *exports.Keeper {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return exports.New(st.Records(), sink)
}

func take(t *testing.T, k *exports.Keeper, body []byte) cells.ExportReceipt {
	t.Helper()
	b, err := exports.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Take(t.Context(), b, 1, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Only the batch that follows is taken (E5): not the same again, not one that skips one, not one of another chain.
func TestE5Chain(t *testing.T) {
	k := newKeeper(t, nil)
	first, h1 := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start}, gauge("queue", 1))
	second, h2 := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 2, Previous: h1, At: start,
		Gap: &cells.ExportGap{From: start, To: start, Why: "the owner removed it"}}, gauge("queue", 2))
	other, _ := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 2, Previous: "sha256:other", At: start},
		gauge("queue", 9))
	foreign, h3 := batch(t, cells.ExportHeader{Cell: "globex", Sequence: 1, At: start}, gauge("queue", 3))
	for i, step := range []struct {
		body     []byte
		sequence int64
		hash     string
	}{{second, 0, ""}, {first, 1, h1}, {first, 1, h1}, {other, 1, h1}, {second, 2, h2}, {first, 2, h2},
		{foreign, 1, h3}} {
		if got := take(t, k, step.body); got != (cells.ExportReceipt{Sequence: step.sequence, Hash: step.hash}) {
			t.Errorf("step %d: the receipt is %+v", i, got)
		}
	}
	s, err := k.Load(t.Context(), "acme")
	if err != nil || len(s.Values) != 1 || *s.Values[0].Value != 2 || len(s.Gaps) != 1 {
		t.Errorf("kept is %+v (%v)", s, err)
	}
	if s, err := k.Load(t.Context(), "nobody"); err != nil || s.Sequence != 0 {
		t.Errorf("of a cell that exported nothing: %+v (%v)", s, err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := cells.ExportHeader{Cell: "acme", Sequence: 1, At: start}
	wrong, _ := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start, Content: "sha256:00"}, gauge("a", 1))
	zero, _ := batch(t, cells.ExportHeader{Cell: "acme", At: start}, gauge("a", 1))
	line, _ := batch(t, good, gauge("a", 1), "{}\n")
	many, _ := batch(t, good, strings.Repeat(gauge("a", 1), 20_001))
	why, _ := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start,
		Gap: &cells.ExportGap{From: start, To: start, Why: strings.Repeat("é", 201)}}, gauge("a", 1))
	for name, body := range map[string][]byte{
		"no zstd": []byte("no"), "nothing": nil, "no header": pack(t, "no\n"),
		"an unknown field": pack(t, `{"cell":"a","x":1}`),
		"other lines":      wrong, "no sequence": zero, "a bad line": line, "too many lines": many,
		"a gap with a long reason": why,
		"a bomb":                   pack(t, strings.Repeat("a", cells.MaxExportedText+1)),
		"a long header":            pack(t, `{"cell":"`+strings.Repeat("a", 1<<17)+"\"}\n"),
	} {
		if _, err := exports.Parse(body); !errors.Is(err, exports.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The last values of a cell stay within a record, and what there was no room for is counted.
func TestValuesAreBounded(t *testing.T) {
	k := newKeeper(t, nil)
	var lines []string
	for i := range 5000 {
		lines = append(lines, gauge(fmt.Sprintf("metric_with_a_long_name_%05d", i), 1))
	}
	body, h1 := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start}, lines...)
	take(t, k, body)
	body, _ = batch(t, cells.ExportHeader{Cell: "acme", Sequence: 2, Previous: h1, At: start}, lines[0])
	take(t, k, body)
	s, err := k.Load(t.Context(), "acme")
	if err != nil || len(s.Values) < 100 || s.Left < 0 {
		t.Errorf("%d values are kept, %d are not (%v)", len(s.Values), s.Left, err)
	}
}

// endpoint is an OTLP endpoint that answers with a status.
type endpoint struct {
	status   atomic.Int32
	noEvents atomic.Bool  // it is down for events alone
	answer   atomic.Value // of what it takes, as bytes
	headers  http.Header  // of the last request
	log      bytes.Buffer
	metrics  chan *metricspb.MetricsData
	events   chan *logspb.LogsData
}

func newEndpoint(t *testing.T) (*endpoint, *exports.OTLP) {
	e := &endpoint{metrics: make(chan *metricspb.MetricsData, 10), events: make(chan *logspb.LogsData, 10)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.headers = r.Header
		if status := int(e.status.Load()); status != 0 {
			http.Error(w, "no", status)
			return
		}
		if e.noEvents.Load() && r.URL.Path == "/base/v1/logs" {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		if answer, ok := e.answer.Load().([]byte); ok {
			_, _ = w.Write(answer)
		}
		var m metricspb.MetricsData
		var l logspb.LogsData
		switch {
		case r.Header.Get("Content-Type") != "application/x-protobuf":
			http.Error(w, "no protobuf", http.StatusUnsupportedMediaType)
		case r.URL.Path == "/base/v1/metrics" && proto.Unmarshal(body, &m) == nil:
			e.metrics <- &m
		case r.URL.Path == "/base/v1/logs" && proto.Unmarshal(body, &l) == nil:
			e.events <- &l
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	sink, err := exports.NewOTLP(server.URL+"/base/", "Authorization=Basic%20YTpi, x-tenant=one", zerolog.New(&e.log))
	if err != nil {
		t.Fatal(err)
	}
	return e, sink
}

func TestOTLP(t *testing.T) {
	e, sink := newEndpoint(t)
	k := newKeeper(t, sink)
	body, _ := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start}, gauge("queue", 1),
		`{"at":"2026-11-30T12:00:00Z","metric":"requests","type":"counter","labels":{"method":"GET"},"value":3,"since":"2026-11-30T11:00:00Z"}`+"\n",
		`{"at":"2026-11-30T12:00:00Z","metric":"requests","type":"counter","labels":{"method":"PUT"},"value":4}`+"\n",
		`{"at":"2026-11-30T12:00:00Z","metric":"seconds","type":"histogram","count":3,"sum":4.5,"bounds":[1],"buckets":[1,2]}`+"\n",
		`{"at":"2026-11-30T12:00:00Z","metric":"queue","type":"histogram","count":3,"bounds":[1],"buckets":[1,2]}`+"\n",
		`{"at":"2026-11-30T12:00:00Z","event":"login.failed","fields":{"tries":3,"way":"sso"}}`+"\n")
	e.status.Store(http.StatusServiceUnavailable)
	b, err := exports.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Take(t.Context(), b, 1, start); err == nil {
		t.Error("a batch was taken while the endpoint was down")
	}
	if s, err := k.Load(t.Context(), "acme"); err != nil || s.Sequence != 0 {
		t.Errorf("kept is %+v (%v)", s, err)
	}
	e.status.Store(0)
	take(t, k, body)
	m, l := <-e.metrics, <-e.events
	resource := m.ResourceMetrics[0]
	if a := resource.Resource.Attributes[0]; a.Key != "sluice.cell" || a.Value.GetStringValue() != "acme" {
		t.Errorf("the resource is %v", resource.Resource)
	}
	var names []string
	for _, metric := range resource.ScopeMetrics[0].Metrics {
		names = append(names, fmt.Sprint(metric.Name, " ", len(metric.GetSum().GetDataPoints()),
			len(metric.GetGauge().GetDataPoints()), len(metric.GetHistogram().GetDataPoints())))
	}
	if got := strings.Join(names, ", "); got != "queue 0 1 0, requests 2 0 0, seconds 0 0 1" {
		t.Errorf("the metrics are %s", got)
	}
	if h := e.headers; h.Get("Authorization") != "Basic YTpi" || h.Get("X-Tenant") != "one" {
		t.Errorf("the headers are %v", h)
	}
	if r := l.ResourceLogs[0].ScopeLogs[0].LogRecords[0]; r.EventName != "login.failed" || len(r.Attributes) != 2 {
		t.Errorf("the event is %v", r)
	}
	e.status.Store(http.StatusBadRequest) // for good: it does not hold up the next
	if err := sink.Send(context.Background(), "acme", []telemetry.Line{{At: start, Event: "x"}}); err != nil {
		t.Error(err)
	}
}

// A batch of which the endpoint has the metrics, and not the events, goes on with the events.
func TestMetricsAreSentOnce(t *testing.T) {
	e, sink := newEndpoint(t)
	value := 1.0
	lines := []telemetry.Line{{At: start, Metric: "queue", Type: export.Gauge, Value: &value}, {At: start, Event: "x"}}
	e.noEvents.Store(true)
	for range 3 {
		if err := sink.Send(t.Context(), "acme", lines); err == nil {
			t.Fatal("events were sent to an endpoint that takes none now")
		}
	}
	if err := sink.Send(t.Context(), "globex", lines); err == nil || len(e.metrics) != 2 {
		t.Errorf("of two cells' metrics the endpoint has %d batches (%v)", len(e.metrics), err)
	}
	e.noEvents.Store(false)
	if err := sink.Send(t.Context(), "acme", lines); err != nil || len(e.metrics) != 2 || len(e.events) != 1 {
		t.Errorf("%d batches of metrics, %d of events (%v)", len(e.metrics), len(e.events), err)
	}
	if err := sink.Send(t.Context(), "acme", lines); err != nil || len(e.metrics) != 3 {
		t.Errorf("a whole batch that comes again: %d batches of metrics (%v)", len(e.metrics), err)
	}
}

// What an endpoint leaves out of a batch that it accepts is logged, once for many.
func TestPartialSuccessIsLogged(t *testing.T) {
	e, sink := newEndpoint(t)
	partial := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3)
	partial = protowire.AppendString(protowire.AppendTag(partial, 2, protowire.BytesType), "too old")
	for _, answer := range [][]byte{{}, []byte("<html>"), protowire.AppendBytes(
		protowire.AppendTag(nil, 1, protowire.BytesType), partial)} {
		e.answer.Store(answer)
		for range 2 {
			if err := sink.Send(t.Context(), "acme", []telemetry.Line{{At: start, Event: "x"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	text := e.log.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, `"rejected":3,"why":"too old"`) {
		t.Errorf("the log is %s", text)
	}
}

// Customers' data leaves this machine encrypted, and credentials are not on the command line.
func TestOTLPAddresses(t *testing.T) {
	for _, tt := range []struct{ address, headers, want string }{
		{"https://collector.example:4318", "", ""},
		{"http://localhost:4318/base", " Authorization=Basic%20YTpi , x-tenant=one,", ""},
		{"http://[::1]:4318", "", ""},
		{"collector:4318", "", "no OTLP endpoint"}, {"ftp://a", "", "no OTLP endpoint"}, {"", "", "no OTLP endpoint"},
		{"https://", "", "no OTLP endpoint"},
		{"http://collector.example:4318", "", "unencrypted"}, {"http://10.0.0.1:4318", "", "unencrypted"},
		{"https://user:pass@collector.example", "", "no credentials"},
		{"https://collector.example?token=pass", "", "no credentials"},
		{"https://collector.example", "Authorization", "can't be used"},
		{"https://collector.example", "=pass", "can't be used"},
		{"https://collector.example", "a b=pass", "can't be used"},
		{"https://collector.example", "a=pass%0d%0ab", "can't be used"},
		{"https://collector.example", "a=pass%", "can't be used"},
	} {
		switch _, err := exports.NewOTLP(tt.address, tt.headers, zerolog.Nop()); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.address, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) ||
			strings.Contains(err.Error(), "pass")):
			t.Errorf("%s, %s: %v", tt.address, tt.headers, err)
		}
	}
}
