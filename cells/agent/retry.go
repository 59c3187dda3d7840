package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
)

// retryFile is the file by which the cell's owner asks for another try. The agent removes it once the request is
// journalled, so that each request counts once (R56).
func retryFile(stateDir string) string { return filepath.Join(stateDir, "retry") }

// RequestRetry asks the agent of a state folder to try its newest assignment again, and returns that; nil: it did not
// fail, and nothing is asked. The agent notices within 2 seconds, or at its next start.
func RequestRetry(stateDir string) (*cells.Assignment, error) {
	j, err := readJournal(stateDir)
	if err != nil || j.Accepted == nil || !j.hasFailed(j.Accepted) {
		return nil, err
	}
	return j.Accepted, disk.ReplaceFile(retryFile(stateDir), nil)
}

// retryRequested reports whether the owner asks for another try.
func (a *Agent) retryRequested() bool {
	_, err := os.Stat(retryFile(a.options.StateDir))
	return err == nil
}

// passOnRetry has the loop look at the owner's request, if there is one.
func (a *Agent) passOnRetry(ctx context.Context, requested chan<- struct{}) {
	if !a.retryRequested() {
		return
	}
	select {
	case requested <- struct{}{}:
	case <-ctx.Done():
	}
}

// forgetRetry removes a request that is journalled.
func (l *loop) forgetRetry() error {
	if !l.retried {
		return nil
	}
	if err := os.Remove(retryFile(l.agent.options.StateDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.retried = false
	return nil
}

// retryFailed offers the assignment that the control plane wants once more, though it failed here: the cell's owner
// asks for it (R56). It begins as any offer does. handled is false as long as it is not known what is wanted.
func retryFailed(s *state) (handled bool) {
	a := s.desired
	if a == nil {
		return false
	}
	key := assignmentKey(a)
	if key != assignmentKey(s.Accepted) || !s.hasFailed(a) {
		return true
	}
	s.Failures = slices.DeleteFunc(slices.Clone(s.Failures),
		func(f cells.Failure) bool { return f.Assignment.Key() == key })
	s.Offer = a
	s.recordEvent("retried", a, "the cell's owner asked for it")
	return true
}
