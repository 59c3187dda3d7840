package cells_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
)

func report() cells.Report {
	a := assignment()
	return cells.Report{
		Cell: "acme", Boot: "b1", State: cells.StateHealthy, Running: &a, Applying: &a, Acknowledged: &a,
		Failures: []cells.Failure{{Assignment: a, Reason: "x"}},
		Flags: &cells.FlagsReport{Height: 7, Bundle: a.Digest,
			States: map[string]flags.CellState{"classes": flags.On}},
		Events: []cells.Event{{Number: 3, Kind: "started"}, {Number: 7, Kind: "gap"}},
	}
}

func manyStates() map[string]flags.CellState {
	all := map[string]flags.CellState{}
	for i := range cells.MaxFlagStates + 1 {
		all[fmt.Sprint(i)] = flags.On
	}
	return all
}

func TestReportCheck(t *testing.T) {
	good := report()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*cells.Report){
		"can't be a cell's name":        func(r *cells.Report) { r.Cell = "../x" },
		"boot must have":                func(r *cells.Report) { r.Boot = "" },
		"boot must have 1 to 128 bytes": func(r *cells.Report) { r.Boot = strings.Repeat("b", 129) },
		"agent has more":                func(r *cells.Report) { r.Agent = strings.Repeat("b", 129) },
		`no state "fine"`:               func(r *cells.Report) { r.State = "fine" },
		"message must be UTF-8":         func(r *cells.Report) { r.Message = strings.Repeat("m", cells.MaxMessage+1) },
		"message must be":               func(r *cells.Report) { r.Message = "\xff" },
		"below 0":                       func(r *cells.Report) { r.Infrastructure.Number = -1 },
		"more than 16 failures":         func(r *cells.Report) { r.Failures = make([]cells.Failure, 17) },
		"more than 256 events":          func(r *cells.Report) { r.Events = make([]cells.Event, 257) },
		"must not be negative":          func(r *cells.Report) { r.Running.Epoch = -1 },
		"is not a version":              func(r *cells.Report) { r.Applying.Release = "latest" },
		"is not a digest":               func(r *cells.Report) { r.Acknowledged.Digest = "x" },
		"can't be a channel's name":     func(r *cells.Report) { r.Running.Channel = "A B" },
		"profile, revision and retry":   func(r *cells.Report) { r.Running.Profile = strings.Repeat("p", 129) },
		"values must be JSON": func(r *cells.Report) {
			r.Running.Values = map[string]any{"a": strings.Repeat("v", cells.MaxValues)}
		},
		"flags: height is":           func(r *cells.Report) { r.Flags.Height = -1 },
		"flags: states of more than": func(r *cells.Report) { r.Flags.States = manyStates() },
		"flags: states must be":      func(r *cells.Report) { r.Flags.States[strings.Repeat("a", 129)] = flags.On },
		"acme: flags: states must be": func(
			r *cells.Report) {
			r.Flags.States["a"] = flags.CellState(strings.Repeat("s", 33))
		},
		"states must be UTF-8 of at": func(r *cells.Report) { r.Flags.States[""] = flags.On },
		"flags: fault must be":       func(r *cells.Report) { r.Flags.Fault = strings.Repeat("f", 1025) },
		`flags: "x" is not a digest`: func(r *cells.Report) { r.Flags.Orders = "x" },
		"failure's reason": func(r *cells.Report) {
			r.Failures[0].Reason = strings.Repeat("r",
				cells.MaxMessage+1)
		},
		"failure: assignment": func(r *cells.Report) { r.Failures[0].Assignment.Digest = "" },
		"event 3 comes after": func(r *cells.Report) { r.Events[1].Number = 3 },
		"event 0 comes after": func(r *cells.Report) { r.Events[0].Number = 0 },
		"kind must be given":  func(r *cells.Report) { r.Events[0].Kind = "" },
		"detail has more than": func(r *cells.Report) {
			r.Events[0].Detail = strings.Repeat("d",
				cells.MaxMessage+1)
		},
		"unhealthy: more than 20 objects": func(r *cells.Report) {
			r.Unhealthy = &cells.Unhealthy{Objects: make([]cells.ObjectHealth, cells.MaxUnhealthyObjects+1)}
		},
		"unhealthy: more is -1":           func(r *cells.Report) { r.Unhealthy = &cells.Unhealthy{More: -1} },
		"unhealthy: objects, reasons and": func(r *cells.Report) { r.Unhealthy = &cells.Unhealthy{Reason: "\xff"} },
		"an object has more than 8": func(r *cells.Report) {
			r.Unhealthy = &cells.Unhealthy{Objects: []cells.ObjectHealth{{Events: make([]string, 9)}}}
		},
		"unhealthy: objects, reasons and events must be UTF-8 of at most 1024": func(r *cells.Report) {
			r.Unhealthy = &cells.Unhealthy{Objects: []cells.ObjectHealth{{Events: []string{strings.Repeat("e", 1025)}}}}
		},
		"event 7: kind must be":    func(r *cells.Report) { r.Events[1].Release = strings.Repeat("d", 129) },
		"report of acme: event 7:": func(r *cells.Report) { r.Events[1].Digest = strings.Repeat("d", 129) },
	} {
		r := report()
		change(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzReport(f *testing.F) {
	r := report()
	seed, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"cell":"a","boot":"b","state":"healthy","running":{"values":{"a":1e400}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r cells.Report
		if json.Unmarshal(in, &r) != nil || r.Validate() != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back cells.Report
		if err := json.Unmarshal(out, &back); err != nil || back.Validate() != nil {
			t.Errorf("%v, %v", err, back.Validate())
		}
		if r.Running != nil && back.Running.Key() != r.Running.Key() {
			t.Error("the key changes on its way")
		}
	})
}
