package ui_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/test/figures"
)

var (
	wanted = flag.Bool("figures", false, "measure at full size and print a table: make bench-console")
	only   = flag.String("only", "", "with -figures: the groups whose name begins with this")
	atOnce = flag.Int("tabs", 100, "with -figures: how many tabs follow at once")
	drawn  = flag.Int("drawn", 10, "with -figures: how many of these a browser draws; the others are read only")
)

// size says how large the site is that is measured, how many tabs follow it, and how often.
type size struct{ cells, channels, tabs, drawn, rounds int }

// TestFigures measures the console beside bare baselines in the same run. At its small size it only shows that all of
// it can be measured.
func TestFigures(t *testing.T) {
	z := size{cells: 400, channels: 8, tabs: 5, drawn: 2, rounds: 3}
	if *wanted {
		z = size{cells: 10_000, channels: 100, tabs: *atOnce, drawn: min(*drawn, *atOnce), rounds: 25}
		fmt.Println(figures.HeaderLine())
	}
	for _, g := range []struct {
		name    string
		measure func(*testing.T, size) []figures.Row
	}{{"unchanged", measureUnchanged}, {"changed", measureChanged}, {"bytes", measureBytes}, {"idle", measureIdle},
		{"adoption", measureAdoption}, {"wall", measureWall}, {"live", measureLive}} {
		t.Run(g.name, func(t *testing.T) {
			if *wanted && !strings.HasPrefix(g.name, *only) {
				return
			}
			for _, r := range g.measure(t, z) {
				if t.Log(r.What); *wanted {
					fmt.Println(r)
				}
			}
		})
	}
}

// fleetViews returns two Views of a fleet that differ in one cell.
func fleetViews(t *testing.T, z size) [2]*view.View {
	t.Helper()
	d, o := Fleet(t, z.channels, z.cells, 100)
	ill := &plan.Observed{Cells: maps.Clone(o.Cells)}
	one := *o.Cells["cell-000042"]
	one.State, one.Message = cells.StateUnhealthy, "server is not ready"
	ill.Cells[one.Name] = &one
	return [2]*view.View{{Desired: d, Observed: o, Plan: plan.Make(d, o, Start)},
		{Desired: d, Observed: ill, Plan: plan.Make(d, ill, Start)}}
}

// sameView returns a View that says the same, of which nothing is kept yet.
func sameView(v *view.View) *view.View {
	return &view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan}
}

// measuredPaths are the pages that are measured.
func measuredPaths() []string {
	return []string{"/ui/", "/ui/needs", "/ui/fleet", "/ui/fleet?q=channel:c1*+-failing", "/ui/cells/cell-000042",
		"/ui/channels/c2", "/ui/releases", "/ui/releases/1.98.0", "/ui/flags", "/ui/when", "/ui/history",
		"/ui/search?q=42"}
}

// answer is a response, and how long its first byte and all of it took.
type answer struct {
	header http.Header
	body   []byte
	first  time.Duration
	whole  time.Duration
}

// get asks as a browser does.
func get(t *testing.T, to string) (a answer) {
	t.Helper()
	begun := time.Now()
	trace := &httptrace.ClientTrace{GotFirstResponseByte: func() { a.first = time.Since(begun) }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip")
	w, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if a.body, err = io.ReadAll(w.Body); err != nil || w.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s (%v)", to, w.Status, err)
	}
	a.header, a.whole = w.Header, time.Since(begun)
	return a
}

// measureUnchanged measures pages of a View that did not change, beside a handler that has the same bytes.
func measureUnchanged(t *testing.T, z size) (rows []figures.Row) {
	s := newSite(t, fleetViews(t, z)[0])
	for _, path := range measuredPaths() {
		page := get(t, s.URL+path)
		bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length"} {
				w.Header().Set(name, page.header.Get(name))
			}
			_, _ = w.Write(page.body)
		}))
		var ours, theirs []time.Duration
		for range 40 * z.rounds {
			ours = append(ours, get(t, s.URL+path).whole)
			theirs = append(theirs, get(t, bare.URL).whole)
		}
		bare.Close()
		rows = append(rows, figures.TimeRow("unchanged: "+path, figures.Median(ours), "a bare handler",
			figures.Median(theirs), 1.5))
	}
	return rows
}

// measureChanged measures the first byte of pages after a change, beside encoding the same View's status as JSON.
func measureChanged(t *testing.T, z size) (rows []figures.Row) {
	views := fleetViews(t, z)
	s := newSite(t, views[0])
	for _, path := range measuredPaths() {
		var ours, theirs []time.Duration
		for i := range z.rounds {
			v := sameView(views[i%2])
			begun := time.Now()
			if _, err := json.Marshal(view.StatusOf(v, view.StatusPage{})); err != nil {
				t.Fatal(err)
			}
			theirs = append(theirs, time.Since(begun))
			s.setView(v)
			ours = append(ours, get(t, s.URL+path).first)
		}
		rows = append(rows, figures.TimeRow("first byte after a change: "+path, figures.Median(ours),
			"its View as JSON", figures.Median(theirs), 3))
	}
	return rows
}

