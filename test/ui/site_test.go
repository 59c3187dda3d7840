// Package ui_test opens the console in Chromium: accessibility by axe-core, hostile text, keys, live updates, the wall
// of ten thousand cells, and what it looks like.
//
// It is a module of its own, so that nothing else needs a browser's protocol. It needs Chromium and npm, which it
// installs on Debian as root; the tests fail without them.
package ui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/controlplane"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/test/debian"
)

// site is a control plane on loopback whose View a test sets.
type site struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	view    *view.View
	changed chan struct{}
	decided []plan.Decided
	world   *World // whose repository it has; nil: an empty one
	records records.Store
}

func (s *site) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *site) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *site) setView(v *view.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *site) FS(commit string) (fs.FS, error) {
	if s.world == nil {
		return fstest.MapFS{}, nil
	}
	return s.world.Open(commit)
}

func (s *site) CopyHistory() (*plan.History, error) { return s.world.CopyHistory() }

func (s *site) Receive(context.Context, *cells.Report) (cells.Receipt, error) {
	return cells.Receipt{}, errors.New("this control plane is for people only")
}

func (s *site) Decisions(context.Context, int64, int) ([]plan.Decided, int64, error) {
	return s.decided, 0, nil
}

func newSite(t *testing.T, v *view.View, change ...func(*controlplane.Options)) *site {
	t.Helper()
	s := &site{view: v, changed: make(chan struct{})}
	kept, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	s.records = kept.Records()
	o := controlplane.Options{Views: s, Inbox: s, Repository: s, Journal: s, History: s.CopyHistory,
		Records: s.records, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)}
	for _, c := range change {
		c(&o)
	}
	server, err := controlplane.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(server.Handler())
	t.Cleanup(func() { server.Drain(); s.CloseClientConnections(); s.Close() })
	return s
}

// browser is a tab of Chromium.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // guards what follows
	problems []string   // exceptions and dialogs
}

// open starts a browser. Its window is as wide and high as said.
func open(t *testing.T, width, height int64) *browser {
	t.Helper()
	if err := debian.Program(t.Context(), "chromium", "chromium", "fonts-liberation"); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.Flag("disable-features", "Translate"))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	ctx, cancel := context.WithTimeout(ctx, 12*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(e any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, e.ExceptionDetails.Error())
		case *page.EventJavascriptDialogOpening:
			b.problems = append(b.problems, "a dialog: "+e.Message)
		}
	})
	b.do(emulation.SetDeviceMetricsOverride(width, height, 1, false))
	return b
}

// do runs actions, which must not fail.
func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// visit opens a page and waits for its script.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url), chromedp.WaitReady("#main"))
	b.await(`document.readyState === "complete"`)
}

// await waits until an expression is true. While a page is being replaced there is nothing to ask.
func (b *browser) await(expression string) {
	b.t.Helper()
	b.awaitFor(3*time.Minute, expression)
}

// awaitFor is await with a limit of its own.
func (b *browser) awaitFor(limit time.Duration, expression string) {
	b.t.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var is bool
		if err = chromedp.Run(b.ctx, chromedp.Evaluate("!!("+expression+")", &is)); is && err == nil {
			return
		}
	}
	var text string
	_ = chromedp.Run(b.ctx, chromedp.Evaluate(`document.body.innerText.slice(0, 2000)`, &text))
	b.t.Fatalf("never true: %s: %v\n%s", expression, err, text)
}

// value returns what an expression gives, as JSON decodes it.
func value[T any](b *browser, expression string) (v T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &v))
	return v
}

// appearance sets what the reader prefers: light, dark, or forced colours on black or, as "forced light", on white.
func (b *browser) appearance(name string) {
	b.t.Helper()
	scheme, forced := name, "none"
	switch name {
	case "forced":
		scheme, forced = "dark", "active"
	case "forced light":
		scheme, forced = "light", "active"
	}
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "forced-colors", Value: forced}}))
}

// wantNoProblems fails the test if a script failed or a dialog opened.
func (b *browser) wantNoProblems(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("%s: %s", where, p)
	}
	b.problems = nil
}

// scripts are the sources that tests run in the browser, by their path in node_modules.
var scripts = sync.OnceValues(func() (map[string]string, error) {
	dir, err := os.MkdirTemp("", "sluice-ui")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := debian.Program(ctx, "npm", "nodejs", "npm"); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("npm ci: %w\n%s", err, out.String())
	}
	all := map[string]string{}
	for _, name := range []string{axe, adaptiveCards} {
		data, err := os.ReadFile(filepath.Join(dir, "node_modules", name))
		if err != nil {
			return nil, err
		}
		all[name] = string(data)
	}
	return all, nil
})

const (
	axe           = "axe-core/axe.min.js"
	adaptiveCards = "adaptivecards/dist/adaptivecards.min.js"
)

// load runs a script by the browser's protocol, which the page's policy does not bind.
func (b *browser) load(name string) {
	b.t.Helper()
	all, err := scripts()
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.Evaluate(all[name]+";true", nil))
}

// violation is what axe-core finds.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// violations runs axe-core on the page.
func (b *browser) violations() (all []violation) {
	b.t.Helper()
	var found string
	b.load(axe)
	b.do(chromedp.Evaluate(`axe.run(document, {runOnly: ["wcag2a", "wcag2aa",
		"wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then((r) => JSON.stringify(r.violations))`, &found,
		func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if err := json.Unmarshal([]byte(found), &all); err != nil {
		b.t.Fatal(err)
	}
	return all
}

// wantAccessible fails the test if axe-core finds a fault on the page.
func (b *browser) wantAccessible(where string) {
	b.t.Helper()
	for _, found := range b.violations() {
		for _, n := range found.Nodes[:min(len(found.Nodes), 2)] {
			b.t.Errorf("%s: %s: %s\n%s\n%s", where, found.ID, found.Help, n.HTML, n.Summary)
		}
	}
}

// counted is a view at an instant, to be counted.
type counted struct {
	view *view.View
	now  time.Time
}

func (c *counted) View() *view.View { return c.view }
func (c *counted) Leads() bool      { return true }
func (c *counted) Now() time.Time   { return c.now }

// countDays counts ten days in which a release came to most cells, some of which failed it; on one day nobody counted.
func (s *site) countDays(t *testing.T) {
	t.Helper()
	const quarters = 10 * 24 * 4
	v, c := s.View(), &counted{}
	names := slices.Sorted(maps.Keys(v.Observed.Cells))
	keeper := adoption.NewKeeper(c, s.records, zerolog.Nop())
	for q := range quarters {
		c.now = v.Plan.Now.Add(time.Duration(q-quarters) * 15 * time.Minute)
		observed, made := *v.Observed, v.Plan
		observed.Cells, made.Now = map[string]*plan.CellState{}, c.now
		for i, name := range names {
			state := *v.Observed.Cells[name]
			state.LastReport = c.now
			switch began := 300 + 6*i; {
			case q < began:
				state.Release, state.Digest, state.State = "1.0.0", "", cells.StateHealthy
			case q < began+20 && i%5 == 0:
				state.State = cells.StateUnhealthy
			}
			observed.Cells[name] = &state
		}
		c.view = &view.View{Desired: v.Desired, Observed: &observed, Plan: made}
		if q > 150 && q < 220 {
			continue
		}
		if err := keeper.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
