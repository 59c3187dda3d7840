package controlplane_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
)

// awaitAudit returns the audit once it has a row for which good holds.
func awaitAudit(t *testing.T, h *securedSite, good func(access.Entry) bool) (all []access.Entry) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		all, err := h.store.AuditEntries(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if good(e) {
				return all
			}
		}
	}
	t.Fatal("the audit has no such row")
	return nil
}

// Who asked for what its roles do not permit is in the audit by name; strangers share a row; and no secret is in it.
func TestRefusalsAreInTheAudit(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	people, peer := h.client(t, "people", nil), h.client(t, "cells", h.signers["acme"])
	ask := func(token, method, path string, want int) {
		t.Helper()
		w, said := h.request(t, people, "people", method, path, "", "Authorization", "Bearer "+token)
		if w.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, w.Status, said)
		}
	}
	ask(h.tokens["viewer"], "POST", "/v1/cells/acme/revoke?why=private", 403)
	all := awaitAudit(t, h, func(e access.Entry) bool { return e.Who == "viewer" })
	if len(all) != 1 || all[0].From == "" ||
		all[0].What != "was refused: POST /v1/cells/acme/revoke, which requires the role operator" {
		t.Errorf("%+v", all)
	}
	ask(h.tokens["expired"], "GET", "/v1/status", 401)
	const tries = 200
	for range tries {
		ask("sluice_secret-of-somebody", "GET", "/v1/status", 401)
		ask(h.tokens["viewer"], "GET", "/v1/audit", 403)
	}
	if w, _ := h.request(t, peer, "cells", "GET", "/v1/desired?cell=bolt", ""); w.StatusCode != 403 {
		t.Fatal(w.Status)
	}
	awaitAudit(t, h, func(e access.Entry) bool {
		return e.Who == "acme" && e.What == `was refused: GET /v1/desired as cell "bolt"`
	})
	all = awaitAudit(t, h, func(e access.Entry) bool { return strings.Contains(e.Who, "a token that is not valid") })
	if len(all) != 3 {
		t.Errorf("rows while the window is open: %+v", all)
	}
	// Nobody who shows nothing is in it: anyone can ask so.
	if w, _ := h.request(t, people, "people", "GET", "/v1/status", ""); w.StatusCode != 401 {
		t.Error(w.Status)
	}

	h.stop() // what was gathered is stored before serve ends
	all, err := h.store.AuditEntries(t.Context(), 1000)
	if err != nil || len(all) != 5 {
		t.Fatalf("%+v (%v)", all, err)
	}
	for _, e := range all[:2] {
		if !strings.Contains(e.What, "was refused 200 times more") {
			t.Errorf("%+v", e)
		}
	}
	for _, e := range all {
		if strings.Contains(e.What+e.Who, "secret-of") || strings.Contains(e.What, "private") {
			t.Errorf("a secret is in %+v", e)
		}
	}
}
