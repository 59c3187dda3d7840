package simulate

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Decision holds what cells' owners decide on their machines (R18). Of several, the last that begins counts.
type Decision struct {
	Of      Select          `yaml:"of" json:"of,omitzero"`
	From    Moment          `yaml:"from" json:"from,omitzero"`
	For     time.Duration   `yaml:"for" json:"for,omitempty" doc:"default: to the end"`
	Paused  string          `yaml:"paused" json:"paused,omitempty" doc:"why they begin nothing"`
	Pin     string          `yaml:"pin" json:"pin,omitempty" doc:"the only release that they begin"`
	Windows []window.Window `yaml:"windows" json:"windows,omitempty" doc:"when they begin something new"`
}

// Join adds cells, with nothing installed, during the simulation.
type Join struct {
	At      Moment `yaml:"at" json:"at" required:"true"`
	Channel string `yaml:"channel" json:"channel" required:"true"`
	Cells   int    `yaml:"cells" json:"cells" required:"true" minimum:"1" maximum:"10000"`
}

func (d *Decision) owner() *cells.Owner {
	return &cells.Owner{Paused: d.Paused, Pin: d.Pin, Windows: d.Windows}
}

func (s *Scenario) validateOwners(fault func(code manifest.FaultCode, at, format string, args ...any)) {
	for i := range s.Owners {
		d := &s.Owners[i]
		at := fmt.Sprintf("owners[%d]", i)
		if d.Paused == "" && d.Pin == "" && len(d.Windows) == 0 {
			fault(manifest.Missing, at, "it decides nothing: give paused, pin or windows")
		}
		if err := d.owner().Validate(); err != nil {
			fault(manifest.WrongValue, at, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// scheduleDecision schedules an owners' decision, which its cells report and follow.
func (f *fleet) scheduleDecision(number int, d *Decision) {
	from := d.From.instant(f.world.input.From)
	set := func(o *cells.Owner) func() bool {
		return func() (seen bool) {
			for _, c := range f.order {
				if f.isSelected(c, d.Of, number) {
					c.owner = o
					f.reportState(c)
					f.tryBegin(c)
					seen = seen || c.outages == 0
				}
			}
			return seen
		}
	}
	f.world.queue.scheduleReport(from, set(d.owner()))
	if d.For > 0 {
		f.world.queue.scheduleReport(from.Add(d.For), set(nil))
	}
}

// tryBegin begins the offered assignment unless the cell's owner forbids it, and tries again when time may have changed
// that.
func (f *fleet) tryBegin(c *cell) {
	if c.offered == nil || c.applying != nil && !c.hung {
		return
	}
	bound := c.owner.Judge(*c.offered, f.world.now)
	if bound.OK || c.running != nil && c.running.SameContent(*c.offered) {
		f.beginApplying(c)
		return
	}
	if !bound.Until.IsZero() {
		f.world.queue.scheduleReport(bound.Until, func() bool { f.tryBegin(c); return c.outages == 0 })
	}
}

func (w *world) joinCells(number int, j Join) error {
	files := map[string][]byte{}
	data, err := draftCell(w.desired.Channels[j.Channel])
	if err != nil {
		return err
	}
	for i := range j.Cells {
		files[path.Join(cells.Dir, fmt.Sprintf("join-%d-%05d", number+1, i+1), "cell.yaml")] = data
	}
	message := fmt.Sprintf("cells: %d more in %s", j.Cells, j.Channel)
	if err := w.repo.commit(anonymous, w.now, message, files); err != nil {
		return err
	}
	if err := w.readRepository(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w.fleet.addCell(w.desired.Cells[path.Base(path.Dir(name))], nil)
	}
	slices.SortFunc(w.fleet.order, func(a, b *cell) int { return strings.Compare(a.name, b.name) })
	w.recorder.addEvent(Event{At: w.now, Kind: "joined", Channel: j.Channel, Cells: j.Cells})
	return nil
}

// draftCell returns a cell.yaml with the profile, values and labels of the channel's first cell.
func draftCell(c *plan.Channel) ([]byte, error) {
	content := map[string]any{"apiVersion": releases.APIVersion, "kind": "Cell", "channel": c.Name}
	if len(c.Cells) > 0 {
		first := c.Cells[0].Cell
		content["values"], content["labels"] = first.Values, first.Labels
		if first.Profile != "" {
			content["profile"] = first.Profile
		}
	}
	data, err := yaml.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("add cells to %s: %w", c.Name, err)
	}
	return data, nil
}
