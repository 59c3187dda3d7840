// Command release builds what a release of Sluice consists of, from the commit that is checked out: static binaries of
// sluice and of sluice-agent with an SBOM each, the licences of what they contain, Debian packages and OCI images of
// both, and the checksums of all:
// go run . [-o DIR] [-verify], as make release does.
//
// The version is the one that the Go toolchain takes from git: the tag of the commit. The same commit makes the same
// bytes in any folder; -verify shows that by doing everything a second time, in a clone and without a build cache.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	out := flag.String("o", "dist", "`DIR` for the release; what it has is replaced")
	base := flag.String("base", "", "OCI image layout `DIR` to put under the image, such as one with git")
	verify := flag.Bool("verify", false, "make the release twice, the second time in a clone, and compare")
	flag.Parse()
	root, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return fmt.Errorf("find the repository around the working folder: %w", err)
	}
	r := release{root: strings.TrimSpace(string(root)), out: *out, base: *base, targets: allTargets()}
	if err := r.make(ctx); err != nil {
		return err
	}
	if !*verify {
		return nil
	}
	cache, err := os.MkdirTemp("", "sluice-release-cache-*") // empty, so that everything is compiled again
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	if err := r.verify(ctx, "GOCACHE="+cache); err != nil {
		return err
	}
	fmt.Println("made twice, with the same bytes")
	return nil
}

// release says what to make of which sources.
type release struct {
	root    string   // the repository
	out     string   // the folder for the products
	base    string   // layout of the image to build on; empty: none
	targets []target // one of them is this machine's
	env     []string // further environment of the Go toolchain
}

// make builds all products into r.out.
func (r release) make(ctx context.Context) error {
	if err := emptyFolder(r.out); err != nil {
		return err
	}
	for _, program := range []string{wholeProgram, agentProgram} {
		if err := r.makeProgram(ctx, program); err != nil {
			return err
		}
	}
	return writeSums(r.out)
}

// makeProgram builds the products of one program.
func (r release) makeProgram(ctx context.Context, program string) error {
	var binaries []binary
	for _, t := range r.targets {
		b, err := r.build(ctx, program, t)
		if err != nil {
			return err
		}
		if err := writeSBOM(b); err != nil {
			return err
		}
		binaries = append(binaries, b)
	}
	licences, err := r.writeLicences(ctx, binaries)
	if err != nil {
		return err
	}
	linux := slices.DeleteFunc(slices.Clone(binaries), func(b binary) bool { return b.target.os != "linux" })
	if err := r.writePackages(ctx, binaries, linux, licences); err != nil {
		return err
	}
	return r.writeImage(linux, licences)
}

// emptyFolder makes dir an empty folder. Only an earlier release is removed for that.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isForeign := func(e fs.DirEntry) bool { return e.Name() != sumsFile && !strings.HasPrefix(e.Name(), "sluice") }
	if slices.ContainsFunc(entries, isForeign) {
		return fmt.Errorf("%s has other files than a release: name another folder with -o", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}

// verify makes the release again, from a clone of the commit, and compares the checksums. env is added to the Go
// toolchain's environment.
func (r release) verify(ctx context.Context, env ...string) error {
	temp, err := os.MkdirTemp("", "sluice-release-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	again := r
	again.root, again.out = filepath.Join(temp, "clone"), filepath.Join(temp, "out")
	again.env = env
	clone := exec.CommandContext(ctx, "git", "clone", "-q", r.root, again.root)
	if said, err := clone.CombinedOutput(); err != nil {
		return fmt.Errorf("clone %s: %w: %s", r.root, err, said)
	}
	if err := again.make(ctx); err != nil {
		return fmt.Errorf("make the release again: %w", err)
	}
	return compareSums(r.out, again.out)
}

const sumsFile = "SHA256SUMS"

// writeSums writes the checksums of all files in dir, for sha256sum -c.
func writeSums(dir string) error {
	var sums strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sum, err := hashFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(&sums, "%s  %s\n", sum, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(sums.String()), 0o644)
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// compareSums returns an error that names each file that differs between two releases.
func compareSums(a, b string) error {
	var lines [2][]string
	for i, dir := range []string{a, b} {
		sums, err := os.ReadFile(filepath.Join(dir, sumsFile))
		if err != nil {
			return err
		}
		lines[i] = strings.Split(strings.TrimSpace(string(sums)), "\n")
	}
	var errs []error
	for i, other := range [][]string{lines[1], lines[0]} {
		for _, line := range lines[i] {
			if !slices.Contains(other, line) {
				errs = append(errs, fmt.Errorf("only one of the two builds has %s", line))
			}
		}
	}
	return errors.Join(errs...)
}
