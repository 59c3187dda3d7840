package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// git runs the git command in dir and returns its output.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryGit(ctx context.Context, dir string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "git",
		append([]string{"-c", "user.name=bob", "-c", "user.email=bob@example.com", "-c", "commit.gpgsign=false"},
			args...)...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// newPipelineRepository makes a bare repository with the channel staging, which takes the newest release at once, and
// dedicated after it. Each has a cell.
func newPipelineRepository(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo.git")
	files := map[string][]byte{
		"sluice.yaml":                   []byte("apiVersion: sluice/v1\nkind: Pipeline\n"),
		"channels/staging/channel.yaml": []byte("apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"),
		"channels/dedicated/channel.yaml": []byte(
			"apiVersion: sluice/v1\nkind: Channel\nafter: [staging]\nadvance: newest\n"),
		"cells/eu-1/cell.yaml": []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n"),
		"cells/acme/cell.yaml": []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n"),
	}
	for name, data := range releaseFiles("1.0.0") {
		files[name] = data
	}
	_, err := gitrepo.Init(t.Context(), dir, gitrepo.InitOptions{
		Bare: true, Files: files, Message: "begin", Author: releases.Person{Name: "ada", Email: "ada@example.com"},
		When: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func releaseFiles(version string) map[string][]byte {
	return map[string][]byte{
		"releases/" + version + "/release.yaml": fmt.Appendf(nil,
			"apiVersion: sluice/v1\nkind: Release\nversion: %s\n", version),
		"releases/" + version + "/kustomization.yaml": []byte("resources: [app.yaml]\n"),
		"releases/" + version + "/app.yaml": fmt.Appendf(nil,
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {version: %q}\n", version),
	}
}

// startEngine runs an engine on repo, with a data folder of its own and simulated cells, until stop is called.
func startEngine(t testing.TB, repo string) (e *engine.Engine, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	data := t.TempDir()
	r, err := gitrepo.Open(ctx, repo, gitrepo.Options{Mirror: filepath.Join(data, "mirror")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(ctx, filepath.Join(data, "sluice.db"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	e, err = engine.New(ctx, r, s, engine.Options{Log: zerolog.Nop(), Poll: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := gitrepo.Watch(ctx, repo)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := e.Run(ctx, watch); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { playCells(ctx, t, e) })
	return e, func() {
		cancel()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// playCells simulates every cell: each runs its assignment at once, and reports.
func playCells(ctx context.Context, t testing.TB, e *engine.Engine) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		view := e.View()
		if view == nil {
			continue
		}
		for name := range view.Desired.Cells {
			d, _, _ := view.Cell(name)
			report := cells.Report{Cell: name, Boot: "b", Sent: time.Now(), State: cells.StateHealthy,
				Running: d.Assignment}
			if d.Assignment == nil {
				report.State = cells.StatePending
			}
			if _, err := e.Receive(ctx, &report); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}
}

// R3, fault 4: two engines and git push at once. No commit is lost, and each promotion is made once.
func TestRivals(t *testing.T) {
	const cuts = 12
	repo := newPipelineRepository(t)
	first, stopFirst := startEngine(t, repo)
	_, stopSecond := startEngine(t, repo)
	var people sync.WaitGroup
	for p := range 2 {
		people.Go(func() {
			clone := t.TempDir()
			if _, err := tryGit(t.Context(), clone, "clone", "-q", repo, "."); err != nil {
				t.Error(err)
				return
			}
			for i := range cuts / 2 {
				if err := pushRelease(t.Context(), clone, fmt.Sprintf("1.%d.%d", i+1, p)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	people.Wait()
	newest := fmt.Sprintf("1.%d.1", cuts/2)
	waitFor(t, func() (string, bool) {
		v := first.View()
		if v == nil {
			return "nothing was decided", false
		}
		for _, name := range []string{"staging", "dedicated"} {
			if e := v.Desired.Channels[name].Effective; e == nil || e.Release != newest {
				return fmt.Sprintf("%s is not at %s: %v %v", name, newest, v.Plan.Actions, v.Plan.Blocked), false
			}
		}
		return "", true
	})
	stopFirst()
	stopSecond()

	if out := git(t, repo, "fsck", "--strict"); strings.Contains(out, "error") {
		t.Errorf("fsck: %s", out)
	}
	people1 := strings.Count(git(t, repo, "log", "--format=%s", "main"), "cut ")
	if people1 != cuts {
		t.Errorf("%d of people's %d commits are there", people1, cuts)
	}
	for _, channel := range []string{"staging", "dedicated"} {
		checkPromotedOnce(t, repo, channel)
	}
}

// pushRelease commits a release, and pushes until the push succeeds.
func pushRelease(ctx context.Context, clone, version string) error {
	for name, data := range releaseFiles(version) {
		file := filepath.Join(clone, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // a test's
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil { //nolint:gosec // a test's
			return err
		}
	}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-qm", "cut " + version}} {
		if _, err := tryGit(ctx, clone, args...); err != nil {
			return err
		}
	}
	for range 50 {
		if _, err := tryGit(ctx, clone, "push", "-q", "origin", "HEAD:main"); err == nil {
			return nil
		}
		if _, err := tryGit(ctx, clone, "pull", "-q", "--rebase", "origin", "main"); err != nil {
			return err
		}
	}
	return fmt.Errorf("push of %s never landed", version)
}

// checkPromotedOnce checks a channel's history: one commit for each release, and sequences that rise by one.
func checkPromotedOnce(t testing.TB, repo, channel string) {
	t.Helper()
	log := git(t, repo, "log", "--reverse", "--format=%H %s", "main", "--", "channels/"+channel+"/head.yaml")
	seen, sequence := map[string]bool{}, 0
	for line := range strings.Lines(log) {
		commit, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
		if seen[subject] {
			t.Errorf("%s: %q twice", channel, subject)
		}
		seen[subject] = true
		sequence++
		head := git(t, repo, "show", commit+":channels/"+channel+"/head.yaml")
		if want := fmt.Sprintf("sequence: %d\n", sequence); !strings.Contains(head, want) {
			t.Errorf("%s: %s has\n%s, want %s", channel, commit, head, want)
		}
	}
	if sequence == 0 {
		t.Errorf("%s never moved", channel)
	}
}

// waitFor waits until ok holds; after a minute it fails with what is still wrong.
func waitFor(t testing.TB, ok func() (string, bool)) {
	t.Helper()
	wrong := ""
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var done bool
		if wrong, done = ok(); done {
			return
		}
	}
	t.Fatalf("still after a minute: %s", wrong)
}
