package exports

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	sendTimeout = 20 * time.Second
	eventsPath  = "/v1/logs"
)

// OTLP is an endpoint that takes OTLP over HTTP, as protobuf.
type OTLP struct {
	base   string
	header http.Header // of each request
	client *http.Client
	log    zerolog.Logger

	mu       sync.Mutex
	half     map[string][sha256.Size]byte // by cell: metrics that the endpoint has, of a batch whose events it has not
	rejected int64                        // points and records that the endpoint left out, since it was logged
	logged   time.Time                    // when it was
}

// HeadersVariable is the environment variable with headers for an endpoint, as OpenTelemetry defines it.
const HeadersVariable = "OTEL_EXPORTER_OTLP_HEADERS"

// NewOTLP returns the endpoint at an address, below which there are v1/metrics and v1/logs. headers is what
// HeadersVariable has: NAME=VALUE,… with values that are escaped as in URLs.
func NewOTLP(address, headers string, log zerolog.Logger) (*OTLP, error) {
	u, err := url.Parse(address)
	switch {
	case err == nil && (u.User != nil || u.RawQuery != ""):
		return nil, fmt.Errorf("is seen by all on this machine, so it may have no credentials and no query: put a "+
			"header such as Authorization=Bearer%%20TOKEN into $%s", HeadersVariable)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%.200q is no OTLP endpoint: it must be such as https://collector.example:4318", address)
	case u.Scheme == "http" && !identity.IsLocalHost(u.Hostname()):
		return nil, fmt.Errorf("%.200q would send what customers' cells export unencrypted over the network: it must "+
			"begin with https://, unless it is on this machine", address)
	}
	o := &OTLP{base: strings.TrimSuffix(u.String(), "/"), header: http.Header{}, log: log,
		half: map[string][sha256.Size]byte{}, client: &http.Client{Timeout: sendTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	for pair := range strings.SplitSeq(headers, ",") {
		name, escaped, found := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		switch name = strings.TrimSpace(name); {
		case !found && name == "":
		case err != nil || !found || !isHeaderName(name) || strings.ContainsFunc(value, unicode.IsControl):
			return nil, fmt.Errorf("can't be used with $%s: it must be such as Authorization=Bearer%%20TOKEN",
				HeadersVariable)
		default:
			o.header.Set(name, value)
		}
	}
	o.header.Set("Content-Type", "application/x-protobuf")
	return o, nil
}

func isHeaderName(name string) bool {
	return name != "" && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// Send implements Sink. What the endpoint refuses for good is logged and counts as sent: it would hold up all that
// comes after. Metrics that the endpoint took are not sent again because their batch's events failed.
func (o *OTLP) Send(ctx context.Context, cell string, lines []telemetry.Line) error {
	metrics, events := encode(cell, lines)
	first, err := proto.MarshalOptions{Deterministic: true}.Marshal(metrics)
	if err != nil {
		return err
	}
	second, err := proto.Marshal(events)
	if err != nil {
		return err
	}
	if !o.hasHalf(cell, first) {
		if err := o.post(ctx, cell, "/v1/metrics", first); err != nil {
			return err
		}
	}
	err = o.post(ctx, cell, eventsPath, second)
	o.mu.Lock()
	defer o.mu.Unlock()
	if delete(o.half, cell); err != nil {
		o.half[cell] = sha256.Sum256(first)
	}
	return err
}

func (o *OTLP) hasHalf(cell string, metrics []byte) bool {
	o.mu.Lock()
	has, ok := o.half[cell]
	o.mu.Unlock()
	return ok && has == sha256.Sum256(metrics)
}

func (o *OTLP) post(ctx context.Context, cell, path string, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = o.header.Clone()
	response, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	// All of it is read, so that the connection can be used again.
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20)) // what can't be read says nothing of a refusal
	switch status := response.StatusCode; {
	case status/100 == 2:
		if n, why := telemetry.ReadPartialSuccess(answer); n > 0 {
			o.noteRejected(cell, n, words.Clip(why, maxWhy), time.Now())
		}
		return nil
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge,
		path == eventsPath && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed ||
			status == http.StatusNotImplemented): // an endpoint for metrics alone
		o.log.Error().Str("cell", cell).Int("status", status).Msg("the OTLP endpoint refuses what a cell exported")
		return nil
	}
	return fmt.Errorf("the OTLP endpoint answered %s", response.Status)
}