var assetLinks = regexp.MustCompile(`(?:src|href)="(/ui/assets/[^"]*)"`)

// measureBytes measures what a browser loads for the first page, and how much of it is scripts.
func measureBytes(t *testing.T, z size) []figures.Row {
	s := newSite(t, fleetViews(t, z)[1])
	page := get(t, s.URL+"/ui/")
	plain := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(plain, httptest.NewRequest(http.MethodGet, "/ui/", nil))
	all, scripts := len(page.body), 0
	for _, link := range assetLinks.FindAllStringSubmatch(plain.Body.String(), -1) {
		n := len(get(t, s.URL+link[1]).body)
		if all += n; strings.HasSuffix(link[1], ".js") {
			scripts += n
		}
	}
	if scripts == 0 {
		t.Error("the page names no script")
	}
	row := func(what string, n int, limit float64) figures.Row {
		kb := float64(n) / 1000
		return figures.Row{What: what, Got: fmt.Sprintf("%.1f KB", kb), Base: fmt.Sprintf("limit %.0f KB", limit),
			Ratio: kb / limit, Limit: 1}
	}
	return []figures.Row{row("the first page with all that it loads, compressed", all, 60),
		row("of it scripts", scripts, 20)}
}

// measureIdle measures what tabs cost that show a page whose View changes every second, but the page does not. The
// tabs are connections that read nothing, and cost this process next to nothing.
func measureIdle(t *testing.T, z size) []figures.Row {
	v := fleetViews(t, z)[0]
	s := newSite(t, v)
	seconds := 2
	if *wanted {
		seconds = 20
	}
	cost := func() float64 {
		begun, before := time.Now(), processorTime(t)
		for range seconds {
			s.setView(sameView(v))
			time.Sleep(time.Second)
		}
		return float64(processorTime(t)-before) / float64(time.Since(begun))
	}
	alone, small := cost(), resident(t)
	openStreams(t, s.Listener.Addr().String(), livePath(t, s), z.tabs)
	large := resident(t)
	with := cost()
	return []figures.Row{
		{What: fmt.Sprintf("%d idle tabs, while a View comes every second", z.tabs), Got: fmt.Sprintf("%.1f %%",
			100*(with-alone)), Base: "limit 5 % of a core", Ratio: (with - alone) / 0.05, Limit: 1},
		{What: "the same: memory of each", Got: fmt.Sprintf("%.0f KiB", (large-small)/float64(z.tabs)),
			Base: "limit 100 KiB", Ratio: (large - small) / float64(z.tabs) / 100, Limit: 1},
	}
}

// processorTime returns what this process used of the processors.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns this process's memory in KiB.
func resident(t *testing.T) float64 {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / 1024
}

// measureWall measures a drawing of the wall, beside as many rectangles on a bare canvas of the same size.
func measureWall(t *testing.T, z size) []figures.Row {
	s := newSite(t, fleetViews(t, z)[1])
	b := open(t, 1440, 900)
	b.visit(s.URL + "/ui/fleet")
	b.await(`document.querySelector("canvas")?.dataset.drawn`)
	script := fmt.Sprintf(`(async () => {
		const wall = document.querySelector(".wall canvas"), scale = devicePixelRatio;
		const bare = document.body.appendChild(document.createElement("canvas"));
		bare.width = wall.width; bare.height = wall.height;
		const colours = ["#1b7a4b", "#1f5fae", "#b42318", "#8a1c62"], columns = Math.floor(wall.width / scale / 9);
		const fill = () => {
			bare.width = wall.width;
			const g = bare.getContext("2d");
			g.scale(scale, scale);
			let last = -1;
			for (let i = 0; i < %d; i++) {
				const colour = i %% 100 === 7 ? 2 : 0;
				if (colour !== last) g.fillStyle = colours[last = colour];
				g.fillRect((i %% columns) * 9, Math.floor(i / columns) * 9, 7, 7);
			}
		};
		// The wall draws itself anew if its picture was lost; reading a pixel finishes the drawing.
		const frame = (canvas, draw) => new Promise((done) => {
			let begun;
			requestAnimationFrame(() => { begun = performance.now(); draw(); });
			requestAnimationFrame(() => { canvas.getContext("2d").getImageData(0, 0, 1, 1); done(performance.now() - begun); });
		});
		const ours = [], theirs = [];
		for (let i = 0; i < %d; i++) {
			ours.push(await frame(wall, () => wall.dispatchEvent(new Event("contextrestored"))));
			theirs.push(await frame(bare, fill));
		}
		const median = (all) => all.slice(5).sort((x, y) => x - y)[Math.floor((all.length - 5) / 2)];
		return [median(ours), median(theirs)];
	})()`, z.cells, 5+8*z.rounds)
	var took []float64
	b.do(chromedp.Evaluate(script, &took, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	b.wantNoProblems("the wall")
	return []figures.Row{
		figures.TimeRow(fmt.Sprintf("the wall of %d cells, redrawn", z.cells), ms(took[0]), "as many rectangles",
			ms(took[1]), 1.5),
		figures.LimitRow("the same, against a frame", ms(took[0]), time.Second/60),
	}
}
