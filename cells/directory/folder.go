package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	ownDir     = ".sluice" // of the target itself, for the agent's user alone
	recordFile = "target.json"
	lockFile   = "lock"
	asideInfix = ".aside-" // and when it was put aside
	hookLog    = "hook.log"

	maxRecord = 16 << 20
	lockWait  = 2 * time.Second // for an agent that is about to end
)

// record says what the target made, in .sluice/target.json. It is durable before what it names exists, and only what it
// names is ever removed.
type record struct {
	Versions []string `json:"versions"` // folders below versions, in the order in which they became current
	// Objects are those that a hook may have put into effect, and that no later hook has removed; nil: not known.
	Objects []cells.Object `json:"objects"`
}

// versionID matches the name of a version's folder: see planVersion.
var versionID = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^r[A-Za-z0-9._-]{0,64}-[0-9a-f]{16}$`)
})

// ForeignError says that a folder holds what the target did not make and would have to replace.
type ForeignError struct{ Names []string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("it holds %s, which the agent did not make and would replace: name an empty folder with --dir, "+
		"or move them away", words.Some(e.Names, 5))
}

// create makes the folder, if there is none, and what is always below it. It refuses a folder that holds files of
// others under the target's names, a *ForeignError, and takes over one that an agent made which kept no record.
func (t *Target) create() error {
	isNew, err := makeFolders(t.dir, t.dirMode())
	if err != nil {
		return err
	}
	if err := t.checkReachable(isNew); err != nil {
		return err
	}
	if t.root, err = os.OpenRoot(t.dir); err != nil {
		return err
	}
	defer func() { _ = t.root.Close() }()
	if isNew {
		if err := t.grant("."); err != nil {
			return err
		}
	}
	found, err := t.loadRecord()
	isUnrecorded := errors.Is(err, fs.ErrNotExist)
	if isUnrecorded {
		found, err = adopt(t.root)
	}
	if err != nil {
		return err
	}
	t.record = found
	err = errors.Join(t.ensureOwnDir(), t.ensureFolder(versionsDir), t.syncDir("."))
	switch {
	case err != nil && !disk.RefusesWrites(err):
		return err
	case err == nil && isUnrecorded:
		err = t.saveRecord(found)
	}
	if err != nil { // the agent must start nevertheless
		t.warn(unsavedError(t.dir, err))
	}
	return nil
}

// makeFolders makes a folder and those above it with a mode, whatever the umask. isNew is false if it was there.
func makeFolders(dir string, mode fs.FileMode) (isNew bool, err error) {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		missing = append(missing, at)
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return false, err
	}
	for _, made := range missing {
		if err := os.Chmod(made, mode); err != nil {
			return false, err
		}
	}
	return len(missing) > 0, nil
}

// checkReachable refuses a folder that was there and that nobody but the agent's user may enter, if the product's files
// are for others too: the product would find nothing.
func (t *Target) checkReachable(isNew bool) error {
	if isNew || t.options.Mode&0o044 == 0 {
		return nil
	}
	info, err := os.Stat(t.dir)
	if err != nil || info.Mode().Perm()&0o011 != 0 {
		return err
	}
	return fmt.Errorf("it has mode %04o, so the product's user can't enter it and can't read the files: "+
		"chmod g+x the folder, or remove it, and the agent makes it", info.Mode().Perm())
}

// adopt returns the record of a folder that has none: nothing in a new folder, or what an agent made that kept none, or
// whose record was damaged. What such an agent did not finish, or put aside, is no record's.
func adopt(root *os.Root) (found record, err error) {
	var foreign []string
	own, err := root.Lstat(ownDir)
	isAgents := err == nil && own.IsDir()
	if err == nil && !isAgents {
		foreign = append(foreign, ownDir)
	}
	version := func(name string, e fs.DirEntry) {
		id, _, isAside := strings.Cut(e.Name(), asideInfix)
		switch {
		case e.IsDir() && versionID().MatchString(e.Name()):
			found.Versions = append(found.Versions, e.Name())
		case isAgents && (name == staging || isAside && versionID().MatchString(id)):
		default:
			foreign = append(foreign, name)
		}
	}
	switch entries, err := fs.ReadDir(root.FS(), versionsDir); {
	case err == nil:
		for _, e := range sortByAge(entries) {
			version(path.Join(versionsDir, e.Name()), e)
		}
	case !errors.Is(err, fs.ErrNotExist):
		foreign = append(foreign, versionsDir)
	}
	if _, err := root.Lstat(currentLink); err == nil {
		to, err := root.Readlink(currentLink)
		id, below := strings.CutPrefix(to, versionsDir+"/")
		if err != nil || !below || !versionID().MatchString(id) {
			foreign = append(foreign, currentLink)
		}
	}
	if info, err := root.Lstat(hookLog); err == nil && (!info.Mode().IsRegular() || len(found.Versions) == 0) {
		foreign = append(foreign, hookLog)
	}
	if len(foreign) > 0 {
		return record{}, &ForeignError{foreign}
	}
	return found, nil
}

// loadRecord reads the record. A damaged one is put aside, and is as good as none.
func (t *Target) loadRecord() (r record, err error) {
	name := path.Join(ownDir, recordFile)
	info, err := t.root.Lstat(name)
	switch {
	case errors.Is(err, syscall.ENOTDIR): // what has the folder's name is somebody's
		return record{}, fs.ErrNotExist
	case err != nil:
		return record{}, err
	}
	var text []byte
	damaged := !info.Mode().IsRegular() || info.Size() > maxRecord
	if !damaged {
		if text, err = t.root.ReadFile(name); err != nil {
			return record{}, err
		}
		damaged = json.Unmarshal(text, &r) != nil
	}
	if damaged {
		t.warn(fmt.Errorf("the record of what the agent made in %s is damaged, so the hook can't know which objects of "+
			"earlier versions are gone", t.dir))
		if err := t.putAside(name); err != nil {
			t.warn(err) // the next record replaces it
		}
		return record{}, fs.ErrNotExist
	}
	// Whoever may write to the folder may have written the record.
	r.Versions = slices.DeleteFunc(r.Versions, func(id string) bool { return !versionID().MatchString(id) })
	return r, nil
}

// saveRecord saves r, which is the record only once it is durable: the next call tries again.
func (t *Target) saveRecord(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := t.replaceOwnFile(recordFile, text, true); err != nil {
		return err
	}
	t.record = r
	return nil
}

func unsavedError(dir string, err error) error {
	return fmt.Errorf("the record of what the agent made in %s can't be written yet: %w", dir, err)
}

// Lock ensures that only one agent uses the folder, until the returned function is called or the process ends. who
// describes the caller to another agent that finds the folder locked.
func (t *Target) Lock(who string) (release func() error, err error) {
	end, err := t.begin()
	if err != nil {
		return nil, fmt.Errorf("target directory %s: %w", t.dir, err)
	}
	defer end()
	f, err := filelock.Open(func(flags int) (*os.File, error) {
		return t.root.OpenFile(path.Join(ownDir, lockFile), flags, 0o600)
	})
	if err != nil {
		return nil, fmt.Errorf("target directory %s: %w", t.dir, err)
	}
	err = filelock.Lock(f, lockWait, who)
	if err == nil {
		return f.Close, nil
	}
	if held := new(filelock.HeldError); errors.As(err, &held) {
		err = fmt.Errorf("another agent uses %s: %w: stop it, or give each cell a --dir of its own", t.dir, err)
	}
	return nil, errors.Join(err, f.Close())
}

// begin opens the folder for one call.
func (t *Target) begin() (end func(), err error) {
	if t.root, err = os.OpenRoot(t.dir); err != nil {
		return nil, err
	}
	end = func() { _ = t.root.Close() } // nothing is lost: files were synced
	if err := t.ensureOwnDir(); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// ensureOwnDir makes the target's own folder, in place of a link or a file that has its name.
func (t *Target) ensureOwnDir() error {
	if err := t.clearName(ownDir); err != nil {
		return err
	}
	if info, err := t.root.Lstat(ownDir); err == nil && info.Mode().Perm() == 0o700 {
		return nil
	}
	if err := t.root.Mkdir(ownDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return t.root.Chmod(ownDir, 0o700)
}

// ensureFolder makes a folder with the product's mode, in place of a link or a file that has its name.
func (t *Target) ensureFolder(name string) error {
	if err := t.clearName(name); err != nil {
		return err
	}
	if info, err := t.root.Lstat(name); err == nil && t.isGranted(info, t.dirMode()) {
		return nil
	}
	if err := t.root.Mkdir(name, t.dirMode()); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return errors.Join(t.grant(name), t.syncDir(name))
}

// clearName makes room for a folder. A link is removed, since what it leads to stays; anything else that is no folder
// may be somebody's, and is put aside.
func (t *Target) clearName(name string) error {
	info, err := t.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil || info.IsDir():
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return t.root.Remove(name)
	}
	return t.putAside(name)
}

// putAside renames what is not the target's, and has a name that the target needs.
func (t *Target) putAside(name string) error {
	aside := name + asideInfix + time.Now().UTC().Format("20060102T150405.000")
	if err := t.root.Rename(name, aside); err != nil {
		return err
	}
	t.warn(fmt.Errorf("%s was not what the agent made; it is %s now", t.path(name), t.path(aside)))
	return nil
}

func (t *Target) warn(problem error) {
	if t.options.OnProblem != nil {
		t.options.OnProblem(problem)
	}
}

// replaceOwnFile writes a file of the target's own folder, all of it or nothing. Durable, it outlasts a power loss.
func (t *Target) replaceOwnFile(name string, content []byte, durable bool) error {
	temporary := path.Join(ownDir, "new")
	if err := t.root.RemoveAll(temporary); err != nil {
		return err
	}
	f, err := t.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if durable && err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := t.root.Rename(temporary, path.Join(ownDir, name)); err != nil || !durable {
		return err
	}
	return t.syncDir(ownDir)
}
