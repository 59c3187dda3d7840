package render

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	// renderFormat changes when the same release and values would render to other files, or to another response.
	renderFormat = "9"
	kustomize    = "sigs.k8s.io/kustomize/api"
	keptRendered = 16
	maxRendered  = 256 << 20
	maxStderr    = 64 << 10
)

// ManifestsFile is the name of the file that has all manifests, in the order in which they are applied.
const ManifestsFile = "manifests.yaml"

// Limits bound a render. Zero fields mean the default, in brackets.
type Limits struct {
	Time   time.Duration // (1m)
	Memory int64         // bytes (1 GiB)
	Output int64         // bytes of all manifests (64 MiB)
}

func (l Limits) withDefaults() Limits {
	if l.Time <= 0 {
		l.Time = time.Minute
	}
	if l.Memory <= 0 {
		l.Memory = 1 << 30
	}
	if l.Output <= 0 {
		l.Output = 64 << 20
	}
	return l
}

// Options configure a Renderer.
type Options struct {
	Command []string       // of the child: see Main
	Dir     string         // the cache of rendered manifests
	Temp    string         // empty folder, the child's working directory
	Values  map[string]any // of parameters that the cell owns; nil: none
	KeyFile string         // with age keys, for files that SOPS encrypted; empty: none
	Limits  Limits

	LeaveEncrypted bool // files that SOPS encrypted stay as they are: whoever has no key looks at all else
}

// Renderer renders releases, each in a child process, and caches the manifests on disk by all that they depend on:
// release, profile, values and the renderer itself.
type Renderer struct {
	command   []string
	dir       string
	temp      string
	ownValues map[string]any
	keyFile   string
	encrypted bool // Options.LeaveEncrypted
	version   string
	limits    Limits
	releases  Releases
}

// Releases is where a Renderer reads releases.
type Releases interface {
	// Open returns the canonical tar of a release, as far as is known: the renderer checks the digest.
	Open(ctx context.Context, d releases.Digest) (io.ReadCloser, error)
	// Remove forgets bytes that have another digest, so that Open gets them again.
	Remove(d releases.Digest) error
}

// New returns a renderer of those releases. The folders of o must exist.
func New(o Options, releases Releases) *Renderer {
	return &Renderer{
		command: o.Command, dir: o.Dir, temp: o.Temp, ownValues: o.Values,
		keyFile: o.KeyFile, encrypted: o.LeaveEncrypted,
		version: rendererVersion(), limits: o.Limits.withDefaults(), releases: releases,
	}
}

type renderError struct {
	reason string
	cause  cells.Cause // empty: unknown
}

func (e *renderError) Error() string { return e.reason }

func (e *renderError) FailureCause() cells.Cause { return cmp.Or(e.cause, cells.CauseUnknown) }

// rendererVersion identifies this renderer: its own format, and its version of kustomize.
func rendererVersion() string {
	version := renderFormat
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == kustomize {
				version += " " + m.Version
			}
		}
	}
	return version
}

// Result is the rendered assignment, with the features of its release.
type Result struct {
	cells.Rendered
	Features []string // never nil
	// Components and Maintenance are as release.yaml has them.
	Components  []releases.Component
	Maintenance releases.Maintenance
	Export      *export.List     // as export.yaml has it; nil: there is none
	Diagnostics diagnostics.List // as diagnostics.yaml has it
	Logs        diagnostics.Logs // as diagnostics.yaml has it
	version     string           // as release.yaml says
}

// Render returns the rendered assignment, from the cache if it is there. An error is a *cells.UnavailableError, ctx's
// cause, or why the release can't be rendered, now or ever; a *content.RefusedError says that the content is another
// release than the assignment names.
func (r *Renderer) Render(ctx context.Context, a *cells.Assignment) (Result, error) {
	m, err := r.renderCached(ctx, a)
	if err == nil && m.version != a.Release {
		return Result{}, &content.RefusedError{Cause: fmt.Errorf("the control plane named release %s, and release.yaml "+
			"of %s says version %s", a.Release, a.Digest, words.Clip(m.version, 100))}
	}
	return m, err
}

func (r *Renderer) renderCached(ctx context.Context, a *cells.Assignment) (Result, error) {
	file, err := r.cacheFile(a)
	if err != nil {
		return Result{}, err
	}
	if cached, err := disk.ReadChecksummed(file, maxRendered); err == nil && cached != nil {
		if m, err := splitOutput(a, cached); err == nil {
			return m, nil
		}
	}
	output, err := r.renderRelease(ctx, a)
	if err != nil {
		return Result{}, fmt.Errorf("render %s: %w", a.Release, err)
	}
	m, err := splitOutput(a, output)
	if err != nil {
		return Result{}, fmt.Errorf("render %s: %w", a.Release, err)
	}
	if err := disk.WriteChecksummed(file, output); err != nil {
		return Result{}, &cells.UnavailableError{Cause: fmt.Errorf("store the manifests of %s: %w", a.Release, err)}
	}
	return m, nil
}

func (r *Renderer) cacheFile(a *cells.Assignment) (string, error) {
	text, err := json.Marshal([]any{r.version, a.Digest, a.Profile, a.Values, r.ownValues, r.encrypted})
	if err != nil {
		return "", fmt.Errorf("values of %s: %w", a.Release, err)
	}
	sum := sha256.Sum256(text)
	return filepath.Join(r.dir, hex.EncodeToString(sum[:])), nil
}

// Prune keeps the manifests of the assignments, and the newest of the others.
func (r *Renderer) Prune(keep ...*cells.Assignment) error {
	names := map[string]bool{}
	for _, a := range keep {
		file, err := r.cacheFile(a)
		if err != nil {
			return err
		}
		names[filepath.Base(file)] = true
	}
	return disk.PruneOldest(r.dir, keptRendered, names)
}

