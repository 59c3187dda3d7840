package console_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/console"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/ui"
)

// viewOf returns the View of a world.
func viewOf(w *World) *view.View {
	o := w.Obs
	return &view.View{Desired: w.Desired(), Observed: &o, Plan: w.Plan()}
}

func render(v *view.View, to string) string {
	u, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	a, ok := console.ParseAddress(u.Path, u.Query())
	if !ok {
		panic("no page at " + to)
	}
	return string(console.Render(console.New(v), a, console.Facts{}).Document())
}

func wantSays(t *testing.T, page, name string, all ...string) {
	t.Helper()
	text := textOf(page)
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", name, want, text)
		}
	}
}

// textOf returns what a page says, without tags.
func textOf(page string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, "")
	for from, to := range map[string]string{"&#39;": "'", "&#34;": `"`, "&lt;": "<", "&gt;": ">", "&amp;": "&"} {
		text = strings.ReplaceAll(text, from, to)
	}
	return strings.Join(strings.Fields(text), " ")
}

// The pages say where everything is, and why it is not further.
func TestPagesSayWhatWaits(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0", "features: [classes]\n"))
	w.Settle()
	v := viewOf(w)
	for to, says := range map[string][]string{
		"/ui/": {"Everything is where it should be", "4 cells in 2 channels", "staging", "after staging",
			"going out: 0 of 2 healthy on it", "1.1.0 waits", "soak staging: 0 of 2 cells healthy for 1h"},
		"/ui/needs":             {"Nothing needs you"},
		"/ui/fleet":             {"Fleet 4 cells", "acme", "s1", "1–4 of 4"},
		"/ui/fleet?q=cell:s*":   {"2 of 4 cells", "s1", "s2"},
		"/ui/cells/s1":          {"its channel is at1.1.0", "it was granted 1.1.0", "sluice why s1"},
		"/ui/channels/staging":  {"1.1.0 is on its way to its cells: 2 granted, 0 applying, 0 of 2 healthy", "Heads"},
		"/ui/releases":          {"Releases 2 releases", "waits: soak"},
		"/ui/releases/1.1.0":    {"Release 1.1.0", "Where it is", "Features", "classes"},
		"/ui/flags":             {"no flags repository"},
		"/ui/when":              {"When"},
		"/ui/search?q=S":        {"staging channel", "s1 cell", "s2 cell"},
		"/ui/search?q=nowhere":  {"Nothing has nowhere in its name"},
		"/ui/cells/nobody":      {"There is nothing of this name"},
		"/ui/channels/nowhere":  {"There is nothing of this name"},
		"/ui/releases/9.9.9":    {"There is nothing of this name"},
		"/ui/flags/none":        {"There is nothing of this name"},
		"/ui/announcements/non": {"There is nothing of this name"},
	} {
		wantSays(t, render(v, to), to, says...)
	}
}

// What needs a person comes by harm, each with the command that helps.
func TestNeedsComeByHarm(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Report("s1", cells.StateUnhealthy)
	v := viewOf(w)
	v.Observed.Cells["acme"].LastReport = v.Plan.Now.Add(-24 * time.Hour)
	c := v.Desired.Channels["dedicated"]
	c.Holds = []channels.Hold{{Reason: "a customer asked", By: "ada", ID: "h 1"}}
	v.Plan.Blocked = append(v.Plan.Blocked,
		channels.Blocked("approval", reason.ApprovalMissing, 1, "approver", "ada").WithSubject("dedicated", "1.1.0"))
	v.Unread = &view.Unread{Since: v.Plan.Now, Reason: "no route to host"}
	page := render(v, "/ui/needs")
	wantSays(t, page, "needs", "can't be read", "1 cell of staging is failing", "dedicated is on hold",
		"a customer asked (ada)", "sluice hold dedicated --lift 'h 1'", "1.1.0 waits for an approval for dedicated",
		"sluice approve dedicated 1.1.0", "1 cell of dedicated is silent")
	last := -1
	for _, s := range []string{"can't be read", "is failing", "is on hold", "waits for an approval", "is silent"} {
		at := strings.Index(textOf(page), s)
		if at < last {
			t.Errorf("%q stands too early: the most harmful comes first", s)
		}
		last = at
	}
	wantSays(t, render(v, "/ui/"), "now", "5 things need you", "and 2 more")
}

