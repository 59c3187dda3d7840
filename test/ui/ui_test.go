package ui_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// busyView returns a View in which much goes on: a rollout in waves, a failure, a hold, a soak and a freeze.
func busyView(t *testing.T) (*World, *view.View) {
	now := time.Now().UTC().Truncate(time.Minute)
	freeze := fmt.Sprintf("freezes: [{from: %s, until: %s, reason: end of the quarter}]\n",
		now.Add(30*time.Hour).Format(time.RFC3339), now.Add(78*time.Hour).Format(time.RFC3339))
	w := TwoChannels(t, Policy("dedicated", "after: [staging]\ngates:\n  - soak: {for: 24h, cells: 2}\n"+
		"rollout: {waves: [{cells: 4, soak: 1h}, {percent: 25, soak: 4h}, {percent: 100}], maxInFlight: 6, "+
		"failureBudget: 1}\n"), Policy("regulated", "after: [dedicated]\npromote: manual\n"+freeze),
		Head("regulated", "1.0.0"), CellFiles("regulated", "bank", "clinic"), infrastructureUpdate(now), CellFiles("dedicated", customers()...))
	w.Now = now.Add(-25 * time.Hour)
	w.ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0", "features: [classes]\n"))
	w.Settle()
	w.Wait(25*time.Hour, "staging", "dedicated", "regulated")
	w.Settle()
	for _, name := range customers()[:3] {
		if w.Obs.Cells[name].Last().Release == "1.1.0" {
			w.Report(name, cells.StateHealthy)
		}
	}
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Settle()
	w.Report("s1", cells.StateUnhealthy)
	w.Obs.Cells["s1"].Message = "server is not ready: the migration has not run"
	return w, viewOf(w)
}

// infrastructureUpdate returns the files of an update that a bank has four days for, and a clinic did not execute in
// time.
func infrastructureUpdate(now time.Time) map[string]string {
	record := func(due time.Time) string {
		return fmt.Sprintf("apiVersion: sluice/v1\nkind: InfrastructureRecord\nupdates:\n  - {number: 7, noticed: %s, "+
			"by: mail, delivered: %[1]s, due: %s}\n", due.AddDate(0, 0, -14).Format(time.RFC3339),
			due.Format(time.RFC3339))
	}
	return map[string]string{"infrastructure/7/infrastructure.yaml": "apiVersion: sluice/v1\nkind: Infrastructure\n" +
		"number: 7\nnotes: newer nodes\nimpact: none\norder: [instance]\n",
		"infrastructure/7/instance.yaml":   "Resources: {}\n",
		"cells/bank/infrastructure.yaml":   record(now.AddDate(0, 0, 4)),
		"cells/clinic/infrastructure.yaml": record(now.AddDate(0, 0, -2))}
}

// customers are names of cells.
func customers() (all []string) {
	for _, region := range []string{"eu", "us", "ap"} {
		for i := range 16 {
			all = append(all, fmt.Sprintf("%s-%02d", region, i+1))
		}
	}
	return all
}

// plainView returns the View of a world as it is.
func plainView(w *World) *view.View {
	o := w.Obs
	return &view.View{Desired: w.Desired(), Observed: &o, Plan: w.Plan(), Flags: announced(w.Now)}
}

func viewOf(w *World) *view.View {
	v := plainView(w)
	v.Desired.Channels["regulated"].Holds = []channels.Hold{{ID: "h1", Reason: "a customer asked", By: "ada"}}
	v.Plan = plan.Make(v.Desired, v.Observed, w.Now)
	return v
}

