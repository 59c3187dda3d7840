package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// Resolve returns the image that a release names, and brings its program onto this machine first. A program that does
// not even say its version here is never started as an agent.
func (m *Machine) Resolve(ctx context.Context, running, named string, r selfupdate.Release) (string, error) {
	ref, err := parseReference(named)
	switch {
	case err != nil:
		return "", selfupdate.Fail(cells.CauseRelease, "component %s: %v", selfupdate.Component, err)
	case ref.String() == running:
		return running, nil
	case !r.Verified:
		return "", &cells.UnavailableError{Cause: errors.New("the release names another agent, and on a machine " +
			"only a release whose signatures this cell verified brings one: pin the root with --trust-root, or leave out " +
			"--self-update (docs/install.md)")}
	}
	if _, err := m.files.verified(ref.String()); err != nil {
		if err := m.bring(ctx, ref, running, r); err != nil {
			return "", err
		}
	}
	return ref.String(), m.files.try(ctx, ref.String())
}

// bringTimeout bounds a pull: the cell heals nothing meanwhile.
const bringTimeout = 15 * time.Minute

var errSlow = fmt.Errorf("its image did not come within %s", bringTimeout)

// bring brings the program of an image. Programs that nothing refers to go first. The ones of a step stay: its new
// agent may not work, and the one before is the way back.
func (m *Machine) bring(ctx context.Context, ref reference, running string, r selfupdate.Release) error {
	chosen, err := m.files.chosen()
	var from, to string
	if err == nil {
		from, to, err = selfupdate.Needed(m.files.dir)
	}
	if err == nil {
		err = m.files.prune(running, chosen, from, to)
	}
	if err == nil {
		limited, cancel := context.WithTimeoutCause(ctx, bringTimeout, errSlow)
		defer cancel()
		err = m.files.keep(ref.String(), func(w io.Writer) error {
			return (&puller{to: r.Images, ref: ref}).pull(limited, w)
		})
	}
	switch none := new(noProgramError); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &none):
		return selfupdate.Fail(cells.CauseRelease, "component %s: %v", selfupdate.Component, err)
	case err != nil:
		return &cells.UnavailableError{Cause: fmt.Errorf("bring the agent that the release names: %w", err)}
	}
	return nil
}

// program returns the file of an image's program.
func (f files) program(image string) string {
	sum := sha256.Sum256([]byte(image))
	return filepath.Join(f.dir, programsName, hex.EncodeToString(sum[:]))
}

// keep keeps the program of an image, which write writes. The file of its SHA-256 says that it is whole.
func (f files) keep(image string, write func(io.Writer) error) error {
	name := f.program(image)
	for _, dir := range []string{f.dir, filepath.Dir(name)} {
		if err := disk.MakePrivate(dir); err != nil {
			return err
		}
	}
	sum := sha256.New()
	err := disk.ReplaceFileBy(name, 0o700, func(w io.Writer) error { return write(io.MultiWriter(w, sum)) })
	if err != nil {
		return err
	}
	return disk.ReplaceFile(name+sumSuffix, []byte(hex.EncodeToString(sum.Sum(nil))))
}

// verified returns the program of an image, if its bytes are those that were brought.
func (f files) verified(image string) (name string, err error) {
	name = f.program(image)
	want, err := disk.ReadLimited(name+sumSuffix, maxSmallFile)
	if err != nil {
		return "", err
	}
	is, err := sumOf(name)
	if err == nil && is != string(want) {
		err = fmt.Errorf("%s is damaged", name)
	}
	return name, err
}

func sumOf(name string) (string, error) {
	f, err := os.Open(name) //nolint:gosec // a program of ours
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxProgram+1)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// prune removes all programs but those of images, and what was not finished.
func (f files) prune(images ...string) error {
	dir := filepath.Join(f.dir, programsName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	keep := map[string]bool{}
	for _, image := range images {
		keep[filepath.Base(f.program(image))] = true
	}
	for _, e := range entries {
		if !keep[strings.TrimSuffix(e.Name(), sumSuffix)] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

const (
	tryTimeout = 30 * time.Second
	busyTries  = 20 // another child of this process may hold the file for a moment, as it was written
)

// try asks the program of an image for its version: it may be for another machine, or its folder may not allow that
// programs run.
func (f files) try(ctx context.Context, image string) error {
	limited, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	said := process.NewTail(500)
	var err error
	for n := range busyTries {
		err = process.Child{Args: []string{f.program(image), "version"}, Stdout: said, Stderr: said}.Run(limited)
		if !errors.Is(err, syscall.ETXTBSY) || backoff.Sleep(limited, time.Duration(n)*10*time.Millisecond) != nil {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, fs.ErrPermission):
		return selfupdate.Fail(cells.CauseCell, "the agent that the release names, %s, can't be started in %s: %v; a "+
			"file system for the state folder must allow programs (no noexec)", image, f.dir, err)
	case err != nil:
		return selfupdate.Fail(cells.CauseUnknown, "the agent that the release names, %s, does not run on this "+
			"machine: %v: %s", image, err, said.LastLine(200))
	}
	return nil
}
