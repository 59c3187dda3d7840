package controlplane

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
)

// A route without an audience is not served, and a route that is not in the table can't be added.
func TestRoutesNeedAnAudience(t *testing.T) {
	t.Parallel()
	m := newMux(auth.New(auth.Options{}))
	answer := func(w http.ResponseWriter, _ *http.Request, _ *api.Caller) { w.WriteHeader(http.StatusOK) }
	m.addRoutes([]api.Route{{Method: http.MethodGet, Path: "/nobody", Handler: answer},
		{Method: http.MethodGet, Path: "/nothing", Audience: api.Public}})
	m.HandleFunc("GET /past", func(http.ResponseWriter, *http.Request) {})
	err := m.err()
	for _, path := range []string{"/nobody", "/nothing", "/past"} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v does not name %s", err, path)
		}
	}
	if len(m.table) != 0 {
		t.Errorf("served: %v", m.table)
	}
}