// announced returns the flags of a product: a feature that turns on within hours, and a flag that is killed.
func announced(now time.Time) *view.Flags {
	files := fstest.MapFS{}
	for name, text := range map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Flags\n",
		"flags/flags.yaml": "flags:\n  class-picker:\n    state: ENABLED\n    variants: {on: true, off: false}\n" +
			"    defaultVariant: on\n    metadata: {feature: classes, off: off}\n",
		"announcements/classes.yaml": "apiVersion: sluice/v1\nkind: Announcement\ntitle: Workspace classes\n" +
			"features: [classes]\npublishAt: " + now.Add(5*time.Hour).Format("2006-01-02T15:04:05") + "\nzone: UTC\n" +
			"notes: Choose how large a workspace is.\n"} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree := repository.Load(nil, files)
	if tree.Invalid {
		panic(fmt.Sprint(tree.Faults))
	}
	kills := []repository.Override{{Kind: repository.Kill, Flag: "class-picker", Reason: "loses text", By: "ada"}}
	var fleet []announce.Cell
	for _, name := range append(customers(), "acme", "beta") {
		fleet = append(fleet, announce.Cell{Name: name, Channel: "dedicated", Known: true, Release: "1.1.0",
			Assignment: "0/2", Features: []string{"classes"}})
	}
	return &view.Flags{Commit: "c0ffee", Tip: tree, Kills: kills, ByCell: map[string]*cells.Flags{},
		Plan: announce.Make(announce.Input{Now: now, Tip: tree, Commit: "c0ffee",
			Trees: map[string]*repository.Tree{"c0ffee": tree}, Kills: kills, Channels: []announce.Channel{{Name: "staging"},
				{Name: "dedicated", After: []string{"staging"}}, {Name: "regulated", After: []string{"dedicated"}}},
			Cells: fleet, Releases: []announce.Release{{Version: "1.1.0", Features: []string{"classes"}}}})}
}

func paths() []string {
	return []string{"/ui/", "/ui/needs", "/ui/fleet", "/ui/cells/s1", "/ui/channels/staging", "/ui/channels/regulated",
		"/ui/releases", "/ui/releases/1.1.0", "/ui/flags", "/ui/flags/class-picker", "/ui/announcements/classes",
		"/ui/when", "/ui/when?q=2d", "/ui/whatif",
		"/ui/whatif/dedicated", "/ui/history", "/ui/search?q=s",
		"/ui/cells/nobody"}
}

// hostilePaths are pages whose names, or filters, are hostile.
func hostilePaths() []string {
	name := url.PathEscape(HostileText)
	return []string{"/ui/", "/ui/needs", "/ui/fleet", "/ui/fleet?q=" + url.QueryEscape(HostileText), "/ui/cells/" +
		name,
		"/ui/channels/" + name, "/ui/releases", "/ui/releases/1.0.0", "/ui/flags", "/ui/flags/" + name, "/ui/when",
		"/ui/whatif", "/ui/whatif/" + name, "/ui/history", "/ui/search?q=evil",
		"/ui/search?q=" + url.QueryEscape(HostileText)}
}

// asAda takes everyone for one person, whose name is long.
func asAda(o *controlplane.Options) {
	o.ConsoleAs = &access.Person{Name: "Ada", Email: "ada.lovelace-of-the-release-team@engineering.example.com"}
}

// No page has a fault that axe-core finds, in light, dark and forced colours.
func TestAccessibility(t *testing.T) {
	w, v := busyView(t)
	s := newSite(t, v, asAda)
	s.world = w
	s.countDays(t)
	s.decided = []plan.Decided{{Commit: "c1", Kind: plan.Rollback, Channel: "staging", Release: "1.0.0",
		Replaces: "1.1.0", At: Start}}
	b := open(t, 1280, 900)
	for _, appearance := range []string{"light", "dark", "forced"} {
		b.appearance(appearance)
		for _, path := range paths() {
			b.visit(s.URL + path)
			b.wantAccessible(path + " in " + appearance)
		}
	}
	b.wantNoProblems("somewhere")
}