// A release that nothing mends yet is said to be stopped, and no longer once a greater one went on.
func TestQuarantineNeedsAReleaseThatMends(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	v := viewOf(w)
	v.Desired.Quarantine = []channels.Quarantine{{Release: "1.1.0", Reason: "it loses text"}}
	wantSays(t, render(v, "/ui/needs"), "needs", "1.1.0 is quarantined everywhere", "it loses text")
	v.Desired.Quarantine = []channels.Quarantine{{Release: "0.9.0", Reason: "old"}}
	wantSays(t, render(v, "/ui/needs"), "needs", "Nothing needs you")
}

// R54: whatever a name, a reason or a message has in it, no page has a tag, an attribute or an order to the reader's
// program of it.
func TestR54HostileTextIsShownAndNotObeyed(t *testing.T) {
	v := HostileView()
	m := console.New(v)
	unescaped := regexp.MustCompile(`evil["'<>` + "`" + `]`)
	foreign := regexp.MustCompile(`(?i)(href|src|action)="(?:[^/#"]|//)`)
	for _, a := range []console.Address{
		{}, {Kind: console.Needs}, {Kind: console.Fleet}, {Kind: console.Fleet, Filter: HostileText},
		{Kind: console.Fleet, After: HostileText}, {Kind: console.Cell, Name: HostileText},
		{Kind: console.Cell, Name: HostileText + "x"}, {Kind: console.Channel, Name: HostileText},
		{Kind: console.Releases},
		{Kind: console.Releases, Name: "1.0.0"}, {Kind: console.Flags}, {Kind: console.Flags, Filter: HostileText},
		{Kind: console.Flags, Name: HostileText}, {Kind: console.Announcements, Name: HostileText},
		{Kind: console.When}, {Kind: console.WhatIf}, {Kind: console.WhatIf, Name: HostileText},
		{Kind: console.History, Filter: HostileText}, {Kind: console.History}, {Kind: console.Search,
			Filter: HostileText},
		{Kind: console.Search, Filter: "evil."},
	} {
		page := string(console.Render(m, a, console.Facts{Why: []string{HostileText},
			Trial: &console.Trial{Policy: HostileText, Scenario: HostileText, Refused: HostileText},
			Decisions: []plan.Decided{
				{Commit: HostileText, Kind: plan.Kind(HostileText), Channel: HostileText, Release: HostileText,
					Replaces: HostileText,
					At:       v.Plan.Now},
			}}).Document())
		name := string(a.Kind)
		if found := unescaped.FindString(page); found != "" && !strings.HasPrefix(found, "evil`") {
			t.Errorf("%s has %q", name, found)
		}
		if n := strings.Count(page, "<script"); n != 1 || strings.Contains(page, "<img") {
			t.Errorf("%s has %d scripts, or an image", name, n)
		}
		if found := foreign.FindString(page); found != "" {
			t.Errorf("%s leads elsewhere: %q", name, found)
		}
		if at := strings.IndexAny(page, "\u202e\u2066\x1b\x00"); at >= 0 {
			t.Errorf("%s has a character that programs obey: %q", name, page[at-40:at+4])
		}
		bare := regexp.MustCompile(`="[^"]*"`).ReplaceAllString(page, `=""`)
		if regexp.MustCompile(`<[^>]* (style|on[a-z]+)=`).MatchString(bare) {
			t.Errorf("%s has a style or a handler of its own", name)
		}
	}
}

// Names that are made safe in one place only can't be made unsafe in another: text becomes HTML by markup alone.
func TestTextBecomesHTMLByMarkupAlone(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile(`markup\.HTML\([^")]+`).FindString(string(src)); found != "" &&
			!strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s: %s: use markup.Text", file, found)
		}
	}
}

// A page without anything to show says so.
func TestNothingAtAll(t *testing.T) {
	v := &view.View{Desired: &plan.Desired{}, Observed: &plan.Observed{}, Plan: plan.Plan{Now: Start}}
	for to, says := range map[string]string{"/ui/": "The repository has no channels yet",
		"/ui/fleet":    "No cell matches",
		"/ui/releases": "There is no release yet", "/ui/flags": "no flags repository", "/ui/needs": "Nothing needs you",
		"/ui/when": "Nothing is known to happen", "/ui/history": "The engine decided nothing yet",
		"/ui/search": "Type part of"} {
		wantSays(t, render(v, to), to, says)
	}
}