// renderRelease renders in a child. Damaged bytes on disk are fetched again, once.
func (r *Renderer) renderRelease(ctx context.Context, a *cells.Assignment) ([]byte, error) {
	for retried := false; ; retried = true {
		tar, err := r.releases.Open(ctx, a.Digest)
		if err != nil {
			return nil, err
		}
		output, err := r.runChild(ctx, a, tar)
		_ = tar.Close()
		var corrupt *corruptError
		switch {
		case !errors.As(err, &corrupt):
			return output, err
		case retried:
			return nil, &cells.UnavailableError{Cause: fmt.Errorf("the release on disk is damaged: %w", err)}
		}
		if err := r.releases.Remove(a.Digest); err != nil {
			return nil, &cells.UnavailableError{Cause: err}
		}
	}
}

func (r *Renderer) runChild(ctx context.Context, a *cells.Assignment, tar io.Reader) ([]byte, error) {
	keys, err := r.readKeys()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(request{
		Digest: a.Digest, Profile: a.Profile, Values: a.Values, Own: r.ownValues,
		Keys: keys, LeaveEncrypted: r.encrypted,
		Memory: r.limits.Memory, CPU: uint64(r.limits.Time.Seconds()) + 1,
	})
	if err != nil {
		return nil, &renderError{reason: err.Error()}
	}
	timeout := &cells.UnavailableError{
		Cause: fmt.Errorf("the renderer was not finished after %s and was killed", r.limits.Time)}
	ctx, cancel := context.WithTimeoutCause(ctx, r.limits.Time, timeout)
	defer cancel()
	out, complaint := process.NewLimitedBuffer(int(r.limits.Output)), process.NewTail(maxStderr)
	err = process.Child{
		Args:   r.command,
		Dir:    r.temp,
		Stdin:  io.MultiReader(bytes.NewReader(append(header, '\n')), tar),
		Stdout: out,
		Stderr: complaint,
		Whole:  true,
	}.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return nil, cause
	}
	var exit *exec.ExitError
	switch {
	case out.Exceeded():
		return nil, &renderError{cause: cells.CauseRelease,
			reason: fmt.Sprintf("it renders to more than %d bytes of manifests", r.limits.Output)}
	case errors.As(err, &exit) && !exit.Exited(): // by the kernel for want of memory, say
		return nil, &cells.UnavailableError{Cause: fmt.Errorf("the renderer was killed (%s; limits: %s and %d MiB)",
			exit, r.limits.Time, r.limits.Memory>>20)}
	case errors.As(err, &exit) && (exit.ExitCode() == exitUnable || bytes.Contains(complaint.Bytes(), noThread)):
		return nil, &cells.UnavailableError{Cause: fmt.Errorf("the machine keeps the renderer from running: %s",
			firstLine(complaint.Bytes()))}
	case errors.As(err, &exit): // it panicked, or is at its limit of memory
		return nil, &renderError{reason: fmt.Sprintf("the renderer ended (%s; limits: %s and %d MiB): %s",
			exit, r.limits.Time, r.limits.Memory>>20, firstLine(complaint.Bytes()))}
	case err != nil:
		return nil, &cells.UnavailableError{Cause: err} // it could not be started, or its output not be read to the end
	}
	return out.Bytes(), answerError(out.Bytes())
}

// noThread is what Go's runtime says, before it ends a program, at a limit on a user's processes.
var noThread = []byte("failed to create new OS thread")

// answerError returns the error in the first line of a child's output, or nil.
func answerError(output []byte) error {
	a, _, err := decodeAnswer(output)
	switch {
	case err != nil:
		return &renderError{reason: "the renderer's output is malformed: " + err.Error()}
	case a.Corrupt:
		return &corruptError{a.Error}
	case a.Owner:
		return &releases.OwnerValuesError{Reason: a.Error}
	case a.Error != "":
		return &renderError{reason: a.Error, cause: cells.CauseRelease}
	}
	return nil
}

func decodeAnswer(output []byte) (a response, bodies []byte, err error) {
	line, bodies, ok := bytes.Cut(output, []byte("\n"))
	if !ok {
		return a, nil, io.ErrUnexpectedEOF
	}
	return a, bodies, json.Unmarshal(line, &a)
}

// splitOutput splits a child's output into files: one for each object, and all of them as one stream.
func splitOutput(from *cells.Assignment, output []byte) (Result, error) {
	a, bodies, err := decodeAnswer(output)
	if err != nil {
		return Result{}, err
	}
	files := make(map[string][]byte, len(a.Objects)+1)
	all := make([]byte, 0, len(bodies)+4*len(a.Objects))
	objects := make([]cells.Object, 0, len(a.Objects))
	for i, o := range a.Objects {
		if o.Size < 0 || o.Size > len(bodies) {
			return Result{}, io.ErrUnexpectedEOF
		}
		text := bodies[:o.Size:o.Size]
		bodies = bodies[o.Size:]
		files[o.Name] = text
		objects = append(objects, o.Object)
		if i > 0 {
			all = append(all, "---\n"...)
		}
		all = append(all, text...)
	}
	files[ManifestsFile] = all
	rendered := cells.Rendered{Assignment: *from, Files: files, Objects: objects, Kubernetes: a.Kubernetes}
	if len(objects) == 0 { // it says allowEmpty, or it would not be rendered
		rendered.Kubernetes.RemoveMost = true
	}
	return Result{rendered, append([]string{}, a.Features...), a.Components, a.Maintenance, a.Export, a.Diagnostics,
		a.Logs, a.Version}, nil
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return words.Clip(cleantext.Line(string(line)), 300)
}
