package debugfolder

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/internal/words"
)

// lockWait is how long a change waits for another one of the same request. Each takes a few writes.
const lockWait = 10 * time.Second

// change runs a function on a request, while no other process changes it. An error leaves the request as it is.
func (f Folder) change(id string, do func(*Entry) error) error {
	if !requestID().MatchString(id) {
		return ErrNotFound
	}
	dir, err := os.Open(f.path(id)) //nolint:gosec // below the state folder
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // frees the lock
	if err := filelock.Lock(dir, lockWait, ""); err != nil {
		return fmt.Errorf("request %s for debug access: %w", id, err)
	}
	e, err := f.Load(id)
	if err != nil {
		return err
	}
	return do(&e)
}

// Approve permits one session for a request. It refuses a request that was answered, has expired, or is permitted for
// longer than was asked for.
func (f Folder) Approve(id string, p debug.Permission, now time.Time) error {
	return f.change(id, func(e *Entry) error {
		switch {
		case e.Denied != nil:
			return errors.New("the request was denied: ask for another")
		case e.Permission != nil:
			return errors.New("the request was approved before, and serves for one session: ask for another")
		case !now.Before(e.Request.Expires):
			return fmt.Errorf("the request expired at %s: ask for another", words.FormatTime(e.Request.Expires))
		case p.For < debug.MinSession || p.For > e.Request.For:
			return fmt.Errorf("a session of %s: permit between %s and the %s that were asked for",
				words.ExactDuration(p.For), words.ExactDuration(debug.MinSession), words.ExactDuration(e.Request.For))
		case p.PerCommand && e.Request.Scope == debug.Shell:
			return errors.New("a shell runs commands that no one can list: approve it without --per-command, or deny " +
				"it and ask for the scope read")
		case p.KeepChanges && e.Request.Scope.ChangesNothing():
			return errors.New("a session that reads logs changes nothing: approve it without --keep-changes")
		}
		if err := checkPod(&p, e.Request.Scope); err != nil {
			return err
		}
		p.Request, p.Document = id, e.Signed.Hash()
		var err error
		switch e.Request.Scope {
		case debug.Shell:
		case debug.Logs:
			p.Logs, err = f.keep(id, logsFile)
		default:
			p.Commands, err = f.keep(id, commandsFile)
		}
		if err != nil {
			return err
		}
		return writeJSON(f.path(id, permissionFile), p)
	})
}

// checkPod says why a session of a scope can't be in the pod of a permission; nil: it can, or there is none.
func checkPod(p *debug.Permission, s debug.Scope) error {
	switch {
	case p.Pod == nil:
		return nil
	case s != debug.Shell:
		return fmt.Errorf("only a shell runs in a pod, and the request is for %s: approve it without --pod", s)
	case p.User != "":
		return errors.New("a shell in a pod runs as the container's user: approve it with --pod or with --user")
	}
	return p.Pod.Validate()
}

// Deny refuses a request, also one that was approved, unless its session has begun.
func (f Folder) Deny(id string, d Denial) error {
	return f.change(id, func(e *Entry) error {
		switch {
		case e.Begun != nil:
			return errors.New("its session has begun: sluice cell debug stop ends it")
		case e.Denied != nil:
			return nil
		}
		return writeJSON(f.path(id, deniedFile), d)
	})
}

// Stop has the session of a request end, within a second if an agent runs. No session begins afterwards.
func (f Folder) Stop(id string) error {
	return f.change(id, func(*Entry) error { return disk.ReplaceFileMode(f.path(id, stopFile), 0o644) })
}

// Revoke is Stop without the owner: why is the reason that the session's seal has. What was stopped stays so.
func (f Folder) Revoke(id, why string) error {
	return f.change(id, func(e *Entry) error {
		if e.Stopped {
			return nil
		}
		return disk.ReplaceFileMode(f.path(id, stopFile), 0o644, []byte(why))
	})
}

// ErrStopped means that the owner had a session end.
var ErrStopped = errors.New("the cell's owner stopped it")

// MustEnd returns why the session of a request has to end: ErrStopped, or the reason of Revoke; nil: it may go on. A
// folder that can't be read ends it, too.
func (f Folder) MustEnd(id string) error {
	why, err := disk.ReadLimited(f.path(id, stopFile), maxFile)
	if err == nil && len(why) > 0 {
		return errors.New(string(why))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return ErrStopped
	}
	if there, err := exists(f.path(id, permissionFile)); err != nil || !there {
		return ErrStopped
	}
	return nil
}

// ErrUsed means that a permission has had its session.
var ErrUsed = errors.New("the permission was used: it serves for one session; ask the owner for another")

// Begin marks the permission of a request as used, durably, and returns the request; the session may begin only then
// (D1, D3). moment is now by the machine's monotonic clock, and now by the machine's.
func (f Folder) Begin(id string, moment debug.Moment, now time.Time) (Entry, error) {
	var begun Entry
	err := f.change(id, func(e *Entry) error {
		switch {
		case e.Begun != nil:
			return ErrUsed
		case e.Denied != nil:
			return errors.New("the owner denied the request")
		case e.Stopped:
			return cmp.Or(f.MustEnd(id), ErrStopped)
		case e.Permission == nil:
			return errors.New("the owner has not approved the request")
		}
		if err := e.Permission.CheckBegin(moment); err != nil {
			return err
		}
		e.Begun = &Begun{Moment: moment, At: now}
		begun = *e
		return writeJSON(f.path(id, begunFile), e.Begun)
	})
	return begun, err
}

// End keeps the seal of a session's record. There is one for each session, also after a crash.
func (f Folder) End(id string, s debug.SignedSeal) error {
	return f.change(id, func(e *Entry) error {
		if e.Seal != nil {
			return nil
		}
		return writeJSON(f.path(id, sealFile), s)
	})
}

// MarkSent notes that the control plane has the seal, and the record unless the owner withholds it.
func (f Folder) MarkSent(id string) error {
	return f.change(id, func(*Entry) error { return disk.ReplaceFileMode(f.path(id, sentFile), 0o644) })
}

// MarkReplaced notes that another release began after the session: what it changed is kept no longer.
func (f Folder) MarkReplaced(id string) error {
	return f.change(id, func(*Entry) error { return disk.ReplaceFileMode(f.path(id, replacedFile), 0o644) })
}

// Sent reports whether MarkSent was called.
func (f Folder) Sent(id string) bool {
	sent, err := exists(f.path(id, sentFile))
	return err == nil && sent
}