// What one plan shows is the same whoever asks and whenever, and a change changes only the regions that show it.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	before := console.Render(console.New(viewOf(w)), console.Address{Kind: console.Fleet}, console.Facts{})
	if again := console.Render(console.New(viewOf(w)), console.Address{Kind: console.Fleet},
		console.Facts{}); again.ETag() != before.ETag() || len(again.Regions.Changed(before.Regions)) != 0 {
		t.Error("equal views render differently")
	}
	w.Now = w.Now.Add(10 * time.Second)
	later := console.Render(console.New(viewOf(w)), console.Address{Kind: console.Fleet}, console.Facts{})
	if changed := later.Regions.Changed(before.Regions); len(changed) != 0 {
		t.Errorf("ten seconds changed %v", ids(changed))
	}
	w.Report("s1", cells.StateUnhealthy)
	after := console.Render(console.New(viewOf(w)), console.Address{Kind: console.Fleet}, console.Facts{})
	const want = "filter wall cells navigation"
	if got := strings.Join(ids(after.Regions.Changed(later.Regions)), " "); got != want {
		t.Errorf("changed %s, want %s", got, want)
	}
	if len(after.Regions.Changed(nil)) != len(after.Regions) {
		t.Error("a new tab does not get every region")
	}
}

func ids(all []ui.Region) (names []string) {
	for _, r := range all {
		names = append(names, r.ID)
	}
	return names
}

// An address is read as it is written, and everything else is none.
func TestAddresses(t *testing.T) {
	for _, a := range []console.Address{{}, {Kind: console.Fleet, Filter: `channel:"a b" -x`, After: "c/d"},
		{Kind: console.Cell, Name: "a b?c#d%"}, {Kind: console.Flags, Name: "x"}, {Kind: console.Releases}} {
		u, err := url.Parse(a.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := console.ParseAddress(u.Path, u.Query()); !ok || got != a {
			t.Errorf("%q is read as %+v, %v", a.String(), got, ok)
		}
	}
	for _, path := range []string{"", "/", "/ui", "/ui/nothing", "/ui/cells", "/ui/cells/", "/ui/needs/x", "/v1/status",
		"/ui/cells/" + strings.Repeat("x", 301), "//evil.example/ui/"} {
		if a, ok := console.ParseAddress(path, nil); ok {
			t.Errorf("%.40q is read as %+v", path, a)
		}
	}
	if _, ok := console.ParseAddress("/ui/fleet", url.Values{"q": {strings.Repeat("x", 501)}}); ok {
		t.Error("a filter of 501 bytes is read")
	}
}

// A filter is what people type: no text is refused.
func TestFilters(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", ""), Policy("big ones", ""), Release("1.0.0"), Head("staging", "1.0.0"),
		CellFiles("staging", "s1", "s2"), CellFiles("staging", "acme-eu"),
		map[string]string{"cells/us1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n" +
			"labels: {region: us-east-1, tier: big}\n"}))
	m := console.New(viewOf(w))
	for filter, want := range map[string]string{
		"": "acme-eu s1 s2 us1", "s": "s1 s2 us1", "s1": "s1 us1", "cell:s1": "s1", "-cell:s1": "acme-eu s2 us1",
		"channel:staging": "acme-eu s1 s2 us1", "channel:stag*": "acme-eu s1 s2 us1", "channel:none": "",
		"region:us*": "us1", "region:*east*": "us1", "region:us*1": "us1", "region:us*2": "", "-region:*": "",
		"region:": "acme-eu s1 s2", "tier:big region:us-east-1": "us1", "new": "acme-eu s1 s2 us1",
		"-new": "", "condition:new cell:*eu": "acme-eu", `"`: "acme-eu s1 s2 us1", `channel:"big ones"`: "",
		"-": "acme-eu s1 s2 us1", ":": "", "**": "acme-eu s1 s2 us1", "cell:a**e*u": "acme-eu", "release:1.0.0": "",
	} {
		var got []string
		for _, g := range m.WallOf(filter).Groups {
			got = append(got, g.Cells...)
		}
		if strings.Join(got, " ") != want && filter != "-" {
			t.Errorf("%q selects %v, want %s", filter, got, want)
		}
	}
}

