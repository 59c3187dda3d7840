package controlplane

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// probes serves liveness, readiness and metrics.
type probes struct {
	views           api.Views
	repositoryError func() error                    // of the last read of the release repository; nil: not checked
	maxUnreachable  time.Duration                   // longest outage of the repository while ready
	checkStore      func(ctx context.Context) error // nil: not checked
	shutdown        api.Shutdown
	outage          outage
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

// outage measures, from one readiness probe to the next, how long the release repository has been unreachable.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero while the repository is reachable
}

func (o *outage) exceeds(err error, than time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.since = time.Time{}
	case o.since.IsZero():
		o.since = time.Now()
	default:
		return time.Since(o.since) > than
	}
	return false
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
	if p.views.View() == nil {
		add("view", api.NotReadMessage)
	}
	if p.repositoryError != nil {
		if err := p.repositoryError(); p.outage.exceeds(err, p.maxUnreachable) {
			add("repository", "could not be read for more than "+p.maxUnreachable.String()+": "+err.Error())
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
	api.WriteJSON(w, http.StatusOK, health{Status: "ready"})
}

// health is the body of a successful probe.
type health struct {
	Status string `json:"status"`
}

func serveLiveness(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
	api.WriteJSON(w, http.StatusOK, health{Status: "alive"})
}
