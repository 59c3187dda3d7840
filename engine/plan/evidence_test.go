package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/internal/reason"
)

// soaked returns a world in which dedicated accepted 1.1.0, which is staging's head, and only a when-gate keeps
// dedicated from it.
func soaked(t *testing.T) *World {
	w := TwoChannels(t, Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, cells: 2}\n"+
		"  - when: \"release.version != '1.1.0'\"\n"))
	w.ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.InstallAll()
	w.Wait(2*time.Hour, "staging", "dedicated")
	p := w.WantActions("")
	if len(w.Obs.Learned.Accepted) == 0 || w.Obs.Learned.Accepted[0].Digest != w.Digest("1.1.0") {
		t.Fatalf("not accepted: %+v %v", w.Obs.Learned.Accepted, p.Blocked)
	}
	return w
}

func open(w *World) {
	w.Commit("eve", "now it may", Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 1h, cells: 2}\n"))
}

// R50: an acceptance is suspended while the upstream still has the release as its head and is ill on it.
func TestAcceptanceIsSuspended(t *testing.T) {
	w := soaked(t)
	reportState(w, "s1", cells.StateUnhealthy)
	open(w)
	w.WantActions("")
	w.WantBlocked("dedicated", "soak", "staging: 1 of 2 cells healthy for 1h")
	for range 70 {
		w.Wait(time.Minute, "staging", "dedicated")
	}
	p := w.WantActions("promote 1.1.0 dedicated")
	if e := strings.Join(p.Actions[0].Evidence, "; "); !strings.Contains(e, "2 of 2 cells healthy for 1h9m") {
		t.Errorf("the evidence is not of now: %s", e)
	}
}

// R7, R50: once the upstream went on to a newer head, the acceptance is latched.
func TestAcceptanceLatchesWhenTheUpstreamGoesOn(t *testing.T) {
	w := soaked(t)
	w.Commit("bob", "cut", Release("1.2.0"))
	w.InstallAll()
	w.WantHead("staging", "1.2.0")
	reportState(w, "s1", cells.StateUnhealthy)
	reportState(w, "s2", cells.StateUnhealthy)
	open(w)
	w.WantActions("promote 1.1.0 dedicated")
}

// R50: an acceptance ends when a person takes the upstream back below the release.
func TestAcceptanceEndsWithATakeBack(t *testing.T) {
	w := soaked(t)
	w.RequestRelease("staging", "1.0.0")
	w.WantActions("rollback 1.0.0 staging")
	w.Settle()
	w.Wait(time.Minute, "staging", "dedicated")
	open(w)
	w.WantActions("")
	w.WantHead("dedicated", "1.0.0")
}

// R50: after a quarantine, acceptance begins anew.
func TestAcceptanceBeginsAnewAfterAQuarantine(t *testing.T) {
	w := soaked(t)
	w.Commit("eve", "wait", map[string]string{
		"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: odd\nchannels: [dedicated]\n",
	})
	w.WantActions("")
	reportState(w, "s1", cells.StateUnhealthy)
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Commit("eve", "it was nothing", map[string]string{"quarantine/1.1.0.yaml": ""})
	w.Commit("eve", "skip",
		map[string]string{"channels/staging/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n" +
			"advance: newest\n"})
	w.InstallAll()
	w.WantHead("staging", "1.2.0") // staging went on, and no soak of 1.1.0 came after the quarantine
	open(w)
	w.WantActions("")
	w.WantHead("dedicated", "1.0.0")
}

// R58: an open hotfix is judged by its own gates, whatever greater release waits, and each has a verdict.
func TestLanesAreJudgedFirst(t *testing.T) {
	window := "gates:\n  - window: {opens: \"0 3 * * *\", for: 1h}\n  - when: \"release.version != '1.0.2'\"\n"
	w := One(t, window)
	w.Commit("bob", "cut", Union(Release("1.0.1"), Release("1.0.2"), Release("1.1.0")))
	w.WantActions("")
	w.WantBlocked("staging", "window", "")
	w.Commit("eve", "lanes", Union(hotfixFile("staging", "1.0.1", ""), hotfixFile("staging", "1.0.2", "")))
	w.WantActions("promote 1.0.1 staging")
	w.InstallAll()
	w.WantActions("")
	for _, release := range []string{"1.0.2", "1.1.0"} {
		found := false
		for _, v := range w.Plan().Blocked {
			found = found || v.Release == release && v.Cell == ""
		}
		if !found {
			t.Errorf("no verdict about %s: %v", release, w.Plan().Blocked)
		}
	}
}

