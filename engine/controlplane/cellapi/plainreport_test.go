package cellapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// usualReports are as agents write them.
func usualReports(f testing.TB) (all []string) {
	f.Helper()
	running := &cells.Assignment{Channel: "stable", Epoch: 3, Sequence: 41, Release: "1.4.2",
		Digest: releases.DigestBytes([]byte("a release")), Profile: "small", Revision: "9f2c", ForwardOnly: true,
		Retry: "2026-11-30T03:00:00Z"}
	at := time.Date(2026, 11, 30, 3, 0, 0, 123456789, time.FixedZone("", 3600))
	for _, r := range []cells.Report{
		{},
		{Cell: "acme", Boot: "b1", Sent: at, Agent: "1.9.0", State: cells.StateHealthy, Running: running,
			Acknowledged: running, Confirmed: 1234},
		{Cell: "acme", Boot: "b1", Sent: at.UTC(), State: cells.StateFailed, Applying: running, Message: "it does not start",
			Failures: []cells.Failure{{Assignment: *running, Cause: cells.CauseRelease, Reason: "exit 1, \"so\"",
				At: at}},
			Owner: &cells.Owner{Paused: "audit {[", Approval: true}, Flags: &cells.FlagsReport{Height: 7},
			Unhealthy: &cells.Unhealthy{}, Maintenance: &cells.MaintenanceReport{Release: "1.4.3", Begins: at},
			Infrastructure: cells.ActualInfrastructure{Number: 8}, Debug: []cells.DebugState{{ID: "00ff"}},
			Signatures: &cells.SignaturesReport{Root: 2, Verified: at, Until: at}},
		{Running: &cells.Assignment{Values: map[string]any{"replicas": json.Number("3.50"), "x": []any{"}", "\\"}}}},
	} {
		text, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// oddReports are JSON of another kind, or none.
func oddReports() []string {
	return []string{``, `{`, `{}{}`, `null`, `[]`, `{"cell":"a","cell":"b"}`, `{"Cell":"a"}`, `{ "cell":"a"}`, `{"cell":null}`,
		`{"cell":"\u0061"}`, `{"cell":"é"}`, `{"confirmed":01}`, `{"confirmed":-0}`, `{"confirmed":1.0}`, `{"confirmed":1e3}`,
		`{"confirmed":9223372036854775808}`, `{"confirmed":999999999999999999}`, `{"sent":"2026-11-30"}`, `{"running":null}`,
		`{"running":{"digest":""}}`, `{"running":{"digest":"sha256:x"}}`, `{"running":{"channel":"a"},"running":{"epoch":1}}`,
		`{"flags":{"height":1,"x":1}}`, `{"events":[}}`, `{"events":[],}`, `{"infrastructure":7}`, `{"infrastructure":{"number":7}}`,
		`{"infrastructure": 7 }`, `{"flags":{} {}}`, `{"unknown":1}`, "{\"cell\":\"a\"}\n", "{\"cell\":\"a\"}\v", `{"running":{}}`,
		`{"running":{"forwardOnly":truex}}`, `{"running":{"forwardOnly":false}}`, `{"cell":"a"`, `{"cell":"a`, `{"events":"\`}
}

func wantSame(t *testing.T, text string) (plain bool) {
	t.Helper()
	var got, want cells.Report
	if !readPlainReport([]byte(text), &got) {
		return false
	}
	if err := decodeStrictly([]byte(text), &want); err != nil {
		t.Fatalf("%q is plain, and encoding/json says: %v", text, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read as\n%+v, and by encoding/json as\n%+v", text, got, want)
	}
	return true
}

// What agents write is plain, and read as encoding/json reads it.
func TestPlainReports(t *testing.T) {
	t.Parallel()
	for _, text := range usualReports(t) {
		if !wantSame(t, text) {
			t.Errorf("%s is not plain", text)
		}
	}
	for _, text := range oddReports() {
		wantSame(t, text)
	}
	long := `{"events":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`
	wantSame(t, long)
}

// A field that is new in reports is known here too, or else every report that has it takes longer.
func TestPlainReportsHaveAllFields(t *testing.T) {
	t.Parallel()
	for body, of := range map[string]reflect.Type{"{%s}": reflect.TypeFor[cells.Report](),
		`{"running":{%s}}`: reflect.TypeFor[cells.Assignment]()} {
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			value := reflect.New(field.Type)
			if field.Type.Kind() == reflect.Pointer {
				value = reflect.New(field.Type.Elem())
			}
			text, err := json.Marshal(value.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if text := fmt.Sprintf(body, fmt.Sprintf("%q:%s", name, text)); !wantSame(t, text) {
				t.Errorf("%s is not plain", text)
			}
		}
	}
}

func FuzzPlainReport(f *testing.F) {
	for _, text := range append(usualReports(f), oddReports()...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { wantSame(t, text) })
}

func BenchmarkParseReport(b *testing.B) {
	text := []byte(usualReports(b)[1])
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !readPlainReport(text, new(cells.Report)) {
				b.Fatal("it is not plain")
			}
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var r cells.Report
			if err := decodeStrictly(text, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
