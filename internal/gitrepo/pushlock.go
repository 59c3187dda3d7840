package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// pushLockFile is in the git folder of a repository that has a worktree. The file stays when the lock is released.
const pushLockFile = "sluice-push.lock"

// lockPush waits until no other sluice on this machine pushes to a repository with a worktree. git-receive-pack updates
// the worktree before it compares the branch: of two concurrent pushes, the loser's files would stay in the worktree,
// and make git refuse every later push.
func (d *diskHost) lockPush(ctx context.Context) (release func(), err error) {
	if filepath.Clean(d.dir) == filepath.Clean(d.path) {
		return func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(d.dir, pushLockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}, nil // without write permission, git explains the refusal better
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another push to %s takes long: %w", d.path, context.Cause(ctx)),
				f.Close())
		}
	}
}
