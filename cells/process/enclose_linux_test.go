package process

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// D2: nothing that a command of a debug session started survives the command, nor its being told to end.
func TestD2EnclosedCommandLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		stop   bool
	}{
		"it ended":          {`(setsid sh -c 'trap "" TERM HUP; echo $$ >child; exec sleep 600' >/dev/null 2>&1 &); while ! [ -s child ]; do sleep 0.01; done; exit 3`, false},
		"it was stopped":    {`(setsid sh -c 'trap "" TERM HUP; echo $$ >child; exec sleep 600' &); sleep 600`, true},
		"no first thread":   {`setsid "$SELF" headless child & sleep 600`, true},
		"its pipe was kept": {`setsid sh -c 'echo $$ >child; exec sleep 600' & while ! [ -s child ]; do sleep 0.01; done; exit 3`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			child := supervisedChild(t, dir, c.script)
			how, err := Enclosure{}.Command(child.Supervisor[0], "enclose")
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			child.Supervisor, child.Stdout, child.Whole = how, &out, true
			ctx, cancel := newCancel(t)
			stop, done := errors.New("stop"), make(chan error, 1)
			go func() { done <- child.Run(ctx) }()
			awaitFile(t, filepath.Join(dir, "child"))
			began := time.Now()
			if c.stop {
				cancel(stop)
			}
			err = <-done
			var exit *exec.ExitError
			if c.stop && !errors.Is(err, stop) || !c.stop && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took > supervisorMargin {
				t.Errorf("it took %s", took)
			}
			if pid := strings.TrimSpace(readFile(t, filepath.Join(dir, "child"))); isAlive(pid) {
				t.Errorf("%s is at work still", pid)
			}
		})
	}
}

func TestEnclosedCommandRunsAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the command becomes another user, which only root may: run this test as root")
	}
	child := supervisedChild(t, "/", `id -u; id -g; id -G`)
	other := &User{ID: 12345, Group: 12346, Groups: []uint32{12347}}
	how, err := Enclosure{User: other}.Command(child.Supervisor[0], "enclose")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	child.Supervisor, child.Stdout, child.Whole = how, &out, true
	ctx, _ := newCancel(t)
	if err := child.Run(ctx); err != nil || out.String() != "12345\n12346\n12346 12347\n" {
		t.Errorf("%q (%v)", out.String(), err)
	}
}
