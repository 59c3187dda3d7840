package engine

import (
	"slices"

	"github.com/sluice-cd/sluice/releases"
)

// place is where a release's bytes are.
type place struct{ commit, version string }

// content tells where each head's bytes are: the first channel's newest counts. Made once for each Desired that Build gives.
func (d *Desired) content() map[releases.Digest]place {
	if d.places != nil {
		return d.places()
	}
	return d.walkHeads()
}

func (d *Desired) walkHeads() map[releases.Digest]place {
	all := map[releases.Digest]place{}
	for _, name := range d.Order {
		for _, h := range slices.Backward(d.Channels[name].History) {
			if _, there := all[h.Digest]; !there {
				all[h.Digest] = place{h.Commit, h.Release}
			}
		}
	}
	return all
}
