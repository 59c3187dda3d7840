package plane

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

func refusalOf(location string) error {
	return fmt.Errorf("report: %w", &statusError{status: http.StatusBadRequest, location: location})
}

// R35: a field that the control plane refuses is left out, one that a later version adds as well, and tried again after
// a while. What every control plane knows is never left out.
func TestR35RefusedFieldsAreWithheld(t *testing.T) {
	t.Parallel()
	now := time.Now()
	body := []byte(`{"cell":"acme","state":"healthy","maintenance":{"phase":"draining","totals":{"state":1}},` +
		`"later":[1,{"a":1}],"owner":{"b":1}}`)
	for name, c := range map[string]struct {
		refusal error
		unnamed bool
		without []string
	}{
		"named":               {refusalOf("body.maintenance"), false, []string{"maintenance"}},
		"of a later version":  {refusalOf("body.later"), false, []string{"later"}},
		"inside a field":      {refusalOf("body.phase"), false, []string{"maintenance"}},
		"inside a list":       {refusalOf("body.a"), false, []string{"later"}},
		"inside, as known":    {refusalOf("body.state"), false, []string{"maintenance"}},
		"inside, in the end":  {refusalOf("body.phase"), true, []string{"later", "maintenance"}},
		"a value":             {refusalOf("body"), true, []string{"later", "maintenance"}},
		"what all know":       {refusalOf("body.cell"), false, nil},
		"the owner's word":    {refusalOf("body.owner"), false, nil},
		"inside the owner's":  {refusalOf("body.b"), false, nil},
		"not in the report":   {refusalOf("body.unhealthy"), false, nil},
		"another status":      {&statusError{status: http.StatusServiceUnavailable, location: "body.later"}, true, nil},
		"the body's size":     {&statusError{status: http.StatusRequestEntityTooLarge}, true, nil},
		"no answer":           {http.ErrServerClosed, true, nil},
		"a field named oddly": {refusalOf("body.later.a"), false, nil},
	} {
		w := withheld{}
		if got := w.take(c.refusal, body, c.unnamed, now); !slices.Equal(got, c.without) {
			t.Errorf("%s: %v is left out", name, got)
		}
		sent, err := w.without(body, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"maintenance", "later"} {
			if strings.Contains(string(sent), field) == slices.Contains(c.without, field) {
				t.Errorf("%s: %s", name, sent)
			}
		}
		if !strings.Contains(string(sent), `"owner"`) || !strings.Contains(string(sent), `"state":"healthy"`) {
			t.Errorf("%s: %s", name, sent)
		}
		if again := w.take(c.refusal, body, c.unnamed, now); len(again) > 0 {
			t.Errorf("%s: %v is left out twice: the agent would ask without a pause", name, again)
		}
		if sent, _ := w.without(body, now.Add(withholdFor)); !reflect.DeepEqual(sent, body) {
			t.Errorf("%s: not tried again: %s", name, sent)
		}
	}
}

// What was read of the infrastructure goes to an older control plane as the number that counts.
func TestInfrastructureForAnOlderControlPlane(t *testing.T) {
	t.Parallel()
	now := time.Now()
	w := withheld{}
	body := []byte(`{"cell":"acme","infrastructure":{"number":7,"source":"file","status":"applied"}}`)
	if got := w.take(refusalOf("body.infrastructure"), body, false, now); !slices.Equal(got, []string{"infrastructure"}) {
		t.Fatal(got)
	}
	for number, is := range map[int]cells.ActualInfrastructure{
		7: {Number: 7, Source: cells.SourceFile, Status: cells.InfrastructureApplied},
		0: {Number: 8, Source: cells.SourceFile, Status: cells.InfrastructureApplying},
	} {
		text, err := json.Marshal(cells.Report{Infrastructure: cells.ActualInfrastructure{Number: is.Counted(0)}})
		if err == nil {
			text, err = w.without(text, now)
		}
		var older struct{ Infrastructure int }
		if err != nil || json.Unmarshal(text, &older) != nil || older.Infrastructure != number {
			t.Errorf("%s, %v", text, err)
		}
	}
}

