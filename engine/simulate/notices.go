package simulate

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Notice is a notice of an infrastructure update that is delivered to customers, and when they execute the update. A
// customer who is not notified of an update never executes it.
type Notice struct {
	At       Moment `yaml:"at" json:"at" required:"true" doc:"when it is delivered"`
	Number   int    `yaml:"number" json:"number" required:"true" minimum:"1" doc:"of the update, which the repository has"`
	Of       Select `yaml:"of" json:"of,omitzero"`
	Executed *Span  `yaml:"executed" json:"executed,omitempty" doc:"how long after the notice the update is executed; default: never"`
}

func (s *Scenario) validateNotices(fault func(code manifest.FaultCode, at, format string, args ...any)) {
	for i, n := range s.Notices {
		at := fmt.Sprintf("notices[%d]", i)
		if x := n.Executed; x != nil {
			if x.Max == 0 {
				x.Max = x.Min
			}
			if x.Min < 0 || x.Max < x.Min {
				fault(manifest.Conflict, at+".executed", "max is less than min, or min is less than 0")
			}
		}
	}
}

// firstInfrastructure returns the number of the infrastructure update that cells have executed at the start.
func (s *Scenario) firstInfrastructure() int {
	if s.Cells.Infrastructure != nil {
		return *s.Cells.Infrastructure
	}
	least := math.MaxInt
	for _, n := range s.Notices {
		least = min(least, n.Number-1)
	}
	return least
}

func (w *world) checkNotices() (faults []error) {
	for i, n := range w.input.Scenario.Notices {
		if !slices.ContainsFunc(w.desired.Infrastructure,
			func(u infrastructure.Update) bool { return u.Number == n.Number }) {
			faults = append(faults, fmt.Errorf("notices[%d]: the repository has no infrastructure update %d", i, n.Number))
		}
		if n.At.instant(w.input.From).Before(w.input.From) {
			faults = append(faults, fmt.Errorf("notices[%d]: at is before the simulation begins", i))
		}
	}
	return faults
}

// deliverNotice commits the records of a delivered notice, and schedules when customers execute the update. The
// instants at which a deadline changes something are the plan's own.
func (w *world) deliverNotice(number int, n *Notice) error {
	files, of := map[string][]byte{}, fmt.Sprintf("notices[%d]", number)
	for _, c := range w.fleet.order {
		def := w.desired.Cells[c.name]
		if def == nil || !w.fleet.isSelected(c, n.Of, number) {
			continue
		}
		record := cells.InfrastructureRecord{APIVersion: releases.APIVersion, Kind: "InfrastructureRecord"}
		if def.Found != nil && def.Found.Infrastructure != nil {
			record = *def.Found.Infrastructure
		}
		if record.Notice(n.Number) != nil {
			continue // notified once
		}
		at := w.now.Truncate(time.Second)
		record.Updates = append(slices.Clone(record.Updates), cells.InfrastructureNotice{
			Number: n.Number, Noticed: at, By: "the scenario", Delivered: at,
			Due: at.Add(w.desired.Pipeline.Infrastructure.Deadline),
		})
		data, err := yaml.Marshal(record)
		if err != nil {
			return fmt.Errorf("notify %s: %w", c.name, err)
		}
		files[path.Join(cells.Dir, c.name, cells.InfrastructureFile)] = data
		if n.Executed != nil {
			after := n.Executed.pick(w.fleet.draw("executes", c.name, strconv.Itoa(n.Number)))
			w.queue.scheduleReport(w.now.Add(after), func() bool {
				c.infrastructure = max(c.infrastructure, n.Number)
				w.fleet.reportState(c)
				return c.outages == 0
			})
		}
	}
	w.recorder.addEvent(Event{At: w.now, Kind: "notified", Cells: len(files), Text: "infrastructure update " +
		strconv.Itoa(n.Number)})
	if len(files) == 0 {
		return nil
	}
	if err := w.repo.commit(anonymous, w.now, of, files); err != nil {
		return err
	}
	return w.readRepository()
}
