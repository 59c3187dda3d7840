package test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// badHost is git http-backend behind a proxy that misbehaves as a test says.
type badHost struct {
	backend, stale *cgi.Handler // stale serves the repository as it was once
	url            string
	released       chan struct{} // closed when what hangs may go on

	mu     sync.Mutex
	answer func(h *badHost, w http.ResponseWriter, q *http.Request) // nil: it behaves
	bad    int                                                      // answers that were not the backend's
}

func startBadHost(t *testing.T, w *world) *badHost {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(root string) *cgi.Handler {
		return &cgi.Handler{Path: path, Args: []string{"http-backend"}, Dir: root, InheritEnv: []string{"PATH"},
			Stderr: io.Discard, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=engine",
				"GIT_CONFIG_NOSYSTEM=1", "HOME=" + w.dir}}
	}
	h := &badHost{backend: serve(w.dir), stale: serve(w.path("before")), released: make(chan struct{})}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(h.behave) // before the server waits for what hangs
	h.url = server.URL
	return h
}

func (h *badHost) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	h.mu.Lock()
	answer := h.answer
	if answer != nil {
		h.bad++
	}
	h.mu.Unlock()
	if answer == nil {
		h.backend.ServeHTTP(w, q)
		return
	}
	answer(h, w, q)
}

func (h *badHost) misbehave(answer func(*badHost, http.ResponseWriter, *http.Request)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// behave ends all misbehaviour, and answers what hangs.
func (h *badHost) behave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answer = nil; h.released != nil {
		close(h.released)
		h.released = nil
	}
}

// hang answers once the host behaves again.
func (h *badHost) hang(w http.ResponseWriter, q *http.Request) {
	h.mu.Lock()
	released := h.released
	h.mu.Unlock()
	if released != nil {
		select {
		case <-released:
		case <-q.Context().Done():
			return
		}
	}
	h.backend.ServeHTTP(w, q)
}

func isPush(q *http.Request) bool {
	return strings.HasSuffix(q.URL.Path, "/git-receive-pack") && q.Method == http.MethodPost
}

// cutOff ends the connection without an answer.
func cutOff(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// onPush misbehaves for pushes alone.
func onPush(bad func(*badHost, http.ResponseWriter, *http.Request)) func(*badHost, http.ResponseWriter, *http.Request) {
	return func(h *badHost, w http.ResponseWriter, q *http.Request) {
		if isPush(q) {
			bad(h, w, q)
			return
		}
		h.backend.ServeHTTP(w, q)
	}
}

// Fault 5, R61: whatever the git host does, a release is promoted exactly once, the engine finds out what became of its
// push, and status says meanwhile what is wrong. The test logs a table of it.
func TestBadHosts(t *testing.T) {
	t.Parallel()
	type answer = func(*badHost, http.ResponseWriter, *http.Request)
	var mu sync.Mutex
	var table []string
	t.Cleanup(func() {
		slices.Sort(table)
		t.Logf("\n| the host | promoted | known after it began / ended | status said |\n|---|---|---|---|\n%s",
			strings.Join(table, "\n"))
	})
	for name, c := range map[string]struct {
		answer answer
		hook   bool     // a hook refuses the engine's pushes
		lasts  bool     // no promotion can be known while the host misbehaves
		says   []string // what status says meanwhile, in parts
	}{
		"answers 500 after applying a push": {answer: onPush(func(h *badHost, w http.ResponseWriter, q *http.Request) {
			h.backend.ServeHTTP(httptest.NewRecorder(), q)
			http.Error(w, "internal error", http.StatusInternalServerError)
		})},
		"cuts off after applying a push": {answer: onPush(func(h *badHost, w http.ResponseWriter, q *http.Request) {
			h.backend.ServeHTTP(httptest.NewRecorder(), q)
			cutOff(w)
		})},
		"answers 500 and applies no push": {answer: onPush(func(_ *badHost, w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "internal error", http.StatusInternalServerError)
		}), lasts: true, says: []string{"not known yet whether it landed", "500"}},
		"cuts every connection off": {answer: func(_ *badHost, w http.ResponseWriter, _ *http.Request) { cutOff(w) },
			lasts: true, says: []string{"can't be read since", "EOF"}},
		"hangs": {answer: func(h *badHost, w http.ResponseWriter, q *http.Request) { h.hang(w, q) },
			lasts: true, says: []string{"can't be read since", "has not answered"}},
		"hangs in a push": {answer: onPush(func(h *badHost, w http.ResponseWriter, q *http.Request) { h.hang(w, q) }),
			lasts: true, says: []string{"a push has been under way since", "the git host has not answered yet"}},
		"asks to wait, with Retry-After": {answer: func(_ *badHost, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		}, lasts: true, says: []string{"can't be read since", "429", "not asked again before"}},
		"asks to wait with pushes": {answer: onPush(func(_ *badHost, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			http.Error(w, "slow down", http.StatusTooManyRequests)
		}), lasts: true, says: []string{"the git host asks to wait", "429"}},
		"wants a token": {answer: func(_ *badHost, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}, lasts: true, says: []string{"can't be read since", "token"}},
		"redirects to a host of others": {answer: func(_ *badHost, w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "https://elsewhere.invalid"+q.URL.Path, http.StatusFound)
		}, lasts: true, says: []string{"can't be read since", "to https://elsewhere.invalid: give that address"}},
		"redirects to a new name of the repository": {answer: func(h *badHost, w http.ResponseWriter, q *http.Request) {
			if rest, old := strings.CutPrefix(q.URL.Path, "/repo.git/"); old {
				to := *q.URL
				to.Path = "/renamed.git/" + rest
				http.Redirect(w, q, to.String(), http.StatusMovedPermanently)
				return
			}
			h.backend.ServeHTTP(w, q)
		}},
		"forgets: it returns an older tip": {answer: func(h *badHost, w http.ResponseWriter, q *http.Request) {
			h.stale.ServeHTTP(w, q)
		}, lasts: true, says: []string{"the branch was rewritten"}},
		"has a hook that refuses": {hook: true, lasts: true,
			says: []string{"the git host refused the push", "no promotions on Fridays"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := runBadHost(t, c.answer, c.hook, c.lasts, c.says)
			mu.Lock()
			defer mu.Unlock()
			table = append(table, fmt.Sprintf("| %s %s", name, row))
		})
	}
}

