package announcer

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// newCrowd returns an announcer that has read a repository of many flags, and a fleet of many cells.
func newCrowd(tb testing.TB, flagCount, cellCount int) (*Announcer, planInputs) {
	tb.Helper()
	definitions := "flags:\n"
	for i := range flagCount {
		definitions += fmt.Sprintf("  f%05d: {state: ENABLED, variants: {lit: true, dark: false}, defaultVariant: "+
			"lit}\n", i)
	}
	definitions += "  classes: {state: ENABLED, variants: {lit: true, dark: false}, defaultVariant: lit, metadata: " +
		"{feature: classes, off: dark}}\n"
	dir := tb.TempDir()
	n := gitrepo.InitOptions{Bare: true, Message: "begin", When: time.Now(),
		Author: releases.Person{Name: "Ada", Email: "ada@example.com"}, Files: map[string][]byte{
			"sluice.yaml":    []byte("apiVersion: sluice/v1\nkind: Flags\n"),
			"flags/all.yaml": []byte(definitions),
			"announcements/classes.yaml": []byte("apiVersion: sluice/v1\nkind: Announcement\ntitle: Classes\n" +
				"features: [classes]\n"),
		}}
	if _, err := gitrepo.Init(tb.Context(), filepath.Join(dir, "flags.git"), n); err != nil {
		tb.Fatal(err)
	}
	repo, err := gitrepo.Open(tb.Context(), filepath.Join(dir, "flags.git"),
		gitrepo.Options{Mirror: filepath.Join(dir, "mirror"), Layout: gitrepo.FlagsLayout})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = repo.Close() })
	tip, err := repo.Fetch(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	a := &Announcer{reader: reader{repo: repo}, postedEvents: map[string]bool{}}
	read, err := a.reader.readSnapshot(tb.Context(), tip)
	if err != nil || read.valid != tip {
		tb.Fatalf("%v, %v", err, read.tipTree.Faults)
	}
	a.snapshot = read
	f := &fleet{channels: []announce.Channel{{Name: "staging"}},
		releases: []announce.Release{{Version: "1.0.0", Features: []string{"classes"}}}}
	for i := range cellCount {
		f.cells = append(f.cells, announce.Cell{Name: fmt.Sprintf("cell-%05d", i), Channel: "staging", Known: true,
			Release: "1.0.0", Assignment: "1/1", Features: []string{"classes"}})
	}
	return a, planInputs{snapshot: read, fleet: f}
}

// Ten thousand cells that report lead to one encoding of one bundle.
func TestReportsEncodeNothing(t *testing.T) {
	t.Parallel()
	a, is := newCrowd(t, 100, 10_000)
	now := time.Now()
	var before map[string]*cells.Flags
	for round := range 5 {
		for i := round; i < len(is.fleet.cells); i += 5 {
			is.fleet.cells[i].Report = &announce.Report{States: map[string]flags.CellState{"classes": flags.On}}
		}
		p := a.makePlan(is, now.Add(time.Duration(round)*time.Second))
		a.memory = p.Memory
		told, bundles := a.bundles.flagsForCells(p, 1, now, before)
		if len(told) != 10_000 || len(bundles) != 1 || a.bundles.encodeCount != 1 {
			t.Fatalf("round %d: %d cells are told of %d bundles, %d were encoded", round, len(told), len(bundles),
				a.bundles.encodeCount)
		}
		distinct := map[*cells.Flags]bool{}
		for _, f := range told {
			distinct[f] = true
		}
		if len(distinct) != 1 {
			t.Errorf("%d different things are told", len(distinct))
		}
		before = told
	}
}

// A bundle can be requested for a while after the last plan that uses it.
func TestBundleRetention(t *testing.T) {
	t.Parallel()
	var p bundleCache
	now := time.Now()
	planned := func(flag string) announce.Plan {
		b := &flags.Bundle{Version: 1, Channel: "staging",
			Flags: map[string]json.RawMessage{flag: json.RawMessage(`{}`)}}
		return announce.Plan{CellFlags: map[string]*announce.CellFlags{"s1": {Bundle: b}}}
	}
	told, _ := p.flagsForCells(planned("a"), 1, now, nil)
	first := told["s1"].Bundle.Digest
	_, bundles := p.flagsForCells(planned("b"), 2, now.Add(bundleRetention), told)
	if bundles[first] == nil || len(bundles) != 2 {
		t.Errorf("%d bundles", len(bundles))
	}
	if _, bundles = p.flagsForCells(planned("b"), 3, now.Add(bundleRetention+time.Second),
		told); bundles[first] != nil {
		t.Error("a bundle is kept for ever")
	}
	unknown := announce.Plan{CellFlags: map[string]*announce.CellFlags{"s1": {}, "s2": {}}}
	kept, _ := p.flagsForCells(unknown, 4, now, told)
	if kept["s1"].Bundle.Digest != first || kept["s1"].Height != 4 || kept["s2"] != nil {
		t.Errorf("of a channel that is not known cells are told %+v", kept)
	}
}