// R58: a lane skips promote: manual, and a greater release with a request does not keep it back.
func TestLaneSkipsManual(t *testing.T) {
	w := One(t, "promote: manual\ngates:\n  - window: {opens: \"0 3 * * *\", for: 1h}\n")
	w.Commit("bob", "cut", Union(Release("1.0.1"), Release("1.1.0")))
	w.RequestRelease("staging", "1.1.0")
	w.WantActions("")
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", ""))
	w.WantActions("promote 1.0.1 staging")
	w.Settle()
	w.WantHead("staging", "1.0.1")
}

// R58: a lane that waits for its own gate does not keep back a greater release that is ready.
func TestWaitingLaneKeepsNothingBack(t *testing.T) {
	w := One(t, "gates:\n  - when: \"release.version != '1.0.1'\"\n")
	w.Commit("eve", "cut", Union(Release("1.0.1"), Release("1.1.0"), hotfixFile("staging", "1.0.1", "")))
	p := w.WantActions("promote 1.1.0 staging")
	if len(p.Blocked) == 0 || p.Blocked[0].Release != "1.0.1" {
		t.Errorf("no verdict about the lane: %v", p.Blocked)
	}
}

// R58: a release at some of several upstreams that is quarantined, or below the floor, has a verdict.
func TestExcludedAtSomeUpstreams(t *testing.T) {
	for gate, more := range map[string]map[string]string{
		"quarantine": {"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: bad\nchannels: [dedicated]\n"},
		"floor": {"channels/dedicated/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\nafter: [east, west]\n" +
			"floor: 1.2.0\n"},
	} {
		w := NewWorld(t, Union(Policy("east", ""), Policy("west", "promote: manual\n"),
			Policy("dedicated", "after: [east, west]\n"), CellFiles("east", "e1"), CellFiles("west", "w1"),
			CellFiles("dedicated", "acme"), Release("1.0.0"), Head("east", "1.0.0"), Head("west", "1.0.0"),
			Head("dedicated", "1.0.0"))).ReportInstalled()
		w.Commit("bob", "cut", Union(Release("1.1.0"), more))
		w.InstallAll()
		w.WantBlocked("dedicated", gate, "")
	}
}

// R59: a head is settled too where the downstream runs it or a newer one, and the evidence says which.
func TestSettledByTaking(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	p := w.WantActions("promote 1.1.0 staging")
	for _, v := range p.Actions[0].Verdicts {
		if v.Gate == "settled" && (v.Code != reason.HeadTaken ||
			v.Reason != "dedicated took 1.0.0 or a newer release") {
			t.Errorf("%s %s", v.Code, v.Reason)
		}
	}
}

// R59, R9: soak's percentage leaves out cells that were paused, moved or removed since the head moved, also those that
// run it.
func TestSoakLeavesOutThePaused(t *testing.T) {
	w := TwoChannels(t, CellFiles("staging", "s3"))
	w.ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.InstallAll()
	w.Commit("eve", "pause", map[string]string{
		"cells/s3/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\npaused: repairs\n"})
	for range 90 {
		w.Wait(time.Minute, "dedicated")
		for _, name := range []string{"s1", "s2"} {
			w.Report(name, cells.StateHealthy)
		}
		reportState(w, "s3", cells.StateUnhealthy)
	}
	p := w.WantActions("promote 1.1.0 dedicated")
	if e := strings.Join(p.Actions[0].Evidence, "; "); !strings.Contains(e, "2 of 2 cells healthy") {
		t.Error(e)
	}
}

// R60: with onFailure: halt nothing is quarantined, and siblings decide on their own evidence.
func TestHaltQuarantinesNothing(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", ""), Policy("east", "after: [staging]\nonFailure: halt\n"),
		Policy("west", "after: [staging]\n"), CellFiles("staging", "s1"), CellFiles("east", "e1"),
		CellFiles("west", "w1"), Release("1.0.0"), Head("staging", "1.0.0"), Head("east", "1.0.0"),
		Head("west", "1.0.0"))).ReportInstalled()
	w.InstallAll()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Now = w.Now.Add(time.Minute)
	w.Report("s1", cells.StateHealthy)
	w.WantActions("promote 1.1.0 east; promote 1.1.0 west")
	w.Settle()
	w.ReportFailed("e1", "broken")
	w.WantActions("halt 1.1.0 east")
	w.Report("w1", cells.StateHealthy)
	w.Settle()
	if q := w.Desired().Quarantine; len(q) != 0 {
		t.Errorf("quarantined: %+v", q)
	}
	w.WantHead("east", "1.1.0")
	w.WantHead("west", "1.1.0")
	if h := w.Desired().Channels["east"].Holds; len(h) != 1 ||
		!strings.Contains(h[0].Reason, "1.1.0 failed in e1: broken") {
		t.Errorf("holds %+v", h)
	}
	if p := w.Progress("east"); len(p.Failed) != 1 {
		t.Errorf("%+v", p)
	}
}
