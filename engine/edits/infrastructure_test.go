package edits_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// withUpdates returns inMemory with infrastructure updates 7 and 8, and acme with a record.
func withUpdates(record *cells.InfrastructureRecord) *edits.Releases {
	s := inMemory()
	s.Desired.Infrastructure = []infrastructure.Update{{Number: 7}, {Number: 8}}
	s.Desired.Pipeline.Infrastructure.Deadline = 14 * 24 * time.Hour
	s.Desired.Cells["acme"].Found = &cells.LoadedCell{Infrastructure: record}
	return s
}

func delivered(number int, at time.Time) cells.InfrastructureNotice {
	return cells.InfrastructureNotice{Number: number, Noticed: at, By: "mail", Delivered: at,
		Due: at.Add(14 * 24 * time.Hour)}
}

// R62: what people record of notices, and what they can't.
func TestR62DecisionsOnInfrastructure(t *testing.T) {
	record := func(all ...cells.InfrastructureNotice) *cells.InfrastructureRecord {
		return &cells.InfrastructureRecord{APIVersion: "sluice/v1", Kind: "InfrastructureRecord", Updates: all}
	}
	bounced := cells.InfrastructureNotice{Number: 8, Noticed: noon.Add(-48 * time.Hour), By: "mail"}
	extended := delivered(8, noon)
	extended.Extension = &cells.Extension{Until: noon.Add(20 * 24 * time.Hour), Reason: "r", Approver: "ada"}
	soon := noon.Add(15 * 24 * time.Hour)
	for name, c := range map[string]struct {
		record *cells.InfrastructureRecord
		do     edits.Decision[*edits.Releases]
		want   []string // in this order
	}{
		"the newest": {nil, edits.NotifyInfrastructure{Cell: "acme", By: "call"}, []string{
			"+ cells/acme/infrastructure.yaml", "number: 8", "noticed: 2026-11-24T12:00:00Z", "by: call",
			"delivered: 2026-11-24T12:00:00Z", "due: 2026-12-08T12:00:00Z"}},
		"in another zone": {nil, edits.NotifyInfrastructure{Cell: "acme", Number: 7, By: "call",
			At: noon.In(time.FixedZone("CET", 3600))}, []string{"number: 7", "due: 2026-12-08T12:00:00Z"}},
		"before a later one": {record(delivered(8, noon)), edits.NotifyInfrastructure{Cell: "acme", Number: 7, By: "call"},
			[]string{"number: 7", "number: 8"}},
		"none twice": {record(delivered(8, noon.Add(-time.Hour))), edits.NotifyInfrastructure{Cell: "acme", By: "call"},
			[]string{"unchanged: acme was notified of update 8 already, which is due at 2026-12-08T11:00:00Z"}},
		"not delivered": {nil, edits.NotifyInfrastructure{Cell: "acme", By: "mail", Undelivered: true},
			[]string{"by: mail\ndid: ", "next: no deadline runs"}},
		"delivered at last": {record(bounced), edits.NotifyInfrastructure{Cell: "acme", By: "call"},
			[]string{"noticed: 2026-11-22T12:00:00Z", "delivered: 2026-11-24T12:00:00Z", "due: 2026-12-08T12:00:00Z"}},
		"not delivered after all": {record(delivered(8, noon)),
			edits.NotifyInfrastructure{Cell: "acme", By: "mail", Undelivered: true}, []string{"unchanged"}},
		"in the future": {nil, edits.NotifyInfrastructure{Cell: "acme", By: "call", At: noon.Add(time.Hour)},
			[]string{"error", "is in the future"}},
		"long ago": {nil, edits.NotifyInfrastructure{Cell: "acme", By: "call", At: noon.Add(-15 * 24 * time.Hour)},
			[]string{"error", "would be overdue at once"}},
		"the engine's record": {nil, edits.NotifyAll{{Cell: "acme", By: "mail", At: noon.Add(-time.Hour)},
			{Cell: "gone", By: "mail"}}, []string{"delivered: 2026-11-24T11:00:00Z", "due: 2026-12-08T11:00:00Z"}},
		"recorded too late to be fair": {nil, edits.NotifyAll{{Cell: "acme", By: "mail",
			At: noon.Add(-20 * 24 * time.Hour)}}, []string{"due: 2026-12-08T12:00:00Z"}},
		"recorded by a clock that is ahead": {nil, edits.NotifyAll{{Cell: "acme", By: "mail", At: noon.Add(time.Hour)}},
			[]string{"due: 2026-12-08T12:00:00Z"}},
		"recorded already": {record(delivered(8, noon)), edits.NotifyAll{{Cell: "acme", By: "mail"}},
			[]string{"unchanged"}},
		"unknown number": {nil, edits.NotifyInfrastructure{Cell: "acme", Number: 9, By: "call"},
			[]string{"error: there is no infrastructure update 9", "there are 7, 8"}},
		"unknown cell": {nil, edits.NotifyInfrastructure{Cell: "acmee", By: "call"}, []string{"error", "no cell \"acmee\""}},
		"exempt": {&cells.InfrastructureRecord{Exempt: "their cluster"},
			edits.NotifyInfrastructure{Cell: "acme", By: "call"},
			[]string{"error", "their cluster", "--lift"}},

		"extend": {record(delivered(8, noon)), edits.ExtendInfrastructure{Cell: "acme", Until: soon, Reason: "freeze"},
			[]string{"due: 2026-12-08T12:00:00Z", "until: 2026-12-09T12:00:00Z", "reason: freeze", "approver: ada"}},
		"as somebody": {record(delivered(8, noon)), edits.ExtendInfrastructure{Cell: "acme", Until: soon, Reason: "freeze",
			As: "grace"}, []string{"approver: grace"}},
		"as nobody": {record(delivered(8, noon)), edits.ExtendInfrastructure{Cell: "acme", Until: soon, Reason: "freeze",
			As: "eve"}, []string{"error", "no person \"eve\""}},
		"an expired one again": {record(extended), edits.ExtendInfrastructure{Cell: "acme",
			Until: noon.Add(30 * 24 * time.Hour), Reason: "once more"},
			[]string{"until: 2026-12-24T12:00:00Z", "reason: once more"}},
		"backwards": {record(extended), edits.ExtendInfrastructure{Cell: "acme", Number: 8, Until: soon, Reason: "freeze"},
			[]string{"error", "is due at 2026-12-14T12:00:00Z, which is not before"}},
		"into the past": {record(delivered(8, noon.Add(-30*24*time.Hour))), edits.ExtendInfrastructure{Cell: "acme",
			Until: noon.Add(-time.Hour), Reason: "freeze"}, []string{"error", "is over"}},
		"no deadline": {record(bounced), edits.ExtendInfrastructure{Cell: "acme", Until: soon, Reason: "freeze"},
			[]string{"error", "no such deadline"}},
		"the one that is due first": {record(delivered(7, noon), delivered(8, noon.Add(-24*time.Hour))),
			edits.ExtendInfrastructure{Cell: "acme", Until: soon, Reason: "freeze"},
			[]string{"number: 7", "number: 8", "until:"}},

		"exempt it": {record(delivered(8, noon)), edits.ExemptInfrastructure{Cell: "acme", Reason: "their cluster"},
			[]string{"exempt: their cluster", "number: 8"}},
		"no longer": {&cells.InfrastructureRecord{Exempt: "their cluster", Updates: []cells.InfrastructureNotice{
			delivered(8, noon)}}, edits.ExemptInfrastructure{Cell: "acme", Lift: true}, []string{"number: 8"}},
		"it never was": {nil, edits.ExemptInfrastructure{Cell: "acme", Lift: true}, []string{"unchanged"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := decided(edits.Decide(c.do, withUpdates(c.record), ada, noon))
			at := 0
			for _, want := range c.want {
				i := strings.Index(got[at:], want)
				if i < 0 {
					t.Fatalf("%q is not there, in this order:\n%s", want, got)
				}
				at += i
			}
		})
	}
}

