// Package consoleapi serves the console: its pages, their live regions, the wall and the assets.
//
// Pages are made by package console. This package reads what they need beside the View, and keeps each page until the
// View changes, so that a hundred tabs cost one rendering. It decides nothing and stores nothing. What people ask for
// in forms is done in two steps: a GET shows the commit, and a POST has package desk make that commit, if it is still
// the same one. Package auth admits the caller before a handler is called. All methods may be called from any
// goroutine.
package consoleapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/whatif"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/releases"
)

// maxTabs bounds the tabs that follow a page at once.
const maxTabs = 512

// Options configures the console. Views, Repository, Journal and Auth are required.
type Options struct {
	Views      api.Views
	Repository api.Repository
	Journal    Journal
	Auth       *auth.Auth
	Facts      auth.Facts    // nil: there are none
	Records    records.Store // nil: no adoption over time is shown
	Events     CellEvents    // nil: no cell's history is shown but what its state has
	Exports    CellExports   // nil: no cell's exports are shown
	// History returns a copy of the release repository's history, up to the commit that was read last; nil: no policy
	// is tried.
	History   func() (*plan.History, error)
	Desk      Desk            // makes the commits of actions; nil: forms only show the command
	Killer    Killer          // nil: there are no flags
	Audit     Audit           // nil: there is none
	Dir       string          // for files that are being sent; empty: the system's
	Committer releases.Person // who commits for people
	ConsoleAs *access.Person  // of auth.Options
	Shutdown  api.Shutdown
	Log       zerolog.Logger
}

// API serves the console.
type API struct {
	views    api.Views
	pages    *pageCache
	auth     *auth.Auth
	forms    *formHandlers
	audit    *auditHandlers
	tabs     limit.InFlight
	trials   limit.InFlight
	source   whatif.Source // no History: no policy is tried
	shutdown api.Shutdown
}

// New returns an API and starts nothing.
func New(o Options) *API {
	pages := newPageCache(o)
	return &API{views: o.Views, auth: o.Auth, shutdown: o.Shutdown, tabs: limit.InFlight{Limit: maxTabs}, pages: pages,
		trials: limit.InFlight{Limit: maxTrials}, source: whatif.Source{FS: o.Repository.FS, History: o.History},
		forms: &formHandlers{views: o.Views, pages: pages, auth: o.Auth, desk: o.Desk, killer: o.Killer,
			committer: o.Committer, inFlight: limit.InFlight{Limit: maxForms}},
		audit: &auditHandlers{views: o.Views, pages: pages, audit: o.Audit, dir: o.Dir,
			export: limit.InFlight{Limit: 1}}}
}

