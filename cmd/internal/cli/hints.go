package cli

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// site is what a hint says about where the command worked.
type site struct {
	data     string // --data; may be empty
	database bool   // the store is in PostgreSQL
	full     string // a folder that the command writes to, on a disk without room; empty: there is none
}

// machineHint returns the next step for an error of the machine, which no other advice helps against; empty: it is
// none. It is pure, and goes by error values alone.
func machineHint(err error, at site) string {
	file := pathIn(err)
	switch {
	case errors.Is(err, gitrepo.ErrNoGit):
		return "install git (such as apt-get install git), or add its folder to PATH"
	case errors.Is(err, plan.ErrFull) && at.database:
		return "free space on the database server's disk, then try again; nothing was stored, and nothing is lost"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, plan.ErrFull):
		return roomHint(cmp.Or(file, at.full, at.data, os.TempDir()))
	case errors.Is(err, syscall.EDQUOT):
		return "this user's disk quota is used up where " + cmp.Or(file, at.data, "the files") +
			" is: remove files, or ask for more, then try again"
	case errors.Is(err, syscall.EROFS):
		return cmp.Or(file, at.data, "the folder") + " is on a disk that is mounted read-only: mount it with rw, " +
			"or name another folder"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many files are open: raise the limit (ulimit -n, or LimitNOFILE of the unit), then try again"
	}
	return ""
}

func roomHint(dir string) string {
	return "free space on the disk of " + dir + " (df -h shows how much is left), then try again; nothing is lost"
}

// causeHint returns the next step for an error that comes without one, by its cause; empty: the cause is not known.
// It is pure, and goes by error values alone.
func causeHint(err error, at site) string {
	if hint := storeHint(err, at); hint != "" {
		return hint
	}
	held := new(filelock.HeldError)
	switch {
	case at.full != "": // programs such as git tell the cause in words alone
		return roomHint(at.full)
	case errors.As(err, &held):
		return "stop that process, or name another folder; a lock ends with its process, so there is no file to remove"
	case errors.Is(err, fs.ErrPermission):
		file := cmp.Or(pathIn(err), at.data)
		if file == "" {
			return ""
		}
		return "run this as the user whom " + file + " belongs to (ls -ld shows it), or give this user access to it"
	}
	return ""
}

// storeHint is causeHint for errors of the store.
func storeHint(err error, at site) string {
	unknown := new(net.DNSError)
	switch {
	case errors.Is(err, postgres.ErrUser):
		return "check the user in --database, and the password in PGPASSWORD or a password file; pg_hba.conf on the " +
			"server says who may connect from where"
	case errors.Is(err, postgres.ErrNoDatabase):
		return "create it, and let the user own it: createdb -O USER DATABASE; or correct the name in --database"
	case errors.Is(err, postgres.ErrNotOwner):
		return "let the user own the database: ALTER DATABASE NAME OWNER TO USER"
	case errors.Is(err, plan.ErrReadOnly) && at.database:
		return "that server takes no writes, as a standby does: name the primary's address in --database"
	case errors.Is(err, plan.ErrReadOnly):
		return "let this user write to " + filepath.Join(at.data, StoreFile) + " and its folder, or run this as the " +
			"user of sluice serve (ls -l shows it)"
	case errors.Is(err, plan.ErrCrowded):
		return "end sessions that nobody needs, or raise max_connections on the database server, then try again"
	case errors.As(err, &unknown) && errors.Is(err, plan.ErrAway):
		return "this machine knows no host " + unknown.Name + ": correct --database, or the name server's answer"
	case errors.Is(err, syscall.ECONNREFUSED) && errors.Is(err, plan.ErrAway):
		return "no PostgreSQL listens there: start it, or correct the host and the port in --database"
	case errors.Is(err, context.DeadlineExceeded) && at.database, isTimeout(err) && errors.Is(err, plan.ErrAway):
		return "the database server did not answer in time: is it overloaded, or does something drop packets?"
	case errors.Is(err, plan.ErrAway):
		return "the database server is starting, stopping or cut off: look at its log, then try again"
	case errors.Is(err, plan.ErrBusy) && at.database:
		return "another session holds a lock in the database: try again in a moment; pg_stat_activity names it"
	case errors.Is(err, plan.ErrBusy):
		return "another process holds the store's lock: try again in a moment; lsof " +
			filepath.Join(at.data, StoreFile) + " names it"
	}
	return ""
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
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
func (a *App) findSite() site {
	at := site{data: a.Data, database: a.Database != ""}
	for _, dir := range []string{a.Data, CacheDir(a, "mirrors"), os.TempDir()} {
		if dir != "" && isDiskFull(dir) {
			at.full = dir
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
