package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// Without git on PATH, each verb that needs it says so and what to do, makes nothing, and guesses at nothing else.
func TestWithoutGit(t *testing.T) {
	sluice, err := exec.LookPath("sluice")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(in("app"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("app/kustomization.yaml"), []byte("namePrefix: a-\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"HOME=" + dir, "GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@example.com"}
	if err := os.Mkdir(in("r"), 0o755); err != nil {
		t.Fatal(err)
	}
	init := exec.Command(sluice, "init", "--bare", in("r"))
	init.Env = append(os.Environ(), append(base, "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@example.com")...)
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range [][]string{nil, {"PATH="}, {"PATH=" + in("app")}} {
		for _, args := range [][]string{
			{"serve", "--repo", in("r"), "--data", in("data"), "--listen", "unix://" + in("s.sock")},
			{"serve", "--repo", "https://git.example/r.git", "--data", in("data"), "--listen", "unix://" + in("s")},
			{"tick", "--repo", in("r"), "--data", in("data")},
			{"status", "--repo", in("r")},
			{"status"},
			{"why", "staging", "--repo", in("r")},
			{"init", in("new")},
			{"hold", "staging", "--reason", "x", "--repo", in("r")},
			{"flag", "list"},
			{"release", "cut", "1.0.0", "--from", in("app"), "--repo", in("r")},
		} {
			cmd := exec.Command(sluice, args...)
			cmd.Env, cmd.Dir = append(base, path...), dir
			out, err := cmd.CombinedOutput()
			said := string(out)
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != cli.ExitFailed {
				t.Errorf("%v, %v: %v", path, args, err)
			}
			if !strings.Contains(said, "git is not installed, or not in PATH") ||
				!strings.Contains(said, "next: install git") || strings.Contains(said, "right?") ||
				strings.Contains(said, "who you are") {
				t.Errorf("%v, %v: said %s", path, args, said)
			}
		}
	}
	if _, err := os.Stat(in("new")); err == nil {
		t.Error("init made its folder")
	}
}
