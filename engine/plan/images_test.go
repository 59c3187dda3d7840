package plan_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Cells begin with a head once its images are at hand, or the time for that is over. The plan looks again soon.
func TestHeadWaitsForItsImages(t *testing.T) {
	w := manyCells(t, 3, "")
	until := w.Now.Add(10 * time.Minute)
	w.Obs.Warming = map[releases.Digest]plan.Warming{w.Desired().Channels["staging"].Effective.Digest: {
		Images: 5, Ready: 3, Bytes: 4_000_000_000, Here: 3_100_000_000, Until: until}}
	p := w.Plan()
	about, _ := p.BlockedIn("staging")
	want := "2 of 5 images are still being fetched: 3.1 GB of 4.0 GB; cells begin when all are here"
	if len(about) != 1 || about[0].Gate != "images" || about[0].Reason != want || !about[0].Until.Equal(until) {
		t.Errorf("%+v", about)
	}
	if got := w.Granted(); got != nil {
		t.Errorf("granted %v", got)
	}
	if next := w.Plan().Next; next.Sub(w.Now) > time.Second {
		t.Errorf("the plan stands until %s", next)
	}
	w.WaitWithout(10 * time.Minute)
	if got := w.Granted(); len(got) != 3 {
		t.Errorf("granted %v after the time for images", got)
	}
}
