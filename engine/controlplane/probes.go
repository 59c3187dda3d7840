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
	views      api.Views
	reachable  func() error                    // why the release repository can't be read; nil: not looked at
	within     time.Duration                   // not ready once that lasted for so long
	store      func(ctx context.Context) error // whether the store works; nil: not looked at
	stopping   api.Stopping
	repository outage
}

func (p *probes) routes(d api.Docs, metrics http.Handler) []api.Route {
	op := func(id, summary string, ok *huma.Response, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"operators"}, Summary: summary, Responses: map[string]*huma.Response{"200": ok}, Errors: errors}
	}
	return []api.Route{
		{Method: http.MethodGet, Path: "/livez", Who: api.Public, Handler: alive, Operation: op("livez", "Whether the process answers", d.JSON("It does", health{}))},
		{Method: http.MethodGet, Path: "/readyz", Who: api.Public, Handler: p.ready, Operation: op("readyz", "Whether cells can be served, or why not", d.JSON("They can", health{}), http.StatusServiceUnavailable)},
		{Method: http.MethodGet, Path: "/metrics", Who: api.Viewer, Operation: op("metrics", "Metrics for Prometheus", api.Answer("Prometheus text format", "text/plain", api.Text())),
			Handler: func(w http.ResponseWriter, r *http.Request, _ *api.Caller) { metrics.ServeHTTP(w, r) }},
	}
}

// outage watches, from one question for readiness to the next, for how long the release repository could not be read.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: it could be
}

func (o *outage) forLonger(err error, than time.Duration) bool {
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

// ready answers 503 with every reason why cells had better be served by another replica.
func (p *probes) ready(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	var reasons []*huma.ErrorDetail
	add := func(where, what string) {
		if !c.OnThisMachine() {
			what = "does not work; the log of sluice serve says why" // anyone may ask, and errors name addresses and files
		}
		reasons = append(reasons, &huma.ErrorDetail{Location: where, Message: what})
	}
	if p.views.View() == nil {
		add("view", api.NotRead)
	}
	if p.reachable != nil {
		if err := p.reachable(); p.repository.forLonger(err, p.within) {
			add("repository", "could not be read for more than "+p.within.String()+": "+err.Error())
		}
	}
	if p.store != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if err := p.store(ctx); err != nil {
			_, detail, _ := api.Explain(err)
			add("store", detail)
			api.NoteError(w, err)
		}
	}
	if p.stopping.Now() {
		add("server", "is stopping")
	}
	if len(reasons) > 0 {
		api.Problem(w, http.StatusServiceUnavailable, "Not ready.", reasons...)
		return
	}
	api.WriteJSON(w, http.StatusOK, health{Status: "ready"})
}

// health is the answer where all is well.
type health struct {
	Status string `json:"status"`
}

func alive(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
	api.WriteJSON(w, http.StatusOK, health{Status: "alive"})
}
