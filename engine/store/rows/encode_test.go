package rows_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// fill gives every field below v, including ones added later, a value of its own that needs care.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 3, 4, 5, 6, *n*1000, time.FixedZone("", 3600*(*n%3)))))
		return
	case v.Type() == reflect.TypeFor[map[string]any]():
		v.Set(reflect.ValueOf(map[string]any{
			"b": "text", "a": "<&>", "number": json.Number("1.50"), "long": json.Number("1200"),
			"zero": json.Number("0"), "nought": json.Number(""), "int": 3, "float": 1e30, "true": true, "null": nil,
			`q"`:   []any{1, "x", map[string]any{}},
			"none": map[string]any(nil), "empty": map[string]any{},
			"deep": map[string]any{"z": map[string]any{"y": "é\u2028"}, "a": []any{}},
		}))
		return
	}
	switch v.Kind() {
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n)
			fill(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString([]string{"plain", "<é&>", `"\` + "\x00\x7f\xff\n", "\u2029"}[*n%4] + fmt.Sprint(*n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n) - 20)
	case reflect.Uint64:
		v.SetUint(math.MaxUint64 - uint64(*n))
	case reflect.Bool:
		v.SetBool(true)
	}
}

// A stored state is encoded as by encoding/json, since readers and earlier versions know nothing else.
func TestEncodedAsJSON(t *testing.T) {
	full, n := &plan.CellState{}, 0
	fill(reflect.ValueOf(full).Elem(), &n)
	hollow := *full
	hollow.Left, hollow.Failures, hollow.Boots = hollow.Left[:0], hollow.Failures[:0],
		[]plan.Boot{{}, {Marks: []plan.Mark{}}}
	hollow.Flags = &cells.FlagsReport{}
	for name, s := range map[string]*plan.CellState{"full": full, "empty": {Name: "a"}, "hollow": &hollow} {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		r, err := rows.EncodeReports([]plan.Reported{{State: s}})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Cells[0].Body; got != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if _, err := rows.EncodeReports([]plan.Reported{{State: &plan.CellState{Name: "a",
		LastReport: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)}}}); err == nil {
		t.Error("a year that JSON has no place for was kept")
	}
}

func BenchmarkReported(b *testing.B) {
	at := time.Now()
	runs := &cells.Assignment{Channel: "production", Epoch: 1, Sequence: 7, Release: "2026.11.3", Digest: "sha256:0f",
		Values: map[string]any{"domain": "example", "replicas": json.Number("3")}}
	s := &plan.CellState{Name: "cell-00001", LastReport: at, HealthySince: at, Granted: runs, Running: runs,
		Boots: []plan.Boot{{ID: "b1", First: at, Last: at, Sent: at}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rows.EncodeReports([]plan.Reported{{State: s}}); err != nil {
			b.Fatal(err)
		}
	}
}
