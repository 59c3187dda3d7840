package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func shellChild(script string) Child { return Child{Args: []string{"/bin/sh", "-c", script}} }

func TestTailKeepsTheEnd(t *testing.T) {
	for _, size := range []int{1, 7, 100, 4096} {
		tail := NewTail(100)
		var all []byte
		for i := range 300 {
			p := bytes.Repeat([]byte{byte('a' + i%26)}, size)
			all = append(all, p...)
			if _, err := tail.Write(p); err != nil {
				t.Fatal(err)
			}
			want := all[max(0, len(all)-100):]
			if !bytes.Equal(tail.Bytes(), want) {
				t.Fatalf("size %d, write %d: kept %q, want %q", size, i, tail.Bytes(), want)
			}
			if got := tail.Dropped(); got != int64(len(all)-len(want)) {
				t.Fatalf("size %d, write %d: dropped %d, want %d", size, i, got, len(all)-len(want))
			}
		}
		if cap(tail.content) > 1000 {
			t.Errorf("a tail of 100 bytes holds %d", cap(tail.content))
		}
	}
}

func TestHeadRefusesMore(t *testing.T) {
	head := NewLimitedBuffer(10)
	c := shellChild("printf 12345678901")
	c.Stdout = head
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 10 bytes") {
		t.Fatalf("got %v", err)
	}
}

func TestEnvironmentIsOnlyWhatIsGiven(t *testing.T) {
	t.Setenv("SECRET", "visible")
	out := NewTail(1000)
	c := Child{Args: []string{"/usr/bin/env"}, Stdout: out}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(out.Bytes()) != 0 {
		t.Errorf("environment is %q", out.Bytes())
	}
}

func TestExitErrorIsKept(t *testing.T) {
	var exit *exec.ExitError
	if err := shellChild("exit 7").Run(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v", err)
	}
}

// Fault 46: what hangs is ended with all that it started, also if it ignores SIGTERM.
func TestWholeGroupIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
	}{
		"at once":  {"sleep 600 & echo $! >child; echo up >up; wait", 0},
		"politely": {"sleep 600 & echo $! >child; echo up >up; wait", time.Minute},
		"deaf to politeness": {"trap '' TERM; sleep 600 & echo $! >child; echo up >up; while :; do wait; sleep 1; done",
			50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := errors.New("stop")
			child := shellChild(c.script)
			child.Dir, child.Grace, child.Env = dir, c.grace, []string{"PATH=/usr/bin:/bin"}
			done := make(chan error)
			go func() { done <- child.Run(ctx) }()
			awaitFile(t, filepath.Join(dir, "up"))
			cancel(stop)
			if err := <-done; !errors.Is(err, stop) {
				t.Errorf("got %v", err)
			}
			pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child")))
			for isAlive(pid) {
				time.Sleep(time.Millisecond) // until init has reaped it
			}
		})
	}
}

// A hook may leave a service behind: it is not waited for, however long the hook's grace is, and not ended.
func TestServiceIsLeftBehind(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Minute} {
		dir := t.TempDir()
		c := shellChild("sleep 600 & echo $! >child")
		c.Dir, c.Env, c.Stdout, c.Grace = dir, []string{"PATH=/usr/bin:/bin"}, NewTail(10), grace
		ctx, cancel := context.WithTimeout(t.Context(), grace/2+time.Minute/4)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child")))
		if !isAlive(pid) {
			t.Error("the service is gone")
		}
		kill(pid)
	}
}

// lateWriter takes output of a child, its process's number, once the child is gone and something was done then.
type lateWriter struct{ do func() }

func (w lateWriter) Write(p []byte) (int, error) {
	child := filepath.Join("/proc", strings.TrimSpace(string(p)))
	for isThere(child) {
		time.Sleep(time.Millisecond)
	}
	w.do()
	return len(p), nil
}

// A time limit that passes after a hook ended, while the service that it left behind holds its output, changes nothing:
// the hook did what it should, in time.
func TestLimitPassesAfterTheEnd(t *testing.T) {
	for script, want := range map[string]string{
		"sleep 600 & echo $! >child; echo $$":         "<nil>",
		"sleep 600 & echo $! >child; echo $$; exit 3": "exit status 3",
	} {
		dir := t.TempDir()
		c := shellChild(script)
		ctx, cancel := newCancel(t)
		c.Dir, c.Env, c.Grace = dir, []string{"PATH=/usr/bin:/bin"}, time.Second
		c.Stdout = lateWriter{func() { cancel(errors.New("stop")) }}
		if got := errorText(c.Run(ctx)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child")))
		if !isAlive(pid) {
			t.Error("the service is gone")
		}
		kill(pid)
	}
}

func isThere(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func kill(pid string) { _ = exec.Command("kill", "-9", pid).Run() }

func newCancel(t *testing.T) (context.Context, context.CancelCauseFunc) {
	t.Helper()
	return context.WithCancelCause(t.Context())
}

func errorText(err error) string { return fmt.Sprint(err) }

// isAlive reports whether a process has a thread that has not ended.
func isAlive(pid string) bool {
	threads, _ := filepath.Glob(filepath.Join("/proc", pid, "task/*/stat"))
	return slices.ContainsFunc(threads, func(name string) bool {
		state, err := os.ReadFile(name)
		return err == nil && !strings.Contains(string(state), ") Z ")
	})
}

func awaitFile(t *testing.T, file string) {
	t.Helper()
	for {
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			return
		}
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// slowReader takes the output as a busy machine does: late.
type slowReader struct{ got int }

func (r *slowReader) Write(p []byte) (int, error) {
	time.Sleep(2 * outputDelay)
	r.got += len(p)
	return len(p), nil
}

// Output that is needed is read to its end, however late; else a render on a busy machine would be cut short and
// counted against the release.
func TestWholeOutputIsReadLate(t *testing.T) {
	const size = 80_000 // the pipe takes the rest while the first part is read, so that the child ends early
	r := &slowReader{}
	c := shellChild(fmt.Sprintf("head -c %d /dev/zero", size))
	c.Stdout, c.Whole, c.Env = r, true, os.Environ()
	if err := c.Run(t.Context()); err != nil || r.got != size {
		t.Errorf("read %d of %d bytes (%v)", r.got, size, err)
	}
}
