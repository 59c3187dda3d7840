package controlplane_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
)

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func parseJSON[T any](t *testing.T, body string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// An administrator's actions on a cell's identity, from its token to its revocation, are all in the audit.
func TestCellsIdentity(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	client := h.client(t, "socket", nil)
	do := func(method, path, body string, want int) string {
		t.Helper()
		w, said := h.request(t, client, "socket", method, path, body)
		if w.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, w.Status, said)
		}
		return said
	}
	join := parseJSON[peopleapi.JoinToken](t, do("POST", "/v1/cells/acme/tokens", "", 200))
	token, err := identity.ParseToken(join.Token)
	if err != nil || token.Cell != "acme" || token.Address != "sluice.example:7601" ||
		strings.Join(token.Pins, " ") != strings.Join(h.keys.Pins, " ") {
		t.Errorf("%+v (%v)", token, err)
	}
	if left := join.Expires.Sub(noon); left == 0 || len(token.Secret) < 43 {
		t.Errorf("%s, a secret of %d", join.Expires, len(token.Secret))
	}
	kept, err := h.store.Joins(t.Context(), "acme")
	if err != nil || len(kept) != 1 || kept[0].Hash != identity.HashSecret(token.Secret) || kept[0].Serial != 1 ||
		kept[0].By != "administrator of this machine" {
		t.Errorf("kept %+v (%v)", kept, err)
	}
	do("POST", "/v1/cells/nobody/tokens", "", 404)

	if m := parseJSON[view.Member](t, do("POST", "/v1/cells/acme/rotate", "", 200)); m.Access != view.AccessRotating ||
		m.Serial != 2 || m.Release != "1.0.1" {
		t.Errorf("rotated: %+v", m)
	}
	if m := parseJSON[view.Member](t, do("POST", "/v1/cells/acme/revoke", "", 200)); m.Access != view.AccessRevoked {
		t.Errorf("revoked: %+v", m)
	}
	do("POST", "/v1/cells/acme/revoke", "", 409)
	do("POST", "/v1/cells/nobody/revoke", "", 404)
	do("GET", "/v1/cells/nobody", "", 404)
	page := parseJSON[peopleapi.MemberPage](t, do("GET", "/v1/cells?channel=staging&limit=1", "", 200))
	if page.Total != 2 || page.Next != "acme" || len(page.Cells) != 1 || page.Cells[0].Access != view.AccessRevoked {
		t.Errorf("%+v", page)
	}
	audit := do("GET", "/v1/audit", "", 200)
	for _, line := range []string{"make a token for cell acme", "ask cell acme for a new key", "revoke cell acme",
		"administrator of this machine"} {
		if !strings.Contains(audit, line) {
			t.Errorf("the audit lacks %q: %s", line, audit)
		}
	}
	if all := audit + h.log.String(); strings.Contains(all, token.Secret) || strings.Contains(all, join.Token) {
		t.Error("the token is in the audit or the log")
	}
}

func TestOperatorsTokens(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	admin, people := []string{"Authorization", "Bearer " + h.tokens["admin"]}, h.client(t, "people", nil)
	do := func(method, path, body string, want int, headers ...string) string {
		t.Helper()
		w, said := h.request(t, people, "people", method, path, body, headers...)
		if w.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, w.Status, said)
		}
		return said
	}
	made := parseJSON[peopleapi.OperatorToken](t,
		do("POST", "/v1/tokens", `{"name":"ada","roles":["operator"],"for":"720h"}`, 200, admin...))
	ada := []string{"Authorization", "bearer " + made.Token}
	if made.Roles.String() != "operator" || made.Expires.IsZero() || !strings.HasPrefix(made.Token, "sluice_") {
		t.Errorf("%+v", made)
	}
	do("GET", "/v1/status", "", 200, ada...)
	do("GET", "/v1/tokens", "", 403, ada...)
	for _, bad := range []string{`{"name":"ada","roles":["viewer"]}`, `{"name":"","roles":["viewer"]}`,
		`{"name":"x","roles":["king"]}`, `{"name":"x","roles":["viewer"],"for":"soon"}`, `{"name":"a b","roles":["viewer"]}`} {
		w, said := h.request(t, people, "people", "POST", "/v1/tokens", bad, admin...)
		if w.StatusCode != 409 && w.StatusCode != 422 {
			t.Errorf("%s: %s %s", bad, w.Status, said)
		}
	}
	list := do("GET", "/v1/tokens", "", 200, admin...)
	if !strings.Contains(list, `"ada"`) || strings.Contains(list, made.Token) ||
		strings.Contains(list, identity.HashSecret(made.Token)) {
		t.Errorf("listed: %s", list)
	}
	do("DELETE", "/v1/tokens/ada", "", 204, admin...)
	do("DELETE", "/v1/tokens/ada", "", 404, admin...)
	do("GET", "/v1/status", "", 401, ada...)
	if audit := do("GET", "/v1/audit", "", 200, admin...); !strings.Contains(audit,
		"add the token ada with the role operator") || !strings.Contains(audit, `"who":"admin"`) {
		t.Error(audit)
	}
	if strings.Contains(h.log.String(), made.Token) {
		t.Error("the token is in the log")
	}
}
