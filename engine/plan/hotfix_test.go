package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
)

// R17: a debt binds while the channel runs what the hotfix brought. A rollback suspends the debt for good.
func TestDebtIsSuspendedByARollback(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Union(Release("1.0.1", "fixes: [CVE-1]\n")))
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", "fixes: [CVE-1]\n"))
	w.InstallAll()
	w.WantHead("staging", "1.0.1")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.WantActions("")
	w.WantBlocked("staging", "debt", "it lacks CVE-1")
	w.Commit("eve", "it is worse", map[string]string{"quarantine/1.0.1.yaml": "digest: @digest:1.0.1\nreason: worse\n"})
	w.WantActions("rollback 1.0.0 staging")
	w.InstallAll()
	w.WantHead("staging", "1.1.0")
	w.CutAndInstall("staging", "1.2.0")
}

// R17: a hotfix that was never promoted makes no debt.
func TestNoDebtForWhatWasNeverTaken(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Union(Release("1.0.1", "fixes: [CVE-1]\n"), Release("1.1.0")))
	w.Commit("eve", "lane", Union(hotfixFile("staging", "1.0.1", "fixes: [CVE-1]\n"), map[string]string{
		"quarantine/1.0.1.yaml": "digest: @digest:1.0.1\nreason: no\n",
	}))
	w.InstallAll()
	w.WantHead("staging", "1.1.0")
	w.CutAndInstall("staging", "1.2.0")
}

// R17, invariant 10: a hotfix that can have no effect gets a verdict.
func TestLaneThatLeadsNowhere(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.Commit("bob", "cut", Release("1.0.1"))
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", ""))
	w.WantActions("")
	w.WantBlocked("staging", "hotfix", "1.0.1 is below the head 1.1.0")
	w.Commit("eve", "lane", Union(map[string]string{
		"channels/staging/hotfixes/1.0.1.yaml": "",
		"channels/staging/hotfixes/9.9.9.yaml": "digest: @digest:1.1.0\nreason: x\nexpiry: 2026-11-23T12:00:00Z\n",
	}))
	w.WantBlocked("staging", "hotfix", "9.9.9 with digest sha256:")
}

// R17, R18: a hotfix's expiry ends it for grants too.
func TestLaneEndsForGrants(t *testing.T) {
	w := One(t, "gates:\n  - window: {opens: \"0 3 * * *\", for: 1h}\n")
	w.Commit("bob", "cut", Release("1.0.1"))
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", ""))
	w.WantActions("promote 1.0.1 staging")
	p := w.WantActions("grant 1.0.1 staging s1+s2")
	if want := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC); p.Next.After(want) {
		t.Errorf("next %s, want %s at the latest", p.Next, want)
	}
	w.Commit("eve", "another", CellFiles("staging", "s3"))
	w.Now = w.Now.Add(3 * time.Hour)
	w.Obs.Cells["s3"] = w.Receive(nil, cells.Report{Cell: "s3", State: cells.StatePending})
	w.WantActions("")
	w.WantBlocked("staging", "window", "")
}

// R4: the evidence of a promotion says that a hotfix overrode a freeze.
func TestOverriddenFreezeIsRecorded(t *testing.T) {
	w := One(t, "freezes: [{from: 2026-11-20T00:00:00Z, until: 2026-12-01T00:00:00Z, reason: fair}]\n")
	w.Commit("bob", "cut", Release("1.0.1"))
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", "overrideFreeze: true\n"))
	p := w.WantActions("promote 1.0.1 staging")
	if e := p.Actions[0].Evidence; !slices.Contains(e,
		"freeze held, overridden by channels/staging/hotfixes/1.0.1.yaml: fair") {
		t.Errorf("evidence %q", e)
	}
}

// R10: doubt about the clock binds hotfixes, answers and settleWithin too.
func TestClockBindsAllThatTimeDecides(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.0.1"))
	w.Commit("eve", "lane", hotfixFile("staging", "1.0.1", ""))
	w.Obs.Clock.Step = time.Hour
	w.WantActions("")
	w.WantBlocked("staging", "clock", "stepped")
}
