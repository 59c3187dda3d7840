package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/markup"
)

//go:embed assets
var assets embed.FS

// Asset is a file that pages load.
type Asset struct {
	Kind string // Content-Type
	Body []byte
}

// AssetOf returns an asset by its name.
func AssetOf(name string) (Asset, bool) {
	kind := map[string]string{"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8",
		"icon.svg": "image/svg+xml"}[name]
	body, err := assets.ReadFile("assets/" + name)
	return Asset{kind, body}, kind != "" && err == nil
}

// AssetPath is the path of all assets below the first page's. What is below it never changes under one address: Version
// is part of it.
const AssetPath = "assets/"

// Version returns a hash of the assets, which a browser that has older ones compares.
func Version() string { return assetVersion() }

var assetVersion = sync.OnceValue(func() string {
	sum := sha256.New()
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		a, _ := AssetOf(name)
		sum.Write(a.Body)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6])
})

// contentSecurityPolicy is what browsers allow the pages: their own style and script, and nothing that is written into
// a page. With Trusted Types only the script's one policy makes HTML of text.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types console"

// SecurityHeaders are what every answer to a browser has. All answers share them: they are copied, and never changed.
func SecurityHeaders() map[string][]string { return securityHeaders() }

var securityHeaders = sync.OnceValue(func() map[string][]string {
	return map[string][]string{"Content-Security-Policy": {contentSecurityPolicy},
		"X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"same-origin"},
		"Cross-Origin-Opener-Policy": {"same-origin"}, "Cross-Origin-Resource-Policy": {"same-origin"}}
})

// Region is a part of a page that is replaced by itself.
type Region struct {
	ID   string // constant
	HTML markup.HTML
}

// Regions are the parts of a page, in the order in which they stand. Those of the frame, FrameNavigation, FrameBanner
// and FrameFoot, have their own places.
type Regions []Region

// The regions of the frame.
const (
	FrameNavigation = "navigation"
	FrameBanner     = "acts-as"
	FrameFoot       = "as-of"
)

// Of returns a region's content by its ID.
func (all Regions) Of(id string) markup.HTML {
	for _, r := range all {
		if r.ID == id {
			return r.HTML
		}
	}
	return ""
}

// Changed returns the regions that differ in older; all of them if that is nil.
func (all Regions) Changed(older Regions) Regions {
	var changed Regions
	for _, r := range all {
		if older == nil || older.Of(r.ID) != r.HTML {
			changed = append(changed, r)
		}
	}
	return changed
}

// ETag returns a hash of all that a page shows.
func (all Regions) ETag(title string) string {
	sum := sha256.New()
	sum.Write([]byte(title))
	for _, r := range all {
		sum.Write([]byte(r.ID))
		sum.Write([]byte(r.HTML))
	}
	return hex.EncodeToString(sum.Sum(nil)[:12])
}

// Frame is a page with all around its regions.
type Frame struct {
	Title    string
	Base     string // the first page's path, which ends with a slash; the assets are below it
	Followed string // the address that a tab follows; empty: the page is of one moment
	Search   markup.HTML
	Regions  Regions
}