// What is refused inside the maintenance leaves what was read of the infrastructure as it is; and where that is left
// out too, drift takes nothing back of what counted before.
func TestR62DriftForAnOlderControlPlane(t *testing.T) {
	t.Parallel()
	is := cells.ActualInfrastructure{Number: 7, Source: cells.SourceFile, Status: cells.InfrastructureApplied}
	r := NewReporter(&Client{cell: "acme", boot: "boot", log: zerolog.Nop()}, openTestOutbox(t, t.TempDir(), 1<<20),
		ReporterOptions{Infrastructure: func() cells.ActualInfrastructure { return is }})
	report := cells.Report{Maintenance: &cells.MaintenanceReport{
		Totals: maintenance.Totals{Last: &maintenance.Lasted{}}}}
	compose := func() (body []byte, fields map[string]json.RawMessage) {
		t.Helper()
		body, _, err := r.composeReport(report, nil)
		must(t, err)
		must(t, json.Unmarshal(body, &fields))
		return body, fields
	}
	compose()
	is.Drift = []string{"Cluster"}
	body, fields := compose()
	if !strings.Contains(string(fields["maintenance"]), `"last":`) {
		t.Fatalf("%s", body)
	}
	if !r.withhold(refusalOf("body.last"), body, false) {
		t.Fatal("the control plane is asked the same again")
	}
	body, fields = compose()
	if fields["maintenance"] != nil || !strings.Contains(string(fields["infrastructure"]), "Cluster") {
		t.Errorf("%s", body)
	}
	if !r.withhold(refusalOf("body"), body, true) {
		t.Fatal("the control plane is asked the same again")
	}
	for status, want := range map[cells.InfrastructureStatus]string{
		cells.InfrastructureApplied: "7", cells.InfrastructureDrifted: "7", cells.InfrastructureFailed: "7", "": "7"} {
		is.Status = status
		if body, fields = compose(); string(fields["infrastructure"]) != want {
			t.Errorf("%q: %s", status, body)
		}
	}
	is.Number = 8 // it is begun, and does not count yet
	if body, fields = compose(); string(fields["infrastructure"]) != "7" {
		t.Errorf("%s", body)
	}
	is.Number, is.Status = 6, cells.InfrastructureFailed // rolled back
	if body, fields = compose(); string(fields["infrastructure"]) != "6" {
		t.Errorf("%s", body)
	}
}

// A field inside one that every control plane knows can't be left out: an older one would refuse the whole report, or
// the agent would have to leave out what it reports of releases. Add a field to cells.Report instead, or decode the
// type by a method that ignores unknown fields.
func TestNoFieldIsAddedInsideThoseOfAll(t *testing.T) {
	t.Parallel()
	known := strings.Fields(`cell boot sent agent state message confirmed
		running.channel running.epoch running.sequence running.release running.digest running.profile running.values
		running.revision running.forwardOnly running.retry
		failures.assignment failures.values failures.cause failures.reason failures.at
		owner.paused owner.pin owner.approval owner.approved owner.windows owner.features owner.reasons
		flags.height flags.bundle flags.orders flags.states flags.fault
		events.number events.at events.kind events.release events.digest events.detail`)
	for _, a := range []string{"applying.", "acknowledged."} {
		for _, name := range known {
			if rest, ok := strings.CutPrefix(name, "running."); ok {
				known = append(known, a+rest)
			}
		}
	}
	var found []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[cells.Report]()) {
		name := jsonName(f)
		if !slices.Contains(fieldsOfAll(), name) {
			continue
		}
		in := f.Type
		for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice {
			in = in.Elem()
		}
		if in.Kind() != reflect.Struct || in == reflect.TypeFor[time.Time]() {
			found = append(found, name)
			continue
		}
		for _, inner := range reflect.VisibleFields(in) {
			if n := jsonName(inner); n != "" {
				found = append(found, name+"."+n)
			}
		}
	}
	slices.Sort(known)
	slices.Sort(found)
	if !slices.Equal(found, known) {
		t.Errorf("fields of reports\n%v\nwant\n%v", found, known)
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return strings.TrimPrefix(name, "-")
}

// The other direction: what a newer control plane adds to its answers is ignored.
func TestAnswersOfANewerControlPlane(t *testing.T) {
	t.Parallel()
	d, err := (&Client{cell: "acme"}).decodeDesired([]byte(`{"cell":"acme","head":{"payload":"e30=","later":1},
		"maintenance":{"policy":{"drain":1000000000,"later":true},"later":{}},"later":[1],
		"assignment":{"channel":"staging","release":"1.0.0","later":"x"}}`))
	if err != nil || d.Assignment.Release != "1.0.0" || d.Maintenance.Policy.Drain != time.Second {
		t.Errorf("%+v, %v", d, err)
	}
	var receipt cells.Receipt
	if err := decodeJSON(strings.NewReader(`{"acknowledged":7,"later":{}}`), maxReceipt, &receipt); err != nil ||
		receipt.Acknowledged != 7 {
		t.Errorf("%+v, %v", receipt, err)
	}
}
