package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func list() export.List {
	return export.List{
		Metrics: []export.Metric{
			{Name: "requests", Type: export.Counter, Labels: map[string]export.Use{
				"method": {As: export.Enum, Values: []string{"GET", "POST"}}, "user": {As: export.Hash},
				"pod": {As: export.Drop}}},
			{Name: "queue", Type: export.Gauge},
			{Name: "rare", Type: export.Gauge, Every: 5 * time.Minute},
			{Name: "seconds", Type: export.Histogram},
		},
		Events: []export.Event{{Kind: "login.failed", Fields: map[string]export.Use{"tries": {As: export.Number},
			"agent": {As: export.Text}, "release": {As: export.Version},
			"way":  {As: export.Enum, Values: []string{"sso"}},
			"user": {As: export.Hash}}}},
	}
}

func newAggregate() *telemetry.Aggregate {
	return telemetry.NewAggregate(telemetry.Compile(list(), []byte("key of this cell")), start)
}

// text returns lines as JSON without their times, and without what hashes to chance.
func text(t *testing.T, lines []telemetry.Line) string {
	t.Helper()
	var b strings.Builder
	for _, l := range lines {
		if l.Metric == telemetry.DroppedMetric {
			fmt.Fprintf(&b, "dropped %s %v\n", l.Labels["reason"], *l.Value)
			continue
		}
		l.At, l.Since = start, time.Time{}
		line, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := telemetry.ParseLine(line); err != nil {
			t.Errorf("a receiver refuses %s: %v", line, err)
		}
		b.WriteString(strings.TrimPrefix(string(line), `{"at":"2026-11-30T12:00:00Z",`) + "\n")
	}
	return b.String()
}

func expect(t *testing.T, lines []telemetry.Line, want string) {
	t.Helper()
	if diff := cmp.Diff(want, text(t, lines)); diff != "" {
		t.Errorf("what leaves differs (-want +got):\n%s", diff)
	}
}

func attributes(pairs ...string) (all []*commonpb.KeyValue) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, &commonpb.KeyValue{Key: pairs[i], Value: stringValue(pairs[i+1])})
	}
	return all
}

func stringValue(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
}

func counter(name string, points ...*metricspb.NumberDataPoint) *metricspb.Metric {
	return &metricspb.Metric{Name: name, Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{IsMonotonic: true,
		AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
		DataPoints:             points}}}
}

func gauge(name string, value float64) *metricspb.Metric {
	return &metricspb.Metric{Name: name, Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{
		DataPoints: []*metricspb.NumberDataPoint{point(value)}}}}
}

// point returns a point of a program that started with the test.
func point(value float64, labels ...string) *metricspb.NumberDataPoint {
	return &metricspb.NumberDataPoint{Attributes: attributes(labels...), StartTimeUnixNano: uint64(start.UnixNano()),
		Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: value}}
}

func request(t *testing.T, resource string, all ...*metricspb.Metric) []byte {
	t.Helper()
	body, err := proto.Marshal(&metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource:     &resourcepb.Resource{Attributes: attributes("service.instance.id", resource)},
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: all}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func add(t *testing.T, a *telemetry.Aggregate, resource string, all ...*metricspb.Metric) {
	t.Helper()
	if err := a.AddOTLPMetrics(request(t, resource, all...), start); err != nil {
		t.Fatal(err)
	}
}

// Values outside an enum become other, labels that stay are added up, and what is not listed is counted only.
func TestOnlyTheListLeaves(t *testing.T) {
	a := newAggregate()
	add(t, a, "one", counter("requests", point(3, "method", "GET", "pod", "a"), point(4, "pod", "b", "method", "GET"),
		point(5, "method", "/secret/path")), gauge("secret", 1), gauge("requests", 1), gauge("queue", 7))
	expect(t, a.Collect(start.Add(time.Minute)), `"metric":"queue","type":"gauge","value":7}
"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":7}
"metric":"requests","type":"counter","labels":{"method":"other","user":"other"},"value":5}
dropped type 1
dropped unlisted 1
`)
	if lines := a.Collect(start.Add(2 * time.Minute)); len(lines) > 0 {
		t.Errorf("without news there leaves %v", lines)
	}
}

// A counter goes on over the restart of its program, and over a second program that measures the same.
func TestCountersGoOn(t *testing.T) {
	a := newAggregate()
	for _, value := range []float64{10, 12, 1, 4} { // it restarts before 1
		add(t, a, "one", counter("requests", point(value, "method", "GET")))
	}
	add(t, a, "two", counter("requests", point(100, "method", "GET")))
	expect(t, a.Collect(start.Add(time.Minute)),
		`"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":116}`+"\n")
	old := point(1000, "method", "GET")
	old.StartTimeUnixNano = uint64(start.Add(-time.Hour).UnixNano()) // counted before the agent began
	add(t, a, "three", counter("requests", old))
	old.Value = &metricspb.NumberDataPoint_AsInt{AsInt: 1001}
	add(t, a, "three", counter("requests", old))
	expect(t, a.Collect(start.Add(2*time.Minute)),
		`"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":117}`+"\n")
}

func histogram(temporality metricspb.AggregationTemporality, bounds []float64, buckets ...uint64) *metricspb.Metric {
	var count uint64
	for _, n := range buckets {
		count += n
	}
	sum := float64(count)
	return &metricspb.Metric{Name: "seconds", Data: &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{
		AggregationTemporality: temporality, DataPoints: []*metricspb.HistogramDataPoint{{
			StartTimeUnixNano: uint64(start.UnixNano()), Count: count, Sum: &sum, ExplicitBounds: bounds,
			BucketCounts: buckets, Exemplars: []*metricspb.Exemplar{{TraceId: []byte("secret trace id!")}}}}}}}
}

