package cells

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// R18: an owner's decisions bind what the vendor grants. Each binding says why and, where time ends it, until when.
func TestOwnerJudge(t *testing.T) {
	one, two := releases.Digest("sha256:"+strings.Repeat("1", 64)), releases.Digest("sha256:"+strings.Repeat("2", 64))
	a := Assignment{Release: "1.1.0", Digest: one}
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) // a Tuesday
	nights := []window.Window{{Opens: "0 2 * * *", For: 2 * time.Hour}, {Opens: "0 22 * * SAT", For: time.Hour}}
	for _, tt := range []struct {
		name   string
		owner  *Owner
		now    time.Time
		reason string // empty: the assignment may begin
		until  string
	}{
		{"nothing decided", nil, noon, "", ""},
		{"nothing said", &Owner{}, noon, "", ""},
		{"paused", &Owner{Paused: "audit", Pin: "1.0.0"}, noon, "paused by the cell's owner: audit", ""},
		{"pinned elsewhere", &Owner{Pin: "1.0.0"}, noon, "pinned to 1.0.0 by the cell's owner", ""},
		{"pinned to it", &Owner{Pin: "1.1.0"}, noon, "", ""},
		{"not approved", &Owner{Approval: true, Approved: []releases.Digest{two}}, noon,
			"1.1.0 waits for the approval of the cell's owner", ""},
		{"approved", &Owner{Approval: true, Approved: []releases.Digest{two, one}}, noon, "", ""},
		{"approved once, and not asked any more", &Owner{Approved: []releases.Digest{two}}, noon, "", ""},
		{"outside", &Owner{Windows: nights}, noon, "outside the windows of the cell's owner: opens Wed 02:00 UTC",
			"2026-11-25T02:00:00Z"},
		{"inside", &Owner{Windows: nights}, noon.Add(15 * time.Hour), "", "2026-11-25T04:00:00Z"},
		{"a window that can't be read is shut", &Owner{Windows: []window.Window{{Opens: "x"}}}, noon,
			"outside the windows", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.owner.Judge(a, tt.now)
			if b.OK != (tt.reason == "") || !strings.HasPrefix(b.Reason, tt.reason) ||
				b.OK != (b.Code == reason.Unknown) {
				t.Errorf("ok %v: %s, %q, want %q", b.OK, b.Code, b.Reason, tt.reason)
			}
			got := ""
			if !b.Until.IsZero() {
				got = b.Until.Format(time.RFC3339)
			}
			if got != tt.until {
				t.Errorf("until %q, want %q", got, tt.until)
			}
		})
	}
}

// An owner's decisions are bounded, and faults name the field.
func TestOwnerCheck(t *testing.T) {
	for want, o := range map[string]*Owner{
		"paused has more":    {Paused: strings.Repeat("x", maxReason+1)},
		"pin":                {Pin: "newest"},
		"approved":           {Approved: []releases.Digest{"x"}},
		"more than 64":       {Approved: make([]releases.Digest, MaxApproved+1)},
		"more than 16":       {Windows: make([]window.Window, window.MaxList+1)},
		"windows[0].zone":    {Windows: []window.Window{{Opens: "0 9 * * *", For: time.Hour, Zone: "Mars/Olympus"}}},
		"windows[0].for":     {Windows: []window.Window{{Opens: "0 9 * * *"}}},
		"report of acme: ow": {Pin: "newest"},
	} {
		r := Report{Cell: "acme", Boot: "b", State: StateHealthy, Owner: o}
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	r := Report{Cell: "acme", Boot: "b", State: StateHealthy,
		Owner: &Owner{Windows: []window.Window{{Opens: "0 9 * * *", For: time.Hour}}}}
	if err := r.Validate(); err != nil {
		t.Error(err)
	}
}

// Faults in cell.yaml's pin and windows are reported with their line.
func TestCellWindows(t *testing.T) {
	for want, text := range map[string]string{
		"cells/acme/cell.yaml:4: ":             "pin: newest",
		"cells/acme/cell.yaml:4: unknown zone": `windows: [{opens: "0 9 * * *", for: 1h, zone: Mars/Olympus}]`,
		"cells/acme/cell.yaml:4: never opens":  `windows: [{opens: "0 9 30 2 *", for: 1h}]`,
	} {
		_, faults := loadOne(t, "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n"+text+"\n")
		if len(faults) != 1 || !strings.HasPrefix(faults[0].String(), want) {
			t.Errorf("%s: %v", want, faults)
		}
	}
	c, faults := loadOne(t,
		"apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\nwindows: [{opens: \"0 9 * * *\", for: 1h}]\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	if b := c.Judge("1.0.0", noon); b.OK || b.Gate != "window" || b.Code != reason.WindowShut ||
		!b.Until.Equal(noon.Add(21*time.Hour)) {
		t.Errorf("%+v", b)
	}
}

// R43: held features are bounded, and each reason belongs to a held feature.
func TestOwnerHoldsFeatures(t *testing.T) {
	many := make([]string, MaxHeld+1)
	for i := range many {
		many[i] = fmt.Sprint("f", i)
	}
	for want, o := range map[string]*Owner{
		"":                      {Features: many[:MaxHeld], Reasons: map[string]string{"f1": "training"}},
		"more than 64 features": {Features: many},
		`"two words" can't be`:  {Features: []string{"two words"}},
		`"" can't be`:           {Features: []string{""}},
		`can't be a feature's`:  {Features: []string{strings.Repeat("x", 129)}},
		"a\\x00b":               {Features: []string{"a\x00b"}},
		"a is there twice":      {Features: []string{"a", "a"}},
		`"b" is not held`:       {Features: []string{"a"}, Reasons: map[string]string{"b": "why"}},
		"that of a has more than 200 b": {Features: []string{"a"},
			Reasons: map[string]string{"a": strings.Repeat("x", 201)}},
	} {
		err := o.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func loadOne(t *testing.T, text string) (*Cell, []releases.Fault) {
	t.Helper()
	found, faults := Load(nil, fstest.MapFS{"cells/acme/cell.yaml": {Data: []byte(text), Mode: 0o644}})
	if found["acme"] == nil {
		t.Fatal(faults)
	}
	return &found["acme"].Cell, faults
}
