package controlplane

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

// probes say whether cells can be served here.
type probes struct {
	views           api.Views
	repositoryError func() error                    // why the release repository can't be read; nil: not looked at
	maxUnreachable  time.Duration                   // not ready once that lasted for so long
	checkStore      func(ctx context.Context) error // whether the store works; nil: not looked at
	shutdown        api.Shutdown
	outage          outage
}

func (p *probes) routes(d api.Docs, metrics http.Handler) []api.Route {
	op := func(id, summary string, ok *huma.Response, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"operators"}, Summary: summary, Responses: map[string]*huma.Response{"200": ok}, Errors: errors}
	}
	return []api.Route{
		{Method: http.MethodGet, Path: "/livez", Audience: api.Public, Handler: serveLiveness, Operation: op("livez", "Whether the process answers", d.JSONResponse("It does", health{}))},
		{Method: http.MethodGet, Path: "/readyz", Audience: api.Public, Handler: p.serveReadiness, Operation: op("readyz", "Whether cells can be served, or why not", d.JSONResponse("They can", health{}), http.StatusServiceUnavailable)},
		{Method: http.MethodGet, Path: "/metrics", Audience: api.Viewer, Operation: op("metrics", "Metrics for Prometheus", api.Response("Prometheus text format", "text/plain", api.TextSchema())),
			Handler: func(w http.ResponseWriter, r *http.Request, _ *api.Caller) { metrics.ServeHTTP(w, r) }},
	}
}

// outage watches, from one question for readiness to the next, for how long the release repository could not be read.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: it could be
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

// serveReadiness answers 503 with every reason why cells had better be served by another replica.
func (p *probes) serveReadiness(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	var reasons []*huma.ErrorDetail
	add := func(where, what string) {
		if !c.IsLocal() {
			what = "does not work; the log of sluice serve says why" // anyone may ask, and errors name addresses and files
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

// health is the answer where all is well.
type health struct {
	Status string `json:"status"`
}

func serveLiveness(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
	api.WriteJSON(w, http.StatusOK, health{Status: "alive"})
}
