package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// hookRun is one run of a hook, by which all of its processes are found again, whoever started them. They carry a
// random marker in their environment and, where the machine allows it, are in a control group of that name. The marker
// is on disk while the hook runs: an agent that is killed can't end what its hook started, but the next one can, so two
// hooks never run at once.
type hookRun struct {
	id     string
	cgroup *process.Cgroup // nil: there are none
}

const (
	hookMarkerFile     = "hook-running" // in the target's own folder
	hookMarkerVariable = "SLUICE_HOOK_RUN"
	cgroupPrefix       = "sluice-hook-"
	maxMarker          = 64 // bytes

	killPause = 20 * time.Millisecond // between two looks at what is left
	killLimit = 2 * time.Second       // for what was killed to end
)

func newHookRun() hookRun { return hookRun{id: rand.Text()} }

// variable returns the entry of the environment that marks the processes of the run.
func (r hookRun) variable() string { return hookMarkerVariable + "=" + r.id }

// kill kills what is left of the run, and returns the processes that it can't end.
func (r hookRun) kill() (left []int) {
	for end := time.Now().Add(killLimit); ; time.Sleep(killPause) {
		r.cgroup.Kill()
		left = process.WithEnvironment(r.variable())
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already, or be another user's
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// stop waits up to grace for what is left of the run, and kills the rest. The supervisor was told to end when its agent
// ended.
func (r hookRun) stop(ctx context.Context, grace time.Duration) error {
	for end := time.Now().Add(grace); time.Now().Before(end) && len(process.WithEnvironment(r.variable())) > 0; {
		if err := backoff.Sleep(ctx, killPause); err != nil {
			return context.Cause(ctx)
		}
	}
	if left := r.kill(); len(left) > 0 {
		return fmt.Errorf("a hook left processes behind, which the agent can't end and waits for: %v", left)
	}
	return nil
}

// beginHookRun records that a hook begins.
func (t *Target) beginHookRun() (hookRun, error) {
	r := newHookRun()
	if err := t.replaceOwnFile(hookMarkerFile, []byte(r.id), false); err != nil {
		return hookRun{}, fmt.Errorf("record that the hook began: %w", err)
	}
	r.cgroup = process.NewCgroup(cgroupPrefix + r.id)
	return r, nil
}

func (t *Target) removeHookMarker() error {
	if err := t.root.RemoveAll(path.Join(ownDir, hookMarkerFile)); err != nil {
		return fmt.Errorf("record that the hook ended: %w", err)
	}
	return nil
}

// endInterruptedHook ends what an interrupted hook left running: it has the hook's grace. Without /proc it can't find
// such processes.
func (t *Target) endInterruptedHook(ctx context.Context) error {
	name := path.Join(ownDir, hookMarkerFile)
	info, err := t.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var id []byte
	if err == nil && info.Mode().IsRegular() && info.Size() <= maxMarker {
		id, err = t.root.ReadFile(name)
	}
	if err != nil {
		return fmt.Errorf("look for an interrupted hook: %w", err)
	}
	t.interrupted = true
	if len(id) > 0 {
		r := hookRun{id: string(id), cgroup: process.OpenCgroup(cgroupPrefix + path.Base(string(id)))}
		if err := r.stop(ctx, t.options.HookGrace); err != nil {
			return err
		}
		r.cgroup.Close()
	}
	return t.removeHookMarker()
}
