package announce

import (
	"fmt"
	"path"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// checkNames warns of names that the release repository does not know. They are no errors, since the release repository
// may learn them later.
func (p *planner) checkNames() {
	contained := map[string]bool{}
	for _, r := range p.input.Releases {
		addNames(contained, r.Features)
	}
	cells := make(map[string]bool, len(p.input.Cells))
	for i := range p.input.Cells {
		cells[p.input.Cells[i].Name] = true
	}
	for _, d := range p.input.Tip.Flags {
		if f := d.Feature(); f != "" && !contained[f] {
			p.addWarning(manifest.UnknownReference, d.File, d.Line,
				fmt.Sprintf("flag %s: no release contains the feature %s", d.Key, f))
		}
	}
	for _, a := range p.announcements {
		if a.tip == nil || a.tip.Archived || a.tip.Cancelled != "" {
			continue
		}
		file := path.Join(repository.AnnouncementsDir, a.id+".yaml")
		for _, f := range a.tip.Features {
			if !contained[f] {
				p.addWarning(manifest.UnknownReference, file, 0, "no release contains the feature "+f)
			}
		}
		for name := range a.tip.Channels {
			if p.channelsByName[name] == nil {
				p.addWarning(manifest.UnknownReference, file, 0, "channels: there is no channel "+name)
			}
		}
		p.checkSelector(file, a.tip.Cells, cells)
	}
	for _, o := range p.input.Tip.Overrides {
		p.checkSelector(path.Join(repository.OverridesDir, o.Name+".yaml"), o.Cells, cells)
	}
}

func (p *planner) checkSelector(file string, s repository.Selector, cells map[string]bool) {
	for _, name := range s.Channels {
		if p.channelsByName[name] == nil {
			p.addWarning(manifest.UnknownReference, file, 0, "cells.channels: there is no channel "+name)
		}
	}
	for _, name := range s.Names {
		if !cells[name] {
			p.addWarning(manifest.UnknownReference, file, 0, "cells.names: there is no cell "+name)
		}
	}
}