// Routes returns the console's routes.
func (a *API) Routes(api.Docs) []api.Route {
	page := func(path, id, summary string, params ...*huma.Param) api.Route {
		return api.Route{Method: http.MethodGet, Path: path, Audience: api.Viewer, Page: true, Handler: a.servePage,
			Operation: huma.Operation{OperationID: id, Tags: []string{"console"}, Summary: summary, Parameters: params,
				Responses: map[string]*huma.Response{"200": api.Response("The page", "text/html", api.TextSchema(),
					"ETag"),
					"304": {Description: "As before"}},
				Errors: []int{404, 503}}}
	}
	filter := api.Param("q", "query", "a filter, as typed", api.TextSchema())
	after := api.Param("after", "query", "the name before the first of the list", api.TextSchema())
	name := func(what string) *huma.Param {
		return api.RequiredParam(api.Param("name", "path", what, api.TextSchema()))
	}
	return append(append(a.forms.routes(), a.audit.routes()...), []api.Route{
		page("/ui/{$}", "consoleNow", "Channels, what goes out, and what keeps it"),
		page("/ui/needs", "consoleNeeds", "What waits for a person, by harm"),
		page("/ui/fleet", "consoleFleet", "All cells", filter, after),
		page("/ui/cells/{name}", "consoleCell", "A cell, and why it runs what it runs", name("the cell")),
		page("/ui/channels/{name}", "consoleChannel", "A channel and its rollout", name("the channel")),
		page("/ui/releases", "consoleReleases", "Where the newest releases are"),
		page("/ui/releases/{name}", "consoleRelease", "A release, and what keeps it", name("the release")),
		page("/ui/flags", "consoleFlags", "Kills, announcements and flags", filter, after),
		page("/ui/flags/{name}", "consoleFlag", "A flag in every cell", name("the flag"), after),
		page("/ui/announcements/{name}", "consoleAnnouncement", "An announcement", name("the announcement")),
		page("/ui/when", "consoleWhen", "What is known to happen, on one axis of time"),
		page("/ui/whatif", "consoleTrials", "The channels whose policies can be tried"),
		page("/ui/whatif/{name}", "consoleTrial", "Another policy of a channel, to be tried", name("the channel")),
		a.trialRoute(name("the channel")),
		page("/ui/history", "consoleHistory", "The engine's decisions", filter),
		page("/ui/search", "consoleSearch", "Whatever has a text in its name", filter),
		a.liveRoute(),
		{Method: http.MethodGet, Path: "/ui/wall", Audience: api.Viewer, Handler: a.serveWall, Background: true,
			Operation: huma.Operation{OperationID: "consoleWall", Tags: []string{"console"},
				Summary:    "The conditions of the cells that a filter selects, for drawing",
				Parameters: []*huma.Param{filter},
				Responses: map[string]*huma.Response{"200": api.Response("A letter a cell, by channel",
					"application/json",
					&huma.Schema{Type: huma.TypeObject}, "ETag"), "304": {Description: "As before"}},
				Errors: []int{404, 503}}},
		{Method: http.MethodGet, Path: "/ui/assets/{version}/{name}", Audience: api.Public, Handler: a.serveAsset,
			Operation: huma.Operation{OperationID: "consoleAsset", Tags: []string{"console"},
				Summary: "The console's style, script and icon", Parameters: []*huma.Param{name("the file"),
					api.RequiredParam(api.Param("version", "path", "a hash of all of them", api.TextSchema()))},
				Responses: map[string]*huma.Response{"200": api.Response("The file", "text/plain", api.TextSchema(),
					"ETag")},
				Errors: []int{404}}},
	}...)
}

// secure sets the headers that every answer to a browser has.
func secure(h http.Header) {
	maps.Copy(h, ui.SecurityHeaders())
	h.Set("Vary", "Accept-Encoding")
}

func (a *API) servePage(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	v := a.views.View()
	if v == nil {
		w.Header().Set("Refresh", "2") // a person who looks early sees the page as soon as there is one
		api.WriteNotReady(w)
		return
	}
	address, ok := console.ParseAddress(r.URL.Path, r.URL.Query())
	if !ok {
		api.WriteProblem(w, http.StatusNotFound, "There is no such page: "+console.Base+" is the first.")
		return
	}
	p, err := a.pages.page(r.Context(), v, address)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	status := http.StatusOK
	if !p.page.Found {
		status = http.StatusNotFound
	}
	writeCached(w, r, status, "text/html; charset=utf-8", p.document)
}

func (a *API) serveWall(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	v := a.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	address, ok := console.ParseAddress(console.Address{Kind: console.Fleet}.String(), r.URL.Query())
	if !ok {
		api.WriteProblem(w, http.StatusNotFound, "The filter is too long: leave terms out.")
		return
	}
	body, err := a.pages.wall(v, address.Filter)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	writeCached(w, r, http.StatusOK, "application/json", body)
}

func (a *API) serveAsset(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	asset, ok := ui.AssetOf(r.PathValue("name"))
	if !ok {
		api.WriteProblem(w, http.StatusNotFound, "There is no such file: load the page again.")
		return
	}
	if r.PathValue("version") == ui.Version() {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	writeCached(w, r, http.StatusOK, asset.Kind, newBody(asset.Body))
}

// writeCached writes a body, compressed where the browser takes that, or 304 if the browser has it.
func writeCached(w http.ResponseWriter, r *http.Request, status int, kind string, b *body) {
	h := w.Header()
	h.Set("ETag", b.etag)
	if status == http.StatusOK && api.MatchesETag(r.Header.Get("If-None-Match"), b.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data := b.plain
	if acceptsGzip(r) {
		data = b.compressed()
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // an error means that the client has gone
}

// acceptsGzip reports whether a browser takes gzip.
func acceptsGzip(r *http.Request) bool {
	for one := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(one), ";")
		if name == "gzip" && strings.ReplaceAll(quality, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// compress returns data in gzip.
func compress(data []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed+2) // the level is valid
	_, _ = z.Write(data)                                // a Buffer's Write never fails
	_ = z.Close()
	return out.Bytes()
}

func encodeWall(w console.Wall) ([]byte, error) { return json.Marshal(w) }
