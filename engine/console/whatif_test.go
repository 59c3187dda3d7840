package console_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/console"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/simulate"
	"github.com/sluice-cd/sluice/engine/whatif"
)

// trialOf tries a policy of dedicated in a world.
func trialOf(t *testing.T, w *World, policy string) *console.Trial {
	t.Helper()
	trial := &console.Trial{Policy: "apiVersion: sluice/v1\nkind: Channel\n" + policy,
		Scenario: string(simulate.Suggest(w.Desired(), 14*24*time.Hour)), Days: 14}
	a, err := whatif.Ask(t.Context(), whatif.Source{FS: w.Open, History: w.CopyHistory},
		whatif.Question{Channel: "dedicated", Policy: []byte(trial.Policy), Scenario: []byte(trial.Scenario),
			From: w.Now, For: 14 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	trial.Answer = a
	return trial
}

// The page says in a sentence what another policy changes, draws both, and lists what differs.
func TestWhatIf(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	m := console.New(viewOf(w))
	page := func(trial *console.Trial) (string, *console.Page) {
		p := console.Render(m, console.Address{Kind: console.WhatIf, Name: "dedicated"}, console.Facts{Trial: trial})
		return string(p.Document()), p
	}
	text, p := page(&console.Trial{Policy: "kind: Channel\n# <b>mine</b>", Scenario: "seed: 1", Days: 30})
	wantSays(t, text, "an empty trial", "What if dedicated had another policy", "kind: Channel", "# <b>mine</b>",
		"Compare",
		"sluice simulate --branch BRANCH --scenario scenario.yaml --for 30d")
	if p.Still || strings.Contains(text, "<b>") {
		t.Error("the empty form is not followed, or has a tag of the text")
	}
	text, p = page(trialOf(t, w, "after: [staging]\ngates:\n  - soak: {for: 24h, cells: 2}\n"))
	wantSays(t, text, "a longer soak", "promotions come later, 0 earlier; the longest delay is 23h", "dedicated now",
		"dedicated then", "23h later", "Longest waits that differ", "soak 1h6m 24h6m", "Cells that failed one")
	if !p.Still || !strings.Contains(text, `data-at=""`) {
		t.Error("the answer is followed, though its address does not lead to it")
	}
	text, _ = page(trialOf(t, w, "after: [staging]\nsoak: 3h\n"))
	wantSays(t, text, "a fault", "The text has faults", "channels/dedicated/channel.yaml:4", "soak: 3h")
	text, _ = page(trialOf(t, w, "after: [staging]\ngates:\n  - soak: {for: 1h, cells: 2}\n"))
	wantSays(t, text, "the same policy", "Nothing comes at another time")
	text, _ = page(&console.Trial{Refused: "Another policy is being tried: compare again in a moment.", Days: 7})
	wantSays(t, text, "refused", "compare again in a moment")
	wantSays(t, render(viewOf(w), "/ui/whatif"), "all", "Try another policy of", "staging", "dedicated", "soak")
	wantSays(t, render(viewOf(w), "/ui/whatif/nowhere"), "none", "There is nothing of this name")
}
