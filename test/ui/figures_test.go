package ui_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/test/figures"
)

var (
	wanted = flag.Bool("figures", false, "measure at full size and print a table: make bench-console")
	only   = flag.String("only", "", "with -figures: the groups whose name begins with this")
	atOnce = flag.Int("tabs", 100, "with -figures: how many tabs are open")
)

// size says how large the site is that is measured, and how often.
type size struct{ cells, channels, tabs, rounds int }

// TestFigures measures the console beside bare baselines in the same run. At its small size it only shows that all of
// it can be measured.
func TestFigures(t *testing.T) {
	z := size{cells: 400, channels: 8, tabs: 2, rounds: 3}
	if *wanted {
		z = size{cells: 10_000, channels: 100, tabs: *atOnce, rounds: 25}
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
	at, known := liveParameters(t, s, "/ui/")
	var tabs []net.Conn
	for range z.tabs {
		c, err := net.Dial("tcp", s.Listener.Addr().String()) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		tabs = append(tabs, c)
		defer c.Close()
		fmt.Fprintf(c, "GET /ui/live?%s HTTP/1.1\r\nHost: %s\r\n\r\n", url.Values{"at": {at}, "have": {known},
			"version": {ui.Version()}}.Encode(), s.Listener.Addr())
	}
	for _, c := range tabs { // until each follows
		if _, err := bufio.NewReader(c).ReadString(':'); err != nil {
			t.Fatal(err)
		}
	}
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

var documentState = regexp.MustCompile(`data-at="([^"]*)" data-base="[^"]*" data-etag="([^"]*)"`)

// liveParameters returns what a tab that shows a page sends to follow it.
func liveParameters(t *testing.T, s *site, path string) (at, known string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	m := documentState.FindStringSubmatch(w.Body.String())
	if m == nil {
		t.Fatalf("%s is not followed", path)
	}
	return m[1], m[2]
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

// measureLive measures an event until tabs have drawn it, beside a bare page that gets the same bytes.
func measureLive(t *testing.T, z size) []figures.Row {
	views := fleetViews(t, z)
	s := newSite(t, views[0])
	events := z.rounds/2 + 3
	var pages [2][]byte
	for i, v := range views {
		s.setView(v)
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ui/", nil))
		pages[i] = w.Body.Bytes()
	}
	s.setView(views[0])
	ours := drawnAfter(t, s.URL+"/ui/", z.tabs, events, func(i int) { s.setView(views[(i+1)%2]) })
	bare := newBarePage(t, pages[0], s.Config.Handler, captureEvents(t, s, views))
	theirs := drawnAfter(t, bare.URL+"/", z.tabs, events, bare.send)
	if len(ours) == 0 || len(theirs) == 0 {
		t.Fatalf("%d events were drawn by ours, %d by the bare page", len(ours), len(theirs))
	}
	what := fmt.Sprintf("an event until it is drawn, in %d tabs", z.tabs)
	return []figures.Row{
		figures.TimeRow(what+", p99", figures.Quantile(ours, .99), "a bare page", figures.Quantile(theirs, .99), 2),
		figures.NoteRow("the same, median", figures.Time(figures.Quantile(ours, .5)),
			"a bare page "+figures.Time(figures.Quantile(theirs, .5))),
	}
}

// tabsPerContext is how many tabs share what a browser keeps apart: it opens six connections to a server from there.
const tabsPerContext = 4

// drawnLimit is for how long an event may be on its way to the last tab.
const drawnLimit = 2 * time.Minute

// drawnAfter opens a page in tabs, sends events, each when all tabs have drawn the one before, and returns how long
// each tab took to draw each, sorted. The first two are not counted: a tab that was just loaded gets all regions.
func drawnAfter(t *testing.T, page string, tabs, events int, send func(int)) (took []time.Duration) {
	t.Helper()
	b := open(t, 1280, 900)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 30*time.Minute)
	defer cancel()
	drawn := make(chan float64, 16*tabs) // instants, in milliseconds
	var shared cdp.BrowserContextID
	asBrowser := cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
	for i := range tabs {
		var err error
		if i%tabsPerContext == 0 {
			if shared, err = target.CreateBrowserContext().Do(asBrowser); err != nil {
				t.Fatal(err)
			}
		}
		id, err := target.CreateTarget("about:blank").WithBrowserContextID(shared).WithNewWindow(true).Do(asBrowser)
		if err != nil {
			t.Fatal(err)
		}
		tab, done := chromedp.NewContext(ctx, chromedp.WithTargetID(id))
		defer done()
		last := -1.0
		chromedp.ListenTarget(tab, func(e any) { // by one goroutine
			if told, ok := e.(*runtime.EventBindingCalled); ok && told.Name == "told" {
				// What a page says of the same event twice is said within a moment.
				if at, err := strconv.ParseFloat(told.Payload, 64); err == nil && at-last > 500 {
					last = at
					drawn <- at
				}
			}
		})
		if err := chromedp.Run(tab, runtime.AddBinding("told"), chromedp.Navigate(page), chromedp.WaitReady("#main"),
			chromedp.Poll(`document.querySelector("#live").textContent === "live"`, nil,
				chromedp.WithPollingTimeout(drawnLimit)),
			chromedp.Evaluate(`new MutationObserver(() => requestAnimationFrame(() => setTimeout(() =>
				told(String(performance.timeOrigin + performance.now()))))).observe(document.querySelector("main"),
				{ childList: true, subtree: true, characterData: true }); true`, nil)); err != nil {
			t.Fatalf("tab %d: %v", i, err)
		}
	}
	pause := time.Second
	if *wanted {
		pause = 5 * time.Second // the next event is the first after a pause
	}
	for i := range events {
		time.Sleep(pause)
		for len(drawn) > 0 {
			<-drawn
		}
		sent, late := float64(time.Now().UnixMicro())/1000, time.After(drawnLimit)
		send(i)
		for n := range tabs {
			select {
			case at := <-drawn:
				if i >= 2 {
					took = append(took, time.Duration((at-sent)*float64(time.Millisecond)))
				}
			case <-late:
				t.Fatalf("%d of %d tabs drew event %d within %s", n, tabs, i, drawnLimit)
			}
		}
	}
	slices.Sort(took)
	return took
}

// captureEvents returns what tabs are sent when the first View becomes the second, and back.
func captureEvents(t *testing.T, s *site, views [2]*view.View) (events [2][]byte) {
	t.Helper()
	s.setView(views[0])
	at, _ := liveParameters(t, s, "/ui/")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/ui/live?"+url.Values{"at": {at},
		"version": {ui.Version()}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	in := bufio.NewReader(w.Body)
	next := func() []byte {
		var event []byte
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			if event = append(event, line...); len(line) == 1 {
				if bytes.Contains(event, []byte("event: regions")) {
					return event
				}
				event = nil
			}
		}
	}
	next() // all regions
	for i := range 2 {
		s.setView(views[(i+1)%2])
		events[i] = next()
	}
	return events
}

// barePage serves a page that does nothing but set the regions that it is sent.
type barePage struct {
	*httptest.Server
	events [2][]byte

	mu   sync.Mutex // guards tabs
	tabs []chan []byte
}

var ownScript = regexp.MustCompile(`<script type="module"[^>]*></script>`)

func newBarePage(t *testing.T, page []byte, assets http.Handler, events [2][]byte) *barePage {
	t.Helper()
	b := &barePage{events: events}
	page = ownScript.ReplaceAllLiteral(page, []byte(`<script type="module">
const source = new EventSource("/live");
source.onopen = () => { document.querySelector("#live").textContent = "live"; };
source.addEventListener("regions", (e) => {
  for (const [id, html] of Object.entries(JSON.parse(e.data))) document.getElementById("region-" + id).innerHTML = html;
});
</script>`))
	routes := http.NewServeMux()
	routes.Handle("/ui/assets/", assets)
	routes.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	routes.HandleFunc("/live", func(w http.ResponseWriter, r *http.Request) {
		mine := make(chan []byte, 8)
		b.mu.Lock()
		b.tabs = append(b.tabs, mine)
		b.mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ":\n\n")
		for flush := http.NewResponseController(w); flush.Flush() == nil; {
			select {
			case event := <-mine:
				_, _ = w.Write(event)
			case <-r.Context().Done():
				return
			}
		}
	})
	b.Server = httptest.NewServer(routes)
	t.Cleanup(func() { b.CloseClientConnections(); b.Close() })
	return b
}

func (b *barePage) send(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, tab := range b.tabs {
		tab <- b.events[i%2]
	}
}
