package postgres

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// serverUser returns the user that a server runs as; nil: the user of this process, which is not root.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("a server must not run as root, and there is neither a user postgres nor nobody: %w",
				err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func chown(path string, as *syscall.Credential) error {
	if as == nil {
		return nil
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

const folderPrefix = "sluice-postgres-"

// createFolder makes a folder for a server and locks the folder while this process lives. It removes the folders that
// killed processes left.
func createFolder(parent string, as *syscall.Credential) (path string, lock *os.File, err error) {
	removeStaleFolders(parent)
	if path, err = os.MkdirTemp(parent, folderPrefix); err != nil {
		return "", nil, err
	}
	if lock, err = os.Create(filepath.Join(path, "lock")); err == nil {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err == nil {
			err = chown(path, as)
		}
	}
	return path, lock, err
}

// removeStaleFolders removes folders that no process has locked. A new folder may not be locked yet, so it is left.
func removeStaleFolders(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, folderPrefix+"*", "lock")) // the pattern is valid
	for _, path := range left {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // of another user
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(path)) // the next call tries again
		}
		_ = f.Close()
	}
}
