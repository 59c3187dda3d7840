package telemetry

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases/export"
)

// A line is the same whether it is appended or marshalled, and is read back as it was.
func TestAppendIsMarshal(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 120_000_000, time.FixedZone("CET", 3600))
	number := func(f float64) *float64 { return &f }
	for _, l := range []Line{
		{At: at, Metric: "m", Type: export.Gauge, Value: number(1)},
		{At: at, Metric: "m", Type: export.Counter, Value: number(1e21), Since: at.UTC(),
			Labels: map[string]string{"b": "other", "a": `x"<&>\\é` + "\u2028\x7f"}},
		{At: at, Metric: "m", Type: export.Gauge, Value: number(-0.1e-9), Labels: map[string]string{}},
		{At: at, Metric: "m", Type: export.Gauge, Value: number(math.MaxFloat64)},
		{At: at, Metric: "m", Type: export.Histogram, Count: 3, Sum: 4.5, Bounds: []float64{1},
			Buckets: []uint64{1, 2}},
		{At: at, Event: "e", Fields: map[string]Scalar{"n": {1.5}, "s": {"x"}}},
	} {
		want, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Append([]byte("before "))
		if err != nil || string(got) != "before "+string(want) {
			t.Errorf("%s (%v), want %s", got, err, want)
		}
		if _, err := ParseLine(want); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1)} {
		if text, err := (&Line{At: at, Metric: "m", Type: export.Gauge, Value: &f}).Append(nil); err == nil {
			t.Errorf("%v is %s", f, text)
		}
	}
}
