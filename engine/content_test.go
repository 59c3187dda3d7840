package engine

import (
	"testing"
)

// R34: what is offered is found by its digest, as a walk over the heads would.
func TestContentByDigest(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.takes("staging", "1.1.0")
	d := w.desired()
	v := &View{Desired: d, Observed: &w.obs}
	for _, c := range d.Channels {
		for _, h := range c.History {
			commit, version, ok := v.Content(h.Digest)
			if !ok || version != h.Release || w.commits[commit] == nil {
				t.Errorf("%s is at %q, %q", h.Release, commit, version)
			}
		}
	}
	if _, _, ok := v.Content("sha256:none"); ok {
		t.Error("what was never a head is offered")
	}
}
