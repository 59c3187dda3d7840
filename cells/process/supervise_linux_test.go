package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// superviseVariable makes the test program a supervisor.
const superviseVariable = "TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if os.Getenv(superviseVariable) == "" {
		os.Exit(m.Run())
	}
	if os.Args[1] == "headless" {
		runHeadless(os.Args[2])
	}
	if os.Args[1] == "enclose" {
		code, err := RunEnclosed(os.Args[2], os.Args[4:])
		if err != nil {
			code = 98
		}
		os.Exit(code)
	}
	grace, err := time.ParseDuration(os.Args[2])
	if err != nil {
		os.Exit(99)
	}
	code, err := Supervise(grace, os.Args[3:])
	if err != nil {
		os.Exit(98)
	}
	os.Exit(code)
}

// runHeadless ends this process's first thread, as pthread_exit does, and goes on: the process looks like one that has
// ended. Its number is in the file then.
func runHeadless(file string) {
	pid := strconv.Itoa(os.Getpid())
	go func() {
		for {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			if err == nil && strings.Contains(string(stat), ") Z ") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if err := os.WriteFile(file, []byte(pid+"\n"), 0o600); err != nil {
			os.Exit(97)
		}
		time.Sleep(10 * time.Minute)
		os.Exit(0)
	}()
	for syscall.Gettid() != os.Getpid() { // which thread runs this goroutine is not up to us
		time.Sleep(time.Millisecond)
	}
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// A process whose first thread has ended is found, with what is below it.
func TestHeadlessProcessIsFound(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "child")
	cmd := exec.Command(self, "headless", file)
	cmd.Env = []string{superviseVariable + "=1", "TEST_HEADLESS=" + file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	awaitFile(t, file)
	if !slices.Contains(descendants(os.Getpid()), cmd.Process.Pid) {
		t.Error("it is not found below its parent")
	}
	if found := WithEnvironment("TEST_HEADLESS=" + file); !slices.Contains(found, cmd.Process.Pid) {
		t.Errorf("by its environment, %v is found", found)
	}
}

func supervisedChild(t *testing.T, dir, script string) Child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := shellChild(script)
	c.Dir, c.Env = dir, []string{"PATH=/usr/bin:/bin", superviseVariable + "=1", "SELF=" + self}
	c.Supervisor = []string{self, "supervise"}
	return c
}

// Faults 46, 47: what left the process group is ended too, by whatever way it left: Run does not return before. What
// ends by itself within the grace is left to.
func TestWhatLeftTheGroupIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"a session of its own":   `setsid sh -c 'echo $$ >child; exec sleep 600' >/dev/null 2>&1 & wait`,
		"with the output":        `setsid sh -c 'echo $$ >child; exec sleep 600' & wait`,
		"an orphan":              `(setsid sh -c 'echo $$ >child; exec sleep 600' &) ; sleep 600`,
		"without an environment": `(env -i setsid sh -c 'echo $$ >child; exec sleep 600' &) ; sleep 600`,
		"deaf to politeness":     `(setsid sh -c 'trap "" TERM HUP; echo $$ >child; while :; do sleep 1; done' &) ; sleep 600`,
		"by nohup":               `nohup setsid sh -c 'echo $$ >child; exec sleep 600' >/dev/null 2>&1 & wait`,
		"two sessions deep":      `setsid sh -c 'setsid sh -c "echo \$\$ >child; exec sleep 600" & wait' & wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			child := supervisedChild(t, dir, script)
			child.Grace = 200 * time.Millisecond
			ctx, cancel := newCancel(t)
			stop := errors.New("stop")
			done := make(chan error, 1)
			go func() { done <- child.Run(ctx) }()
			awaitFile(t, filepath.Join(dir, "child"))
			cancel(stop)
			if err := <-done; !errors.Is(err, stop) {
				t.Errorf("got %v", err)
			}
			if pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child"))); isAlive(pid) {
				t.Errorf("%s is at work still", pid)
			}
		})
	}
}

// What a hook that was told to end does within its grace, in whatever session, it does to the end.
func TestSupervisedChildHasItsGrace(t *testing.T) {
	dir := t.TempDir()
	child := supervisedChild(t, dir, `setsid sh -c 'echo up >up; sleep 1; echo done >done' & wait`)
	child.Grace = time.Minute
	ctx, cancel := newCancel(t)
	done := make(chan error, 1)
	go func() { done <- child.Run(ctx) }()
	awaitFile(t, filepath.Join(dir, "up"))
	cancel(errors.New("stop"))
	<-done
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		t.Error(err)
	}
}

// A supervisor is not seen: exit status, signals and output are the command's, and a service is left behind.
func TestSupervisorIsTransparent(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":            "<nil>",
		"exit 75":           "exit status 75",
		"kill -9 $$":        "signal: killed",
		"kill -TERM $$":     "signal: terminated",
		"exec nonexistent1": "exit status 127",
	} {
		err := supervisedChild(t, t.TempDir(), script).Run(t.Context())
		if got := errorText(err); got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
	}
	dir := t.TempDir()
	c := supervisedChild(t, dir, "echo said; setsid sleep 600 >/dev/null 2>&1 & echo $! >child")
	out := NewTail(100)
	c.Stdout = out
	if err := c.Run(t.Context()); err != nil || string(out.Bytes()) != "said\n" {
		t.Errorf("%v, %q", err, out.Bytes())
	}
	pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child")))
	if !isAlive(pid) {
		t.Error("the service is gone")
	}
	kill(pid)
}
