package channels

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/reason"
)

// JudgeFreezes judges the gate "freeze". Blocked: now is inside a freeze, and Until is the freeze's end; freezes that
// meet or overlap count as one. Held: Until is when the next freeze begins; zero: none is known.
func JudgeFreezes(freezes []Freeze, now time.Time) Verdict {
	v := Held("freeze", reason.NotFrozen)
	sorted := slices.Clone(freezes)
	slices.SortStableFunc(sorted, func(a, b Freeze) int { return a.From.Compare(b.From) })
	var until time.Time // the end of the stretch that the freezes so far form
	var reasons []string
	for _, f := range sorted {
		if !f.From.Before(f.Until) {
			continue
		}
		if f.From.After(until) || reasons == nil {
			if now.Before(until) {
				break // the stretch around now is complete
			}
			if now.Before(f.From) {
				v.Until = f.From
				return v
			}
			until, reasons = f.Until, []string{}
		}
		if f.Until.After(until) {
			until = f.Until
		}
		if f.Reason != "" && !slices.Contains(reasons, f.Reason) {
			reasons = append(reasons, f.Reason)
		}
	}
	if !now.Before(until) {
		return v
	}
	if len(reasons) == 0 {
		return Blocked("freeze", reason.Frozen).WithUntil(until)
	}
	return Blocked("freeze", reason.Frozen, strings.Join(reasons, "; ")).WithUntil(until)
}
