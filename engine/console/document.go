package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/words"
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

// AssetPath is the path of all assets. What is below it never changes under one address: Version is part of it.
const AssetPath = Base + "assets/"

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

func assetURL(name string) string { return AssetPath + Version() + "/" + name }

// ContentSecurityPolicy is what browsers allow the pages: their own style and script, and nothing that is written into
// a page. With Trusted Types only the script's one policy makes HTML of text.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types console"

// sections are the items of the navigation, each with the key that follows g.
func sections() []struct {
	kind      Kind
	name, key string
} {
	return []struct {
		kind      Kind
		name, key string
	}{
		{Now, "Now", "n"}, {Needs, "Needs you", "i"}, {Fleet, "Fleet", "f"}, {Releases, "Releases", "r"},
		{Flags, "Flags", "l"}, {When, "When", "w"}, {WhatIf, "What if", "x"},
		{History, "History", "h"},
	}
}

// frame returns the regions that every page has.
func (m *Model) frame(at Address) []Region {
	all := []Region{m.navigation(at), m.asOf()}
	if m.ActsAs != "" {
		all = append(all, Region{"acts-as", paragraph("", mark("held", ""), " Everyone on this machine acts here as ",
			markup.Element("b", nil, markup.Text(m.ActsAs)), markup.Text(", by --console-as."))})
	}
	return all
}

// navigation returns the region with the links to all sections.
func (m *Model) navigation(at Address) Region {
	var items []markup.HTML
	for _, s := range sections() {
		with := markup.Attributes{"href", Address{Kind: s.kind}.String(), "data-key", s.key}
		current := at.Kind == s.kind || s.kind == Fleet && at.Kind == Cell || s.kind == Now && at.Kind == Channel ||
			s.kind == Flags && at.Kind == Announcements
		if current {
			with = append(with, "aria-current", "page")
		}
		inside := []markup.HTML{markup.Text(s.name)}
		if n := len(m.needs()); s.kind == Needs && n > 0 {
			inside = append(inside, element("span", "badge", markup.Text(strconv.Itoa(n))))
		}
		items = append(items, markup.Element("li", nil, markup.Element("a", with, inside...)))
	}
	return Region{"navigation", markup.Element("ul", nil, items...)}
}

// asOfStep is how exactly a page says when its plan was made: it does not change with every plan.
const asOfStep = time.Minute

// asOf returns the region that says what the page is of. It changes once a minute at most.
func (m *Model) asOf() Region {
	v := m.view
	parts := []markup.HTML{"commit ", code(words.ShortCommit(v.Desired.Commit)), " as planned ",
		instant(v.Plan.Now.Truncate(asOfStep))}
	return Region{"as-of", paragraph("", parts...)}
}

// Document returns the whole page.
func (p *Page) Document() []byte {
	head := markup.Element("head", nil,
		markup.Void("meta", "charset", "utf-8"),
		markup.Void("meta", "name", "viewport", "content", "width=device-width, initial-scale=1"),
		markup.Void("meta", "name", "color-scheme", "content", "light dark"),
		markup.Void("meta", "name", "referrer", "content", "same-origin"),
		markup.Element("title", nil, markup.Text(p.Title+" · Sluice")),
		markup.Void("link", "rel", "icon", "href", assetURL("icon.svg")),
		markup.Void("link", "rel", "stylesheet", "href", assetURL("console.css")),
		markup.Element("script", markup.Attributes{"type", "module", "src", assetURL("console.js")}),
	)
	var body []markup.HTML
	for _, r := range p.Regions {
		if r.ID != "navigation" && r.ID != "as-of" && r.ID != "acts-as" {
			body = append(body, section("section", r))
		}
	}
	top := markup.Element("header", markup.Attributes{"class", "top"},
		markup.Element("a", markup.Attributes{"class", "skip", "href", "#main"}, "Skip to the content"),
		markup.Element("a", markup.Attributes{"class", "brand", "href", Base}, mark("brand", ""), "Sluice"),
		markup.Element("nav", markup.Attributes{"aria-label", "Sections"},
			section("div", Region{"navigation", p.region("navigation")})),
		markup.Element("form", markup.Attributes{"class", "search", "role", "search", "action",
			Address{Kind: Search}.String()},
			markup.Void("input", "type", "search", "name", "q", "aria-label", "Search cells, channels, releases and flags",
				"placeholder", "Search", "maxlength", strconv.Itoa(maxFilter), "autocomplete", "off"),
			markup.Element("button", markup.Attributes{"class", "unseen"}, "Search")),
		p.actsAs(),
	)
	foot := markup.Element("footer", nil, section("div", Region{"as-of", p.region("as-of")}),
		markup.Element("p", markup.Attributes{"id", "live", "role", "status"}),
		element("p", "soft keys", markup.Element("kbd", nil, "?"), " keys"))
	return []byte("<!doctype html>\n" + markup.Element("html", markup.Attributes{"lang", "en"}, head,
		markup.Element("body", markup.Attributes{"data-at", p.followed(), "data-etag", p.ETag(),
			"data-version", Version()},
			symbols(), top,
			markup.Element("main", markup.Attributes{"id", "main", "tabindex", "-1"}, body...), foot)) + "\n")
}

// actsAs returns who acts here, if the control plane takes everyone for one person.
func (p *Page) actsAs() markup.HTML {
	if who := p.region("acts-as"); who != "" {
		return section("div", Region{"acts-as", who})
	}
	return ""
}

// followed returns the address that a tab follows; empty: none.
func (p *Page) followed() string {
	if p.Still {
		return ""
	}
	return p.Address.String()
}

func section(tag string, r Region) markup.HTML {
	return markup.Element(tag, markup.Attributes{"id", "region-" + r.ID, "class", "region"}, r.HTML)
}

// symbols defines the marks for the whole document.
func symbols() markup.HTML {
	all := []markup.HTML{symbol("brand", "M1 1h4v2.5c0 1 .8 1.6 1.6 2L9 6.7c1 .5 2 1.3 2 2.6V11H7V9.2L3 7.3C1.8 6.7 1 5.6 1 4.3z")}
	for _, s := range shapes() {
		all = append(all, symbol(s[0], s[1]))
	}
	return markup.Element("svg", markup.Attributes{"class", "unseen", "aria-hidden", "true", "focusable", "false"},
		all...)
}

func symbol(name, path string) markup.HTML {
	return markup.Element("symbol", markup.Attributes{"id", "mark-" + name, "viewBox", "0 0 12 12"},
		markup.Element("path", markup.Attributes{"fill-rule", "evenodd", "d", path}))
}
