package telemetry

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

// vendor is the vendor's end: the collector's own receiver, and all that it ever received.
type vendor struct {
	mu      sync.Mutex
	all     strings.Builder           // as JSON
	metrics map[string]pmetric.Metric // the newest, by name
	newest  time.Time                 // of all points
	events  map[string]int            // how often each came
}

// startVendor starts a receiver at an address of this machine.
func startVendor(t *testing.T, address string) *vendor {
	t.Helper()
	v := &vendor{metrics: map[string]pmetric.Metric{}, events: map[string]int{}}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*otlpreceiver.Config)
	config.Protocols.HTTP.GetOrInsertDefault().ServerConfig.NetAddr.Endpoint = address
	settings := receiver.Settings{ID: component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings()}
	metrics, err := consumer.NewMetrics(v.takeMetrics)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := consumer.NewLogs(v.takeLogs)
	if err != nil {
		t.Fatal(err)
	}
	r, err := factory.CreateMetrics(t.Context(), settings, config, metrics)
	if err == nil {
		_, err = factory.CreateLogs(t.Context(), settings, config, logs) // the same receiver
	}
	if err == nil {
		err = r.Start(t.Context(), componenttest.NewNopHost())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Shutdown(context.WithoutCancel(t.Context())) })
	return v
}

func (v *vendor) takeMetrics(_ context.Context, m pmetric.Metrics) error {
	text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(m)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all.Write(text)
	for _, resource := range m.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				kept := pmetric.NewMetric()
				metric.CopyTo(kept)
				v.metrics[metric.Name()] = kept
				eachPoint(kept, func(_ pcommon.Map, at time.Time, _ float64) {
					if at.After(v.newest) {
						v.newest = at
					}
				})
			}
		}
	}
	return nil
}

func (v *vendor) takeLogs(_ context.Context, l plog.Logs) error {
	text, err := (&plog.JSONMarshaler{}).MarshalLogs(l)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all.Write(text)
	for _, resource := range l.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				v.events[describe(record.EventName(), record.Attributes())]++
			}
		}
	}
	return nil
}

// eachPoint calls do with the labels, the time and the value of each point; of a histogram, with the count.
func eachPoint(m pmetric.Metric, do func(labels pcommon.Map, at time.Time, value float64)) {
	numbers := pmetric.NewNumberDataPointSlice()
	switch m.Type() {
	case pmetric.MetricTypeSum:
		numbers = m.Sum().DataPoints()
	case pmetric.MetricTypeGauge:
		numbers = m.Gauge().DataPoints()
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			do(p.Attributes(), p.Timestamp().AsTime(), float64(p.Count()))
		}
	}
	for _, p := range numbers.All() {
		do(p.Attributes(), p.Timestamp().AsTime(), p.DoubleValue())
	}
}

// describe returns a name with what it has: starts class=small sdk=go.
func describe(name string, attributes pcommon.Map) string {
	all := maps.Collect(attributes.All())
	for _, key := range slices.Sorted(maps.Keys(all)) {
		name += " " + key + "=" + all[key].AsString()
	}
	return name
}

// values returns the newest value of each series.
func (v *vendor) values() map[string]float64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	values := map[string]float64{}
	for name, m := range v.metrics {
		eachPoint(m, func(labels pcommon.Map, _ time.Time, value float64) {
			values[describe(name, labels)] = value
		})
	}
	return values
}

func (v *vendor) counted() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.events)
}

// hasAllUntil reports whether what was measured until an instant has come.
func (v *vendor) hasAllUntil(at time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest.After(at)
}

func (v *vendor) received() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all.String()
}
