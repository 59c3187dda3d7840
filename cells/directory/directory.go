// Package directory applies a cell's manifests to a folder on disk. It is the default target, for products that read
// files and for trying out Sluice without Kubernetes.
//
//	DIR/current              a symlink to the current version
//	DIR/versions/ID/         the files of one version; complete as soon as the name exists
//	DIR/hook.log             the end of what the hook last printed, at most 64 KiB
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
// replaced, not followed. Calls on one Target must not overlap (cells.Target).
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
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

const (
	currentLink   = "current"
	versionsDir   = "versions"
	stagingPrefix = ".staging" // prefix of incomplete entries
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
	OnProblem     func(error)   // called with what went wrong without consequences; nil: not told
	Group         *int          // id of the group of the product's files and folders; nil: the process's
}

type Target struct {
	dir          string   // absolute
	root         *os.Root // dir, during a call: what is done below it never leaves it
	options      Options
	interrupted  bool             // the last run of the hook was interrupted, and none has ended since
	assignment   cells.Assignment // of the last Apply or Heal, for the commands' environment
	hookPending  bool             // a hook failed: Heal runs it again
	keptVersions []string         // in the order in which they became current, the current one last
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

// create makes the folder, if there is none, and what is always below it.
func (t *Target) create() error {
	_, err := os.Stat(t.dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(t.dir, t.dirMode()); err != nil {
		return err
	}
	closeRoot, err := t.openRoot()
	if err != nil {
		return err
	}
	defer closeRoot()
	if isNew {
		if err := t.grant("."); err != nil {
			return err
		}
	}
	return errors.Join(t.ensureFolder(versionsDir), t.syncDir("."))
}

// openRoot opens the folder for one call.
func (t *Target) openRoot() (closeRoot func(), err error) {
	t.root, err = os.OpenRoot(t.dir)
	return func() { _ = t.root.Close() }, err // nothing is lost: files were synced
}

// ensureFolder makes a folder in place of what else has its name, such as a link.
func (t *Target) ensureFolder(name string) error {
	info, err := t.root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = cmp.Or(t.root.Remove(name), fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = t.root.Mkdir(name, t.dirMode())
	}
	if err != nil || info != nil && t.isGranted(info, t.dirMode()) {
		return err
	}
	return errors.Join(t.grant(name), t.syncDir(name))
}

func (t *Target) path(elements ...string) string {
	return filepath.Join(append([]string{t.dir}, elements...)...)
}

// Apply makes r current and runs the hook. If the hook fails, r is current nevertheless: the caller decides about a
// rollback.
func (t *Target) Apply(ctx context.Context, r cells.Rendered) error {
	if _, err := t.reconcile(ctx, r); err != nil {
		return fmt.Errorf("apply %s to %s: %w", r.Assignment.Release, t.dir, err)
	}
	return t.runHook(ctx, "apply")
}

// Heal repairs drift: changed, missing and added files, and the link itself. The hook runs if anything was repaired.
func (t *Target) Heal(ctx context.Context, r cells.Rendered) (int, error) {
	mended, err := t.reconcile(ctx, r)
	if err != nil {
		return mended, fmt.Errorf("heal %s in %s: %w", r.Assignment.Release, t.dir, err)
	}
	if mended == 0 && !t.hookPending {
		return 0, nil
	}
	return mended, t.runHook(ctx, "heal")
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
	closeRoot, err := t.openRoot()
	if err != nil {
		return 0, err
	}
	defer closeRoot()
	if err := errors.Join(t.killInterruptedHook(), t.ensureFolder(versionsDir)); err != nil {
		return 0, err
	}
	if err := t.removeStaged(); err != nil {
		return 0, err
	}
	version := path.Join(versionsDir, want.id)
	switch info, err := t.root.Lstat(version); {
	case err == nil && info.IsDir():
		changed, err = t.repairVersion(ctx, version, want)
		if err != nil {
			return changed, err
		}
	case err == nil:
		if err := t.root.RemoveAll(version); err != nil {
			return 0, err
		}
		fallthrough
	case errors.Is(err, fs.ErrNotExist):
		if err := t.stageVersion(ctx, version, want); err != nil {
			return 0, err
		}
		changed = len(want.files)
	default:
		return 0, err
	}
	switched, err := t.switchLink(want.id)
	if err != nil {
		return changed, err
	}
	if switched {
		changed++
	}
	return changed, t.pruneVersions(want.id)
}

// switchLink points the link at a version by one rename.
func (t *Target) switchLink(id string) (switched bool, err error) {
	to := filepath.Join(versionsDir, id)
	if present, err := t.root.Readlink(currentLink); err == nil && present == to {
		return false, nil
	}
	if info, err := t.root.Lstat(currentLink); err == nil && info.IsDir() {
		if err := t.root.RemoveAll(currentLink); err != nil { // a rename can't replace a folder
			return false, err
		}
	}
	const temporary = stagingPrefix + "-link"
	if err := t.root.Symlink(to, temporary); err != nil {
		return false, err
	}
	if err := t.root.Rename(temporary, currentLink); err != nil {
		return false, err
	}
	return true, t.syncDir(".")
}

// removeStaged removes what an interrupted call left behind. Calls never overlap, so it is not in use.
func (t *Target) removeStaged() error {
	entries, err := fs.ReadDir(t.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagingPrefix) {
			continue
		}
		if err := t.root.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// pruneVersions removes all versions but the current one and its predecessors, up to KeepVersions.
func (t *Target) pruneVersions(current string) error {
	if n := len(t.keptVersions); n > 0 && t.keptVersions[n-1] == current {
		return nil
	}
	entries, err := fs.ReadDir(t.root.FS(), versionsDir)
	if err != nil {
		return err
	}
	if t.keptVersions == nil {
		t.keptVersions = sortByAge(entries)
	}
	t.keptVersions = append(removeName(t.keptVersions, current), current)
	t.keptVersions = t.keptVersions[max(0, len(t.keptVersions)-t.options.KeepVersions):]
	keep := make(map[string]bool, len(t.keptVersions))
	for _, id := range t.keptVersions {
		keep[id] = true
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := t.root.RemoveAll(path.Join(versionsDir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
