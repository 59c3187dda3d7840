package consoleapi

import (
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/ui"
)

func (a *API) liveRoute() api.Route {
	return api.Route{Method: http.MethodGet, Path: "/ui/live", Audience: api.Viewer, Handler: a.serveLive,
		Background: true,
		Operation: huma.Operation{OperationID: "consoleLive", Tags: []string{"console"},
			Summary: "The regions of a page that change, as an event stream",
			Parameters: []*huma.Param{
				api.RequiredParam(api.Param("at", "query", "the page's path and query", api.TextSchema())),
				api.Param("have", "query", "the ETag of the page's content that the tab has", api.TextSchema()),
				api.Param("version", "query", "of the assets that the tab has", api.TextSchema()),
				api.Param("Last-Event-ID", "header", "as have, after a reconnect", api.TextSchema())},
			Responses: map[string]*huma.Response{"200": api.Response(
				"Events regions (a JSON object of HTML by region) and reload", "text/event-stream", api.TextSchema())},
			Errors: []int{404, 503}}}
}

// serveLive follows a page: it sends each region that changed, and nothing else.
func (a *API) serveLive(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	secure(w.Header())
	query := r.URL.Query()
	to, err := url.Parse(query.Get("at"))
	var address console.Address
	ok := err == nil
	if ok {
		address, ok = console.ParseAddress(to.Path, to.Query())
	}
	if !ok {
		api.WriteProblem(w, http.StatusNotFound, "There is no such page to follow: load it again.")
		return
	}
	if a.shutdown.Begun() || !a.tabs.Acquire() {
		api.SetRetryAfter(w, 15)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"Too many tabs follow already: this one is as of when it was loaded, load it again later.")
		return
	}
	defer a.tabs.Release()
	out := api.NewEventWriter(w)
	if query.Get("version") != ui.Version() {
		_ = out.Write([]byte("event: reload\ndata:\n\n")) // an error means that the client has gone
		return
	}
	if out.Write([]byte("retry: 2000\n\n")) != nil {
		return
	}
	have := query.Get("have")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		have = last
	}
	if err := a.follow(r, out, c, address, have); err != nil {
		api.NoteError(w, err)
	}
}

// follow sends a page's changes until the tab goes, the caller may no longer read, or the server stops.
func (a *API) follow(r *http.Request, out api.EventWriter, c *api.Caller, address console.Address, have string) error {
	beat, still := time.NewTicker(api.Heartbeat-time.Second), time.NewTicker(auth.TokenMaxAge)
	defer beat.Stop()
	defer still.Stop()
	var sent ui.Regions // nil: only their ETag is known
	for {
		changed := a.views.Changed() // before View, to miss no change
		var wait time.Duration
		if newest := a.views.View(); newest != nil {
			var v *view.View
			v, wait = a.pages.paced(newest)
			p, err := a.pages.page(r.Context(), v, address)
			if err != nil { // the tab asks again
				return err
			}
			if p.etag != have {
				event, err := p.page.Regions.Changed(sent).Event(nil, p.etag)
				if err != nil {
					return err
				}
				if out.Write(event) != nil {
					return nil
				}
			}
			have, sent = p.etag, p.page.Regions
		}
		var paced <-chan time.Time // nil: only a change ends the wait
		if wait > 0 {
			paced, changed = time.After(wait), nil
		}
		for waiting := true; waiting; {
			select {
			case <-paced:
				waiting = false
			case <-changed:
				waiting = false
			case <-r.Context().Done():
				return nil
			case <-a.shutdown:
				_ = out.Write(api.RetryEvent(time.Second)) // an error means that the client has gone
				return nil
			case <-still.C:
				if !a.auth.StillAllowsRole(r.Context(), c, api.Viewer) {
					return nil
				}
			case <-beat.C:
				if out.Write([]byte(":\n\n")) != nil {
					return nil
				}
			}
		}
	}
}
