package ui_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/sluice-cd/sluice/engine/plan"
)

var screens = flag.String("screens", "", "the folder to write pictures of all pages to; empty: none are taken")

var whole = flag.Bool("whole", false, "pictures show all of each page, in forced colours, at 320 px and at 200 % "+
	"zoom too")

func noScripts() chromedp.Action { return emulation.SetScriptExecutionDisabled(true) }

// TestScreenshots takes pictures of pages, of which docs/console.md shows some.
func TestScreenshots(t *testing.T) {
	w, s, b := newFormSite(t)
	s.world = w
	s.countDays(t)
	now := s.View().Plan.Now
	s.decided = []plan.Decided{
		{Commit: "c1", Kind: plan.Promote, Channel: "dedicated", Release: "1.1.0", Replaces: "1.0.0",
			At: now.Add(-time.Hour)},
		{Commit: "c2", Kind: plan.Rollback, Channel: "staging", Release: "1.0.0", Replaces: "1.1.0", At: now}}
	for _, look := range looks() {
		b.take(look)
		for _, path := range append(paths(), formPaths()...) {
			name := strings.NewReplacer("/", "-", "?", "-", "=", "-", "&", "-", "+", "-").
				Replace(strings.TrimPrefix(path, "/ui/"))
			if name == "" {
				name = "now"
			}
			b.visit(s.URL + path)
			b.await(`!document.body.dataset.at || document.querySelector("#live").textContent === "live"`)
			b.takePicture(name + "-" + look.name)
		}
	}
}

// look is how a reader sees the pages.
type look struct {
	name, appearance string
	width            int64
}

func looks() []look {
	all := []look{{"light", "light", 1280}, {"dark", "dark", 1280}}
	if *whole {
		all = append(all, look{"narrow", "light", 320}, look{"forced", "forced", 1280},
			look{"forced-light", "forced light", 1280}, look{"zoomed", "light", zoomedWidth},
			look{"zoomed-dark", "dark", zoomedWidth}, look{"zoomed-forced", "forced", zoomedWidth})
	}
	return all
}

// take has the browser show pages as the reader sees them. Half as wide a window with twice the pixels is 200 % zoom.
func (b *browser) take(l look) {
	b.t.Helper()
	b.appearance(l.appearance)
	if l.width == zoomedWidth {
		b.do(chromedp.EmulateViewport(zoomedWidth, 512, chromedp.EmulateScale(2)))
	} else {
		b.do(chromedp.EmulateViewport(l.width, 880))
	}
}

// zoomedWidth is that of a window of 1280 px at 200 % zoom.
const zoomedWidth = 640

// takePicture takes a picture of the page, and keeps it where -screens says. It is taken in any case: a page that can't
// be drawn is found.
func (b *browser) takePicture(name string) {
	b.t.Helper()
	var picture []byte
	if *whole {
		b.do(chromedp.FullScreenshot(&picture, 100))
	} else {
		b.do(chromedp.CaptureScreenshot(&picture))
	}
	if len(picture) < 5000 {
		b.t.Errorf("%s: a picture of %d bytes", name, len(picture))
	}
	if *screens == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screens, name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
}