// R54: no text that a page shows runs in a browser, or changes what the page is.
func TestR54NothingRuns(t *testing.T) {
	s := newSite(t, HostileView())
	b := open(t, 1280, 900)
	for _, path := range hostilePaths() {
		b.visit(s.URL + path)
		if ran := value[string](b, `String(globalThis.ran)`); ran != "undefined" {
			t.Errorf("%s: something ran: %s", path, ran)
		}
		if n := value[int](b, `document.scripts.length + document.images.length + document.querySelectorAll("evil").length`); n != 1 {
			t.Errorf("%s has %d scripts and images, want one script", path, n)
		}
	}
	// What comes by the stream and by the palette is held to the same.
	b.visit(s.URL + "/ui/fleet")
	b.await(`document.querySelector("#live").textContent === "live"`)
	s.setView(HostileView())
	b.do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2)), chromedp.WaitVisible("dialog[open] input"),
		chromedp.SendKeys("dialog[open] input", "evil"))
	b.await(`document.querySelectorAll("dialog li").length > 2`)
	if ran := value[string](b, `String(globalThis.ran)`); ran != "undefined" {
		t.Errorf("in the palette something ran: %s", ran)
	}
	b.wantNoProblems("somewhere")
}

// At 320 px, and at 200 % zoom, nothing but tables and the axis, which scroll by themselves, is wider than the window.
func TestReflow(t *testing.T) {
	_, v := busyView(t)
	for name, s := range map[string]*site{"busy": newSite(t, v, asAda),
		"hostile": newSite(t, HostileView(), asAda)} {
		all := paths()
		if name == "hostile" {
			all = hostilePaths()
		}
		b := open(t, 320, 800)
		b.wantFits(s.URL, all)
	}
}

// wantFits fails the test if a page is wider than a narrow window, or hides some of a text there.
func (b *browser) wantFits(base string, all []string) {
	b.t.Helper()
	for _, width := range []int64{320, zoomedWidth} {
		b.do(chromedp.EmulateViewport(width, 800))
		for _, path := range all {
			b.visit(base + path)
			list := func(condition string) string {
				return value[string](b, `[...document.querySelectorAll("main *, header *, footer *")].filter((e) => `+
					condition+`).map((e) => e.outerHTML.slice(0, 100)).slice(0, 3).join("\n")`)
			}
			if got := value[int64](b, `document.documentElement.scrollWidth`); got > width {
				b.t.Errorf("%.60q at %d px is %d px wide:\n%s", path, width, got,
					list(`e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, svg")`))
			}
			if hidden := list(`e.matches(":not(.unseen, svg, svg *)") && getComputedStyle(e).overflowX === "hidden" &&
				e.scrollWidth > e.clientWidth + 1`); hidden != "" {
				b.t.Errorf("%.60q at %d px hides text:\n%s", path, width, hidden)
			}
		}
	}
}

// A tab shows what changed without being loaded again, and the reader's place stays.
func TestLive(t *testing.T) {
	w, v := busyView(t)
	s := newSite(t, v)
	b := open(t, 1280, 900)
	b.visit(s.URL + "/ui/fleet")
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.Evaluate(`globalThis.same = document.querySelector("tbody a[href$=acme]"); same.focus(); true`, nil))
	w.Report("acme", cells.StateUnhealthy)
	s.setView(viewOf(w))
	b.await(`document.querySelector("tbody a[href$=acme]").closest("tr").textContent.includes("failing")`)
	if !value[bool](b, `document.activeElement === same && same.isConnected`) {
		t.Error("the focus was lost")
	}
	b.await(`document.querySelector("canvas")?.dataset.drawn === document.querySelector(".wall").dataset.wall`)
	// What can't be shown in place is loaded again, as a load that no person asked for.
	b.do(chromedp.Evaluate(`document.querySelector("#region-cells").remove(); true`, nil))
	w.Report("acme", cells.StateHealthy)
	s.setView(viewOf(w))
	b.await(`performance.getEntriesByType("navigation")[0].name.includes("unasked=1") && location.search === "" &&
		document.querySelector("#region-cells")`)
	b.wantNoProblems("fleet")
}

