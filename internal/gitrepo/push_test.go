package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

func writeHook(t testing.TB, bare, name, script string) {
	t.Helper()
	dir := filepath.Join(bare, "hooks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Push makes the trees that git add and git write-tree make of the same edits.
func TestPushBuildsWhatGitWouldBuild(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, func(o *Options) { o.Author = releases.Person{Name: "Engine", Email: "engine@example.com"} })
	base := mustFetch(t, r)
	var many = map[string]string{}
	for i := range 300 {
		many[fmt.Sprintf("releases/2.0.%d/release.yaml", i)] = fmt.Sprint(i)
	}
	for _, step := range []struct {
		name   string
		write  map[string]string
		remove []string
	}{
		{"change", map[string]string{"channels/staging/head.yaml": "release: 2\n",
			"channels/staging/decision.json": "{}"}, nil},
		{"new folders", map[string]string{"a/b/c/d": "1", "a.b": "2", "a0": "3", "channels/z/holds/x.yaml": ""}, nil},
		{"remove a file", nil, []string{"a/b/c/d"}},
		{"remove a folder", nil, []string{"channels/z"}},
		{"folder becomes a file", map[string]string{"cells": "x"}, []string{"cells"}},
		{"many", many, nil},
		{"one of many", map[string]string{"releases/2.0.7/release.yaml": "changed"}, []string{"releases/2.0.100"}},
		{"remove all but one", nil, []string{"a.b", "a0", "releases", "channels", "cells"}},
	} {
		d := draft(step.name, step.write)
		for _, name := range step.remove {
			gitIn(t, work, "rm", "-rqf", name)
			if _, both := step.write[name]; !both {
				d.Files[name] = nil
			}
		}
		if step.name == "folder becomes a file" { // the draft says it in two steps
			d.Files["cells"] = nil
			base = mustPush(t, r, base, d)[0]
			d = draft(step.name, step.write)
		}
		writeFiles(t, work, step.write)
		gitIn(t, work, "add", "-A")
		want := gitIn(t, work, "write-tree")
		base = mustPush(t, r, base, d)[0]
		if got := gitIn(t, bare, "rev-parse", base+"^{tree}"); got != want {
			t.Fatalf("%s: tree %s, git makes %s", step.name, got, want)
		}
	}
	if got := gitIn(t, bare, "log", "-1", "--format=%an <%ae> %aI %cn %cI %B",
		"main"); got != "Engine <engine@example.com> 2026-11-03T12:00:00+01:00 Engine 2026-11-03T12:00:00+01:00 remove all but one" {
		t.Error(got)
	}
	mustFsck(t, bare)
	mustFsck(t, r.mirror.dir)
}

func TestPushChainIsOnePushAndNeedsNoFetch(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "post-receive", "cat >> "+bare+"/pushes\n")
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	same := draft("nothing changes", nil)
	chain := []releases.Draft{draft("one", map[string]string{"channels/staging/head.yaml": "1"}),
		same, draft("two", map[string]string{"channels/staging/head.yaml": "2"})}
	chain[2].Tags = map[string]string{"sluice/staging/1": base}
	ids := mustPush(t, r, base, chain...)
	if got := strings.Fields(gitIn(t, bare, "rev-list", "--first-parent", "main", "^"+base)); len(got) != 3 ||
		got[0] != ids[2] || got[2] != ids[0] {
		t.Fatalf("pushed %v, the branch has %v", ids, got)
	}
	if tipOf(r) != ids[2] {
		t.Errorf("the mirror is at %s", tipOf(r))
	}
	if data, err := r.ReadFile(ids[2], "channels/staging/head.yaml"); err != nil || string(data) != "2" {
		t.Errorf("%s %v", data, err)
	}
	if got := gitIn(t, bare, "rev-parse", "refs/tags/sluice/staging/1"); got != base {
		t.Errorf("tag at %s", got)
	}
	// An existing tag is left as it is.
	next := draft("three", map[string]string{"channels/staging/head.yaml": "3"})
	next.Tags = map[string]string{"sluice/staging/1": ids[0]}
	mustPush(t, r, ids[2], next)
	if got := gitIn(t, bare, "rev-parse", "refs/tags/sluice/staging/1"); got != base {
		t.Errorf("the tag moved to %s", got)
	}
	_ = r.Close() // waits for the hooks
	text, err := os.ReadFile(filepath.Join(bare, "pushes"))
	if err != nil || strings.Count(string(text), "refs/heads/main") != 2 {
		t.Errorf("pushes: %s %v", text, err)
	}
	mustFsck(t, bare)
}

