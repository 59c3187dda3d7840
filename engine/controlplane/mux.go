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

// mux routes requests and authorises their callers: a handler can be reached only through a row of the table.
type mux struct {
	router      *http.ServeMux
	auth        *auth.Auth
	api         huma.API
	table       []api.Route
	routes      map[string]*api.Route // by pattern
	pollHandler http.HandlerFunc      // of GET /v1/desired, the most frequent request, found without the router
	errs        []error
}

func newMux(a *auth.Auth) *mux {
	m := &mux{router: http.NewServeMux(), auth: a, routes: map[string]*api.Route{}}
	m.api = newAPI(m)
	m.router.HandleFunc("/", m.writeUnmatched)
	return m
}

const pollPattern = http.MethodGet + " " + cellapi.DesiredPath

// addRoutes adds rows to the table.
func (m *mux) addRoutes(all []api.Route) {
	for _, r := range all {
		if r.Audience == "" || (r.Handler == nil) == (r.Typed == nil) {
			m.errs = append(m.errs, fmt.Errorf("the route %s has no audience or no handler", r.Pattern()))
			continue
		}
		m.table = append(m.table, r)
		m.routes[r.Pattern()] = &r
		op := describeRoute(m.api, r)
		if r.Typed != nil {
			r.Typed(m.api, op) // huma calls back through HandleFunc
			continue
		}
		if !op.Hidden {
			m.api.OpenAPI().AddOperation(&op)
		}
		h := m.authorise(&r, r.Handler)
		if r.Pattern() == pollPattern {
			m.pollHandler = h
		}
		m.router.HandleFunc(r.Pattern(), h)
	}
}

// HandleFunc registers the handler of a Typed row. Huma calls HandleFunc.
func (m *mux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r, ok := m.routes[pattern]
	if !ok {
		m.errs = append(m.errs, fmt.Errorf("the route %s is not in the table of who may use it", pattern))
		return
	}
	m.router.HandleFunc(pattern, m.authorise(r, func(w http.ResponseWriter, r *http.Request, c *api.Caller) {
		h(w, r.WithContext(api.WithCaller(r.Context(), c)))
	}))
}

// authorise wraps a handler so that only admitted callers reach it.
func (m *mux) authorise(route *api.Route, h api.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, ours := w.(*responseRecorder)
		if !ours || !m.auth.Serves(a.listener, route) {
			m.writeUnmatched(w, r)
			return
		}
		c, ok := m.auth.Admit(w, r, route, a.listener)
		a.caller = c
		if ok {
			h(w, r, c)
		}
	}
}

func (m *mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == cellapi.DesiredPath && r.Method == http.MethodGet && m.pollHandler != nil {
		r.Pattern = pollPattern
		m.pollHandler(w, r)
		return
	}
	m.router.ServeHTTP(w, r)
}

// writeUnmatched answers 404, or 405 with the methods that the path allows.
func (m *mux) writeUnmatched(w http.ResponseWriter, r *http.Request) {
	listener := api.Untrusted
	if a, ok := w.(*responseRecorder); ok {
		listener = a.listener
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		_, pattern := m.router.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host})
		if route, ok := m.routes[pattern]; ok && m.auth.Serves(listener, route) {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		api.WriteProblem(w, http.StatusNotFound, "There is nothing at this path: /openapi.json lists all paths.")
		return
	}
	for _, method := range allowed {
		w.Header().Add("Allow", method)
	}
	api.WriteProblem(w, http.StatusMethodNotAllowed,
		"This path does not take "+strconv.Quote(r.Method)+": see the Allow header.")
}

// err returns an error for every row that can't be served.
func (m *mux) err() error { return errors.Join(m.errs...) }