// R52, R62: where there are owners, only they decide about deadlines. Who removes or renames a cell takes its record
// along.
func TestR62RecordsAreOwners(t *testing.T) {
	const file = "cells/acme/infrastructure.yaml"
	s := withUpdates(&cells.InfrastructureRecord{Updates: []cells.InfrastructureNotice{delivered(8, noon)}})
	s.Files = files(map[string]string{"cells/acme/cell.yaml": "channel: dedicated\n", file: "updates: []\n"})
	s.Desired.Authority = plan.Authority{Owners: []string{"grace"}, OwnerKeys: []string{line(key(2))}}
	got := decided(edits.Decide(edits.ExemptInfrastructure{Cell: "acme", Reason: "no"}, s, ada, noon))
	if !strings.Contains(got, "only owners change "+file) {
		t.Errorf("by a stranger: %s", got)
	}
	grace := ada
	grace.Key = key(2)
	if got := decided(edits.Decide(edits.ExemptInfrastructure{Cell: "acme", Reason: "no"}, s, grace, noon)); !strings.Contains(got, "exempt: \"no\"") {
		t.Errorf("by an owner: %s", got)
	}
	if got := decided(edits.Decide(edits.RemoveCell{Name: "acme"}, s, ada, noon)); !strings.Contains(got, "- "+file) {
		t.Errorf("remove: %s", got)
	}
	if got := decided(edits.Decide(edits.RenameCell{Name: "acme", To: "acme-eu"}, s, ada, noon)); !strings.Contains(got, "+ cells/acme-eu/infrastructure.yaml") {
		t.Errorf("rename: %s", got)
	}
}