// A push leaves the mirror's refs to a fetch, or another process, that works on them: what was pushed can be read, and
// the next fetch has the mirror follow.
func TestPushLeavesABusyMirrorAlone(t *testing.T) {
	for name, hold := range map[string]func(r *Repo) (release func(), err error){
		"a fetch": func(r *Repo) (func(), error) {
			r.fetching <- struct{}{}
			return func() { <-r.fetching }, nil
		},
		"another process": func(r *Repo) (func(), error) { return r.mirror.lock(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bare, _ := newSharedRepository(t)
			r := openRepo(t, bare, nil)
			base := mustFetch(t, r)
			release, err := hold(r)
			if err != nil {
				t.Fatal(err)
			}
			tip := mustPush(t, r, base, headDraft("pushed")...)[0]
			if got := tipOf(r); got != base {
				t.Errorf("the mirror is at %s", got)
			}
			if data, err := r.ReadFile(tip, "channels/staging/head.yaml"); err != nil || len(data) == 0 {
				t.Errorf("%s %v", data, err)
			}
			release()
			if got := mustFetch(t, r); got != tip || tipOf(r) != tip {
				t.Errorf("fetched %s, and the mirror is at %s", got, tipOf(r))
			}
		})
	}
}

func TestPushBeginsAnEmptyRepository(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "empty.git")
	gitIn(t, t.TempDir(), "init", "-q", "--bare", "-b", "trunk", bare)
	r := openRepo(t, bare, nil)
	if tip := mustFetch(t, r); tip != "" {
		t.Fatalf("tip %q of an empty repository", tip)
	}
	ids := mustPush(t, r, "", draft("start", map[string]string{"sluice.yaml": "x"}))
	if got := gitIn(t, bare, "rev-parse", "trunk"); got != ids[0] {
		t.Errorf("trunk is at %s", got)
	}
	if tip := mustFetch(t, r); tip != ids[0] {
		t.Errorf("fetched %s", tip)
	}
	if _, err := r.Push(t.Context(), "", headDraft("again")); !errors.Is(err, releases.ErrMoved) {
		t.Errorf("a second first commit: %v", err)
	}
	mustFsck(t, bare)
}

// R3, fault 50: after a force-push to an ancestor of base, an ordinary push would fast-forward and bring back the
// dropped commits.
func TestPushAfterForcePushToAnAncestorIsRefused(t *testing.T) {
	bare, work := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	first := mustFetch(t, r)
	second := mustPush(t, r, first, headDraft("two")...)[0]
	gitIn(t, work, "push", "-q", "--force", "origin", first+":main")
	if _, err := r.Push(t.Context(), second, headDraft("three")); !errors.Is(err, releases.ErrMoved) {
		t.Fatalf("got %v", err)
	}
	if got := gitIn(t, bare, "rev-parse", "main"); got != first {
		t.Errorf("the branch is at %s", got)
	}
}

// Fault 5: the error quotes the host, bounded, and the branch is unchanged.
func TestPushTurnedDownByAHook(t *testing.T) {
	for name, script := range map[string]string{
		"pre-receive": "cat >/dev/null; echo 'change window is closed' >&2; exit 1",
		"update":      "echo 'change window is closed' >&2; exit 1",
	} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newSharedRepository(t)
			writeHook(t, bare, name, script)
			r := openRepo(t, bare, nil)
			base := mustFetch(t, r)
			_, err := r.Push(t.Context(), base, headDraft("x"))
			var refused *releases.RefusedError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "change window is closed") {
				t.Fatalf("got %v", err)
			}
			if got := gitIn(t, bare, "rev-parse", "main"); got != base || tipOf(r) != base {
				t.Errorf("the branch is at %s, the mirror at %s", got, tipOf(r))
			}
		})
	}
}

func TestHookThatPrintsWithoutEndIsBounded(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "pre-receive",
		"cat >/dev/null; i=0; while [ $i -lt 20000 ]; do echo \"no no no no no no $i\" >&2; i=$((i+1)); done; exit 1")
	r := openRepo(t, bare, nil)
	_, err := r.Push(t.Context(), mustFetch(t, r), headDraft("x"))
	var refused *releases.RefusedError
	if !errors.As(err, &refused) || len(refused.Reason) > 2*maxMessage {
		t.Fatalf("%d bytes: %v", len(err.Error()), err)
	}
}

