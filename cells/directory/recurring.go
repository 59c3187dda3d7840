package directory

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxHeals is how often in a row the same drift is healed, and the hook run for it.
const maxHeals = 2

// recurringDrift notices what drifts again after each heal: the hook, the product or a tool of the machine writes it.
// Healing it for ever would reload the product for ever. From then on a file that was added is left where it is, a
// manifest is restored, and the hook runs for neither. The loop counts as over once a heal finds the name in order.
type recurringDrift struct {
	heals   map[string]int // in a row, by name
	sighted map[string]bool
}

func (d *recurringDrift) begin() { d.sighted = map[string]bool{} }

// sight notes that a name drifted, and reports whether it recurs.
func (d *recurringDrift) sight(name string) bool {
	if d.sighted == nil { // not while a release is applied
		return false
	}
	if d.heals == nil {
		d.heals = map[string]int{}
	}
	if !d.sighted[name] {
		d.sighted[name] = true
		d.heals[name]++
	}
	return d.heals[name] > maxHeals
}

// end forgets what was in order, and returns a *cells.RecurringDriftError if anything recurs.
func (d *recurringDrift) end() error {
	maps.DeleteFunc(d.heals, func(name string, _ int) bool { return !d.sighted[name] })
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d.heals)) {
		if d.heals[name] > maxHeals {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &cells.RecurringDriftError{Reason: fmt.Sprintf("drift comes back after each heal, in %s of the version's "+
		"folder: the hook, the product or a tool on the machine writes there. The hook no longer runs for it; files "+
		"that were added are left, manifests are restored. Let it write elsewhere", words.Some(names, 3))}
}
