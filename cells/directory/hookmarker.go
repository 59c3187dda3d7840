package directory

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// An agent that is killed takes its hook's shell with it, but not the processes that the shell started. So a hook
// carries a random marker in its environment, and the marker is on disk while the hook runs. The next call ends every
// process that still carries the marker, so two hooks never run at once.
const (
	hookMarkerFile     = ".hook-running"
	hookMarkerVariable = "SLUICE_HOOK_RUN="
)

// writeHookMarker records that a hook begins, and returns the variable for the hook's environment.
func (t *Target) writeHookMarker() (entry string, err error) {
	id := rand.Text()
	if err := t.writeOwnFile(hookMarkerFile, []byte(id)); err != nil {
		return "", fmt.Errorf("record that the hook began: %w", err)
	}
	return hookMarkerVariable + id, nil
}

func (t *Target) removeHookMarker() error {
	if err := t.root.RemoveAll(hookMarkerFile); err != nil {
		return fmt.Errorf("record that the hook ended: %w", err)
	}
	return nil
}

// killInterruptedHook kills what an interrupted hook left running. Without /proc it can't find such processes.
func (t *Target) killInterruptedHook() error {
	const maxMarker = 64 // bytes; whoever may write to the folder may have replaced it
	info, err := t.root.Lstat(hookMarkerFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var id []byte
	if err == nil && info.Mode().IsRegular() && info.Size() <= maxMarker {
		id, err = t.root.ReadFile(hookMarkerFile)
	}
	if err != nil {
		return fmt.Errorf("look for an interrupted hook: %w", err)
	}
	t.interrupted = true
	if len(id) > 0 {
		killByEnvironment(append([]byte(hookMarkerVariable), id...))
	}
	return t.removeHookMarker()
}

// killByEnvironment kills each process of this user with the entry in its environment.
func killByEnvironment(entry []byte) {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return
	}
	for _, file := range environments {
		environment, err := os.ReadFile(file) //nolint:gosec // the kernel's
		if err != nil {
			continue // gone, or of another user
		}
		for variable := range bytes.SplitSeq(environment, []byte{0}) {
			if !bytes.Equal(variable, entry) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
			}
		}
	}
}
