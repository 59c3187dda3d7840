package view

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// A cell of a channel that needs signatures says whether it verifies them; where it needs none, it is unsigned, unless
// the cell verifies all the same.
func TestCellsSayWhetherTheyVerify(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	ledger, err := trusttest.Ledger(now, []string{"dedicated"})
	if err != nil {
		t.Fatal(err)
	}
	signed := &View{Desired: &plan.Desired{Trust: ledger}}
	unsigned := &View{Desired: &plan.Desired{}}
	verifies := &cells.SignaturesReport{Root: 3, Verified: now, Until: now.Add(time.Hour)}
	for name, c := range map[string]struct {
		view    *View
		channel string
		state   *plan.CellState
		words   string // empty: nothing is said
		none    bool   // it counts among those that verify nothing
	}{
		"verifies": {signed, "dedicated", &plan.CellState{LastReport: now, Signatures: verifies},
			"it verifies releases by root 3: last at 2026-12-01", false},
		"verifies none": {signed, "dedicated", &plan.CellState{LastReport: now},
			"--trust-root " + string(ledger.Root().Digest), true},
		"flags too": {signed, "dedicated", &plan.CellState{LastReport: now,
			Signatures: &cells.SignaturesReport{Root: 1, Verified: now, Until: now, Flags: true}},
			"it verifies releases and flags", false},
		"nothing yet": {signed, "dedicated", &plan.CellState{LastReport: now, Signatures: &cells.SignaturesReport{}},
			"has verified nothing yet", false},
		"damaged": {signed, "dedicated", &plan.CellState{LastReport: now,
			Signatures: &cells.SignaturesReport{Damaged: true}}, "nothing new begins", false},
		"never reported": {signed, "dedicated", nil, "", false},
		"another channel": {signed, "staging", &plan.CellState{LastReport: now}, "unsigned: channel staging needs no signatures",
			false},
		"verifies all the same": {signed, "staging", &plan.CellState{LastReport: now, Signatures: verifies}, "by root 3",
			false},
		"an unsigned repository": {unsigned, "dedicated", &plan.CellState{LastReport: now},
			"unsigned: channel dedicated needs no signatures", false},
		"unsigned, and never reported": {unsigned, "dedicated", nil, "so the control plane decides what it runs", false},
		"a root for nothing else": {unsigned, "dedicated", &plan.CellState{LastReport: now, Signatures: verifies},
			"by root 3", false},
	} {
		cell := &plan.Cell{}
		cell.Channel = c.channel
		got := strings.Join(c.view.signatureLines(cell, c.state), "; ")
		if (got == "") != (c.words == "") || !strings.Contains(got, c.words) {
			t.Errorf("%s: %q, want %q", name, got, c.words)
		}
		if got := c.view.VerifiesNothing(cell, c.state); got != c.none {
			t.Errorf("%s: counts as verifying nothing: %v", name, got)
		}
	}
}
