package plan

import (
	"slices"

	"github.com/sluice-cd/sluice/releases"
)

// Source is where a release's bytes are.
type Source struct{ Commit, Version string }

// Sources tells where each head's bytes are: the first channel's newest counts. Made once for each Desired that Build gives.
func (d *Desired) Sources() map[releases.Digest]Source {
	if d.places != nil {
		return d.places()
	}
	return d.walkHeads()
}

func (d *Desired) walkHeads() map[releases.Digest]Source {
	all := map[releases.Digest]Source{}
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			if _, there := all[h.Digest]; !there {
				all[h.Digest] = Source{h.Commit, h.Release}
			}
		}
	}
	return all
}
