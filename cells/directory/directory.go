// Package directory applies a cell's manifests to a folder on disk. It is the default target, for products that read
// files and for trying out Sluice without Kubernetes.
//
//	DIR/current              a symlink to the current version
//	DIR/versions/ID/         the files of one version; complete as soon as the name exists
//	DIR/hook.log             the end of what the hook last printed, at most 64 KiB
//	DIR/.sluice/             of the target alone: a record of what it made, a lock, the hook that runs
//
// A version is staged beside the others, each of its files and folders is fsynced, and one rename of the symlink makes
// it current. A consumer that resolves the link once and then reads below the resolved folder never sees a mix of two
// versions; the previous version is kept for such consumers.
//
// An optional hook runs after each switch, and after drift was repaired. It may run more than once for one version, for
// example after a crash, so it must be repeatable. An optional health command checks whether the product works: exit
// status 0 is healthy. Both run by /bin/sh -c with the agent's environment plus SLUICE_CELL, SLUICE_CHANNEL,
// SLUICE_RELEASE, SLUICE_DIGEST, SLUICE_PROFILE, SLUICE_DIR (the version's own folder), SLUICE_CURRENT (the link) and,
// for the hook, SLUICE_REASON (apply or heal). Each has a time limit, after which its whole process group is ended. A
// service that a hook starts should redirect its output.
//
// Manifests may hold secrets: files have mode 0600 and folders 0700, whatever the umask, unless Options name a mode and
// a group for the product's user. DIR itself, if it was there, and what the hook prints are not opened to that user.
//
// The package never decides what runs, never rolls back by itself and never writes outside DIR: links inside DIR are
// replaced, not followed. It removes only what its record says that it made; a folder in which others have files under
// its names is refused, and what takes such a name later is put aside. Calls on one Target must not overlap
// (cells.Target).
package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

const (
	currentLink = "current"
	versionsDir = "versions"
	staging     = versionsDir + "/.staging" // an incomplete version or file: beside versions, on their file system
)

// Options configure a Target. The zero value is usable.
type Options struct {
	Cell          string        // passed to the hook and the health command
	Hook          string        // shell command, run after each switch; empty: none
	HookTimeout   time.Duration // default 5m
	HookGrace     time.Duration // between telling a hook to end and killing it; default 8s
	Health        string        // shell command; empty: always healthy
	HealthTimeout time.Duration // of one run; default 10s
	KeepVersions  int           // number of versions, the current one included; default and minimum 2
	Mode          fs.FileMode   // of the product's files; default 0600; who may read a file may enter its folder
	Supervisor    []string      // command of a program that calls process.Supervise; empty: hooks run without one
	OnProblem     func(error)   // called with what went wrong without consequences; nil: not told
	Group         *int          // id of the group of the product's files and folders; nil: the process's
}

type Target struct {
	dir         string   // absolute
	root        *os.Root // dir, during a call: what is done below it never leaves it
	options     Options
	interrupted bool             // a run of the hook was interrupted, and none has ended by itself since
	assignment  cells.Assignment // of the last Apply or Heal, for the commands' environment
	hookPending bool             // a hook failed: Heal runs it again
	record      record           // as on disk
	recurring   recurringDrift
}

var _ cells.Target = (*Target)(nil)

// New returns dir as a target and creates it if needed.
func New(dir string, o Options) (*Target, error) {
	if o.HookTimeout <= 0 {
		o.HookTimeout = 5 * time.Minute
	}
	if o.HookGrace <= 0 {
		o.HookGrace = 8 * time.Second // containers are killed 10 s after they are told to end
	}
	if o.HealthTimeout <= 0 {
		o.HealthTimeout = 10 * time.Second
	}
	o.KeepVersions = max(o.KeepVersions, 2)
	o.Mode = cmp.Or(o.Mode, 0o600)
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("target directory %s: %w", dir, err)
	}
	t := &Target{dir: absolute, options: o}
	if err := t.create(); err != nil {
		return nil, fmt.Errorf("target directory %s: %w", dir, err)
	}
	return t, nil
}

func (t *Target) path(elements ...string) string {
	return filepath.Join(append([]string{t.dir}, elements...)...)
}

// Apply makes r current and runs the hook. If the hook fails, r is current nevertheless: the caller decides about a
// rollback.
func (t *Target) Apply(ctx context.Context, r cells.Rendered) error {
	t.recurring = recurringDrift{}
	if _, err := t.reconcile(ctx, r); err != nil {
		return fmt.Errorf("apply %s to %s: %w", r.Assignment.Release, t.dir, err)
	}
	return t.runHook(ctx, "apply", r.Objects)
}

