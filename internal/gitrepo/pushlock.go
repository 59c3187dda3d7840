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

// pushLockFile is in the git folder of a repository that has a worktree. It stays when it is not held.
const pushLockFile = "sluice-push.lock"

// lockPush waits until no other sluice on this machine pushes to a repository with a worktree. git-receive-pack brings the
// worktree up to date before it compares the branch: of two pushes at once the loser's files would stay there, and every
// later push be refused because of them.
func (d *diskHost) lockPush(ctx context.Context) (release func(), err error) {
	if filepath.Clean(d.dir) == filepath.Clean(d.path) {
		return func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(d.dir, pushLockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}, nil //nolint:nilerr // who may not write there: git says so better
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
			return nil, errors.Join(fmt.Errorf("another push to %s takes long: %w", d.path, context.Cause(ctx)), f.Close())
		}
	}
}
