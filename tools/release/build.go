package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

type target struct{ os, arch string }

func allTargets() []target {
	return []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}
}

// The programs of a release. The second is the part of the first that runs in cells.
const (
	wholeProgram = "sluice"
	agentProgram = "sluice-agent"
)

// binary is a built program, and what the toolchain wrote into it.
type binary struct {
	program string
	target  target
	path    string
	version string // v1.2.3, or Go's pseudo-version of a commit without a tag
	commit  string
	time    time.Time // of the commit
	sum     string    // SHA-256, in hex
	info    *buildinfo.BuildInfo
}

// stamp returns the commit's time, as documents have it.
func (b binary) stamp() string { return b.time.UTC().Format(time.RFC3339) }

// build builds a program for t into r.out. Nothing of this machine gets into the file: paths are trimmed, and what the
// environment could change is set.
func (r release) build(ctx context.Context, program string, t target) (binary, error) {
	path, err := filepath.Abs(filepath.Join(r.out, program))
	if err != nil {
		return binary{}, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", path,
		"./cmd/"+program)
	cmd.Dir = r.root
	cmd.Env = append(append(os.Environ(), r.env...), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOAMD64=v1",
		"GOARM64=v8.0", "GOFLAGS=-trimpath", "GOEXPERIMENT=", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return binary{}, fmt.Errorf("build %s for %s/%s: %w: %s", program, t.os, t.arch, cmp.Or(ctx.Err(), err), said)
	}
	b, err := readBinary(path, t)
	if err != nil {
		return binary{}, err
	}
	b.program = program
	b.path = filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%s-%s-%s", program, b.version, t.os, t.arch))
	return b, os.Rename(path, b.path)
}

func readBinary(path string, t target) (b binary, err error) {
	b = binary{target: t, path: path}
	if b.info, err = buildinfo.ReadFile(path); err != nil {
		return b, err
	}
	if b.sum, err = hashFile(path); err != nil {
		return b, err
	}
	b.version = b.info.Main.Version
	for _, s := range b.info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				return b, errors.New("the working folder has changes that are not committed, or files that git does " +
					"not know: git status shows them; a release is made of a commit alone")
			}
		case "vcs.time":
			if b.time, err = time.Parse(time.RFC3339, s.Value); err != nil {
				return b, fmt.Errorf("the time of the commit: %w", err)
			}
		}
	}
	if b.commit == "" || b.time.IsZero() {
		return b, fmt.Errorf("the Go toolchain found no commit to stamp %s with: is this a clone, and does git log "+
			"work?", path)
	}
	return b, nil
}

// findHost returns the binary that runs on this machine.
func findHost(binaries []binary) (binary, error) {
	for _, b := range binaries {
		if b.target == (target{runtime.GOOS, runtime.GOARCH}) {
			return b, nil
		}
	}
	return binary{}, fmt.Errorf("no binary is built for %s/%s, and one has to run here to print its completions",
		runtime.GOOS, runtime.GOARCH)
}