// R39: a height is the position in the first-parent history, raised by a trailer.
func TestHeights(t *testing.T) {
	t.Parallel()
	h := newHistory()
	change := func(commit, parent, message string) releases.Change {
		return releases.Change{Commit: commit, Parent: parent, Message: message,
			Accepts: releases.Trailers(message, releases.AcknowledgeTrailer)}
	}
	err := h.advance([]releases.Change{
		change("a", "", "begin"), change("b", "a", "go on"),
		change("c", "b", "accept\n\nAcknowledge-Divergence: dead 41\n"), change("d", "c", "go on"),
		change("e", "d", "a slip\n\nAcknowledge-Divergence: beef 9223372036854775807\n"+
			"Acknowledge-Divergence: cafe x\n"),
		change("f", "e", "kill\n\nKill: k1\nKill: k2\nDecided-On: e\n"),
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for commit, want := range map[string]int64{"a": 1, "b": 2, "c": 42, "d": 43, "e": 44, "f": 45} {
		if h.heights[commit] != want {
			t.Errorf("%s is at %d, not %d", commit, h.heights[commit], want)
		}
	}
	if !h.acknowledged["dead"] || !h.acknowledged["cafe"] || h.kills["k1"] != "f" || h.kills["k2"] != "f" {
		t.Errorf("acknowledged %v, killed %v", h.acknowledged, h.kills)
	}
	if err := h.advance([]releases.Change{change("h", "g", "")}, nil, nil); err == nil {
		t.Error("a gap was folded")
	}
}

// Pending writes keep no process busy that may not write: a follower, one that waits out a refusal, and one that waits
// for a force-push to be acknowledged.
func TestPendingWritesKeepNobodyBusy(t *testing.T) {
	t.Parallel()
	writes := announce.Plan{Writes: []announce.Write{{Path: "records/x/a.yaml"}}}
	for name, a := range map[string]*Announcer{
		"it follows":        {snapshot: &snapshot{}, plan: writes},
		"nothing was read":  {leads: true, plan: writes},
		"diverged":          {leads: true, snapshot: &snapshot{}, diverged: &plan.Divergence{}, plan: writes},
		"it is being begun": {leads: true, snapshot: &snapshot{}, plan: writes},
		"nothing is owed":   {leads: true, snapshot: &snapshot{}},
	} {
		a.loaded = true
		if got := a.nextWait(); got != idleWait {
			t.Errorf("%s: it wakes after %s", name, got)
		}
	}
	a := &Announcer{loaded: true, leads: true, snapshot: &snapshot{}, plan: writes,
		pushes: pushState{notBefore: time.Now().Add(time.Minute)}}
	if got := a.nextWait(); got > time.Minute || got < 50*time.Second {
		t.Errorf("after a refusal it wakes after %s", got)
	}
}

// Only records, heads and overrides are ever written.
func TestOwnPaths(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"records/x/a.yaml": true, "heads/a.yaml": true, "overrides/kill-x.yaml": true,
		"flags/a.yaml": false, "announcements/x.yaml": false, "sluice.yaml": false, "records": false,
		"records/../flags/a.yaml": false, "/records/x": false, "": false,
	} {
		if isEngineFile(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	a := &Announcer{snapshot: &snapshot{tip: "t"},
		plan: announce.Plan{Writes: []announce.Write{{Path: "flags/a.yaml", Why: "slip"}}}}
	if _, err := a.draftCommit(time.Now()); err == nil {
		t.Error("a draft touches definitions")
	}
}

// R38: the features of what may be running are those that all of it contains.
func TestCommonFeatures(t *testing.T) {
	t.Parallel()
	release := func(version string, features ...string) *plan.Release {
		v, err := releases.ParseVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		return &plan.Release{Loaded: true,
			StoredRelease: releases.StoredRelease{Digest: releases.DigestBytes([]byte(version)),
				Release: releases.Release{Version: v, Features: features}}}
	}
	old, new := release("1.0.0", "b", "a"), release("1.1.0", "b", "c", "b")
	c := newReleaseContents(&plan.Desired{Releases: map[string]*plan.Release{"1.0.0": old, "1.1.0": new}})
	run := func(r *plan.Release) *cells.Assignment {
		if r == nil {
			return nil
		}
		return &cells.Assignment{Digest: r.Digest}
	}
	strange := &plan.Release{StoredRelease: releases.StoredRelease{Digest: releases.DigestBytes([]byte("x"))}}
	for _, tt := range []struct {
		running, applying *plan.Release
		want              string
	}{
		{old, nil, "[a b]"}, {new, nil, "[b c]"}, {old, new, "[b]"}, {new, old, "[b]"}, {nil, new, "[]"},
		{strange, nil, "[]"}, {old, strange, "[]"}, {nil, nil, "[]"},
	} {
		s := &plan.CellState{Running: run(tt.running), Applying: run(tt.applying)}
		for range 2 {
			if got := fmt.Sprint(c.commonFeatures(s)); got != tt.want {
				t.Errorf("%v, applying %v: %s, want %s", tt.running, tt.applying, got, tt.want)
			}
		}
	}
}

// A cell's wait is worded for an announcement's sentence: "acme waits for 1.1.0 (soak until …); beta is paused by its
// owner".
func TestWaits(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 12, 1, 18, 0, 30, 0, time.UTC)
	c := newReleaseContents(&plan.Desired{})
	for want, v := range map[string]channels.Verdict{
		"soak until 2026-12-01 18:00 UTC": {Gate: "soak",
			Reason: "staging: 1 of 1 cell healthy for 1h, needs 1", Until: until},
		"soak: staging: 0 of 1 cell healthy for 1h, needs 1": {Gate: "soak",
			Reason: "staging: 0 of 1 cell healthy for 1h, needs 1"},
		"window: opens Tue 19:00 Europe/Berlin, until 2026-12-01 18:00 UTC": {Gate: "window",
			Reason: "opens Tue 19:00 Europe/Berlin", Until: until},
		"is paused by its owner: quarter end": {Gate: "owner", Code: reason.OwnerPaused,
			Reason: "paused by the cell's owner: quarter end"},
		"is pinned to 1.0.0 by its owner": {Gate: "owner", Code: reason.OwnerPinned,
			Reason: "pinned to 1.0.0 by the cell's owner"},
	} {
		for range 2 { // the second time from the cache
			if got := c.describeWait(&v); got.Text != want || got.Owner != (v.Gate == "owner") {
				t.Errorf("%+v, want %q", got, want)
			}
		}
	}
	head := &plan.Channel{Effective: new(plan.EffectiveHead)}
	head.Effective.Release = "1.0.0"
	v := &view.View{Desired: &plan.Desired{Channels: map[string]*plan.Channel{"dedicated": head, "empty": {}}},
		Plan: plan.Plan{Blocked: []channels.Verdict{
			{Channel: "dedicated", Release: "1.0.0", Gate: "halt", Reason: "about the head itself"},
			{Channel: "dedicated", Cell: "acme", Release: "1.1.0", Gate: "owner", Reason: "about one cell"},
			{Channel: "dedicated", Release: "1.1.0", Gate: "soak", Until: until},
			{Channel: "dedicated", Release: "1.1.0", Gate: "approval", Reason: "the second reason"},
			{Channel: "empty", Release: "1.1.0", Gate: "freeze", Reason: "holidays"},
			{Channel: "gone", Release: "1.1.0", Gate: "freeze", Reason: "holidays"},
		}}}
	if got, want := fmt.Sprint(c.blockedReasons(v)),
		"map[dedicated:{soak until 2026-12-01 18:00 UTC false} empty:{freeze: holidays false}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

var sink announce.Plan

func BenchmarkPlan(b *testing.B) {
	a, is := newCrowd(b, 1000, 10_000)
	for b.Loop() {
		sink = a.makePlan(is, time.Now())
		a.bundles.flagsForCells(sink, 1, time.Now(), nil)
	}
}
