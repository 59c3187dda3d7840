package cells_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

func rolledBack() cells.ActualInfrastructure {
	return cells.ActualInfrastructure{Number: 8, Source: cells.SourceCloudFormation, Status: cells.InfrastructureFailed,
		ChangeSet: &cells.ChangeSet{Name: "sluice-8", Status: "FAILED"}, Drift: []string{"NodeGroup"},
		At: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Fault: "AccessDenied"}
}

// A number, as older agents report it, and an object are read; a number is written as one, which older control planes
// read.
func TestInfrastructureAsJSON(t *testing.T) {
	full, err := json.Marshal(rolledBack())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{}`:                                      `{}`,
		`{"infrastructure":0}`:                    `{}`,
		`{"infrastructure":7}`:                    `{"infrastructure":7}`,
		`{"infrastructure":null}`:                 `{}`,
		`{"infrastructure":{"number":7}}`:         `{"infrastructure":7}`,
		`{"infrastructure":` + string(full) + `}`: `{"infrastructure":` + string(full) + `}`,
		`{"infrastructure":{"number":7,"source":"file","status":"applied","weather":"fine"}}`: `{"infrastructure":` +
			`{"number":7,"source":"file","status":"applied"}}`,
	} {
		var v struct {
			Infrastructure cells.ActualInfrastructure `json:"infrastructure,omitzero"`
		}
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s became %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{`"seven"`, `7.5`, `[7]`, `true`, `{"number":"7"}`, `{"drift":"a"}`} {
		if err := json.Unmarshal([]byte(text), new(cells.ActualInfrastructure)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestInfrastructureIsBounded(t *testing.T) {
	r := report()
	r.Infrastructure = rolledBack()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", cells.MaxResource+1)
	for want, change := range map[string]func(*cells.ActualInfrastructure){
		"-1 is below 0":                          func(i *cells.ActualInfrastructure) { i.Number = -1 },
		"is above 1000000":                       func(i *cells.ActualInfrastructure) { i.Number = 1_000_001 },
		"source is missing":                      func(i *cells.ActualInfrastructure) { i.Source = "" },
		`no source "hearsay"`:                    func(i *cells.ActualInfrastructure) { i.Source = "hearsay" },
		`no status "fine"`:                       func(i *cells.ActualInfrastructure) { i.Status = "fine" },
		"no fault says why":                      func(i *cells.ActualInfrastructure) { i.Status, i.Fault = "", "" },
		"more than 20":                           func(i *cells.ActualInfrastructure) { i.Drift = make([]string, 21) },
		"at most 256 bytes":                      func(i *cells.ActualInfrastructure) { i.Drift[0] = long },
		"names and values of infra":              func(i *cells.ActualInfrastructure) { i.ChangeSet.Name = long },
		"values of infrastructure must be UTF-8": func(i *cells.ActualInfrastructure) { i.ChangeSet.Status = "\xff" },
		"fault must be UTF-8":                    func(i *cells.ActualInfrastructure) { i.Fault = "\xff" },
		"at most 1024 bytes":                     func(i *cells.ActualInfrastructure) { i.Fault = strings.Repeat("x", 1025) },
		"acme: infrastructure:":                  func(i *cells.ActualInfrastructure) { i.Number = -2 },
	} {
		r.Infrastructure = rolledBack()
		change(&r.Infrastructure)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// R62: what is not applied adds nothing, and takes nothing of what was executed away; what was not read changes
// nothing.
func TestR62OnlyTheAppliedCounts(t *testing.T) {
	file := func(n int, status cells.InfrastructureStatus, drift ...string) cells.ActualInfrastructure {
		return cells.ActualInfrastructure{Number: n, Source: cells.SourceFile, Status: status, Drift: drift, Fault: "x"}
	}
	for what, c := range map[string]struct {
		is           cells.ActualInfrastructure
		before, want int
	}{
		"a bare number":                    {cells.ActualInfrastructure{Number: 8}, 7, 8},
		"a lower bare number":              {cells.ActualInfrastructure{Number: 6}, 7, 6},
		"applied":                          {file(8, cells.InfrastructureApplied), 7, 8},
		"applied, lower than before":       {file(6, cells.InfrastructureApplied), 7, 6},
		"applied, with a number skipped":   {file(9, cells.InfrastructureApplied), 7, 9},
		"applying the next":                {file(8, cells.InfrastructureApplying), 7, 7},
		"rolled back to the former":        {file(7, cells.InfrastructureFailed), 7, 7},
		"rolled back, and names the next":  {file(8, cells.InfrastructureFailed), 7, 7},
		"rolled back to one below":         {file(6, cells.InfrastructureFailed), 7, 6},
		"drifted after it was applied":     {file(8, cells.InfrastructureDrifted), 8, 8},
		"drifted before it ever counted":   {file(8, cells.InfrastructureDrifted), 7, 7},
		"drifted in the first report":      {file(8, cells.InfrastructureDrifted), 0, 0},
		"applied by name, with resources":  {file(8, cells.InfrastructureApplied, "NodeGroup"), 7, 7},
		"never read":                       {file(0, ""), 7, 7},
		"never read, of a cell that's new": {file(0, ""), 0, 0},
	} {
		if got := c.is.Counted(c.before); got != c.want {
			t.Errorf("%s after %d counts as %d, want %d", what, c.before, got, c.want)
		}
	}
}

func TestInfrastructureInWords(t *testing.T) {
	is := rolledBack()
	const want = "8, failed, read from cloudformation; change set sluice-8 is FAILED; changed by hand: NodeGroup; " +
		"not read since 2026-11-24T12:00:00Z: AccessDenied"
	if got := is.String(); got != want {
		t.Error(got)
	}
	is = cells.ActualInfrastructure{Source: cells.SourceFile, Fault: "there is no file i.yaml"}
	if got := is.String(); got != "never read from file: there is no file i.yaml" || !is.NeedsLook() {
		t.Error(got)
	}
	is = cells.ActualInfrastructure{Number: 7, Source: cells.SourceFile, Status: cells.InfrastructureApplied}
	if is.NeedsLook() || is.String() != "7, applied, read from file" {
		t.Error(is.String())
	}
}
