package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/records"
	pgstore "github.com/sluice-cd/sluice/engine/store/postgres"
)

// beginSession stores a session as a sign-in does, and returns its secret.
func (f *fleet) beginSession(who string) string {
	f.t.Helper()
	st, err := pgstore.Open(f.t.Context(), f.database, pgstore.Options{Log: zerolog.Nop()})
	if err != nil {
		f.t.Fatal(err)
	}
	defer st.Close()
	secret := access.SessionPrefix + "secret-of-" + who
	hash, now := identity.HashSecret(secret), time.Now()
	body, err := json.Marshal(map[string]any{"id": hash[:16], "kind": "browser", "created": now, "checked": now,
		"seen": now, "ends": now.Add(time.Hour), "who": access.Person{Issuer: "https://idp.example", Subject: who,
			Groups: []string{who}}})
	if err == nil {
		_, err = st.Records().Put(f.t.Context(), records.Record{Kind: signin.SessionsKind, Key: hash, Body: body})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return secret
}

// asSession requests a path of a replica with a session. The caller closes the body.
func (f *fleet) asSession(replica int, secret, method, path string) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://sluice"+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	w, err := socketClient(f.path(fmt.Sprintf("replica-%d.s", replica))).Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

func (f *fleet) statusAs(replica int, secret, path string) int {
	f.t.Helper()
	w := f.asSession(replica, secret, http.MethodGet, path)
	defer w.Body.Close()
	_, _ = io.Copy(io.Discard, w.Body)
	return w.StatusCode
}

// An admin ends a session at one replica: it is refused at every replica, and what it has open ends. The promise is 2 s
// after the end, which a busy machine may not keep: the times are logged.
func TestEndedSessionIsRefusedAtEveryReplica(t *testing.T) {
	t.Parallel()
	f := makeFleet(t, 1, 0, 2, rollingPolicy)
	for _, r := range f.replicas {
		r.args = append(r.args, "--listen", "https://127.0.0.1:0", "--oidc-issuer", "https://idp.example",
			"--oidc-client-id", "sluice")
	}
	settings := "apiVersion: sluice/v1\nkind: Pipeline\naccess: {groups: {admins: [admin], viewers: [viewer]}}\n"
	if _, err := f.repo.Commit(t.Context(), "who may do what", map[string]string{"sluice.yaml": settings}); err != nil {
		t.Fatal(err)
	}
	f.startReplicas()
	admin, viewer := f.beginSession("admins"), f.beginSession("viewers")
	for replica := range f.replicas {
		for secret, path := range map[string]string{admin: "/v1/sessions", viewer: "/v1/status"} {
			f.eventually(func() (string, bool) {
				status := f.statusAs(replica, secret, path)
				return fmt.Sprintf("replica %d: %s: %d", replica, path, status), status == http.StatusOK
			})
		}
	}
	if status := f.statusAs(1, viewer, "/v1/sessions"); status != http.StatusForbidden {
		t.Errorf("a viewer lists sessions: %d", status)
	}
	page := f.asSession(1, viewer, http.MethodGet, "/ui/")
	text, err := io.ReadAll(page.Body)
	if _ = page.Body.Close(); err != nil || page.StatusCode != http.StatusOK {
		t.Fatal(page.Status, err)
	}
	open := f.asSession(1, viewer, http.MethodGet, "/ui/live?at=/ui/&version="+assetsVersion(t, string(text)))
	defer open.Body.Close()
	if open.StatusCode != http.StatusOK {
		t.Fatal(open.Status)
	}
	ended := make(chan time.Time, 1)
	go func() {
		_, _ = io.Copy(io.Discard, open.Body)
		ended <- time.Now()
	}()

	w := f.asSession(0, admin, http.MethodDelete, "/v1/sessions/"+identity.HashSecret(viewer)[:16])
	_ = w.Body.Close()
	if w.StatusCode != http.StatusNoContent {
		t.Fatal(w.Status)
	}
	at := time.Now()
	if status := f.statusAs(0, viewer, "/v1/status"); status != http.StatusUnauthorized {
		t.Errorf("where it was ended: %d", status)
	}
	f.eventually(func() (string, bool) {
		status := f.statusAs(1, viewer, "/v1/status")
		return fmt.Sprintf("at the other replica: %d", status), status == http.StatusUnauthorized
	})
	t.Logf("refused at the other replica after %v", time.Since(at))
	select {
	case end := <-ended:
		t.Logf("the open stream ended after %v", end.Sub(at))
	case <-time.After(time.Minute):
		t.Error("what the session had open stays open")
	}
	if status := f.statusAs(1, admin, "/v1/sessions"); status != http.StatusOK {
		t.Errorf("the admin's own: %d", status)
	}
	var audit string
	if err := f.getFrom(1, "/v1/audit", &audit); err != nil || !strings.Contains(audit, "end the session") {
		t.Errorf("the audit: %s (%v)", audit, err)
	}
}

// assetsVersion returns the version of the console's assets that a page names.
func assetsVersion(t *testing.T, page string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, `data-version="`)
	version, _, closed := strings.Cut(rest, `"`)
	if !found || !closed {
		t.Fatalf("the page names no version: %.500s", page)
	}
	return version
}
