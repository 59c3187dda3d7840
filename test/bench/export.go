package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	exportMetrics = 50 // with 100 series each: as many as may leave a cell
	exportSeries  = 100
	exportMinutes = 30
	exportMemory  = 10 // MB
	// exportChild makes this command the process whose memory is measured.
	exportChild = "SLUICE_BENCH_EXPORT"
)

// exportedList lets all of the product's metrics leave, with one label of three.
func exportedList() (l export.List) {
	values := make([]string, 50)
	for i := range values {
		values[i] = fmt.Sprintf("route-%d", i)
	}
	for i := range exportMetrics {
		l.Metrics = append(l.Metrics, export.Metric{Name: fmt.Sprintf("product_requests_%d", i), Type: export.Counter,
			Labels: map[string]export.Use{"route": {As: export.Enum, Values: values},
				"class": {As: export.Enum, Values: []string{"small", "large"}}}})
	}
	return l
}

// exportedRequest is what a product sends of it in a minute.
func exportedRequest(minute int, now time.Time) ([]byte, error) {
	label := func(name, value string) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: name, Value: &commonpb.AnyValue{
			Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
	}
	classes := []string{"small", "large"}
	var all []*metricspb.Metric
	for i := range exportMetrics {
		sum := &metricspb.Sum{IsMonotonic: true,
			AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE}
		for j := range exportSeries {
			sum.DataPoints = append(sum.DataPoints, &metricspb.NumberDataPoint{
				StartTimeUnixNano: uint64(now.UnixNano()), TimeUnixNano: uint64(now.UnixNano()),
				Attributes: []*commonpb.KeyValue{label("route", fmt.Sprintf("route-%d", j/2)),
					label("class", classes[j%2]), label("instance", "web-7f9c")},
				Value: &metricspb.NumberDataPoint_AsInt{AsInt: int64(minute*1000 + i + j)}})
		}
		all = append(all, &metricspb.Metric{Name: fmt.Sprintf("product_requests_%d", i),
			Description: "Requests that the product answered", Data: &metricspb.Metric_Sum{Sum: sum}})
	}
	return proto.Marshal(&metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{
		ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: all}}}}})
}

// measureExport measures what exports cost an agent: a minute of 5,000 series from the program's request to the lines
// that may leave, beside bare decoding and encoding of the same request; and the memory that all of it takes.
func measureExport(ctx context.Context, dir string) ([]figures.Row, error) {
	now := time.Now().Truncate(time.Minute)
	requests := make([][]byte, exportMinutes)
	for i := range requests {
		var err error
		if requests[i], err = exportedRequest(i, now); err != nil {
			return nil, err
		}
	}
	aggregate := telemetry.NewAggregate(telemetry.Compile(exportedList(), []byte("key")), now.Add(-time.Hour))
	bare, ours := make([]time.Duration, exportMinutes), make([]time.Duration, exportMinutes)
	for i, request := range requests { // in turn, so that what disturbs disturbs both
		begin := time.Now()
		var m metricspb.MetricsData
		if err := proto.Unmarshal(request, &m); err != nil {
			return nil, err
		}
		if _, err := proto.Marshal(&m); err != nil {
			return nil, err
		}
		bare[i] = time.Since(begin)
		begin = time.Now()
		minute := now.Add(time.Duration(i) * time.Minute)
		if err := aggregate.AddOTLPMetrics(request, minute); err != nil {
			return nil, err
		}
		lines := 0
		var text []byte
		for _, l := range aggregate.Collect(minute) {
			var err error
			if text, err = l.Append(text[:0]); err != nil {
				return nil, err
			}
			lines++
		}
		ours[i] = time.Since(begin)
		if lines != exportMetrics*exportSeries {
			return nil, fmt.Errorf("%d lines leave in minute %d, not %d", lines, i, exportMetrics*exportSeries)
		}
	}
	rate := func(all []time.Duration) float64 {
		return exportMetrics * exportSeries / figures.Median(all).Seconds()
	}
	settled, before, err := exportsMemory(ctx, dir)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.RateRow("points decoded, filtered, encoded as lines", rate(ours), "bare proto", rate(bare), 0.5),
		{What: "memory that 5,000 series of exports add to an agent", Got: fmt.Sprintf("%.1f MB", settled),
			Base:  fmt.Sprintf("limit %d MB; %.1f with garbage", exportMemory, before),
			Ratio: settled / exportMemory, Limit: 1},
	}, nil
}

// exportsMemory returns the memory that exports add to a process, in MB, as a process of its own measures it: what is
// kept, and what there is with the garbage of the last minute.
func exportsMemory(ctx context.Context, dir string) (settled, before float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	c := exec.CommandContext(ctx, self)
	c.Env = append(os.Environ(), exportChild+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err == nil {
		_, err = fmt.Sscan(string(out), &settled, &before)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("measure the memory of exports: %w", err)
	}
	return settled, before, nil
}

// runExportChild exports for three minutes of a tenth of a second, and prints by how much the memory grew.
func runExportChild(ctx context.Context, dir string) error {
	debug.SetGCPercent(50) // as the agent does
	requests := make([][]byte, 3)
	var err error
	for i := range requests {
		if requests[i], err = exportedRequest(i, time.Now()); err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	before, err := residentMemory(os.Getpid())
	if err != nil {
		return err
	}
	list := exportedList()
	e := exporter.Open(exporter.Options{StateDir: dir, Cell: "acme", To: away{}, Log: zerolog.Nop(),
		Minute: 100 * time.Millisecond})
	e.SetConsent(&cells.ExportConsent{Allowed: list})
	e.SetWish("1.0.0", &list)
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx)
	}()
	for waiting := 0; waiting < len(requests); { // once the consent is kept, each request becomes a file
		err := postExport(e, requests[waiting])
		if err == nil {
			time.Sleep(100 * time.Millisecond)
			var files []exporter.File
			files, err = exporter.List(dir)
			waiting = len(files)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			stop()
			return err
		}
	}
	garbage, err := residentMemory(os.Getpid())
	if err == nil {
		debug.FreeOSMemory()
		var settled float64
		if settled, err = residentMemory(os.Getpid()); err == nil {
			fmt.Println(settled-before, garbage-before)
		}
	}
	stop()
	<-ended
	return err
}

func postExport(e *exporter.Exporter, body []byte) error {
	r := httptest.NewRequest(http.MethodPost, "/v1/metrics", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return fmt.Errorf("the exporter answers %d: %s", w.Code, w.Body)
	}
	return nil
}

// away is a control plane that can't be reached.
type away struct{}

func (away) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
