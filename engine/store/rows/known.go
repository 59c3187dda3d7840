package rows

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
)

// LayFacts puts single values, by name, into what is observed.
func LayFacts(o *plan.Observed, facts map[string]string) (err error) {
	if o.Since, err = time.Parse(time.RFC3339Nano, facts["since"]); err != nil {
		return fmt.Errorf("since when it observes: %w", err)
	}
	if body, ok := facts["seen"]; ok {
		if err := Decode(body, &o.Seen); err != nil {
			return err
		}
	}
	if body, ok := facts["diverged"]; ok {
		o.Diverged = &plan.Divergence{}
		return Decode(body, o.Diverged)
	}
	return nil
}

// LayRefused puts refused pushes, by channel, into what is observed.
func LayRefused(o *plan.Observed, refused map[string]string) error {
	for channel, body := range refused {
		var r plan.Refusal
		if err := Decode(body, &r); err != nil {
			return fmt.Errorf("the refused push to %s: %w", channel, err)
		}
		o.Refused[channel] = r
	}
	return nil
}

// LayFleet puts who has slots, and who registered, into what is observed.
func LayFleet(o *plan.Observed, slots Slots, registered []plan.Registration) {
	o.Slots = make(map[string][]string, len(slots))
	for channel, cells := range slots {
		o.Slots[channel] = slices.Sorted(maps.Keys(cells))
	}
	o.Registered = make(map[string]plan.Registration, len(registered))
	for _, r := range registered {
		o.Registered[r.Cell] = r
	}
}
