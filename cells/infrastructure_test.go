package cells_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// R62: a record is read strictly, since a mistake must not mean that no deadline runs: the cell has a fault then, which
// stops its grants.
func TestR62RecordFaults(t *testing.T) {
	const head = "apiVersion: sluice/v1\nkind: InfrastructureRecord\n"
	const noticed, delivered = "{number: 8, noticed: 2026-11-01T00:00:00Z, by: mail", ", delivered: 2026-11-01T00:00:00Z"
	const whole = noticed + delivered + ", due: 2026-11-15T00:00:00Z"
	extended := func(to, day string) string {
		return head + "updates:\n  - " + to + ", extension: {until: 2026-11-" + day +
			"T00:00:00Z, reason: r, approver: ada}}\n"
	}
	replaced := func(old, next string) string {
		return head + "updates:\n  - " + strings.Replace(whole, old, next, 1) + "}\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"good":              {head + "updates:\n  - " + whole + "}\n", ""},
		"extended":          {extended(whole, "20"), ""},
		"not delivered":     {head + "updates:\n  - " + noticed + "}\n", ""},
		"exempt":            {head + "exempt: their own cluster\n", ""},
		"exempt of nothing": {head + "exempt: \"\"\n", "exempt"},
		"due alone":         {replaced(delivered, ""), "go together"},
		"delivered alone":   {head + "updates:\n  - " + noticed + delivered + "}\n", "go together"},
		"due at once":       {replaced("11-15", "11-01"), "due is not after delivered"},
		"before the notice": {replaced("noticed: 2026-11-01", "noticed: 2026-11-02"), "before it was noticed"},
		"shorter":           {extended(whole, "10"), "ends after the deadline"},
		"nothing to extend": {extended(noticed, "10"), "no deadline to extend"},
		"without a reason": {head + "updates:\n  - " + whole +
			", extension: {until: 2026-11-20T00:00:00Z, approver: ada}}\n", "reason"},
		"twice":              {head + "updates:\n  - " + whole + "}\n  - " + whole + "}\n", "8 is there twice"},
		"a number below one": {replaced("number: 8", "number: 0"), "number"},
		"no instant":         {replaced("2026-11-15T00:00:00Z", "soon"), "due"},
		"unknown field":      {head + "paused: true\n", "paused"},
		"many":               {head + "updates:\n" + strings.Repeat("  - "+whole+"}\n", 101), "at most 100"},
	} {
		t.Run(name, func(t *testing.T) {
			f := cells.LoadCell(fstest.MapFS{
				"cells/acme/cell.yaml":           {Data: []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: c\n")},
				"cells/acme/infrastructure.yaml": {Data: []byte(c.text)},
			}, "acme")
			all := ""
			for _, fault := range f.Faults {
				all += fault.String() + "\n"
			}
			if !strings.Contains(all, c.want) || (c.want == "") != (all == "") {
				t.Errorf("faults %q, want %q", all, c.want)
			}
			if good := c.want == ""; manifest.Fatal(f.Faults) == good || (f.Infrastructure != nil) != good {
				t.Errorf("record %+v with faults %q", f.Infrastructure, all)
			}
		})
	}
}

func TestContacts(t *testing.T) {
	for text, want := range map[string]string{
		"contacts: [{name: Ops, email: ops@acme.example, zone: Europe/Berlin}]":                      "",
		"contacts: [{name: Ops, email: ops@acme.example}]":                                           "",
		"contacts: [{name: Ops, email: nobody}]":                                                     "is not an e-mail address",
		"contacts: [{name: Ops, email: \"Ops <ops@acme.example>\"}]":                                 "is not an e-mail address",
		"contacts: [{name: Ops, email: \"ops@acme.example\\r\\nBcc: x@y.example\"}]":                 "is not an e-mail address",
		"contacts: [{name: Ops, email: ops@acme.example, zone: Berlin}]":                             "is not a time zone",
		"contacts: [{name: Ops, email: ops@acme.example, zone: ../../etc/passwd}]":                   "is not a time zone",
		"contacts: [{email: ops@acme.example}]":                                                      "name",
		"contacts:\n" + strings.Repeat("  - {name: Ops, email: ops@acme.example}\n", 17):             "at most 16",
		"contacts: [{name: Ops, email: ops@acme.example, zone: Local}]":                              "is not a time zone",
		"contacts: [{name: Ops, email: ops@acme.example, zone: Pacific/Kiritimati, phone: \"123\"}]": "phone",
	} {
		f := cells.LoadCell(fstest.MapFS{"cells/acme/cell.yaml": {
			Data: []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: c\n" + text + "\n")}}, "acme")
		all := ""
		for _, fault := range f.Faults {
			all += fault.String() + "\n"
		}
		if !strings.Contains(all, want) || (want == "") != (all == "") {
			t.Errorf("%s: faults %q, want %q", text, all, want)
		}
	}
}
