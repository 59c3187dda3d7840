package jsonwrite_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/jsonwrite"
)

// A Writer writes what encoding/json writes.
func TestSameAsEncodingJSON(t *testing.T) {
	t.Parallel()
	values := map[string]any{"b": "text", "a": "<&>", "number": json.Number("1.50"), "long": json.Number("1200"),
		"zero": json.Number("0"), "int": 3, "true": true, "null": nil, `q"`: []any{1, "x"},
		"none": map[string]any(nil), "empty": map[string]any{},
		"deep": map[string]any{"z": map[string]any{"y": "é\u2028"}}}
	at := time.Date(2026, 11, 3, 4, 5, 6, 7000, time.FixedZone("", 3600))
	for _, text := range []string{"", "plain", "<é&>", `"\` + "\x00\x7f\xff\n", "\u2029"} {
		values["text "+text] = text
	}
	want, err := json.Marshal([]any{values, at, int64(math.MinInt64), map[string]any(nil)})
	if err != nil {
		t.Fatal(err)
	}
	var w jsonwrite.Writer
	w.Values(`[`, values)
	w.Time(`,`, at)
	w.Number(`,`, math.MinInt64)
	w.NonZero(`, never`, 0)
	w.Values(`,`, nil)
	w.Raw(`]`)
	if string(w.Bytes) != string(want) || w.Err != nil {
		t.Errorf("got  %s (%v)\nwant %s", w.Bytes, w.Err, want)
	}
	w = jsonwrite.Writer{}
	w.Time("", time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC))
	w.Other("", make(chan int))
	if w.Err == nil || w.Err.Error() == "json: unsupported type: chan int" {
		t.Errorf("the first error is %v", w.Err)
	}
}
