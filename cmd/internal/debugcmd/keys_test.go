package debugcmd

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/debugapi"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// D4: a control plane that was taken over can't choose the cell or the session that a person opens, and whose record
// they believe.
func TestD4ControlPlaneChoosesNoCell(t *testing.T) {
	t.Parallel()
	asked, other := strings.Repeat("1", 32), strings.Repeat("2", 32)
	for _, lie := range []debugging.RequestStatus{
		{Cell: "eu-9", ID: asked, State: cells.DebugPermitted}, {Cell: "acme", ID: other, State: cells.DebugPermitted},
		{State: cells.DebugPermitted}} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/debug-requests" {
				_ = json.NewEncoder(w).Encode(debugapi.RequestList{Requests: []debugging.RequestStatus{lie}})
				return
			}
			_ = json.NewEncoder(w).Encode(lie)
		}))
		defer server.Close()
		for _, args := range [][]string{{"show", "acme", asked}, {"withdraw", "acme", asked},
			{"show", "acme", asked, "--record", filepath.Join(t.TempDir(), "record.cast")},
			{"verify", "acme", asked, "record.cast"}} {
			verb := Verb(cli.NewApp(nil, nil, io.Discard, io.Discard))
			verb.SilenceErrors, verb.SilenceUsage = true, true
			verb.SetArgs(append(args, "--server", server.URL))
			err := verb.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), "answered about request") {
				t.Errorf("%q believes %+v: %v", args, lie, err)
			}
		}
		a := cli.NewApp(nil, nil, io.Discard, io.Discard)
		a.Server = server.URL
		found := func(debugging.RequestStatus) (*gitrepo.SSHSigner, error) { return &gitrepo.SSHSigner{}, nil }
		if s, err := findRequest(t.Context(), a, []string{"acme", asked}, found); err == nil {
			t.Errorf("connect with an ID would open %+v", s)
		}
		if s, err := findRequest(t.Context(), a, []string{"acme"}, found); err == nil && s.Cell != "acme" {
			t.Errorf("connect would open %+v", s)
		}
	}
}

// The file of host keys is this verb's own: another one, such as ~/.ssh/known_hosts, stays as it is.
func TestKnownHostsOfOthersStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own, others := filepath.Join(dir, "cell-acme"), filepath.Join(dir, "known_hosts")
	for _, line := range []string{"acme ssh-ed25519 AAAA1", "acme ssh-ed25519 AAAA2"} {
		if err := writeKnownHosts(own, line); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(own); err != nil || string(text) != knownHostsHead+line+"\n" {
			t.Errorf("%q %v", text, err)
		}
	}
	const mine = "github.com ssh-ed25519 AAAA\nacme ssh-rsa AAAA\n"
	if err := os.WriteFile(others, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	err := writeKnownHosts(others, "acme ssh-ed25519 AAAA1")
	if err == nil || !strings.Contains(err.Error(), "nothing was written") {
		t.Error(err)
	}
	if text, err := os.ReadFile(others); err != nil || string(text) != mine {
		t.Errorf("%q %v", text, err)
	}
}
