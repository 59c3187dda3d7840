package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// ExpectedMaintenance says for how long cells are expected to refuse operations for a release, which changes a component
// that takes a maintenance.
type ExpectedMaintenance struct {
	Cells    int   `json:"cells" doc:"how many cells take one"`
	Seconds  int64 `json:"seconds" doc:"for how long each refuses operations: the median of what cells measured that went through it, or else the most that the policy allows without a prolongation"`
	Measured int   `json:"measured,omitempty" doc:"how many cells measured it; none: seconds is the policy's maximum"`
}

// String returns it in words.
func (m *ExpectedMaintenance) String() string {
	takes := (time.Duration(m.Seconds) * time.Second).String()
	if m.Measured == 0 {
		return fmt.Sprintf("%s by a maintenance of at most %s", words.Count(m.Cells, "cell"), takes)
	}
	return fmt.Sprintf("%s by a maintenance of about %s, as in %s before", words.Count(m.Cells, "cell"), takes,
		words.Count(m.Measured, "cell"))
}

// TakesMaintenance reports whether the way from one release to another changes a component that takes a maintenance, as
// far as the repository tells.
func (d *Desired) TakesMaintenance(from, to string) bool {
	a, b := d.Releases[from], d.Releases[to]
	return a != nil && b != nil && a.Loaded && b.Loaded &&
		maintenance.Changes(a.Release.Components, b.Release.Components)
}

// ExpectMaintenance returns what the way to a release means for so many cells of a channel that take a maintenance.
func ExpectMaintenance(o *Observed, c *Channel, release string, count int) *ExpectedMaintenance {
	m := &ExpectedMaintenance{Cells: count}
	var measured []int64
	for _, s := range o.Cells {
		if s.Maintenance == nil {
			continue
		}
		if last := s.Maintenance.Totals.Last; last != nil && last.Release == release {
			measured = append(measured, last.Seconds)
		}
	}
	if m.Measured = len(measured); m.Measured > 0 {
		slices.Sort(measured)
		m.Seconds = max(1, measured[len(measured)/2])
		return m
	}
	var p maintenance.Policy
	if c.Valid != nil {
		p = c.Valid.Maintenance
	}
	m.Seconds = int64(p.WithDefaults().Maximum / time.Second)
	return m
}

// expectMaintenances says of each action that brings cells another release whether they take a maintenance for it.
func (p *planner) expectMaintenances() {
	for i := range p.plan.Actions {
		a := &p.plan.Actions[i]
		c := p.channels[a.Channel]
		if c == nil || a.Kind != Grant && a.Kind != Promote && a.Kind != Rollback {
			continue
		}
		takes, count := map[string]bool{}, 0 // by the release that runs: there are few
		add := func(cell string) {
			s := p.observed.Cells[cell]
			if s == nil || s.Release == "" || s.Release == a.Release {
				return
			}
			yes, known := takes[s.Release]
			if !known {
				yes = p.desired.TakesMaintenance(s.Release, a.Release)
				takes[s.Release] = yes
			}
			if yes {
				count++
			}
		}
		if a.Kind == Grant {
			for _, cell := range a.Cells {
				add(cell)
			}
		} else {
			for _, cell := range c.Cells {
				add(cell.Name)
			}
		}
		if count > 0 {
			a.Maintenance = ExpectMaintenance(p.observed, c.Channel, a.Release, count)
		}
	}
}

// judgeMaintenance returns the verdict about a cell that has what it was granted and waits for a maintenance with it.
// ok is false if it does not.
func (r *rollout) judgeMaintenance(cell *Cell, s *CellState) (v channels.Verdict, ok bool) {
	m := s.Maintenance
	if m == nil {
		return v, false
	}
	switch m.Phase {
	case maintenance.Announced:
		v = channels.Blocked("maintenance", reason.MaintenanceAnnounced, m.Release).WithUntil(s.OurTime(m.Begins))
	case maintenance.Draining:
		v = channels.Blocked("maintenance", reason.MaintenanceDraining, m.Release).WithUntil(s.OurTime(m.Until))
	default:
		return v, false
	}
	v.Cell = cell.Name
	return v.WithSubject(r.channel.Name, cmp.Or(m.Release, s.Release)), true
}

// plainSkew is how far a cell's clock may be off before its instants are shown by our clock: reports take a while, and
// what is shown should stay the same.
const plainSkew = 10 * time.Second

// OurTime returns an instant that the cell gave by its own clock.
func (s *CellState) OurTime(t time.Time) time.Time {
	if t.IsZero() || s.Skew.Abs() < plainSkew {
		return t
	}
	return t.Add(-s.Skew).Round(plainSkew)
}
