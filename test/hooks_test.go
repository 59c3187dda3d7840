package test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/test/postgres"
)

// The git host's hook reaches a replica that does not lead: the leader is notified, and promotes.
func TestHookAtAFollower(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const secret = "a secret of three"
	if err := os.WriteFile(w.path("secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, w.repo, "config", "http.receivepack", "true")
	database, repo := postgres.NewDatabase(t), serveGitHTTP(t, w.dir)+"/repo.git"
	replica := func(name, listen string) {
		p := w.process(name, "serve", "--repo", repo, "--data", w.path(name), "--listen", listen, "--poll", "1h",
			"--branch", "main",
			"--hook-secret-file", w.path("secret"))
		p.environment = []string{"SLUICE_DATABASE=" + database}
		p.start()
	}
	replica("leads", w.socket())
	w.eventually(func() (string, bool) { return "the first does not lead", w.hasMetric("sluice_leader 1") })
	if err := os.Rename(w.path("s"), w.path("first")); err != nil { // the leader gets no more requests
		t.Fatal(err)
	}
	replica("follows", w.socket())
	w.eventually(func() (string, bool) { return "the second does not read the repository", w.status().Commit != "" })
	if !w.hasMetric("sluice_leader 0") {
		t.Fatal("the second leads")
	}
	w.cutRelease("1.0.0", "fine")
	if code := w.postHook([]byte(`{"ref":"refs/heads/main"}`), secret); code != http.StatusAccepted {
		t.Fatalf("a signed hook: %d", code)
	}
	w.eventually(func() (string, bool) { return "staging did not get 1.0.0", w.headRelease("staging") == "1.0.0" })
	if !w.hasMetric("sluice_leader 0") {
		t.Error("the replica that got the hook promoted the release")
	}
}

func (w *world) hasMetric(line string) bool {
	response, err := w.request(http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return err == nil && strings.Contains(string(text), "\n"+line+"\n")
}