func TestHistograms(t *testing.T) {
	const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	const delta = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	a := newAggregate()
	add(t, a, "one", histogram(cumulative, []float64{1, 2}, 1, 0, 2))
	add(t, a, "one", histogram(cumulative, []float64{1, 2}, 1, 1, 4))
	add(t, a, "two", histogram(delta, []float64{1, 2}, 5, 0, 0))
	expect(t, a.Collect(start.Add(time.Minute)),
		`"metric":"seconds","type":"histogram","count":11,"sum":11,"bounds":[1,2],"buckets":[6,1,4]}`+"\n")
	add(t, a, "one", histogram(cumulative, []float64{1, 1}, 1, 1, 4), histogram(cumulative, []float64{1}, 1, 1, 4),
		histogram(0, []float64{1}, 1, 1))
	add(t, a, "one", histogram(cumulative, []float64{9}, 1, 1)) // another program has other bounds
	later := start.Add(3 * time.Minute)                         // and now the first one is gone
	if err := a.AddOTLPMetrics(request(t, "one", histogram(cumulative, []float64{9}, 1, 2)), later); err != nil {
		t.Fatal(err)
	}
	expect(t, a.Collect(later), `"metric":"seconds","type":"histogram","count":1,"sum":1,"bounds":[9],"buckets":[0,1]}`+
		"\ndropped bounds 1\ndropped malformed 2\ndropped temporality 1\n")
	without := newAggregate()
	add(t, without, "one", histogram(delta, nil, 3)) // without bounds, as OpenTelemetry has it
	if err := without.AddPrometheus(1, strings.NewReader("# TYPE seconds histogram\nseconds_bucket{le=\"+Inf\"} 3\n"+
		"seconds_sum 1\nseconds_count 3\n"), start, start); err != nil {
		t.Fatal(err)
	}
	expect(t, without.Collect(later), `"metric":"seconds","type":"histogram","count":6,"sum":4,"buckets":[6]}`+"\n")
}

// What a producer counted before it was agreed to does not leave.
func TestCountsFromTheRulesOn(t *testing.T) {
	a := newAggregate()
	agreed := start.Add(5 * time.Minute)
	a.SetRules(telemetry.Compile(list(), nil), agreed)
	for i, value := range []float64{1_000_000, 1_000_003} {
		at := agreed.Add(time.Duration(i) * time.Second)
		body := request(t, "one", counter("requests", point(value, "method", "GET")))
		if err := a.AddOTLPMetrics(body, at); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("# TYPE requests counter\nrequests{method=\"POST\"} %v\n", value)
		if err := a.AddPrometheus(1, strings.NewReader(text), at.Add(-time.Minute), at); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, a.Collect(agreed.Add(time.Minute)),
		`"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":3}
"metric":"requests","type":"counter","labels":{"method":"POST","user":"other"},"value":3}
`)
}

// Samples that are finite make no total that is not.
func TestTotalsStayFinite(t *testing.T) {
	a := newAggregate()
	m := counter("requests", point(1.7e308, "method", "GET"))
	m.GetSum().AggregationTemporality = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
	add(t, a, "one", m, m)
	expect(t, a.Collect(start.Add(time.Minute)),
		`"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":1.7e+308}`+
			"\ndropped number 1\n")
}