// The wall has a letter for each cell, and its sum changes with a state.
func TestWall(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	before := console.New(viewOf(w)).WallOf("")
	w.Report("s2", cells.StateUnhealthy)
	after := console.New(viewOf(w)).WallOf("")
	letter := func(wall console.Wall, group, i int) string {
		return wall.Legend[wall.Groups[group].States[i]-'a']
	}
	if len(after.Groups) != 2 || after.Groups[0].Name != "dedicated" || letter(before, 1, 1) != "healthy" ||
		letter(after, 1, 1) != "failing" || before.Sum == after.Sum {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// The marks are shapes of their own, one for every condition, and the style has a colour for each.
func TestEveryConditionHasAShapeAndAColour(t *testing.T) {
	css, ok := ui.AssetOf("console.css")
	if !ok {
		t.Fatal("there is no style")
	}
	page := render(&view.View{Desired: &plan.Desired{}, Observed: &plan.Observed{}}, "/ui/")
	paths := map[string]string{}
	for _, m := range regexp.MustCompile(`id="mark-([a-z-]+)"[^>]*>\s*<path[^>]* d="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if other := paths[m[2]]; other != "" {
			t.Errorf("%s and %s have one shape", m[1], other)
		}
		paths[m[2]] = m[1]
	}
	for _, c := range console.New(&view.View{Desired: &plan.Desired{}, Observed: &plan.Observed{}}).WallOf("").Legend {
		if !strings.Contains(page, `id="mark-`+c+`"`) {
			t.Errorf("%s has no shape", c)
		}
		if n := strings.Count(string(css.Body), "--"+c+": #"); n != 2 {
			t.Errorf("%s has %d colours, want one for light and one for dark", c, n)
		}
	}
}

// A flag is evaluated for a typed context as the cell itself does it, and what can't be evaluated says why.
func TestWhoWouldSeeAFlag(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	v := viewOf(w)
	tree := repository.Load(nil, fstest.MapFS{"sluice.yaml": &fstest.MapFile{Data: []byte(
		"apiVersion: sluice/v1\nkind: Flags\n")}, "flags/flags.yaml": &fstest.MapFile{Data: []byte(
		"flags:\n  new-editor:\n    state: ENABLED\n    variants: {on: true, off: false}\n    defaultVariant: off\n" +
			"    targeting: {if: [{==: [{var: plan}, pro]}, on, off]}\n")}})
	d := tree.Flags["new-editor"]
	if d == nil {
		t.Fatal(tree.Faults)
	}
	sent := &announce.CellFlags{Bundle: &flags.Bundle{Version: flags.BundleVersion,
		Flags: map[string]json.RawMessage{"new-editor": d.Encode()}}}
	killed := &announce.CellFlags{Bundle: sent.Bundle,
		Orders: flags.Orders{Killed: []flags.KilledFlag{{Flag: "new-editor",
			Reason: "loses text"}}}}
	v.Flags = &view.Flags{Tip: tree, ByCell: map[string]*cells.Flags{},
		Plan: announce.Plan{CellFlags: map[string]*announce.CellFlags{"s1": sent, "s2": killed}}}
	for query, says := range map[string][]string{
		"plan=pro cell:s1":         {"s1 staging true on TARGETING_MATCH", "--context plan=pro --cell s1"},
		"plan=free cell:s1":        {"s1 staging false off"},
		"plan=pro cell:s2":         {"s2 staging false off"},
		"plan=pro":                 {"s1 staging true on", "nothing is known of the flags of dedicated"},
		`plan="a b" cell:s1`:       {"s1 staging false off", "--context 'plan=a b'"},
		"plan cell:s1":             {"is neither NAME=VALUE nor cell:NAME"},
		"cell:nobody":              {`there is no cell "nobody"`},
		HostileText + "=1 cell:s1": {"s1 staging false off"},
	} {
		page := render(v, "/ui/flags/new-editor?q="+url.QueryEscape(query))
		wantSays(t, strings.ReplaceAll(page, "</td>", " </td>"), query, says...)
		if strings.Contains(page, "<evil") {
			t.Errorf("%q is obeyed", query)
		}
	}
}