// Everything is reached by keys alone.
func TestKeys(t *testing.T) {
	_, v := busyView(t)
	s := newSite(t, v)
	b := open(t, 1280, 900)
	b.visit(s.URL + "/ui/")
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.KeyEvent("k", chromedp.KeyModifiers(2)), chromedp.WaitVisible("dialog[open] input"),
		chromedp.SendKeys("dialog[open] input", "clin"))
	b.await(`document.querySelector("dialog [aria-selected=true]")?.textContent.includes("clinic")`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname === "/ui/cells/clinic" && document.readyState === "complete"`)
	for key, path := range map[string]string{"i": "/ui/needs", "f": "/ui/fleet", "r": "/ui/releases", "l": "/ui/flags",
		"w": "/ui/when", "x": "/ui/whatif", "h": "/ui/history", "n": "/ui/"} {
		b.await(`document.querySelector("#live").textContent === "live"`)
		b.do(chromedp.KeyEvent("g"), chromedp.KeyEvent(key))
		b.await(fmt.Sprintf(`location.pathname === %q && document.readyState === "complete"`, path))
	}
	b.visit(s.URL + "/ui/fleet")
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.KeyEvent("/"))
	b.await(`document.activeElement.id === "filter"`)
	b.do(chromedp.SetValue("#filter", "failing", chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
	b.await(`location.search === "?q=failing" && document.querySelectorAll("tbody tr").length === 1`)
	b.await(`document.querySelector("#live").textContent === "live"`)
	b.do(chromedp.KeyEvent("j"))
	b.await(`document.activeElement.textContent === "s1"`)
	b.do(chromedp.KeyEvent("?"), chromedp.WaitVisible("dialog.help[open]"), chromedp.KeyEvent(kb.Escape))
	b.await(`!document.querySelector("dialog[open]")`)
	b.wantNoProblems("somewhere")
}

// The wall shows ten thousand cells: it speaks the one under the cursor, and Enter opens it.
func TestWallOfTenThousand(t *testing.T) {
	d, o := Fleet(t, 100, 10_000, 20)
	for i, name := range []string{"cell-000007", "cell-000107", "cell-004242"} {
		o.Cells[name].State = []cells.State{cells.StateUnhealthy, cells.StateFailed, cells.StateStuck}[i]
	}
	s := newSite(t, &view.View{Desired: d, Observed: o, Plan: plan.Make(d, o, Start)})
	b := open(t, 1440, 900)
	b.visit(s.URL + "/ui/fleet")
	b.await(`document.querySelector("canvas")?.dataset.drawn`)
	b.do(chromedp.Focus("canvas"), chromedp.KeyEvent(kb.End), chromedp.KeyEvent(kb.Home),
		chromedp.KeyEvent(kb.ArrowRight))
	b.await(`document.querySelector(".spoken").textContent.startsWith("cell-000100, c0: ")`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.await(`location.pathname === "/ui/cells/cell-000100"`)
	b.visit(s.URL + "/ui/fleet?q=failing")
	if got := value[string](b, `[...document.querySelectorAll("tbody th")].map((e) => e.textContent).join(" ")`); got !=
		"cell-000007 cell-000107 cell-004242" {
		t.Errorf("failing: %s", got)
	}
	b.wantNoProblems("fleet")
}

// Without scripts every page says the same.
func TestWithoutScripts(t *testing.T) {
	_, v := busyView(t)
	s := newSite(t, v)
	b := open(t, 1280, 900)
	b.do(noScripts())
	for _, path := range paths() {
		b.do(chromedp.Navigate(s.URL + path))
		text := ""
		b.do(chromedp.Text("main", &text, chromedp.ByQuery))
		if len(strings.TrimSpace(text)) < 20 {
			t.Errorf("%s says %q", path, text)
		}
	}
	b.do(chromedp.Navigate(s.URL+"/ui/"), chromedp.SetValue(".search input", "acme", chromedp.ByQuery),
		chromedp.Submit(".search", chromedp.ByQuery), chromedp.WaitVisible(".found", chromedp.ByQuery))
}