const rejectedAgain = time.Minute // between two logs that an endpoint left something out

// noteRejected logs that an endpoint took a part only, at most once a minute. It must not be sent again, says OTLP.
func (o *OTLP) noteRejected(cell string, n int64, why string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rejected += n; now.Sub(o.logged) < rejectedAgain {
		return
	}
	o.log.Error().Str("cell", cell).Int64("rejected", o.rejected).Str("why", why).
		Msg("the OTLP endpoint left out points or events of what cells exported; this is the newest of them")
	o.rejected, o.logged = 0, now
}

// encode returns the metrics and the events of a cell's lines; empty messages if there are none.
func encode(cell string, lines []telemetry.Line) (*metricspb.MetricsData, *logspb.LogsData) {
	resource := &resourcepb.Resource{Attributes: []*commonpb.KeyValue{attribute("sluice.cell", cell)}}
	byName := map[string]*metricspb.Metric{}
	var metrics []*metricspb.Metric
	var records []*logspb.LogRecord
	for _, l := range lines {
		if l.Event != "" {
			records = append(records, encodeEvent(l))
			continue
		}
		m := byName[l.Metric]
		if m == nil {
			m = newMetric(l)
			byName[l.Metric] = m
			metrics = append(metrics, m)
		}
		addPoint(m, l)
	}
	m, e := &metricspb.MetricsData{}, &logspb.LogsData{}
	if len(metrics) > 0 {
		m.ResourceMetrics = []*metricspb.ResourceMetrics{{Resource: resource,
			ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: metrics}}}}
	}
	if len(records) > 0 {
		e.ResourceLogs = []*logspb.ResourceLogs{{Resource: resource,
			ScopeLogs: []*logspb.ScopeLogs{{LogRecords: records}}}}
	}
	return m, e
}

func newMetric(l telemetry.Line) *metricspb.Metric {
	const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	m := &metricspb.Metric{Name: l.Metric}
	switch l.Type {
	case export.Counter:
		m.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{IsMonotonic: true, AggregationTemporality: cumulative}}
	case export.Histogram:
		m.Data = &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{AggregationTemporality: cumulative}}
	default:
		m.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{}}
	}
	return m
}

// addPoint adds the line's point to its metric. A line of another type than the metric's first has no place there.
func addPoint(m *metricspb.Metric, l telemetry.Line) {
	labels := make([]*commonpb.KeyValue, 0, len(l.Labels))
	for _, name := range slices.Sorted(maps.Keys(l.Labels)) {
		labels = append(labels, attribute(name, l.Labels[name]))
	}
	at, since := uint64(l.At.UnixNano()), uint64(0)
	if !l.Since.IsZero() {
		since = uint64(l.Since.UnixNano())
	}
	if data, ok := m.Data.(*metricspb.Metric_Histogram); ok && l.Type == export.Histogram {
		sum := l.Sum
		data.Histogram.DataPoints = append(data.Histogram.DataPoints, &metricspb.HistogramDataPoint{Attributes: labels,
			TimeUnixNano: at, StartTimeUnixNano: since, Count: l.Count, Sum: &sum, ExplicitBounds: l.Bounds,
			BucketCounts: l.Buckets})
		return
	}
	if l.Value == nil {
		return
	}
	point := &metricspb.NumberDataPoint{Attributes: labels, TimeUnixNano: at, StartTimeUnixNano: since,
		Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: *l.Value}}
	switch data := m.Data.(type) {
	case *metricspb.Metric_Sum:
		data.Sum.DataPoints = append(data.Sum.DataPoints, point)
	case *metricspb.Metric_Gauge:
		data.Gauge.DataPoints = append(data.Gauge.DataPoints, point)
	}
}

func encodeEvent(l telemetry.Line) *logspb.LogRecord {
	r := &logspb.LogRecord{TimeUnixNano: uint64(l.At.UnixNano()), EventName: l.Event}
	for _, name := range slices.Sorted(maps.Keys(l.Fields)) {
		switch v := l.Fields[name].Value.(type) {
		case string:
			r.Attributes = append(r.Attributes, attribute(name, v))
		case float64:
			r.Attributes = append(r.Attributes, &commonpb.KeyValue{Key: name,
				Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}})
		}
	}
	return r
}

func attribute(name, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: name, Value: &commonpb.AnyValue{
		Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}
