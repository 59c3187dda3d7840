package channels

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases/manifest"
)

func TestAddFreeze(t *testing.T) {
	freeze := Freeze{From: at(t, "2026-12-20T00:00:00+01:00"), Until: at(t, "2027-01-05T00:00:00Z"), Reason: `year's end: "no deploys" # really`}
	const line = `{from: 2026-12-20T00:00:00+01:00, until: 2027-01-05T00:00:00Z, reason: 'year''s end: "no deploys" # really'}` + "\n"
	for _, tt := range []struct{ name, text, want string }{
		{"the first one only adds lines", header + "\n# who comes first\nafter:   [staging]   # as ever\n\ngates: []",
			header + "\n# who comes first\nafter:   [staging]   # as ever\n\ngates: []\nfreezes:\n  - " + line},
		{"comments stay", header + "# quiet times\nfreezes:\n  # every year\n  - {from: 2025-12-20T00:00:00Z, until: 2026-01-05T00:00:00Z} # past\n# what then\nonFailure: halt # stop\n",
			header + "# quiet times\nfreezes:\n  # every year\n  - {from: 2025-12-20T00:00:00Z, until: 2026-01-05T00:00:00Z} # past\n  - " + line + "# what then\nonFailure: halt # stop\n"},
		{"an empty list", header + "freezes: []\n", header + "freezes: [" + strings.TrimSpace(line) + "]\n"},
		{"a key with nothing", header + "freezes:\n", header + "freezes:\n  - " + line},
		{"all in one line", "{apiVersion: sluice/v1, kind: Channel}\n", "{apiVersion: sluice/v1, kind: Channel, freezes: [" + strings.TrimSpace(line) + "]}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AddFreeze([]byte(tt.text), freeze)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			doc, faults := manifest.Decode[Channel]("channel.yaml", got)
			if n := len(doc.Value.Freezes); len(faults) > 0 || n == 0 || !doc.Value.Freezes[n-1].From.Equal(freeze.From) || doc.Value.Freezes[n-1].Reason != freeze.Reason {
				t.Errorf("reads as %+v, %s", doc.Value.Freezes, lines(faults))
			}
		})
	}
}

func TestAddFreezeRefused(t *testing.T) {
	freeze := Freeze{From: at(t, "2026-12-20T00:00:00Z"), Until: at(t, "2027-01-05T00:00:00Z")}
	for _, tt := range []struct {
		text   string
		freeze Freeze
		want   string
	}{
		{header, Freeze{From: freeze.Until, Until: freeze.From}, "it must end after it begins"},
		{header + "freeze: []\n", freeze, `mend the policy first: channel.yaml:3: unknown field "freeze"`},
		{"", freeze, "mend the policy first: channel.yaml:1: is empty"},
		{header + "...\n", freeze, "add it by hand"},
	} {
		if got, err := AddFreeze([]byte(tt.text), tt.freeze); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
}
