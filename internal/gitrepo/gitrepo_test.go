package gitrepo

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/releases"
)

// gitIn runs the real git in a folder, with a fixed identity and no one's settings.
func gitIn(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, nil, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func tryGit(dir string, in []byte, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(hostGitEnv(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada",
		"GIT_COMMITTER_EMAIL=ada@example.com")
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// newSharedRepository makes a bare repository with some releases and channels, and a worktree of it.
func newSharedRepository(t testing.TB) (bare, work string) {
	t.Helper()
	dir := t.TempDir()
	bare, work = filepath.Join(dir, "shared.git"), filepath.Join(dir, "work")
	gitIn(t, dir, "init", "-q", "--bare", "-b", "main", bare)
	gitIn(t, dir, "init", "-q", "-b", "main", work)
	gitIn(t, work, "remote", "add", "origin", bare)
	writeFiles(t, work, map[string]string{
		"sluice.yaml":                    "apiVersion: sluice/v1\nkind: Pipeline\n",
		"channels/staging/channel.yaml":  "kind: Channel\n",
		"channels/staging/head.yaml":     "release: 1.0.0\nsequence: 1\n",
		"releases/1.0.0/release.yaml":    "version: 1.0.0\n",
		"releases/1.0.0/deploy/app.yaml": "kind: Deployment\n",
		"cells/acme/cell.yaml":           "channel: staging\n",
	})
	commitAll(t, work, "start")
	gitIn(t, work, "push", "-q", "origin", "main")
	return bare, work
}

func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func commitAll(t testing.TB, work, message string) string {
	t.Helper()
	gitIn(t, work, "add", "-A")
	gitIn(t, work, "commit", "-q", "--allow-empty", "-m", message)
	return gitIn(t, work, "rev-parse", "HEAD")
}

// openRepo opens url with a mirror of its own; change may be nil.
func openRepo(t testing.TB, url string, change func(*Options)) *Repo {
	t.Helper()
	o := Options{Mirror: filepath.Join(t.TempDir(), "mirror.git"), Log: zerolog.New(zerolog.NewTestWriter(t))}
	if change != nil {
		change(&o)
	}
	r, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// tipOf returns the newest commit of the branch in the mirror; empty: none.
func tipOf(r *Repo) string { return idOrNone(r.mirror.tip(r.branch())) }

func mustFetch(t testing.TB, r *Repo) string {
	t.Helper()
	tip, err := r.Fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tip
}

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.FixedZone("", 3600))

func draft(message string, files map[string]string) releases.Draft {
	d := releases.Draft{Message: message, When: noon, Files: map[string][]byte{}}
	for name, text := range files {
		d.Files[name] = []byte(text)
	}
	return d
}

func headDraft(text string) []releases.Draft {
	return []releases.Draft{draft("promote "+text, map[string]string{"channels/staging/head.yaml": text + "\n"})}
}

func mustPush(t testing.TB, r *Repo, base string, chain ...releases.Draft) []string {
	t.Helper()
	ids, err := r.Push(context.Background(), base, chain)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func mustFsck(t testing.TB, dir string) {
	t.Helper()
	if out := gitIn(t, dir, "fsck", "--strict", "--no-dangling", "--no-progress"); out != "" {
		t.Fatalf("git fsck of %s: %s", dir, out)
	}
}
