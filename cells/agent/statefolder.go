package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/internal/words"
)

// PresentName returns the name that the cell of a state folder has now, if name is one that it had before it was
// renamed; else name.
func PresentName(stateDir, name string) (string, error) {
	c, err := plane.LoadCredentials(stateDir, "", nil)
	if err != nil || !c.HadName(name) {
		return name, err
	}
	return c.Cell(), nil
}

// stateFolders are the folders of a state folder; what else is in it are files.
var stateFolders = []string{"releases", "rendered", "work", exporter.FolderName, debugfolder.FolderName}

// prepareStateFolder makes the state folder and those in it, and locks it. What can't be made on a full or read-only
// disk is missing until makeMissing can make it.
func (a *Agent) prepareStateFolder(dir string) (folders map[string]string, lock *os.File, err error) {
	if err := refuseForeignFolder(dir); err != nil {
		return nil, nil, err
	}
	if err := disk.MakePrivate(dir); err != nil {
		return nil, nil, err
	}
	if err := a.putAsideWrongKinds(dir); err != nil {
		return nil, nil, err
	}
	folders = map[string]string{}
	for _, name := range stateFolders {
		folders[name] = filepath.Join(dir, name)
		switch err := disk.MakePrivate(folders[name]); {
		case disk.RefusesWrites(err):
			a.options.Log.Warn().Err(err).Msg("a folder of the state folder can't be made yet")
			a.missing = append(a.missing, folders[name])
		case err != nil:
			return nil, nil, err
		}
	}
	lock, err = disk.LockDir(dir, "cell "+a.options.Cell)
	return folders, lock, err
}

// makeMissing makes the folders that could not be made at the start.
func (a *Agent) makeMissing() {
	a.missing = slices.DeleteFunc(a.missing, func(dir string) bool { return disk.MakePrivate(dir) == nil })
}

// putAsideWrongKinds puts aside files in place of folders and folders in place of files, which a repaired file system
// may have.
func (a *Agent) putAsideWrongKinds(dir string) error {
	for _, name := range slices.Concat(stateFolders, []string{"flags"}, stateFiles) {
		file := filepath.Join(dir, name)
		info, err := os.Lstat(file)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 || info.IsDir() == !slices.Contains(stateFiles, name) {
			continue
		}
		aside, err := disk.PutAside(file, time.Now())
		if err != nil {
			return err
		}
		a.warnOfDamage(aside)
	}
	return nil
}

var stateFiles = []string{"clock.json", "flags.json", "identity.json", "inforce.json", "journal.json", "lock",
	"maintenance.json", "offered.json", "outbox", "reported.json"}

// stateNames are the names in a state folder that an agent, or its owner's commands, may have made before the agent has
// an identity or a journal; and what a new file system has.
var stateNames = slices.Concat(stateFiles, stateFolders, []string{OwnerFile, "owner.lock", "clock-reset", "flags",
	selfupdate.FolderName, "lost+found"}, signatures.FileNames())

// refuseForeignFolder refuses a state folder with files of others: the agent would close it to them, and would remove
// old files from some of its folders. With an identity or a journal the folder is the agent's.
func refuseForeignFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var foreign []string
	for _, e := range entries {
		name := e.Name()
		base, _, _ := strings.Cut(name, ".damaged-")
		switch {
		case base == "identity.json" || base == "identity.copy.json" || base == "journal.json":
			return nil
		case !slices.Contains(stateNames, base) && !strings.HasPrefix(name, ".new-"):
			foreign = append(foreign, name)
		}
	}
	if len(foreign) == 0 {
		return nil
	}
	return fmt.Errorf("the state folder %s holds %s, which no agent made: name an empty folder with --state", dir,
		words.Some(foreign, 5))
}
