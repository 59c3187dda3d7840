package controlplane

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/internal/words"
)

// probes serves liveness, readiness and metrics.
type probes struct {
	views          api.Views
	maxUnreachable time.Duration                   // longest outage of the repository while ready
	checkStore     func(ctx context.Context) error // nil: not checked
	shutdown       api.Shutdown
}

func (p *probes) routes(d api.Docs, metrics http.Handler) []api.Route {
	op := func(id, summary string, ok *huma.Response, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"operators"}, Summary: summary,
			Responses: map[string]*huma.Response{"200": ok}, Errors: errors}
	}
	return []api.Route{
		{Method: http.MethodGet, Path: "/livez", Audience: api.Public, Handler: serveLiveness,
			Operation: op("livez", "Whether the process answers", d.JSONResponse("The process answers", health{}))},
		{Method: http.MethodGet, Path: "/readyz", Audience: api.Public, Handler: p.serveReadiness,
			Operation: op("readyz", "Whether cells can be served, or why not",
				d.JSONResponse("Cells can be served", health{}), http.StatusServiceUnavailable)},
		{Method: http.MethodGet, Path: "/metrics", Audience: api.Viewer,
			Operation: op("metrics", "Metrics for Prometheus",
				api.Response("Prometheus text format", "text/plain", api.TextSchema())),
			Handler: func(w http.ResponseWriter, r *http.Request, _ *api.Caller) { metrics.ServeHTTP(w, r) }},
	}
}

// serveReadiness answers 503 with every reason to send cells to another replica.
func (p *probes) serveReadiness(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	var reasons []*huma.ErrorDetail
	add := func(where, what string) {
		if !c.IsLocal() {
			// errors name addresses and files, and anyone may ask
			what = "does not work; the log of sluice serve says why"
		}
		reasons = append(reasons, &huma.ErrorDetail{Location: where, Message: what})
	}
	ready := health{Status: "ready"}
	if v := p.views.View(); v == nil {
		add("view", api.NotReadMessage)
	} else if u := v.Unread; u != nil {
		ready.Repository = "can't be read since " + words.FormatTime(u.Since)
		if time.Since(u.Since) > p.maxUnreachable {
			add("repository", ready.Repository+": "+u.Reason)
		}
	}
	if p.checkStore != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if err := p.checkStore(ctx); err != nil {
			_, detail, _ := api.DescribeError(err)
			add("store", detail)
			api.NoteError(w, err)
		}
	}
	if p.shutdown.Begun() {
		add("server", "is stopping")
	}
	if len(reasons) > 0 {
		api.WriteProblem(w, http.StatusServiceUnavailable, "Not ready.", reasons...)
		return
	}
	api.WriteJSON(w, http.StatusOK, ready)
}

// health is the body of a successful probe.
type health struct {
	Status     string `json:"status"`
	Repository string `json:"repository,omitempty" doc:"since when the release repository can't be read; none: it can"`
}

func serveLiveness(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
	api.WriteJSON(w, http.StatusOK, health{Status: "alive"})
}
