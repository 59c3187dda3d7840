package exports

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	sendTimeout = 20 * time.Second
	eventsPath  = "/v1/logs"
)

// OTLP is an endpoint that takes OTLP over HTTP, as protobuf.
type OTLP struct {
	base   string
	client *http.Client
	log    zerolog.Logger
}

// NewOTLP returns the endpoint at an address, below which there are v1/metrics and v1/logs.
func NewOTLP(address string, log zerolog.Logger) (*OTLP, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%.200q is no OTLP endpoint: it must be such as https://collector.example:4318", address)
	}
	return &OTLP{base: strings.TrimSuffix(u.String(), "/"), log: log, client: &http.Client{Timeout: sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Send implements Sink. What the endpoint refuses for good is logged and counts as sent: it would hold up all that
// comes after.
func (o *OTLP) Send(ctx context.Context, cell string, lines []telemetry.Line) error {
	metrics, events := encode(cell, lines)
	if err := o.post(ctx, cell, "/v1/metrics", metrics); err != nil {
		return err
	}
	return o.post(ctx, cell, eventsPath, events)
}

func (o *OTLP) post(ctx context.Context, cell, path string, message proto.Message) error {
	body, err := proto.Marshal(message)
	if err != nil || len(body) == 0 {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)) // so that the connection can be used again
	switch status := response.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge,
		path == eventsPath && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed ||
			status == http.StatusNotImplemented): // an endpoint for metrics alone
		o.log.Error().Str("cell", cell).Int("status", status).Msg("the OTLP endpoint refuses what a cell exported")
		return nil
	}
	return fmt.Errorf("the OTLP endpoint answered %s", response.Status)
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