// Document returns the whole page.
func (f *Frame) Document() []byte {
	url := func(name string) string { return f.Base + AssetPath + Version() + "/" + name }
	head := markup.Element("head", nil,
		markup.Void("meta", "charset", "utf-8"),
		markup.Void("meta", "name", "viewport", "content", "width=device-width, initial-scale=1"),
		markup.Void("meta", "name", "color-scheme", "content", "light dark"),
		markup.Void("meta", "name", "referrer", "content", "same-origin"),
		markup.Element("title", nil, markup.Text(f.Title+" · Sluice")),
		markup.Void("link", "rel", "icon", "href", url("icon.svg")),
		markup.Void("link", "rel", "stylesheet", "href", url("console.css")),
		markup.Element("script", markup.Attributes{"type", "module", "src", url("console.js")}),
	)
	var body []markup.HTML
	for _, r := range f.Regions {
		if r.ID != FrameNavigation && r.ID != FrameBanner && r.ID != FrameFoot {
			body = append(body, section("section", r))
		}
	}
	top := markup.Element("header", markup.Attributes{"class", "top"},
		markup.Element("a", markup.Attributes{"class", "skip", "href", "#main"}, "Skip to the content"),
		markup.Element("a", markup.Attributes{"class", "brand", "href", f.Base}, Mark("brand", ""), "Sluice"),
		markup.Element("nav", markup.Attributes{"aria-label", "Sections"},
			section("div", Region{FrameNavigation, f.Regions.Of(FrameNavigation)})),
		f.Search, f.banner())
	foot := markup.Element("footer", nil, section("div", Region{FrameFoot, f.Regions.Of(FrameFoot)}),
		markup.Element("p", markup.Attributes{"id", "live", "role", "status"}),
		Element("p", "soft keys", markup.Element("kbd", nil, "?"), " keys"))
	return []byte("<!doctype html>\n" + markup.Element("html", markup.Attributes{"lang", "en"}, head,
		markup.Element("body", markup.Attributes{"data-at", f.Followed, "data-base", f.Base,
			"data-etag", f.Regions.ETag(f.Title), "data-version", Version()},
			Symbols(), top,
			markup.Element("main", markup.Attributes{"id", "main", "tabindex", "-1"}, body...), foot)) + "\n")
}

// banner returns what the header says to everyone who looks; empty: nothing.
func (f *Frame) banner() markup.HTML {
	text := f.Regions.Of(FrameBanner)
	if text == "" {
		return ""
	}
	return section("div", Region{FrameBanner, text})
}

// Event appends an event with regions, after which a tab shows what has the ETag.
func (all Regions) Event(to []byte, etag string) ([]byte, error) {
	to = append(append(append(to, "id: "...), etag...), "\nevent: regions\ndata: {"...)
	for i, r := range all {
		if i > 0 {
			to = append(to, ',')
		}
		text, err := quoteJSON(string(r.HTML))
		if err != nil {
			return nil, err
		}
		to = append(append(strconv.AppendQuote(to, r.ID), ':'), text...)
	}
	return append(to, "}\n\n"...), nil
}

// quoteJSON returns text as JSON, on one line and without the escapes that make HTML long.
func quoteJSON(text string) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(text)
	return []byte(strings.TrimSuffix(out.String(), "\n")), err
}

func section(tag string, r Region) markup.HTML {
	return markup.Element(tag, markup.Attributes{"id", "region-" + r.ID, "class", "region"}, r.HTML)
}

// hatches are drawn in a square of 8. In forced colours they tell apart what colours do otherwise: each has another
// look in a thin line, too.
func hatches() [HueCount]string {
	return [HueCount]string{"M-1 1L1-1M0 8L8 0M7 9L9 7", "M2 0V8M4 0V8", "M0 0L8 8M0 8L8 0", "M1 2h2M5 6h2",
		"M-1 7L1 9M0 0L8 8M7-1L9 1", "M0 2H8M0 6H8", "M0 4H8M4 0V8", "M0 6L2 2 4 6 6 2 8 6"}
}

// Symbols defines the marks and hatches for the whole document.
func Symbols() markup.HTML {
	all := []markup.HTML{symbol("brand",
		"M1 1h4v2.5c0 1 .8 1.6 1.6 2L9 6.7c1 .5 2 1.3 2 2.6V11H7V9.2L3 7.3C1.8 6.7 1 5.6 1 4.3z")}
	for _, s := range Shapes() {
		all = append(all, symbol(s[0], s[1]))
	}
	for i, path := range hatches() {
		all = append(all, markup.Element("pattern", markup.Attributes{"id", "hatch-" + strconv.Itoa(i), "width", "8",
			"height", "8", "patternUnits", "userSpaceOnUse"},
			markup.Element("path", markup.Attributes{"class", "hatch", "d", path})))
	}
	return markup.Element("svg", markup.Attributes{"class", "unseen", "aria-hidden", "true", "focusable", "false"},
		all...)
}

func symbol(name, path string) markup.HTML {
	return markup.Element("symbol", markup.Attributes{"id", "mark-" + name, "viewBox", "0 0 12 12"},
		markup.Element("path", markup.Attributes{"fill-rule", "evenodd", "d", path}))
}
