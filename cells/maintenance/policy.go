package maintenance

import (
	"cmp"
	"fmt"
	"time"
)

// Overdue says what happens to an update if operations outlast Policy.Drain.
type Overdue string

const (
	Postpone Overdue = "postpone" // the update is put off (default)
	Force    Overdue = "force"    // the update goes on without them
)

// Policy bounds maintenances, for the cells of a channel. Zero fields mean the defaults.
type Policy struct {
	Lead    time.Duration `yaml:"lead" json:"lead,omitempty" doc:"how long ahead the product is told; default: not at all"`
	Drain   time.Duration `yaml:"drain" json:"drain,omitempty" positive:"true" doc:"how long operations under way may take; default 2m"`
	Overdue Overdue       `yaml:"overdue" json:"overdue,omitempty" enum:"postpone,force" doc:"if operations take longer: postpone the update (default), or force it"`
	Again   time.Duration `yaml:"again" json:"again,omitempty" positive:"true" doc:"how long a postponed update waits; default 15m"`
	Maximum time.Duration `yaml:"maximum" json:"maximum,omitempty" positive:"true" doc:"after so long operations are no longer refused, though the agent be dead; a living agent prolongs it while the update is under way, to three times that at most; default 10m"`
}

// Bounds of a Policy.
const (
	MaxLead    = 24 * time.Hour
	MaxMaximum = 2 * time.Hour
	prolongBy  = 3 // times Maximum, in all
)

// WithDefaults returns p with the documented defaults.
func (p Policy) WithDefaults() Policy {
	p.Maximum = cmp.Or(p.Maximum, 10*time.Minute)
	p.Drain = cmp.Or(p.Drain, min(2*time.Minute, p.Maximum/2))
	p.Overdue = cmp.Or(p.Overdue, Postpone)
	p.Again = cmp.Or(p.Again, 15*time.Minute)
	return p
}

// PolicyFault says what is wrong with a field of a Policy.
type PolicyFault struct{ Field, Reason string }

// Check returns what is wrong with p.
func (p Policy) Check() []PolicyFault {
	var faults []PolicyFault
	check := func(wrong bool, field, format string, args ...any) {
		if wrong {
			faults = append(faults, PolicyFault{field, fmt.Sprintf(format, args...)})
		}
	}
	check(p.Lead < 0 || p.Lead > MaxLead, "lead", "lead must be from 0s to %s, not %s", MaxLead, p.Lead)
	check(p.Maximum != 0 && (p.Maximum < time.Second || p.Maximum > MaxMaximum), "maximum",
		"maximum must be from 1s to %s, not %s", MaxMaximum, p.Maximum)
	check(p.Drain != 0 && p.Drain < time.Second, "drain", "drain must be at least 1s, not %s", p.Drain)
	check(p.Again != 0 && (p.Again < time.Second || p.Again > MaxLead), "again", "again must be from 1s to %s, not %s",
		MaxLead, p.Again)
	full := p.WithDefaults()
	check(p.Drain != 0 && full.Drain >= full.Maximum, "drain",
		"drain (%s) must be less than maximum (%s), which leaves time for the update", full.Drain, full.Maximum)
	return faults
}

// Expected returns how long an update takes longer because of a maintenance, from the announcement to the end of the
// drain, at the most, unless it is put off.
func (p Policy) Expected() time.Duration {
	p = p.WithDefaults()
	return p.Lead + p.Drain
}