// Heal repairs drift: changed, missing and added files, and the link itself. The hook runs if anything was repaired. If
// the same drifts again and again after that, as by the hook itself, Heal ends the loop: see recurringDrift.
func (t *Target) Heal(ctx context.Context, r cells.Rendered) (int, error) {
	t.recurring.begin()
	mended, err := t.reconcile(ctx, r)
	if err != nil {
		return mended, fmt.Errorf("heal %s in %s: %w", r.Assignment.Release, t.dir, err)
	}
	again := t.recurring.end()
	if mended > 0 || t.hookPending {
		if err := t.runHook(ctx, "heal", r.Objects); err != nil {
			return mended, err
		}
	}
	return mended, again
}

// reconcile makes the disk agree with r and returns how many files, folders and links it changed. An error is a
// *nameError, or a *cells.UnavailableError: what the disk refuses is no fault of the release.
func (t *Target) reconcile(ctx context.Context, r cells.Rendered) (changed int, err error) {
	t.assignment = r.Assignment
	want, err := planVersion(r)
	if err != nil {
		return 0, err
	}
	if changed, err = t.write(ctx, want); err != nil {
		return changed, &cells.UnavailableError{Cause: err}
	}
	return changed, nil
}

// write makes the disk hold a version, makes it current, and removes old ones.
func (t *Target) write(ctx context.Context, want version) (changed int, err error) {
	end, err := t.begin()
	if err != nil {
		return 0, err
	}
	defer end()
	if err := t.endInterruptedHook(ctx); err != nil {
		return 0, err
	}
	if err := errors.Join(t.ensureFolder(versionsDir), t.root.RemoveAll(staging)); err != nil { // of a killed agent
		return 0, err
	}
	version := path.Join(versionsDir, want.id)
	if err := t.clearName(version); err != nil {
		return 0, err
	}
	switch _, err := t.root.Lstat(version); {
	case err == nil:
		changed, err = t.repairVersion(ctx, version, want)
		if err != nil {
			return changed, err
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := t.recordVersion(want.id); err != nil {
			return 0, err
		}
		if err := t.stageVersion(ctx, version, want); err != nil {
			return 0, err
		}
		if changed = len(want.files); t.recurring.sight(".") {
			changed = 0
		}
	default:
		return 0, err
	}
	switched, err := t.switchLink(want.id)
	if err != nil {
		return changed, err
	}
	if switched && !t.recurring.sight(currentLink) {
		changed++
	}
	if changed == 0 && t.record.Objects == nil { // an agent that kept no record put it into effect
		if err := t.recordObjects(want.objects); err != nil {
			return changed, err
		}
	}
	t.pruneVersions(want.id)
	return changed, nil
}

// recordVersion records a version that is about to be made. The current one stays the last.
func (t *Target) recordVersion(id string) error {
	if slices.Contains(t.record.Versions, id) {
		return nil
	}
	return t.saveRecord(record{append([]string{id}, t.record.Versions...), t.record.Objects})
}

// switchLink points the link at a version by one rename.
func (t *Target) switchLink(id string) (switched bool, err error) {
	to := filepath.Join(versionsDir, id)
	if present, err := t.root.Readlink(currentLink); err == nil && present == to {
		return false, nil
	}
	if info, err := t.root.Lstat(currentLink); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		if err := t.putAside(currentLink); err != nil {
			return false, err
		}
	}
	temporary := path.Join(ownDir, "link")
	if err := t.root.RemoveAll(temporary); err != nil {
		return false, err
	}
	if err := t.root.Symlink(to, temporary); err != nil {
		return false, err
	}
	if err := t.root.Rename(temporary, currentLink); err != nil {
		return false, err
	}
	return true, t.syncDir(".")
}

// pruneVersions removes the recorded versions but the current one and its predecessors, up to KeepVersions. What can't
// be removed stays recorded, and the new version's hook runs nevertheless.
func (t *Target) pruneVersions(current string) {
	known := t.record.Versions
	if n := len(known); n > 0 && n <= t.options.KeepVersions && known[n-1] == current {
		return
	}
	known = append(slices.DeleteFunc(slices.Clone(known), func(id string) bool { return id == current }), current)
	old := known[:max(0, len(known)-t.options.KeepVersions)]
	var left []string
	for _, id := range old {
		if err := t.root.RemoveAll(path.Join(versionsDir, id)); err != nil {
			t.warn(fmt.Errorf("an old version can't be removed yet: %w", err))
			left = append(left, id)
		}
	}
	left = append(left, known[len(old):]...)
	if slices.Equal(left, t.record.Versions) {
		return
	}
	if err := t.saveRecord(record{left, t.record.Objects}); err != nil {
		t.warn(unsavedError(t.dir, err))
	}
}