// runBadHost promotes a release while the host misbehaves, and returns the rest of the table's row.
func runBadHost(t *testing.T, answer func(*badHost, http.ResponseWriter, *http.Request), hook, lasts bool,
	says []string) string {
	w := newWorld(t, func(files map[string]string) { files["channels/staging/channel.yaml"] += "advance: newest\n" })
	git(t, w.repo, "config", "http.receivepack", "true")
	if err := os.Symlink("repo.git", w.path("renamed.git")); err != nil {
		t.Fatal(err)
	}
	h := startBadHost(t, w)
	w.server.args = []string{"serve", "--repo", h.url + "/repo.git", "--data", w.path("data"), "--listen", w.socket(),
		"--branch", "main", "--poll", "500ms"}
	w.server.start()
	w.awaitFirstRead()
	git(t, w.dir, "clone", "-q", "--mirror", w.repo, w.path("before", "repo.git"))
	w.cutRelease("1.0.0", "fine")
	await := func(version string) {
		t.Helper()
		w.eventually(func() (string, bool) {
			return "staging is not known to be at " + version, w.knownHead("staging") == version
		})
	}
	await("1.0.0")
	hookFile := filepath.Join(w.repo, "hooks", "update")
	if hook { // of the engine's pushes alone, which come over HTTP
		script := "#!/bin/sh\n[ -n \"$REMOTE_USER\" ] || exit 0\necho 'no promotions on Fridays' >&2\nexit 1\n"
		if err := os.MkdirAll(filepath.Dir(hookFile), 0o755); err != nil { //nolint:gosec // a test's
			t.Fatal(err)
		}
		if err := os.WriteFile(hookFile, []byte(script), 0o755); err != nil { //nolint:gosec // a script
			t.Fatal(err)
		}
	}
	h.misbehave(answer)
	began := time.Now()
	w.cutRelease("1.1.0", "fine")
	said := w.listenTo(says, lasts)
	if got := w.knownHead("staging"); lasts == (got == "1.1.0") {
		t.Errorf("while the host misbehaves, staging is known to be at %s", got)
	}
	row := fmt.Sprintf("%s / ", time.Since(began).Round(100*time.Millisecond))
	if lasts {
		row = "- / "
	}
	ended := time.Now()
	if hook {
		if err := os.Remove(hookFile); err != nil {
			t.Fatal(err)
		}
	}
	h.behave()
	await("1.1.0")
	row += time.Since(ended).Round(100 * time.Millisecond).String()
	promotions := 0
	for _, subject := range w.headSubjects("staging") {
		if strings.HasPrefix(subject, "promote 1.1.0 to staging") {
			promotions++
		}
	}
	if promotions != 1 {
		t.Errorf("promoted %d times: %q", promotions, w.headSubjects("staging"))
	}
	if _, err := w.runSluice("validate", w.repo); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !hook && h.bad == 0 {
		t.Error("the host did not misbehave")
	}
	return fmt.Sprintf("| %d time | %s | %s |", promotions, row, said)
}

// knownHead returns the release of a channel as status says it.
func (w *world) knownHead(channel string) string {
	for _, c := range w.status().Channels {
		if c.Name == channel {
			return c.Release
		}
	}
	return ""
}

// listenTo returns what status says of the git host until it has said all parts or, without parts, until the release
// was promoted. lasts: for a while at least, so that the host is tried again.
func (w *world) listenTo(says []string, lasts bool) (said string) {
	w.t.Helper()
	began := time.Now()
	w.eventually(func() (string, bool) {
		s := w.status()
		var lines []string
		if s.Unread != nil {
			lines = append(lines, s.Unread.String())
		}
		for _, c := range s.Channels {
			for _, v := range c.Blocked {
				if c.Name == "staging" && (v.Gate == "push" || v.Gate == "diverged") {
					lines = append(lines, v.Reason)
				}
			}
		}
		now := strings.Join(lines, "; ")
		for _, part := range says {
			if !strings.Contains(now, part) {
				return fmt.Sprintf("status says %q, and not %q", now, part), false
			}
		}
		if now != "" || said == "" {
			said = now
		}
		if !lasts {
			return "staging is not known to be at 1.1.0", w.knownHead("staging") == "1.1.0"
		}
		return "a while", time.Since(began) > 3*time.Second
	})
	if said == "" {
		return "-"
	}
	return strings.ReplaceAll(said, "\n", " ")
}
