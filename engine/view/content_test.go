package view_test

import (
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/view"
)

// R34: Content finds the bytes of every head by digest.
func TestContentByDigest(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.CutAndInstall("staging", "1.1.0")
	d := w.Desired()
	v := &view.View{Desired: d, Observed: &w.Obs}
	for _, c := range d.Channels {
		for _, h := range c.History {
			commit, version, ok := v.Content(h.Digest)
			if !ok || version != h.Release || w.Commits[commit] == nil {
				t.Errorf("%s is at %q, %q", h.Release, commit, version)
			}
		}
	}
	if _, _, ok := v.Content("sha256:none"); ok {
		t.Error("what was never a head is offered")
	}
}