func TestNumbersThatAreNone(t *testing.T) {
	a := newAggregate()
	none := gauge("queue", 1)
	none.GetGauge().DataPoints[0].Flags = 1 // no recorded value
	add(t, a, "one", gauge("queue", math.NaN()), gauge("queue", math.Inf(1)), none,
		&metricspb.Metric{Name: "requests", Data: &metricspb.Metric_Summary{Summary: &metricspb.Summary{}}},
		&metricspb.Metric{Name: "queue", Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{
			AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA,
			DataPoints:             []*metricspb.NumberDataPoint{point(1)}}}})
	expect(t, a.Collect(start.Add(time.Minute)), "dropped number 2\ndropped temporality 1\ndropped type 1\n")
}

func TestEverySoOften(t *testing.T) {
	a := newAggregate()
	var when []int
	for minute := 1; minute <= 11; minute++ {
		add(t, a, "one", gauge("rare", float64(minute)))
		for range a.Collect(start.Add(time.Duration(minute) * time.Minute)) {
			when = append(when, minute)
		}
	}
	if !slices.Equal(when, []int{5, 10}) {
		t.Errorf("a series of every 5 minutes left in the minutes %v", when)
	}
	expect(t, a.CollectLast(start.Add(12*time.Minute)), `"metric":"rare","type":"gauge","value":11}`+"\n")
}

