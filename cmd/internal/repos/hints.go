package repos

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"syscall"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// Hints returns the next steps for errors of git and of the store.
func Hints() cli.Hints { return cli.Hints{Machine: machineHint, Cause: storeHint} }

func machineHint(err error, at cli.Site) string {
	switch {
	case errors.Is(err, gitrepo.ErrNoGit):
		return "install git (such as apt-get install git), or add its folder to PATH"
	case errors.Is(err, plan.ErrFull) && at.Database:
		return "free space on the database server's disk, then try again; nothing was stored, and nothing is lost"
	case errors.Is(err, plan.ErrFull):
		return at.RoomHint(err)
	}
	return ""
}

// storeHint returns the next step for an error of the store.
func storeHint(err error, at cli.Site) string {
	unknown := new(net.DNSError)
	switch {
	case errors.Is(err, postgres.ErrUser):
		return "check the user in --database, and the password in PGPASSWORD or a password file; pg_hba.conf on the " +
			"server says who may connect from where"
	case errors.Is(err, postgres.ErrNoDatabase):
		return "create it, and let the user own it: createdb -O USER DATABASE; or correct the name in --database"
	case errors.Is(err, postgres.ErrNotOwner):
		return "let the user own the database: ALTER DATABASE NAME OWNER TO USER"
	case errors.Is(err, plan.ErrReadOnly) && at.Database:
		return "that server takes no writes, as a standby does: name the primary's address in --database"
	case errors.Is(err, plan.ErrReadOnly):
		return "let this user write to " + filepath.Join(at.Data, StoreFile) + " and its folder, or run this as the " +
			"user of sluice serve (ls -l shows it)"
	case errors.Is(err, plan.ErrCrowded):
		return "end sessions that nobody needs, or raise max_connections on the database server, then try again"
	case errors.As(err, &unknown) && errors.Is(err, plan.ErrAway):
		return "this machine knows no host " + unknown.Name + ": correct --database, or the name server's answer"
	case errors.Is(err, syscall.ECONNREFUSED) && errors.Is(err, plan.ErrAway):
		return "no PostgreSQL listens there: start it, or correct the host and the port in --database"
	case errors.Is(err, context.DeadlineExceeded) && at.Database, isTimeout(err) && errors.Is(err, plan.ErrAway):
		return "the database server did not answer in time: is it overloaded, or does something drop packets?"
	case errors.Is(err, plan.ErrAway):
		return "the database server is starting, stopping or cut off: look at its log, then try again"
	case errors.Is(err, plan.ErrBusy) && at.Database:
		return "another session holds a lock in the database: try again in a moment; pg_stat_activity names it"
	case errors.Is(err, plan.ErrBusy):
		return "another process holds the store's lock: try again in a moment; lsof " +
			filepath.Join(at.Data, StoreFile) + " names it"
	}
	return ""
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