// Fault 5: the host does not respond in time. The push did not land, and nothing is locked.
func TestPushToASlowHostEndsInTime(t *testing.T) {
	bare, _ := newSharedRepository(t)
	writeHook(t, bare, "pre-receive", "cat >/dev/null; sleep 600")
	r := openRepo(t, bare, func(o *Options) { o.Limits.Exchange = 500 * time.Millisecond })
	base := mustFetch(t, r)
	_, err := r.Push(t.Context(), base, headDraft("x"))
	var refused *releases.RefusedError
	if err == nil || errors.Is(err, releases.ErrMoved) || errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(filepath.Join(bare, "hooks/pre-receive")); err != nil {
		t.Fatal(err)
	}
	r2 := openRepo(t, bare, nil)
	mustPush(t, r2, mustFetch(t, r2), headDraft("y")...)
	mustFsck(t, bare)
}

func TestPushEndsWithItsContext(t *testing.T) {
	bare, _ := newSharedRepository(t)
	waiting := filepath.Join(bare, "waiting")
	if err := syscall.Mkfifo(waiting, 0o600); err != nil {
		t.Fatal(err)
	}
	writeHook(t, bare, "pre-receive", "cat >/dev/null; echo here > "+waiting+"; sleep 600")
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = os.ReadFile(waiting) // until the hook runs
		cancel()
	}()
	if _, err := r.Push(ctx, base, headDraft("x")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// A push waits for a lock that is held for a moment; a lasting lock is a refusal.
func TestPushWaitsForALock(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	lock := filepath.Join(bare, "refs/heads/main.lock")
	if err := os.WriteFile(lock, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var refused *releases.RefusedError
	if _, err := r.Push(t.Context(), base, headDraft("x")); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	mustPush(t, r, base, headDraft("x")...)
}

// Two engines and git itself push at once: no commit is lost, and the losers get ErrMoved.
func TestRivalWritersLoseNothing(t *testing.T) {
	bare, _ := newSharedRepository(t)
	gitIn(t, bare, "config", "gc.auto", "0")
	const rounds = 12
	var writers sync.WaitGroup
	var mu sync.Mutex
	var made []string
	for w := range 2 {
		r := openRepo(t, bare, nil)
		writers.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("engine %d %d", w, i)
				for {
					base, err := r.Fetch(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					ids, err := r.Push(context.Background(), base,
						[]releases.Draft{draft(name,
							map[string]string{fmt.Sprintf("channels/e%d/head.yaml", w): name})})
					if errors.Is(err, releases.ErrMoved) {
						continue
					} else if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					made = append(made, ids...)
					mu.Unlock()
					break
				}
			}
		})
	}
	for w := range 2 {
		clone := filepath.Join(t.TempDir(), "clone")
		gitIn(t, t.TempDir(), "clone", "-q", bare, clone)
		writers.Go(func() {
			for i := range rounds {
				if out, err := tryGit(clone, nil, "commit", "-q", "--allow-empty", "-m",
					fmt.Sprintf("person %d %d", w, i)); err != nil {
					t.Errorf("%v %s", err, out)
					return
				}
				for {
					if _, err := tryGit(clone, nil, "push", "-q", "origin", "HEAD:main"); err == nil {
						break
					}
					if out, err := tryGit(clone, nil, "pull", "-q", "--rebase", "origin", "main"); err != nil &&
						!strings.Contains(out, "cannot lock ref") {
						t.Errorf("%v %s", err, out)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	inBranch := strings.Fields(gitIn(t, bare, "rev-list", "--first-parent", "main"))
	for _, id := range made {
		if !slices.Contains(inBranch, id) {
			t.Errorf("commit %s was pushed and is gone", id)
		}
	}
	if len(inBranch) != 1+4*rounds {
		t.Errorf("%d commits, want %d", len(inBranch), 1+4*rounds)
	}
	mustFsck(t, bare)
}

func TestPushRefusesDraftsThatLeadElsewhere(t *testing.T) {
	bare, _ := newSharedRepository(t)
	r := openRepo(t, bare, nil)
	base := mustFetch(t, r)
	for _, name := range []string{"/etc/passwd", "a//b", "../x", "a/../b", ".git/config", "a/.GIT/x",
		"", "sluice.yaml/x", "cells"} {
		if _, err := r.Push(t.Context(), base, []releases.Draft{draft("x", map[string]string{name: "x"})}); err == nil {
			t.Errorf("%q was pushed", name)
		}
	}
	d := draft("x", nil)
	d.Tags = map[string]string{"a..b": base}
	if _, err := r.Push(t.Context(), base, []releases.Draft{d}); err == nil {
		t.Error("a tag a..b was pushed")
	}
}

// A repository with a worktree takes pushes while the worktree is clean.
func TestPushIntoAWorktree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	first, err := Init(t.Context(), dir, InitOptions{Files: map[string][]byte{"sluice.yaml": []byte("a\n"),
		"channels/x/head.yaml": []byte("b\n")}, Message: "start", When: noon,
		Author: releases.Person{Name: "Ada", Email: "ada@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if out := gitIn(t, dir, "status", "--porcelain"); out != "" {
		t.Fatalf("after Init: %s", out)
	}
	r := openRepo(t, dir, nil)
	if tip := mustFetch(t, r); tip != first {
		t.Fatalf("tip %s, want %s", tip, first)
	}
	second := mustPush(t, r, first, draft("move", map[string]string{"channels/x/head.yaml": "c\n"}))[0]
	if text, err := os.ReadFile(filepath.Join(dir, "channels/x/head.yaml")); err != nil || string(text) != "c\n" {
		t.Errorf("%q %v", text, err)
	}
	writeFiles(t, dir, map[string]string{"sluice.yaml": "edited\n"})
	var refused *releases.RefusedError
	if _, err := r.Push(t.Context(), second,
		[]releases.Draft{draft("again", map[string]string{"sluice.yaml": "d\n"})}); !errors.As(err, &refused) {
		t.Errorf("into a dirty worktree: %v", err)
	}
	if _, err := Init(t.Context(), dir, InitOptions{Files: map[string][]byte{"x": nil}, Message: "again",
		When: noon}); err == nil {
		t.Error("Init over a repository")
	}
	mustFsck(t, dir)
}

// Two concurrent pushes into a worktree leave it clean: a loser's file in it would make git refuse every later push.
func TestRivalsLeaveAWorktreeClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "work")
	start := InitOptions{Files: map[string][]byte{"sluice.yaml": []byte("a\n"), "channels/x/head.yaml": []byte("b\n")},
		Message: "start", When: noon, Author: releases.Person{Name: "Ada", Email: "ada@example.com"}}
	if _, err := Init(t.Context(), dir, start); err != nil {
		t.Fatal(err)
	}
	const rivals, rounds = 4, 6
	var all sync.WaitGroup
	for w := range rivals {
		r := openRepo(t, dir, nil)
		all.Go(func() {
			for i := 0; i < rounds; {
				base, err := r.Fetch(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = r.Push(context.Background(), base,
					[]releases.Draft{draft("move",
						map[string]string{"channels/x/head.yaml": fmt.Sprintf("%d %d\n", w, i)})})
				switch {
				case err == nil:
					i++
				case !errors.Is(err, releases.ErrMoved):
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if out := gitIn(t, dir, "status", "--porcelain"); out != "" {
		t.Errorf("after %d rivals: %s", rivals, out)
	}
	if n := strings.Fields(gitIn(t, dir, "rev-list", "--count", "main"))[0]; n != fmt.Sprint(1+rivals*rounds) {
		t.Errorf("%s commits", n)
	}
	mustFsck(t, dir)
}

func TestInitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"sluice.yaml": "mine\n"})
	if _, err := Init(t.Context(), dir, InitOptions{Files: map[string][]byte{"sluice.yaml": []byte("theirs\n")},
		Message: "start", When: noon}); err == nil || !strings.Contains(err.Error(), "sluice.yaml") {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "sluice.yaml")); string(text) != "mine\n" {
		t.Errorf("the file is %q now", text)
	}
	bare := filepath.Join(t.TempDir(), "r.git")
	if _, err := Init(t.Context(), bare, InitOptions{Bare: true, Branch: "trunk",
		Files: map[string][]byte{"sluice.yaml": []byte("x")}, Message: "start", When: noon}); err != nil {
		t.Fatal(err)
	}
	mustFsck(t, bare)
}
