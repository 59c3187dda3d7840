package stack

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

func stacks(statuses ...string) (all []description) {
	for i, status := range statuses {
		name := []string{"role", "instance", "third"}[i]
		all = append(all, description{name: name, status: status,
			id: "arn:aws:cloudformation:eu-central-1:123456789012:stack/" + name + "/1"})
	}
	return all
}

// R62: what AWS says becomes a number and a status; what counts as executed follows from these (cells.Counted).
func TestR62Judge(t *testing.T) {
	const eight, seven = `{"Sluice":{"Infrastructure":8}}`, `{"Sluice":{"Infrastructure":7}}`
	for name, c := range map[string]struct {
		statuses            []string
		metadata, parameter string
		change              func(r *reading)
		want                string // in words, or the fault
		counted             int    // if 7 counted before
	}{
		"created":      {[]string{"CREATE_COMPLETE"}, eight, "8", nil, "8, applied", 8},
		"updated":      {[]string{"UPDATE_COMPLETE"}, eight, "8", nil, "8, applied", 8},
		"imported":     {[]string{"IMPORT_COMPLETE"}, eight, "8", nil, "8, applied", 8},
		"old parts go": {[]string{"UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}, eight, "8", nil, "8, applied", 8},
		"number as text": {[]string{"UPDATE_COMPLETE"}, `{"Sluice":{"Infrastructure":"8"}}`, " 8\n", nil,
			"8, applied", 8},
		"lower than before":    {[]string{"UPDATE_COMPLETE"}, `{"Sluice":{"Infrastructure":6}}`, "6", nil, "6, applied", 6},
		"a number skipped":     {[]string{"UPDATE_COMPLETE"}, `{"Sluice":{"Infrastructure":9}}`, "9", nil, "9, applied", 9},
		"being updated":        {[]string{"UPDATE_IN_PROGRESS"}, eight, "7", nil, "7, applying", 7},
		"being created":        {[]string{"CREATE_IN_PROGRESS"}, eight, "8", nil, "8, applying", 7},
		"rolled back":          {[]string{"UPDATE_ROLLBACK_COMPLETE"}, seven, "7", nil, "7, failed", 7},
		"rolled back at 8":     {[]string{"UPDATE_ROLLBACK_COMPLETE"}, eight, "8", nil, "8, failed", 7},
		"being rolled back":    {[]string{"UPDATE_ROLLBACK_IN_PROGRESS"}, eight, "8", nil, "8, failed", 7},
		"rollback failed":      {[]string{"UPDATE_ROLLBACK_FAILED"}, eight, "8", nil, "8, failed", 7},
		"creation rolled back": {[]string{"ROLLBACK_COMPLETE"}, eight, "8", nil, "8, failed", 7},
		"failed":               {[]string{"UPDATE_FAILED"}, eight, "8", nil, "8, failed", 7},
		"import rolled back":   {[]string{"IMPORT_ROLLBACK_COMPLETE"}, eight, "8", nil, "8, failed", 7},
		"being deleted":        {[]string{"DELETE_IN_PROGRESS"}, eight, "8", nil, "8, failed", 7},
		"a status of tomorrow": {[]string{"PONDERING"}, eight, "8", nil, `does not know, "PONDERING"`, 0},
		"drifted": {[]string{"UPDATE_COMPLETE"}, eight, "8",
			func(r *reading) { r.stacks[0].drift = "DRIFTED" }, "8, drifted", 7},
		"drifted, and what": {[]string{"UPDATE_COMPLETE"}, eight, "8",
			func(r *reading) { r.stacks[0].drift, r.stacks[0].drifted = "DRIFTED", []string{"Vpc", "Nodes"} },
			"8, drifted, read from ; changed by hand: Nodes, Vpc", 7},
		"in sync": {[]string{"UPDATE_COMPLETE"}, eight, "8",
			func(r *reading) { r.stacks[0].drift = "IN_SYNC" }, "8, applied", 8},
		// template and Metadata disagree
		"the parameter was raised by hand": {[]string{"UPDATE_COMPLETE"}, seven, "8", nil,
			"7, drifted, read from ; changed by hand: InfrastructureVersion", 7},
		"the parameter was lowered by hand": {[]string{"UPDATE_COMPLETE"}, eight, "7", nil,
			"7, drifted, read from ; changed by hand: InfrastructureVersion", 7},
		"the parameter is no number": {[]string{"UPDATE_COMPLETE"}, eight, "eight", nil,
			`InfrastructureVersion of the stack role is "eight", which is no number`, 0},
		"the parameter is empty":    {[]string{"UPDATE_COMPLETE"}, eight, "", nil, "is no number", 0},
		"the parameter is negative": {[]string{"UPDATE_COMPLETE"}, eight, "-8", nil, "is no number", 0},
		"the parameter is huge":     {[]string{"UPDATE_COMPLETE"}, eight, "1000001", nil, "is no number", 0},
		"no Metadata":               {[]string{"UPDATE_COMPLETE"}, "", "8", nil, "names no infrastructure update", 0},
		"Metadata of others":        {[]string{"UPDATE_COMPLETE"}, `{"Other":{}}`, "8", nil, "names no infrastructure", 0},
		"Metadata that is broken":   {[]string{"UPDATE_COMPLETE"}, `{"Sluice":`, "8", nil, "names no infrastructure", 0},
		"Metadata with a fraction": {[]string{"UPDATE_COMPLETE"}, `{"Sluice":{"Infrastructure":7.5}}`, "8", nil,
			"names no infrastructure", 0},
		"Metadata that is a list": {[]string{"UPDATE_COMPLETE"}, `{"Sluice":[8]}`, "8", nil, "names no infrastructure", 0},
		// two stacks
		"both": {[]string{"UPDATE_COMPLETE", "UPDATE_COMPLETE"}, eight, "8", nil, "8, applied", 8},
		"the first rolled back": {[]string{"UPDATE_ROLLBACK_COMPLETE", "UPDATE_COMPLETE"}, eight, "8", nil,
			"8, failed", 7},
		"the first goes on": {[]string{"UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"}, seven, "7", nil, "7, applying", 7},
		"one failed, one goes on": {[]string{"UPDATE_ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS"}, eight, "8", nil,
			"8, failed", 7},
		"the first drifted": {[]string{"UPDATE_COMPLETE", "UPDATE_COMPLETE"}, eight, "8",
			func(r *reading) { r.stacks[0].drift, r.stacks[0].drifted = "DRIFTED", []string{"AgentRole"} },
			"8, drifted, read from ; changed by hand: AgentRole", 7},
	} {
		t.Run(name, func(t *testing.T) {
			r := reading{stacks: stacks(c.statuses...), metadata: c.metadata, parameter: c.parameter}
			if c.change != nil {
				c.change(&r)
			}
			is, err := judge(r)
			got := is.String()
			if err != nil {
				got = err.Error()
				if e := new(Error); !errors.As(err, &e) || e.Remedy == "" {
					t.Errorf("%v has no remedy", err)
				}
			}
			if !strings.Contains(got, c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			if is.Source = cells.SourceCloudFormation; err == nil && is.Counted(7) != c.counted {
				t.Errorf("%d counts as executed, want %d", is.Counted(7), c.counted)
			}
		})
	}
}

// Of several change sets the newest that is open is shown, with where it is executed; parameters are shown without
// secrets; and all of it fits into a report.
func TestWhatIsReported(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	r := reading{stacks: stacks("UPDATE_COMPLETE", "UPDATE_COMPLETE"), metadata: `{"Sluice":{"Infrastructure":8}}`,
		parameter: "8", unread: []string{strings.Repeat("é", 300)}}
	r.stacks[0].changeSets = []changeSet{{id: "arn:aws:cloudformation:eu-central-1:1:changeSet/a/1", name: "a",
		status: "CREATE_COMPLETE", execution: "AVAILABLE", made: at}}
	r.stacks[1].changeSets = []changeSet{
		{id: "arn:1", name: "failed", status: "FAILED", execution: "UNAVAILABLE", made: at.Add(time.Hour)},
		{id: "arn:2", name: "obsolete", status: "CREATE_COMPLETE", execution: "OBSOLETE", made: at.Add(time.Hour)}}
	r.stacks[1].parameters = map[string]string{"Password": "****", "NodeType": "m8i.xlarge", "Empty": "",
		"Long": strings.Repeat("x", 1000)}
	for i := range 100 {
		r.stacks[0].drifted = append(r.stacks[0].drifted, strings.Repeat("x", i+300))
	}
	is, err := judge(r)
	if err != nil {
		t.Fatal(err)
	}
	link := "https://eu-central-1.console.aws.amazon.com/cloudformation/home?region=eu-central-1" +
		"#/stacks/changesets/changes?stackId=arn%3Aaws%3Acloudformation%3Aeu-central-1%3A123456789012%3Astack%2Frole%2F1" +
		"&changeSetId=arn%3Aaws%3Acloudformation%3Aeu-central-1%3A1%3AchangeSet%2Fa%2F1"
	if c := is.ChangeSet; c == nil || c.Name != "a" || c.Status != "CREATE_COMPLETE" || c.Link != link {
		t.Errorf("change set %+v", c)
	}
	if len(is.Parameters) != 3 || is.Parameters["NodeType"] != "m8i.xlarge" || is.Parameters["Password"] != "" {
		t.Errorf("parameters %v", is.Parameters)
	}
	report := cells.Report{Cell: "acme", Boot: "b", State: cells.StatePending, Infrastructure: is}
	report.Infrastructure.Source = cells.SourceCloudFormation
	if err := report.Validate(); err != nil {
		t.Error(err)
	}
	r.stacks[1].changeSets[0] = changeSet{id: "arn:3", name: "b", status: "CREATE_COMPLETE",
		execution: "EXECUTE_IN_PROGRESS", made: at.Add(2 * time.Hour)}
	if is, err = judge(r); err != nil || is.ChangeSet.Name != "b" || is.ChangeSet.Status != "EXECUTE_IN_PROGRESS" {
		t.Errorf("%+v, %v", is.ChangeSet, err)
	}
}

// AWS is asked to look for drift where nothing goes on, and seldom.
func TestDriftIsLookedForSeldom(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for want, c := range map[string]struct {
		status         string
		checked, asked time.Time
	}{
		"never":         {"CREATE_COMPLETE", time.Time{}, time.Time{}},
		"long ago":      {"UPDATE_COMPLETE", now.Add(-7 * time.Hour), now.Add(-7 * time.Hour)},
		"not: lately":   {"UPDATE_COMPLETE", now.Add(-time.Hour), time.Time{}},
		"not: asked":    {"UPDATE_COMPLETE", time.Time{}, now.Add(-time.Minute)},
		"not: goes on":  {"UPDATE_IN_PROGRESS", time.Time{}, time.Time{}},
		"not: failed":   {"UPDATE_ROLLBACK_FAILED", time.Time{}, time.Time{}},
		"not: deleting": {"DELETE_IN_PROGRESS", time.Time{}, time.Time{}},
	} {
		got := isDue(&description{status: c.status, checked: c.checked}, c.asked, 6*time.Hour, now)
		if got == strings.HasPrefix(want, "not") {
			t.Errorf("%s: %t", want, got)
		}
	}
}

func TestParse(t *testing.T) {
	for text, good := range map[string]bool{"a": true, "sluice-acme-role,sluice-acme-instance": true, "": false,
		"a,": false,
		"1a": false, "a b": false, strings.Repeat("a,", 40) + "a": false, strings.Repeat("a", 129): false,
		"a;b": false} {
		if _, err := ParseNames(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	for name, text := range map[string]string{"ec2/L-1": "many", "ec2": "1", "ec2/L-2": "-1", "ec2/L-3": "NaN", "": "1",
		"/L": "1", "ec2/": "1", "ec2/L-4": "16x"} {
		if _, err := ParseQuotas(map[string]string{name: text}); err == nil {
			t.Errorf("%s=%s is a quota", name, text)
		}
	}
	if all, err := ParseQuotas(map[string]string{"ec2/L-1": "16", "vpc/L-2": "0.5"}); err != nil || len(all) != 2 ||
		all[0] != (cells.Quota{Service: "ec2", Code: "L-1", Least: 16}) {
		t.Errorf("%v, %v", all, err)
	}
	for _, link := range []string{ChangeSetLink("", "arn:x"),
		ChangeSetLink("arn:aws:cloudformation:evil.example/:1:s", "arn:"),
		ChangeSetLink("arn:aws:cloudformation:eu-central-1:1:stack/a/1", "https://evil.example")} {
		if link != "" {
			t.Errorf("link %s", link)
		}
	}
}
