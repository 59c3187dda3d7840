package imagerelay_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
)

// openDoor serves a relay to node parts, and returns its door.
func openDoor(t *testing.T, o imagerelay.Options) *imagerelay.Door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, err := imagerelay.NewDoor(l.Addr().String(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		imagerelay.New(o).ServeNodes(ctx, l, d, http.NotFoundHandler())
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return d
}

// A program on a node pulls by the node part, the agent and the control plane. The token stays between the two relays.
// An agent that was started anew has another door, and the node part goes there once it knows.
func TestNodesPullThroughTheAgent(t *testing.T) {
	t.Parallel()
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Errorf("the control plane got %q", h)
		}
		_, _ = io.WriteString(w, "of "+r.URL.String())
	}))
	defer plane.Close()
	to := new(imagerelay.Through)
	base := relay(t, imagerelay.Options{To: to})
	const path = "/v2/app/blobs/sha256:1?ns=registry.example"
	if answer, text := ask(t, http.MethodGet, base+path, nil); answer.StatusCode != http.StatusBadGateway {
		t.Errorf("before the agent said where: %s %s", answer.Status, text)
	}
	for range 2 {
		if err := to.Take(openDoor(t, imagerelay.Options{To: toServer{plane}}).Access()); err != nil {
			t.Fatal(err)
		}
		header := http.Header{"Authorization": {"Bearer of-the-program"}}
		if answer, text := ask(t, http.MethodGet, base+path, header); answer.StatusCode != http.StatusOK ||
			text != "of "+path {
			t.Errorf("%s %s", answer.Status, text)
		}
	}
	if err := to.Take(imagerelay.Access{Address: "agent:5443", Pin: "x", Token: "x"}); err == nil {
		t.Error("an address that is none was taken")
	}
	if answer, _ := ask(t, http.MethodGet, base+path, nil); answer.StatusCode != http.StatusOK {
		t.Errorf("after what was refused: %s", answer.Status)
	}
}

// Without the token nothing is passed on, and a node part tells its token to nobody but the agent.
func TestOnlyNodesComeInByTheDoor(t *testing.T) {
	t.Parallel()
	plane := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was passed on", r.Method, r.URL)
	}))
	defer plane.Close()
	right := openDoor(t, imagerelay.Options{To: toServer{plane}}).Access()
	wrong := right
	wrong.Token = strings.Repeat("x", len(right.Token))
	to := new(imagerelay.Through)
	base := relay(t, imagerelay.Options{To: to})
	if err := to.Take(wrong); err != nil {
		t.Fatal(err)
	}
	if answer, text := ask(t, http.MethodGet, base+"/v2/", nil); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("another token: %s %s", answer.Status, text)
	}

	stranger := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a stranger got %q", r.Header.Get("Authorization"))
	}))
	defer stranger.Close()
	right.Address = stranger.Listener.Addr().String()
	if err := to.Take(right); err != nil {
		t.Fatal(err)
	}
	if answer, text := ask(t, http.MethodGet, base+"/v2/", nil); answer.StatusCode != http.StatusBadGateway {
		t.Errorf("another agent: %s %s", answer.Status, text)
	}
}

func TestWriteHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(registry string) string {
		text, err := os.ReadFile(filepath.Join(dir, registry, "hosts.toml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	all := []string{"registry.example:5000", "docker.io"}
	for _, relay := range []string{"127.0.0.1:5001", "127.0.0.1:5001", "127.0.0.1:5002"} {
		if err := imagerelay.WriteHosts(dir, all, relay); err != nil {
			t.Fatal(err)
		}
		if text := read("registry.example:5000"); !strings.Contains(text, "server = \"https://registry.example:5000\"\n") ||
			!strings.Contains(text, "[host.\"http://"+relay+"\"]\n  capabilities = [\"pull\"]\n") {
			t.Error(text)
		}
	}
	if text := read("docker.io"); !strings.Contains(text, "https://registry-1.docker.io") {
		t.Error(text)
	}
	foreign := filepath.Join(dir, "docker.io", "hosts.toml")
	if err := os.WriteFile(foreign, []byte("server = \"https://mirror.example\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := imagerelay.WriteHosts(dir, append(all, "../etc", "ghcr.io"), "127.0.0.1:5003")
	if err == nil || !strings.Contains(err.Error(), "somebody else wrote") || !strings.Contains(err.Error(), "../etc") {
		t.Errorf("somebody else's file, and a name that is none: %v", err)
	}
	if text := read("docker.io"); text != "server = \"https://mirror.example\"\n" {
		t.Errorf("somebody else's file became %q", text)
	}
	if text := read("ghcr.io"); !strings.Contains(text, "127.0.0.1:5003") {
		t.Errorf("after a fault: %q", text)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
