package ui_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var screens = flag.String("screens", "", "the folder to write pictures of all pages to; empty: none are taken")

func noScripts() chromedp.Action { return emulation.SetScriptExecutionDisabled(true) }

// TestScreenshots takes pictures of pages, of which docs/console.md shows some.
func TestScreenshots(t *testing.T) {
	dir := *screens
	if dir == "" {
		dir = t.TempDir() // they are taken all the same: a page that can't be drawn is found
	}
	w, s, b := newFormSite(t)
	s.world = w
	s.countDays(t)
	b.do(chromedp.EmulateViewport(1280, 880))
	for _, appearance := range []string{"light", "dark"} {
		b.appearance(appearance)
		for _, path := range append(paths(), formPaths()...) {
			name := strings.NewReplacer("/", "-", "?", "-", "=", "-", "&", "-", "+", "-").
				Replace(strings.TrimPrefix(path, "/ui/"))
			if name == "" {
				name = "now"
			}
			b.visit(s.URL + path)
			b.await(`!document.body.dataset.at || document.querySelector("#live").textContent === "live"`)
			var picture []byte
			b.do(chromedp.CaptureScreenshot(&picture))
			if len(picture) < 5000 {
				t.Errorf("%s in %s: a picture of %d bytes", path, appearance, len(picture))
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+appearance+".png"), picture, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
