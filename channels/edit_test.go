package channels

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/internal/manifest"
)

func TestAddFreeze(t *testing.T) {
	freeze := Freeze{From: parseTime(t, "2026-12-20T00:00:00+01:00"), Until: parseTime(t, "2027-01-05T00:00:00Z"),
		Reason: `year's end: "no deploys" # really`}
	const entry = `{from: 2026-12-20T00:00:00+01:00, until: 2027-01-05T00:00:00Z, reason: "year's end: \"no deploys\" # really"}`
	const past = "{from: 2025-12-20T00:00:00Z, until: 2026-01-05T00:00:00Z}"
	for _, tt := range []struct{ name, before, after string }{
		{"the first one", header + "\n# who comes first\nafter:   [staging]   # as ever\n\n",
			"freezes:\n  - " + entry + "\n"},
		{"no line break at the end", header + "after: [staging]", "\nfreezes:\n  - " + entry + "\n"},
		{"after the others", header + "# quiet times\nfreezes:\n  # every year\n  - " + past + " # past\n",
			"  - " + entry + "\n# what then\nonFailure: halt # stop\n"},
		{"after the others, not indented", header +
			"freezes:\n- from: 2025-12-20T00:00:00Z\n  until: 2026-01-05T00:00:00Z\n",
			"- " + entry + "\nonFailure: halt\n"},
		{"before one that ends nobody knows where", header + "freezes:\n", "  - " + entry +
			"\n  - from: 2025-12-20T00:00:00Z\n    until: 2026-01-05T00:00:00Z\n    reason: |\n      much\n      to say\n"},
		{"in brackets", header + "description: \"ü\"\nfreezes: [", entry + ", " + past + "]\n"},
		{"in empty brackets", header + "freezes: [", entry + "]\n"},
		{"a key with nothing", header + "freezes: # none\n", "  - " + entry + "\nonFailure: halt\n"},
		{"all in one line", "{", "freezes: [" + entry + "], apiVersion: sluice/v1, kind: Channel}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.before + tt.after
			text := tt.before + strings.NewReplacer("freezes: ["+entry+"], ", "", entry+", ", "",
				"\nfreezes:\n  - "+entry+"\n", "", "freezes:\n  - "+entry+"\n", "",
				"  - "+entry+"\n", "", "- "+entry+"\n", "", entry, "").Replace(tt.after)
			got, err := AddFreeze([]byte(text), freeze)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if string(got) != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestAddFreezeRefused(t *testing.T) {
	freeze := Freeze{From: parseTime(t, "2026-12-20T00:00:00Z"), Until: parseTime(t, "2027-01-05T00:00:00Z")}
	for _, tt := range []struct {
		text   string
		freeze Freeze
		want   string
	}{
		{header, Freeze{From: freeze.Until, Until: freeze.From}, "it must end after it begins"},
		{header, Freeze{From: freeze.From, Until: freeze.Until, Reason: "\xff"}, "not valid UTF-8"},
		{header + "freeze: []\n", freeze, `correct the policy first: channel.yaml:3: unknown field "freeze"`},
		{"", freeze, "correct the policy first: channel.yaml:1: is empty"},
		{header + "...\n", freeze, "add it by hand"},
		{header + "freezes: ~\n", freeze, "add it by hand"},
	} {
		if got, err := AddFreeze([]byte(tt.text), tt.freeze); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
}

// Any number of freezes can be added, with any reason, and all are read again.
func TestAddFreezes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.SampledFrom([]string{header, designExample, header + "freezes: []\n",
			header + "freezes:\n"}).Draw(t, "policy"))
		before, _ := manifest.Decode[Channel]("channel.yaml", text)
		n := rapid.IntRange(1, 4).Draw(t, "n")
		for range n {
			from := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "from"),
				0).In(time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "offset")))
			edited, err := AddFreeze(text,
				Freeze{From: from, Until: from.Add(time.Hour), Reason: rapid.String().Draw(t, "reason")})
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			text = edited
		}
		after, faults := manifest.Decode[Channel]("channel.yaml", text)
		if len(faults) > 0 || len(after.Value.Freezes) != len(before.Value.Freezes)+n {
			t.Fatalf("%s\n%s", joinFaults(faults), text)
		}
	})
}

// Ending the only freeze, which has not begun, leaves a policy without the field: an empty list is a fault.
func TestEndFreezesLeavesNoEmptyList(t *testing.T) {
	now := time.Date(2027, 1, 5, 0, 0, 0, 0, time.UTC)
	text := header +
		"freezes:\n  - {from: 2027-01-05T00:00:00Z, until: 2027-01-06T00:00:00Z, reason: fair}\nonFailure: halt\n"
	edited, ended, err := EndFreezes([]byte(text), now)
	if err != nil || len(ended) != 1 || string(edited) != header+"onFailure: halt\n" {
		t.Errorf("%q %v %v", edited, ended, err)
	}
}
