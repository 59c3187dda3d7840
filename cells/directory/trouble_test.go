package directory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/directory"
)

// R49: what the machine refuses, and what a hook puts off, is not the release's fault, and can be tried again.
func TestR49MachineTroubleIsUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		hook   string
		damage func(t *testing.T, dir string)
	}{
		"no folder":            {"true", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }},
		"a hook puts it off":   {"exit 75", nil},
		"a hook is killed":     {"kill -9 $$", nil},
		"a hook is ended":      {"kill -TERM $$", nil},
		"no such program":      {"/no/such/program --now", nil},
		"not executable":       {"/etc/passwd", nil},
		"a program is killed":  {"true && sh -c 'kill -9 $$' && true", nil},
		"a program is ended":   {"sh -c 'kill -TERM $$'; exit $?", nil},
		"a file for a folder":  {"true", replaceByFile},
		"no room for the hook": {"true # " + strings.Repeat("x", 200<<10), nil}, // the kernel refuses the argument
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "target")
			target := newTarget(t, dir, directory.Options{Hook: c.hook})
			if c.damage != nil {
				c.damage(t, dir)
			}
			err := target.Apply(t.Context(), renderedWith("1"))
			var unavailable *cells.UnavailableError
			if !errors.As(err, &unavailable) || cells.CauseOf(err) != cells.CauseCell {
				t.Errorf("got %v, %s", err, cells.CauseOf(err))
			}
		})
	}
}

// R49: what a program says by its exit, or dies of, is the release's. So is ill health, but not that it can't be seen.
func TestR49OwnExits(t *testing.T) {
	for command, want := range map[string]cells.Cause{
		"exit 1": cells.CauseRelease, "exit 124": cells.CauseRelease, "exit 128": cells.CauseRelease,
		"sh -c 'kill -SEGV $$'; exit $?": cells.CauseRelease, "exit 255": cells.CauseRelease,
		"/no/such/program": cells.CauseCell, "sh -c 'kill -9 $$'; exit $?": cells.CauseCell,
	} {
		dir := t.TempDir()
		err := newTarget(t, dir, directory.Options{Hook: command}).Apply(t.Context(), renderedWith("1"))
		if cells.CauseOf(err) != want {
			t.Errorf("%s: %v (%s)", command, err, cells.CauseOf(err))
		}
		err = newTarget(t, dir, directory.Options{Health: command}).Health(t.Context())
		unhealthy, unavailable := new(cells.Unhealthy), new(cells.UnavailableError)
		if want == cells.CauseRelease && !errors.As(err, &unhealthy) ||
			want == cells.CauseCell && !errors.As(err, &unavailable) {
			t.Errorf("health by %s: %v", command, err)
		}
	}
}

func replaceByFile(t *testing.T, dir string) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	must(t, os.WriteFile(dir, nil, 0o600))
}

// R49: a hook's own exit is the release's, but for a run that may have met what an interrupted one left behind.
func TestR49HookAfterAnInterruption(t *testing.T) {
	dir := t.TempDir()
	target := newTarget(t, dir, directory.Options{Hook: `test "$SLUICE_REASON" != apply`})
	if err := target.Apply(t.Context(), renderedWith("1")); cells.CauseOf(err) != cells.CauseRelease {
		t.Errorf("a hook's own exit: %v, %s", err, cells.CauseOf(err))
	}
	must(t, os.WriteFile(filepath.Join(dir, ".sluice", "hook-running"), []byte("some-run"), 0o600))
	if err := target.Apply(t.Context(), renderedWith("2")); err == nil || cells.CauseOf(err) != cells.CauseCell {
		t.Errorf("after an interruption: %v, %s", err, cells.CauseOf(err))
	}
	if err := target.Apply(t.Context(), renderedWith("2")); cells.CauseOf(err) != cells.CauseRelease {
		t.Errorf("once a run ended by itself: %v, %s", err, cells.CauseOf(err))
	}
	_, err := target.Heal(t.Context(), renderedWith("2"))
	must(t, err)
	if err := target.Apply(t.Context(), renderedWith("3")); cells.CauseOf(err) != cells.CauseRelease {
		t.Errorf("once a run succeeded: %v, %s", err, cells.CauseOf(err))
	}
}

// R49: a hook that succeeded succeeded, though its output can't be kept; what is in the log's place stays.
func TestR49LogThatCantBeWritten(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "hook.log", "kept")
	var problem error
	target := newTarget(t, dir, directory.Options{Hook: "echo said", OnProblem: func(err error) { problem = err }})
	must(t, os.MkdirAll(filepath.Dir(kept), 0o700))
	must(t, os.WriteFile(kept, []byte("precious"), 0o600))
	must(t, target.Apply(t.Context(), renderedWith("1")))
	if problem == nil || readFile(t, kept) != "precious" {
		t.Errorf("told as %v", problem)
	}
}

// A hook that is told to end may put its lock away first.
func TestHookTidiesUp(t *testing.T) {
	dir := t.TempDir()
	hook := `touch lock; trap 'sleep 1; rm lock; exit 1' TERM; touch ready; while :; do sleep 0.05; done`
	target := newTarget(t, dir, directory.Options{Hook: "cd " + dir + "; " + hook})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
				stop()
				return
			}
		}
	}()
	if err := target.Apply(ctx, renderedWith("1")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}