// Only so many series are kept, and one that nothing measures any more makes room.
func TestTooManySeries(t *testing.T) {
	a := newAggregate()
	var points []*metricspb.NumberDataPoint
	for i := range telemetry.MaxSeries + 100 {
		points = append(points, point(1, "user", fmt.Sprint(i)))
	}
	add(t, a, "one", counter("requests", points...))
	lines := a.Collect(start.Add(time.Minute))
	if n := len(lines); n != telemetry.MaxSeries+1 || *lines[n-1].Value != 100 {
		t.Errorf("%d lines leave, the last is %+v", n, lines[n-1])
	}
	a.Collect(start.Add(2 * time.Hour))
	if err := a.AddOTLPMetrics(request(t, "one", counter("requests", point(1, "user", "new"))),
		start.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if lines := a.Collect(start.Add(2*time.Hour + time.Minute)); len(lines) != 1 {
		t.Errorf("after two hours there leave %d lines", len(lines))
	}
}

func record(kind string, more ...*commonpb.KeyValue) *logspb.LogRecord {
	return &logspb.LogRecord{EventName: kind, Body: stringValue("secret body"), TraceId: []byte("secret trace id!"),
		Attributes: more}
}

func addEvents(t *testing.T, a *telemetry.Aggregate, all ...*logspb.LogRecord) {
	t.Helper()
	body, err := proto.Marshal(&logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{
		ScopeLogs: []*logspb.ScopeLogs{{LogRecords: all}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.AddOTLPEvents(body, start); err != nil {
		t.Fatal(err)
	}
}

func TestEvents(t *testing.T) {
	a := newAggregate()
	tries := &commonpb.KeyValue{Key: "tries",
		Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: 3}}}
	addEvents(t, a,
		record("login.failed", append(attributes("agent", "curl/8.1", "release", "2026.11.3", "way", "sso", "secret",
			"x"), tries)...),
		record("login.failed", attributes("agent", "<script>", "release", "secret", "way", "secret", "tries",
			"secret")...),
		record("login.failed", attributes("agent", strings.Repeat("a", 81))...), record("other"), record(""))
	expect(t, a.Collect(start.Add(time.Minute)),
		`"event":"login.failed","fields":{"agent":"curl/8.1","release":"2026.11.3","tries":3,"way":"sso"}}
"event":"login.failed","fields":{"way":"other"}}
"event":"login.failed"}
dropped unlisted 2
`)
	for range 1100 {
		addEvents(t, a, record("login.failed"))
	}
	if lines := a.Collect(start.Add(2 * time.Minute)); len(lines) != 1000+2 {
		t.Errorf("%d lines leave after 1,100 events", len(lines))
	}
}

const scrape = `# HELP requests Requests of a user with a secret.
# TYPE requests counter
requests{method="GET",pod="a"} 10
requests{method="secret"} 2
# TYPE queue gauge
queue 3
# TYPE seconds histogram
seconds_bucket{le="1"} 1
seconds_bucket{le="+Inf"} 3
seconds_sum 4.5
seconds_count 3
# TYPE secret gauge
secret{password="hunter2"} 1
`

func TestPrometheus(t *testing.T) {
	a := newAggregate()
	if err := a.AddPrometheus(1, strings.NewReader(scrape), time.Time{}, start); err != nil {
		t.Fatal(err)
	}
	next := strings.NewReplacer("} 10", "} 15", `le="+Inf"} 3`, `le="+Inf"} 5`, "count 3", "count 5", "4.5", "6.5",
		"# TYPE queue", `requests{method="POST"} 2`+"\n# TYPE queue").Replace(scrape)
	if err := a.AddPrometheus(1, strings.NewReader(next), start, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	expect(t, a.Collect(start.Add(time.Minute)), `"metric":"queue","type":"gauge","value":3}
"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":5}
"metric":"requests","type":"counter","labels":{"method":"POST","user":"other"},"value":2}
"metric":"requests","type":"counter","labels":{"method":"other","user":"other"},"value":0}
"metric":"seconds","type":"histogram","count":2,"sum":2,"bounds":[1],"buckets":[0,2]}
dropped unlisted 2
`)
	for name, text := range map[string]string{
		"no metrics": "queue is long\n", "an endless line": "queue " + strings.Repeat("1", 1<<20) + "\n",
		"an open brace": `queue{a="b` + "\n",
	} {
		if err := a.AddPrometheus(1, strings.NewReader(text), start, start); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Of ten thousand secrets in every place where a program can put one, none leaves, and neither does a key or a name
// that the list has not (E2).
func TestE2Canaries(t *testing.T) {
	const canaries = 10_000
	a := newAggregate()
	for i := range canaries / 10 {
		c := func(n int) string { return fmt.Sprintf("canary%d", i*10+n) }
		p := point(1, "method", c(0), "user", c(1), c(2), "GET", "pod", c(3))
		p.Exemplars = []*metricspb.Exemplar{{FilteredAttributes: attributes("user", c(4)), TraceId: []byte(c(5))}}
		m := counter("requests", p)
		m.Description, m.Unit = c(6), c(6)
		add(t, a, c(7), m, gauge(c(8), 1))
		addEvents(t, a, record("login.failed", attributes("way", c(9), "user", c(9), "release", c(9), "tries", c(9),
			c(9), "1")...),
			record(c(9)))
		if err := a.AddPrometheus(9, strings.NewReader(fmt.Sprintf(
			"# HELP requests %s\n# TYPE requests counter\nrequests{method=%q,%s=\"GET\"} 1\n%s 1\n", c(0), c(1), c(2),
			c(3))),
			start, start); err != nil {
			t.Fatal(err)
		}
	}
	lines := a.Collect(start.Add(time.Minute))
	leaves := text(t, lines)
	if i := strings.Index(leaves, "canary"); i >= 0 {
		t.Errorf("a secret leaves: …%.200s…", leaves[max(0, i-100):])
	}
	if len(lines) < 100 {
		t.Errorf("only %d lines leave", len(lines))
	}
	hashes := map[string]bool{}
	for _, l := range lines {
		if u := l.Labels["user"]; u != "" {
			hashes[u] = true
		}
	}
	if len(hashes) < canaries/10 {
		t.Errorf("a thousand users have %d hashes", len(hashes))
	}
}

// Whatever comes in, only names, keys and values of the list leave (E2), and nothing panics.
func FuzzOTLP(f *testing.F) {
	body, err := proto.Marshal(&metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{
			counter("requests", point(3, "method", "GET", "user", "ada")), gauge("queue", 7),
			histogram(metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA, []float64{1}, 1, 2)}}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, scrape)
	f.Fuzz(func(t *testing.T, body []byte, text string) {
		a := newAggregate()
		_ = a.AddOTLPMetrics(body, start)
		_ = a.AddOTLPEvents(body, start)
		_ = a.AddPrometheus(1, strings.NewReader(text), start, start)
		known := map[string][]string{"requests": {"method", "user"}, "queue": nil, "seconds": nil,
			telemetry.DroppedMetric: {"reason"}}
		for _, l := range a.Collect(start.Add(time.Minute)) {
			labels, ok := known[l.Metric]
			if l.Event == "" && !ok || l.Event != "" && l.Event != "login.failed" {
				t.Errorf("%+v leaves", l)
			}
			for name := range maps.Keys(l.Labels) {
				if !slices.Contains(labels, name) {
					t.Errorf("the label %q of %s leaves", name, l.Metric)
				}
			}
			if m := l.Labels["method"]; l.Metric == "requests" && m != "GET" && m != "POST" && m != telemetry.Other {
				t.Errorf("the method %q leaves", m)
			}
		}
	})
}

// A request of empty messages, two bytes each, stays small in memory.
func TestBomb(t *testing.T) {
	a := newAggregate()
	bomb := bytes.Repeat([]byte{0x0a, 0x00}, 1<<20) // empty data points
	metric := append([]byte{0x0a, 5}, "queue"...)
	metric = appendField(metric, 5, bomb)
	body := appendField(nil, 1, appendField(nil, 2, appendField(nil, 2, metric)))
	if err := a.AddOTLPMetrics(body, start); err != nil {
		t.Fatal(err)
	}
	expect(t, a.Collect(start.Add(time.Minute)),
		`"metric":"queue","type":"gauge","value":0}`+"\ndropped many 998576\n")
	deep := []byte{}
	for range 30_000 {
		deep = appendField(nil, 5, appendField(nil, 1, deep)) // ArrayValue of AnyValue of ArrayValue of …
		if len(deep) > 60<<10 {
			break
		}
	}
	p := appendField(nil, 7, appendField(appendField(nil, 1, []byte("pod")), 2, deep))
	metric = appendField(append([]byte{0x0a, 5}, "queue"...), 5, appendField(nil, 1, p))
	if err := a.AddOTLPMetrics(appendField(nil, 1, appendField(nil, 2, appendField(nil, 2, metric))),
		start); err != nil {
		t.Fatal(err)
	}
	expect(t, a.Collect(start.Add(2*time.Minute)), "dropped malformed 1\ndropped many 998576\n")
	for _, body := range []string{"\x0a", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "no protobuf"} {
		if err := a.AddOTLPMetrics([]byte(body), start); err == nil {
			t.Errorf("%q was taken", body)
		}
	}
}

func appendField(to []byte, number byte, content []byte) []byte {
	to = append(to, number<<3|2)
	for n := uint64(len(content)); ; n >>= 7 {
		if n < 0x80 {
			to = append(to, byte(n))
			break
		}
		to = append(to, byte(n)|0x80)
	}
	return append(to, content...)
}

func TestNewRulesBeginAnew(t *testing.T) {
	a := newAggregate()
	add(t, a, "one", gauge("queue", 1))
	addEvents(t, a, record("login.failed"))
	if !a.SetRules(telemetry.Compile(export.List{}, nil), start) {
		t.Error("nothing is lost by new rules")
	}
	add(t, a, "one", gauge("queue", 1))
	expect(t, a.Collect(start.Add(time.Minute)), "dropped unlisted 1\n")
}

func TestParseLine(t *testing.T) {
	for _, text := range []string{
		`{}`, `{"at":"2026-11-30T12:00:00Z"}`, `{"at":"2026-11-30T12:00:00Z","metric":"a","event":"b"}`,
		`{"at":"2026-11-30T12:00:00Z","metric":"a","type":"gauge"}`,
		`{"at":"2026-11-30T12:00:00Z","metric":"a","value":1}`,
		`{"at":"2026-11-30T12:00:00Z","metric":"a","type":"histogram","bounds":[1],"buckets":[1]}`,
		`{"at":"2026-11-30T12:00:00Z","metric":"a","type":"gauge","value":1,"more":2}`,
		`{"at":"2026-11-30T12:00:00Z","event":"a","fields":{"b":[{},{}]}}`,
		`{"at":"2026-11-30T12:00:00Z","event":"a","fields":{"b":{}}}`,
		`{"at":"2026-11-30T12:00:00Z","event":"a","fields":{"b":null}}`,
		`{"at":"2026-11-30T12:00:00Z","metric":"` + strings.Repeat("a", telemetry.MaxLine) +
			`","type":"gauge","value":1}`,
	} {
		if _, err := telemetry.ParseLine([]byte(text)); err == nil {
			t.Errorf("%.100s was taken", text)
		}
	}
}

// Points whose labels and times are odd do no harm: of labels with one name the first counts, what can't be read is
// counted, and a start in 1970 counts nothing from before.
func TestOddPoints(t *testing.T) {
	a := newAggregate()
	ancient := point(5, "method", "POST")
	ancient.StartTimeUnixNano = 1
	body := request(t, "one", counter("requests", point(1, "method", "GET", "method", "POST"), ancient,
		point(2, "method", strings.Repeat("a", 1<<20)), point(3, "method", "POST", "user", "no UTF-8")))
	body = bytes.Replace(body, []byte("no UTF-8"), []byte("\xff\xfe\xff\xfe\xff\xfe\xff\xfe"), 1)
	if err := a.AddOTLPMetrics(body, start); err != nil {
		t.Fatal(err)
	}
	expect(t, a.Collect(start.Add(time.Minute)),
		`"metric":"requests","type":"counter","labels":{"method":"GET","user":"other"},"value":1}
"metric":"requests","type":"counter","labels":{"method":"POST","user":"other"},"value":0}
dropped malformed 2
`)
}
