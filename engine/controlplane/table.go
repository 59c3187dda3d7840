package controlplane

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/cellapi"
)

// mux finds the route of a request and has its caller judged: no handler is reached but by a row of the table.
type mux struct {
	serve  *http.ServeMux
	auth   *auth.Auth
	api    huma.API
	table  []api.Route
	routes map[string]*api.Route // by pattern
	polls  http.HandlerFunc      // of GET /v1/desired: what is asked for most is found at a glance
	faults []error
}

func newMux(a *auth.Auth) *mux {
	m := &mux{serve: http.NewServeMux(), auth: a, routes: map[string]*api.Route{}}
	m.api = newAPI(m)
	m.serve.HandleFunc("/", m.unmatched)
	return m
}

const pollPattern = http.MethodGet + " " + cellapi.DesiredPath

// add adds rows to the table.
func (m *mux) add(all []api.Route) {
	for _, r := range all {
		if r.Who == "" || (r.Handler == nil) == (r.Typed == nil) {
			m.faults = append(m.faults, fmt.Errorf("the route %s does not say who may use it, or what answers", r.Pattern()))
			continue
		}
		m.table = append(m.table, r)
		m.routes[r.Pattern()] = &r
		op := describe(m.api, r)
		if r.Typed != nil {
			r.Typed(m.api, op) // comes back by HandleFunc
			continue
		}
		if !op.Hidden {
			m.api.OpenAPI().AddOperation(&op)
		}
		h := m.guard(&r, r.Handler)
		if r.Pattern() == pollPattern {
			m.polls = h
		}
		m.serve.HandleFunc(r.Pattern(), h)
	}
}

// HandleFunc adds what answers a Typed row.
func (m *mux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r, ok := m.routes[pattern]
	if !ok {
		m.faults = append(m.faults, fmt.Errorf("the route %s is not in the table of who may use it", pattern))
		return
	}
	m.serve.HandleFunc(pattern, m.guard(r, func(w http.ResponseWriter, r *http.Request, c *api.Caller) {
		h(w, r.WithContext(api.WithCaller(r.Context(), c)))
	}))
}

// guard is the one way to a handler: past the judgment of who asks.
func (m *mux) guard(route *api.Route, h api.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, ours := w.(*answer)
		if !ours || !m.auth.Serves(a.at, route) {
			m.unmatched(w, r)
			return
		}
		c, ok := m.auth.Admit(w, r, route, a.at)
		a.who = c
		if ok {
			h(w, r, c)
		}
	}
}

func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == cellapi.DesiredPath && r.Method == http.MethodGet && m.polls != nil {
		r.Pattern = pollPattern
		m.polls(w, r)
		return
	}
	m.serve.ServeHTTP(w, r)
}

// unmatched answers where no route does, saying what would be allowed.
func (m *mux) unmatched(w http.ResponseWriter, r *http.Request) {
	at := api.Elsewhere
	if a, ok := w.(*answer); ok {
		at = a.at
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		_, pattern := m.serve.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host})
		if route, ok := m.routes[pattern]; ok && m.auth.Serves(at, route) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		api.Problem(w, http.StatusNotFound, "There is nothing at this path: /openapi.json lists what there is.")
		return
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	api.Problem(w, http.StatusMethodNotAllowed, "This path does not take "+strconv.Quote(r.Method)+": see the Allow header.")
}

// check tells of rows that can't be served.
func (m *mux) check() error { return errors.Join(m.faults...) }
