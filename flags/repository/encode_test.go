package repository

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/internal/manifest"
)

func drawAnnouncement(rt *rapid.T) *Announcement {
	name := rapid.StringMatching(`[a-z][a-z0-9]{0,4}`)
	at := rapid.Map(rapid.Int64Range(1e9, 3e9), func(s int64) LocalTime { return LocalTimeOf(time.Unix(s, 0).UTC()) })
	a := &Announcement{
		APIVersion: "sluice/v1", Kind: "Announcement", Title: rapid.StringMatching(`[ -~]{0,8}[a-z]`).Draw(rt, "title"),
		ID:    "x",
		Notes: rapid.StringMatching(`([ -~]{0,9}\n?){0,3}`).Draw(rt, "notes"), Now: rapid.Bool().Draw(rt, "now"),
		Embargo:  rapid.Bool().Draw(rt, "embargo"),
		Features: rapid.SliceOfNDistinct(name, 1, 3, rapid.ID).Draw(rt, "features"),
		Zone:     rapid.SampledFrom([]string{"", "Europe/Berlin"}).Draw(rt, "zone"),
	}
	if rapid.Bool().Draw(rt, "timed") {
		a.PublishAt = at.Draw(rt, "at")
		a.Channels = map[string]PublishTime{
			"staging": {Ready: true}, "beta": {At: at.Draw(rt, "beta")}, "never": {Never: true},
		}
	}
	if rapid.Bool().Draw(rt, "selects") {
		a.Cells = Selector{
			Names:  rapid.SliceOfNDistinct(name, 1, 3, rapid.ID).Draw(rt, "names"),
			Labels: map[string]string{"tier": name.Draw(rt, "tier")},
		}
		a.Approvals = &ApprovalRule{Count: rapid.IntRange(0, 3).Draw(rt, "count"), From: []string{"legal"}}
		a.WhenNotReady = Readiness{
			Mode:    rapid.SampledFrom([]string{skip, block}).Draw(rt, "mode"),
			Percent: rapid.IntRange(1, 100).Draw(rt, "percent"),
		}
	}
	if rapid.Bool().Draw(rt, "ramps") {
		a.Ramp = Ramp{
			By: "cell",
			Steps: []Step{
				{Percent: rapid.IntRange(0, 50).Draw(rt, "first")},
				{Percent: 100, After: Duration(rapid.Int64Range(1, 1e6).Draw(rt, "after")) * Duration(time.Second)},
			},
		}
	}
	return a
}

// An encoded announcement decodes to an equal one.
func TestAnnouncementsRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := drawAnnouncement(rt)
		written, err := yaml.Marshal(a)
		if err != nil {
			rt.Fatal(err)
		}
		doc, faults := manifest.Decode[Announcement]("announcements/x.yaml", written)
		if len(faults) > 0 {
			rt.Fatalf("%s\n%v", written, faults)
		}
		doc.Value.ID = "x"
		if (a.WhenNotReady == Readiness{}) && doc.Value.WhenNotReady.Mode == wait { // the same, written out
			doc.Value.WhenNotReady = Readiness{}
		}
		if diff := cmp.Diff(a, &doc.Value, cmp.AllowUnexported(Announcement{}, LocalTime{})); diff != "" {
			rt.Fatalf("%s\n%s", written, diff)
		}
		var again Announcement
		text, err := json.Marshal(a)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if diff := cmp.Diff(a, &again, cmp.AllowUnexported(Announcement{}, LocalTime{})); err != nil || diff != "" {
			rt.Fatalf("%s\n%v %s", text, err, diff)
		}
	})
}

func TestTexts(t *testing.T) {
	for _, tt := range []struct{ kind, in, want string }{ // an empty want: refused
		{"duration", "30m", "30m"}, {"duration", "7d", "168h"}, {"duration", "90s", "1m30s"}, {"duration", "0s", "0s"},
		{"duration", "24h0m0s", "24h"}, {"duration", "100ms", "100ms"},
		{"duration", "-1s", ""}, {"duration", "soon", ""}, {"duration", "1", ""}, {"duration", "-7d", ""},
		{"when", "ready", "ready"}, {"when", "never", "never"}, {"when", "2026-12-01T10:00", "2026-12-01T10:00:00"},
		{"when", "", ""}, {"when", "Ready", ""},
		{"when", "2026-12-01", ""}, {"when", "2026-12-01T10:00:00Z", ""}, {"when", "2026-12-01T10:00:00.5", ""},
		{"when", "2026-02-30T10:00:00", ""},
		{"readiness", "wait", "wait"}, {"readiness", "skip 90%", "skip 90%"}, {"readiness", "block 100%", "block 100%"},
		{"readiness", "skip", ""}, {"readiness", "skip 90", ""}, {"readiness", "skip 0%", ""},
		{"readiness", "block 101%", ""}, {"readiness", "wait 5%", ""}, {"readiness", "skip +5%", ""},
		{"readiness", "", ""}, {"readiness", "skip %", ""},
	} {
		var pattern string
		var v interface {
			UnmarshalText([]byte) error
			MarshalText() ([]byte, error)
		}
		switch tt.kind {
		case "duration":
			v, pattern = new(Duration), DurationPattern
		case "when":
			v, pattern = new(PublishTime), WhenPattern
		default:
			v, pattern = new(Readiness), ReadinessPattern
		}
		err := v.UnmarshalText([]byte(tt.in))
		if matches := regexp.MustCompile(pattern).MatchString(tt.in); matches != (err == nil) &&
			tt.in != "2026-02-30T10:00:00" {
			t.Errorf("%s %q: %v, but the schema says %t", tt.kind, tt.in, err, matches)
		}
		if (err == nil) != (tt.want != "") {
			t.Errorf("%s %q: %v", tt.kind, tt.in, err)
		}
		if err != nil {
			continue
		}
		if text, err := v.MarshalText(); err != nil || string(text) != tt.want {
			t.Errorf("%s %q is written as %q, want %q; %v", tt.kind, tt.in, text, tt.want, err)
		}
	}
}
