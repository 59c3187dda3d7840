package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/access"
)

// Who may use a route: one of these, or an access.Role.
const (
	whoPublic = "public" // everyone, where people come in
	whoHook   = "hook"   // everyone, where people come in: the handler checks the signature
	whoCell   = "cell"   // a cell, by its key; without cells' listener, on this machine, whoever names one
	whoKey    = "key"    // whoever proved to have a key, at the cells' listener
)

// Route is a row of the table of who may do what.
type Route struct {
	Method, Path string
	Who          string // public, hook, key, cell, viewer, operator, approver or admin
}

// Routes is the table. A route that is not in it can't be added to a server, and a row needs its route.
func Routes() []Route {
	viewer, operator, admin := string(access.Viewer), string(access.Operator), string(access.Admin)
	return []Route{
		{"GET", desiredPath, whoCell},
		{"GET", "/v1/releases/{digest}", whoCell},
		{"GET", "/v1/flagbundles/{digest}", whoCell},
		{"POST", "/v1/reports", whoCell},
		{"POST", "/v1/key", whoCell},
		{"POST", "/v1/register", whoKey},

		{"GET", "/v1/plan", viewer},
		{"GET", "/v1/status", viewer},
		{"GET", "/v1/why/{name}", viewer},
		{"GET", "/v1/rollouts", viewer},
		{"GET", "/v1/events", viewer},
		{"GET", "/metrics", viewer},
		{"GET", "/v1/cells", viewer},
		{"GET", "/v1/cells/{name}", viewer},
		{"POST", "/v1/cells/{name}/rotate", operator},
		{"POST", "/v1/cells/{name}/revoke", operator},
		{"POST", "/v1/cells/{name}/tokens", admin},
		{"GET", "/v1/tokens", admin},
		{"POST", "/v1/tokens", admin},
		{"DELETE", "/v1/tokens/{name}", admin},
		{"GET", "/v1/audit", admin},

		{"GET", "/v1/flags", viewer},
		{"GET", "/v1/flags/{key}", viewer},
		{"POST", "/v1/flags/{key}/kill", operator},
		{"GET", "/v1/announcements", viewer},
		{"GET", "/v1/announcements/{id}", viewer},
		{"GET", "/v1/webhooks", viewer},

		{"POST", hookPath, whoHook},
		{"GET", "/announcements", whoPublic},
		{"GET", "/announcements/{id}", whoPublic},
		{"GET", "/announcements.atom", whoPublic},
		{"GET", "/livez", whoPublic},
		{"GET", "/readyz", whoPublic},
		{"GET", "/openapi.json", whoPublic},
		{"GET", "/openapi.yaml", whoPublic},
		{"GET", "/openapi-3.0.json", whoPublic},
		{"GET", "/openapi-3.0.yaml", whoPublic},
	}
}

// door is where a request came in.
type door string

const (
	doorLoopback door = "loopback" // plain, on this machine
	doorSocket   door = "socket"   // a unix socket, which only its owner can open
	doorPeople   door = "people"   // TLS
	doorCells    door = "cells"    // TLS, and the peer proved to have a key
	doorElse     door = "else"     // plain, not from this machine: nobody is believed there
)

// behind tells whether the route exists behind a door. keyed: cells are served by key, at a listener of their own.
func (r Route) behind(d door, keyed bool) bool {
	switch r.Who {
	case whoKey:
		return d == doorCells
	case whoCell:
		return d == doorCells || !keyed && r.Path != "/v1/key" && (d == doorLoopback || d == doorSocket)
	default:
		return d != doorCells
	}
}

// doorOf tells through which door a request to a plain listener came. What a proxy passes on may come from anywhere.
func doorOf(r *http.Request) door {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if len(r.Header[name]) > 0 {
			return doorElse
		}
	}
	switch at := r.Context().Value(http.LocalAddrContextKey).(type) {
	case nil: // no network at all
		return doorLoopback
	case *net.UnixAddr:
		return doorSocket
	case *net.TCPAddr:
		if at.IP.IsLoopback() && r.TLS == nil {
			return doorLoopback
		}
	}
	return doorElse
}

// gate is the mux that routes are added to: none gets past it without a row in the table.
type gate struct {
	*http.ServeMux
	server *Server
	rows   map[string]Route // by pattern
	added  map[string]bool
	poll   http.HandlerFunc // of pollPattern
	faults []error
}

func newGate(s *Server) *gate {
	g := &gate{ServeMux: http.NewServeMux(), server: s, rows: map[string]Route{}, added: map[string]bool{}}
	for _, r := range Routes() {
		g.rows[r.Method+" "+r.Path] = r
	}
	return g
}

// HandleFunc adds a route of the table.
func (g *gate) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	row, ok := g.rows[pattern]
	if !ok {
		g.faults = append(g.faults, fmt.Errorf("the route %s is not in the table of who may use it", pattern))
		return
	}
	g.added[pattern] = true
	if strings.HasPrefix(row.Path, "/openapi") {
		h = oneAtATime(h)
	}
	admitted := func(w http.ResponseWriter, r *http.Request) {
		switch c, ok := g.server.admit(w, r, row); {
		case !ok:
		case row.Path == desiredPath && asking(w, r) == c: // polls are many, and a context costs them more than the rest
			h(w, r)
		default:
			h(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		}
	}
	g.ServeMux.HandleFunc(pattern, admitted)
	if pattern == pollPattern {
		g.poll = admitted
	}
}

// ServeHTTP finds the route. That of polls is the one that is asked for most, and found at a glance.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.poll != nil && r.Method == http.MethodGet && r.URL.Path == desiredPath {
		r.Pattern = pollPattern
		g.poll(w, r)
		return
	}
	g.ServeMux.ServeHTTP(w, r)
}

// oneAtATime is for what huma writes when it is first asked for, without a lock.
func oneAtATime(h http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		h(w, r)
	}
}

// check tells of what table and routes don't have in common.
func (g *gate) check() error {
	faults := slices.Clone(g.faults)
	for pattern := range g.rows {
		if !g.added[pattern] {
			faults = append(faults, fmt.Errorf("there is no route %s, which the table has", pattern))
		}
	}
	return errors.Join(faults...)
}

// secured writes into an operation's description who may use it.
func (s *Server) secured(op huma.Operation) huma.Operation {
	row := s.mux.rows[op.Method+" "+op.Path]
	switch row.Who {
	case whoPublic, whoHook:
		op.Security = []map[string][]string{}
	case whoCell, whoKey:
		op.Security = []map[string][]string{{"key": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	default:
		op.Security = []map[string][]string{{"token": {row.Who}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests)
	}
	return op
}
