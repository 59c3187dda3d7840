package test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// vendorsEndpoint is an OTLP endpoint that keeps what it is sent.
type vendorsEndpoint struct {
	mu       sync.Mutex
	received []byte
}

func (v *vendorsEndpoint) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.received = append(v.received, body...)
}

func (v *vendorsEndpoint) has(text string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return bytes.Contains(v.received, []byte(text))
}

const wishText = `apiVersion: sluice/v1
kind: Export
metrics:
  - {name: workspaces_running, type: gauge}
  - {name: sluice_agent_healthy, type: gauge}
  - name: starts
    type: counter
    labels: {class: {as: enum, values: [small, large]}}
`

// From a product's measurement to the vendor's endpoint: nothing leaves before the owner agreed, the owner reads what
// waits, it arrives byte for byte as far as it was agreed to, and off removes what waits (E1 to E3).
func TestE1ExportFromProductToVendor(t *testing.T) {
	endpoint := &vendorsEndpoint{}
	vendor := httptest.NewServer(endpoint)
	t.Cleanup(vendor.Close)
	w := newWorld(t, nil)
	w.server.args = append(w.server.args, "--otlp", vendor.URL)
	w.addAgent("eu-1", "--flags-listen", "unix://"+w.path("eu-1.f"))
	w.startAll()
	files := map[string]string{"releases/1.0.0/export.yaml": wishText}
	for name, data := range releaseFiles("1.0.0") {
		files[name] = string(data)
	}
	w.pushFiles("cut 1.0.0", files)
	w.awaitRelease("eu-1", "1.0.0")

	ctx, cancel := context.WithCancel(t.Context())
	var measuring sync.WaitGroup
	defer measuring.Wait()
	defer cancel()
	measuring.Go(func() { measureProduct(ctx, t, w.path("eu-1.f")) })

	state := w.path("cells", "eu-1", ".agent")
	export := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), os.Getenv(binaryVariable), //nolint:gosec // ours
			append(append([]string{"cell", "export"}, args...), "--state", state)...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("export %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	w.eventually(func() (string, bool) {
		text := export("list")
		return text, strings.Contains(text, "nothing leaves") &&
			strings.Contains(text, "metric starts, label class: the value large")
	})
	if endpoint.has("starts") {
		t.Error("a metric left before the owner agreed")
	}
	if text := export("approve"); !strings.Contains(text, "metric workspaces_running: a gauge") {
		t.Errorf("approve said %s", text)
	}
	export("hold", "1m")
	var waiting string
	w.eventually(func() (string, bool) {
		waiting = export("list")
		return waiting, strings.Contains(waiting, "held")
	})
	name := strings.Fields(waiting[strings.Index(waiting, "\n20"):])[0]
	text := export("show", name)
	if !strings.Contains(text, `"metric":"starts","type":"counter","labels":{"class":"small"}`) ||
		strings.Contains(text, "hunter2") {
		t.Errorf("the owner reads\n%s", text)
	}
	w.eventually(func() (string, bool) { return "nothing arrived", endpoint.has("starts") && endpoint.has("eu-1") })
	for _, secret := range []string{"hunter2", "password", "secret"} {
		if endpoint.has(secret) {
			t.Errorf("%s left the cell", secret)
		}
	}
	w.eventually(func() (string, bool) {
		var kept []byte
		err := w.getJSON("/v1/cells/eu-1/exports", &kept)
		return string(kept), err == nil && strings.Contains(string(kept), "workspaces_running") &&
			strings.Contains(string(kept), `"metric":"sluice_agent_healthy","type":"gauge","value":1`)
	})
	export("off")
	w.eventually(func() (string, bool) {
		text := export("list")
		return text, strings.Contains(text, "off: nothing leaves") && strings.Contains(text, "no file waits")
	})
}

// measureProduct sends what a product measures to the agent's socket, until ctx ends.
func measureProduct(ctx context.Context, t *testing.T, socket string) {
	client := socketClient(socket)
	began := uint64(time.Now().UnixNano())
	label := func(name, value string) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: name, Value: &commonpb.AnyValue{
			Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
	}
	for i := 1.0; ctx.Err() == nil; i++ {
		point := &metricspb.NumberDataPoint{StartTimeUnixNano: began,
			Attributes: []*commonpb.KeyValue{label("class", "small"), label("password", "hunter2")},
			Value:      &metricspb.NumberDataPoint_AsDouble{AsDouble: i}}
		body, err := proto.Marshal(&metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{{
			ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: []*metricspb.Metric{
				{Name: "starts", Description: "hunter2",
					Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{IsMonotonic: true,
						AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
						DataPoints:             []*metricspb.NumberDataPoint{point}}}},
				{Name: "workspaces_running", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{
					DataPoints: []*metricspb.NumberDataPoint{point}}}},
				{Name: "secret_metric", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{
					DataPoints: []*metricspb.NumberDataPoint{point}}}},
			}}}}}})
		if err != nil {
			t.Error(err)
			return
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/metrics",
			bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		request.Header.Set("Content-Type", "application/x-protobuf")
		if response, err := client.Do(request); err == nil {
			if response.StatusCode != http.StatusOK {
				t.Errorf("the agent answers %s to OTLP", response.Status)
			}
			response.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
