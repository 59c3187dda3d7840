package controlplane_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane/debugapi"
	"github.com/sluice-cd/sluice/engine/debugging"
)

// askedBy returns a request of ada's for acme, with her key as people in sluice.yaml list it.
func askedBy(t *testing.T) (debug.SignedRequest, map[string]*channels.Member) {
	t.Helper()
	signer := debugtest.NewSigner(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return debugtest.NewRequest(t, signer, nil), map[string]*channels.Member{"ada": {Keys: []string{line}}}
}

// A person asks, the cell hears of it by its desired state and finds the request, and people see what became of it. D4:
// nothing but a request signed by the person's own key is kept.
func TestD4DebugRequests(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	signed, people := askedBy(t)
	v := viewOf("1.0.1")
	v.Desired.Pipeline.People = people
	h.setView(v)
	admin, acme := h.client(t, "socket", nil), h.client(t, "cells", h.signers["acme"])
	do := func(c *http.Client, where, method, path string, body any, want int) string {
		t.Helper()
		text := ""
		if body != nil {
			text = mustJSON(t, body)
		}
		w, said := h.request(t, c, where, method, path, text)
		if w.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, w.Status, said)
		}
		return said
	}
	forged := signed
	forged.Document = []byte(strings.Replace(string(signed.Document), "4711", "4712", 1))
	do(admin, "socket", "POST", "/v1/cells/acme/debug", forged, 409)
	do(admin, "socket", "POST", "/v1/cells/bolt/debug", signed, 409)
	do(admin, "socket", "POST", "/v1/cells/none/debug", signed, 404)
	stranger, _ := askedBy(t)
	do(admin, "socket", "POST", "/v1/cells/acme/debug", stranger, 409)

	s := parseJSON[debugging.RequestStatus](t, do(admin, "socket", "POST", "/v1/cells/acme/debug", signed, 200))
	if s.ID != signed.ID() || s.State != debugging.Sent || s.By != "administrator of this machine" {
		t.Errorf("%+v", s)
	}
	do(admin, "socket", "POST", "/v1/cells/acme/debug", signed, 200) // a replay adds nothing
	got := parseJSON[debug.Requests](t, do(acme, "cells", "GET", "/v1/debug", nil, 200))
	if len(got.Requests) != 1 || got.Requests[0].ID() != signed.ID() {
		t.Errorf("%+v", got)
	}
	if r, err := got.Requests[0].Open(); err != nil || r.Reason != "it hangs" {
		t.Error(r, err)
	}
	other := h.client(t, "cells", h.signers["bolt"])
	if got := parseJSON[debug.Requests](t, do(other, "cells", "GET", "/v1/debug", nil, 200)); len(got.Requests) != 0 {
		t.Errorf("another cell sees %+v", got)
	}

	v = viewOf("1.0.1")
	v.Desired.Pipeline.People, v.Debug = people, map[string]string{"acme": "f00d"}
	v.Observed.Cells["acme"].Debug = []cells.DebugState{{ID: signed.ID(), State: cells.DebugLive, Until: noon}}
	h.setView(v)
	desired := parseJSON[cells.Desired](t, do(acme, "cells", "GET", "/v1/desired", nil, 200))
	if plain, err := json.Marshal(desired); err != nil || desired.Debug != "f00d" {
		t.Errorf("%s %v", plain, err)
	}
	list := parseJSON[debugapi.RequestList](t, do(admin, "socket", "GET", "/v1/debug-requests?cell=acme", nil, 200))
	if len(list.Requests) != 1 || list.Requests[0].State != cells.DebugLive {
		t.Errorf("%+v", list)
	}
	if why := do(admin, "socket", "GET", "/v1/why/acme", nil, 200); !strings.Contains(why, "a session is live until") {
		t.Error(why)
	}
	if all := do(admin, "socket", "GET", "/metrics", nil, 200); !strings.Contains(all,
		`sluice_debug_requests{channel="staging",state="live"} 1`) {
		t.Error("no metric of the session")
	}
	do(admin, "socket", "DELETE", "/v1/cells/acme/debug/"+signed.ID(), nil, 409) // its session lasts
	v = viewOf("1.0.1")
	v.Desired.Pipeline.People = people
	h.setView(v)
	for range 2 {
		do(admin, "socket", "DELETE", "/v1/cells/acme/debug/"+signed.ID(), nil, 200)
	}
	do(admin, "socket", "DELETE", "/v1/cells/bolt/debug/"+signed.ID(), nil, 404)
	if got := parseJSON[debug.Requests](t, do(acme, "cells", "GET", "/v1/debug", nil, 200)); len(got.Requests) != 0 {
		t.Errorf("%+v", got)
	}
	audit := do(admin, "socket", "GET", "/v1/audit", nil, 200)
	for _, line := range []string{"ask for debug access " + signed.ID() + " to cell acme for ada, case 4711",
		"withdraw the request for debug access " + signed.ID()} {
		if !strings.Contains(audit, line) {
			t.Errorf("no row %q in %s", line, audit)
		}
	}
}
