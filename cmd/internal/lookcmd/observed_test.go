package lookcmd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

var someDigest = "sha256:" + strings.Repeat("ab", 32)

func TestParseObserved(t *testing.T) {
	text := `{
  "cells": [
    {"name": "acme", "channel": "dedicated", "release": "2026.11.1", "digest": "` + someDigest + `", "state": "healthy",
     "healthySince": "2026-11-23T09:00:00Z", "lastReport": "2026-11-24T09:00:00Z",
     "failures": [{"release": "2026.11.2", "reason": "not ready"}]}
  ],
  "observations": [{"gate": "check", "subject": "2026.11.1", "holds": true, "value": 0.5, "validUntil": "2026-11-24T10:00:00Z"}],
  "since": "2026-11-01T00:00:00Z"
}`
	o, faults := parseObserved("observed.json", []byte(text))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	acme := o.Cells["acme"]
	if acme.Soaked != 24*time.Hour || acme.State != cells.StateHealthy ||
		acme.Failures[0].Assignment.Release != "2026.11.2" {
		t.Errorf("acme is %+v", acme)
	}
	want := []plan.Observation{{Gate: "check", Subject: "2026.11.1", Holds: true, Value: "0.5",
		ValidUntil: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)}}
	if diff := cmp.Diff(want, o.Observations); diff != "" {
		t.Error(diff)
	}
	if o.Since.IsZero() {
		t.Error("since was not read")
	}
}

// TestParseObservedFaults checks that bad input yields all its faults at once, each with its line (fault 29).
func TestParseObservedFaults(t *testing.T) {
	const good = `"state": "pending"`
	for name, c := range map[string]struct{ text, want string }{
		"empty":   {"", "o:1: is not a JSON object"},
		"array":   {"[]", "o:1: is not a JSON object"},
		"cut off": {`{"cells": [` + "\n", "o:2: is not JSON: it ends too early"},
		"unknown field": {"{\n\"cels\": []}",
			`o:2: unknown field "cels": it has cells, observations, since, served, learned`},
		"unknown inside": {"{\"cells\": [\n{\"name\": \"a\", \"sate\": 1}]}", `o:2: cells[0]: unknown field "sate"`},
		"duplicate key": {"{\"cells\": [{\"name\": \"a\",\n\"name\": \"b\"}]}",
			`o:2: cells[0]: "name" is there twice`},
		"duplicate top": {"{\"cells\": [],\n\"cells\": []}", `o:2: "cells" is there twice`},
		"duplicate cell": {fmt.Sprintf("{\"cells\": [{\"name\": \"a\", %s},\n{\"name\": \"a\", %s}]}", good, good),
			"o:2: cell a is there twice"},
		"wrong type":  {"{\"cells\": [{\"name\":\n 7}]}", "o:2: cells[0]: name is a number, want string"},
		"no array":    {"{\n\"cells\": {}}", "o:2: cells is not an array"},
		"no object":   {`{"cells": [1]}`, "o:1: cells[0] is a number, want object"},
		"huge number": {`{"served": {"staging": 1e400}}`, "o:1: served is a number 1e400, want whole number"},
		"bad time":    {`{"since": "yesterday"}`, `o:1: since: yesterday is not a time like 2026-11-24T09:00:00Z`},
		"bad digest":  {`{"cells": [{"name": "a", "digest": "sha256:x"}]}`, "o:1: cells[0]: "},
		"bad state":   {`{"cells": [{"name": "a", "state": "well"}]}`, `o:1: cell a: state "well" is none of `},
		"no soak": {`{"cells": [{"name": "a", "state": "healthy"}]}`,
			"o:1: cell a: a healthy cell needs healthySince and lastReport"},
		"two faults": {"{\"cells\": [{\"name\": \"a\"},\n{\"state\": \"pending\"}]}", "o:2: a cell has no name"},
		"no validity": {`{"observations": [{"gate": "g", "subject": "s", "holds": true}]}`,
			"o:1: observation of g: validUntil is missing"},
		"more after": {"{}\n{}", "o:2: there is more after the end of the object"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := parseObserved("o", []byte(c.text))
			var all []string
			for _, f := range faults {
				all = append(all, f.String())
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzParseObserved(f *testing.F) {
	f.Add(
		[]byte(
			`{"cells":[{"name":"a","state":"pending"}],"observations":[{"gate":"g","subject":"s","holds":false,"validUntil":"2026-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"learned":{"accepted":[]},"served":{"a":1},"since":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, faults := parseObserved("o", data)
		for _, x := range faults {
			if x.Line < 1 || x.Message == "" {
				t.Errorf("%q: fault without line or message: %+v", data, x)
			}
		}
	})
}
