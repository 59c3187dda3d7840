package cli

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/sluice-cd/sluice/internal/filelock"
)

// Site is what a hint says about where the command worked.
type Site struct {
	Data     string // --data; may be empty
	Database bool   // the store is in PostgreSQL
	Full     string // a folder that the command writes to, on a disk without room; empty: there is none
}

// Hints are next steps for errors that only some verbs have. Both functions are pure, and go by error values alone.
type Hints struct {
	// Machine returns that for an error of the machine, which no other advice helps against; empty: it is none.
	Machine func(error, Site) string
	// Cause returns that for an error that comes without a next step; empty: the cause is not known.
	Cause func(error, Site) string
}

// machineHint returns the next step for an error of the machine, which no other advice helps against; empty: it is
// none.
func (a *App) machineHint(err error, at Site) string {
	hint := ""
	if a.Hints.Machine != nil {
		hint = a.Hints.Machine(err, at)
	}
	return cmp.Or(hint, machineHint(err, at))
}

// causeHint returns the next step for an error that comes without one, by its cause; empty: the cause is not known.
func (a *App) causeHint(err error, at Site) string {
	hint := ""
	if a.Hints.Cause != nil {
		hint = a.Hints.Cause(err, at)
	}
	return cmp.Or(hint, causeHint(err, at))
}

// machineHint is App.machineHint for errors that every verb may have. It is pure, and goes by error values alone.
func machineHint(err error, at Site) string {
	file := pathIn(err)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return at.RoomHint(err)
	case errors.Is(err, syscall.EDQUOT):
		return "this user's disk quota is used up where " + cmp.Or(file, at.Data, "the files") +
			" is: remove files, or ask for more, then try again"
	case errors.Is(err, syscall.EROFS):
		return cmp.Or(file, at.Data, "the folder") + " is on a disk that is mounted read-only: mount it with rw, " +
			"or name another folder"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many files are open: raise the limit (ulimit -n, or LimitNOFILE of the unit), then try again"
	}
	return ""
}

// RoomHint returns the next step where a disk is full.
func (at Site) RoomHint(err error) string {
	return roomHint(cmp.Or(pathIn(err), at.Full, at.Data, os.TempDir()))
}

func roomHint(dir string) string {
	return "free space on the disk of " + dir + " (df -h shows how much is left), then try again; nothing is lost"
}

// causeHint is App.causeHint for errors that every verb may have. It is pure, and goes by error values alone.
func causeHint(err error, at Site) string {
	held := new(filelock.HeldError)
	switch {
	case at.Full != "": // programs such as git tell the cause in words alone
		return roomHint(at.Full)
	case errors.As(err, &held):
		return "stop that process, or name another folder; a lock ends with its process, so there is no file to remove"
	case errors.Is(err, fs.ErrPermission):
		file := cmp.Or(pathIn(err), at.Data)
		if file == "" {
			return ""
		}
		return "run this as the user whom " + file + " belongs to (ls -ld shows it), or give this user access to it"
	}
	return ""
}

// pathIn returns the file that an error of the system is about; empty: it names none.
func pathIn(err error) string {
	one, two := new(fs.PathError), new(os.LinkError)
	switch {
	case errors.As(err, &one):
		return one.Path
	case errors.As(err, &two):
		return two.New
	}
	return ""
}

// findSite returns where this run works, for hints about err.
func (a *App) findSite() Site {
	at := Site{Data: a.Data, Database: a.Database != ""}
	for _, dir := range []string{a.Data, CacheDir(a, "mirrors"), os.TempDir()} {
		if dir != "" && isDiskFull(dir) {
			at.Full = dir
			break
		}
	}
	return at
}

// isDiskFull reports whether the disk of a folder has no room for a user's file.
func isDiskFull(dir string) bool {
	var disk syscall.Statfs_t
	return syscall.Statfs(dir, &disk) == nil && disk.Blocks > 0 && disk.Bavail == 0
}
