package ui_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/test/figures"
)

// measureLive measures an event until tabs have drawn it, beside a bare page that gets the same bytes. A browser that
// draws a hundred tabs on two processors measures itself: it draws some, and the others are streams that are read.
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
	readStreams(openStreams(t, s.Listener.Addr().String(), livePath(t, s), z.tabs-z.drawn))
	ours := drawnAfter(t, s.URL+"/ui/", z.drawn, events, func(i int) { s.setView(views[(i+1)%2]) })
	bare := newBarePage(t, pages[0], s.Config.Handler, captureEvents(t, s, views))
	readStreams(openStreams(t, bare.Listener.Addr().String(), "/live", z.tabs-z.drawn))
	theirs := drawnAfter(t, bare.URL+"/", z.drawn, events, bare.send)
	if len(ours) == 0 || len(theirs) == 0 {
		t.Fatalf("%d events were drawn by ours, %d by the bare page", len(ours), len(theirs))
	}
	what := fmt.Sprintf("an event until %d tabs drew it, of %d that follow", z.drawn, z.tabs)
	return []figures.Row{
		figures.TimeRow(what+", p99", figures.Quantile(ours, .99), "a bare page", figures.Quantile(theirs, .99), 2),
		figures.NoteRow("the same, median", figures.Time(figures.Quantile(ours, .5)),
			"a bare page "+figures.Time(figures.Quantile(theirs, .5))),
	}
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

// livePath returns the path and query that a tab asks for to follow the first page.
func livePath(t *testing.T, s *site) string {
	t.Helper()
	at, known := liveParameters(t, s, "/ui/")
	return "/ui/live?" + url.Values{"at": {at}, "have": {known}, "version": {ui.Version()}}.Encode()
}

// openStreams opens connections that follow as tabs do and read nothing, so that they cost this process next to
// nothing. It returns once each is followed.
func openStreams(t *testing.T, host, path string, n int) (all []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", host) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
		all = append(all, c)
	}
	for _, c := range all {
		if _, err := bufio.NewReader(c).ReadString(':'); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// readStreams reads connections until they are closed.
func readStreams(all []net.Conn) {
	for _, c := range all {
		go func() { _, _ = io.Copy(io.Discard, c) }() // it ends with the test
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
