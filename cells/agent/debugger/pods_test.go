package debugger

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/kubernetes/podshell"
	"github.com/sluice-cd/sluice/test/cluster/kubelet"
)

// newPodFixture permits a shell in a pod of a cluster, whose commands run here.
func newPodFixture(t *testing.T) *fixture {
	t.Helper()
	c := shared.Get(t)
	namespace := c.Namespace(t)
	kubelet.NewExecs(t, c)
	c.Run(t, `{apiVersion: v1, kind: Pod, metadata: {name: queue-0}, spec: {containers: [{name: main, image: shop}]}}`,
		"-n", namespace, "apply", "-f", "-")
	c.Run(t, "", "-n", namespace, "wait", "--for=condition=Ready", "pod/queue-0", "--timeout=2m")
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	shells, err := podshell.New(config)
	if err != nil {
		t.Fatal(err)
	}
	pod, _, err := shells.Find(t.Context(), debug.Pod{Namespace: namespace, Name: "queue-0"})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, debug.Shell, func(p *debug.Permission) { p.Pod = &pod })
	f.session.podShells = shells
	return f
}

// A shell in a pod is one as any other: a terminal that follows the person's, recorded with what is typed, and its exit
// code.
func TestShellInPod(t *testing.T) {
	f := newPodFixture(t)
	c := f.mustConnect(t)
	s, in, out := openShell(t, c)
	lines := bufio.NewScanner(out)
	defer time.AfterFunc(5*time.Minute, func() { _ = s.Close() }).Stop()
	for _, step := range []struct{ input, want string }{
		{"echo id=$SLUICE_DEBUG; stty size\n", "id=" + f.id}, {"", "30 100"},
		{"sh -c 'echo read\"\"y; exec sleep 600'\n", "ready"}, {"\x03", "^C"}, {"echo ali\"\"ve\n", "alive"},
	} {
		_, _ = io.WriteString(in, step.input)
		for !strings.Contains(lines.Text(), step.want) {
			if !lines.Scan() {
				t.Fatalf("%q does not come (%v)", step.want, lines.Err())
			}
		}
	}
	if err := s.WindowChange(59, 119); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "while [ \"$(stty size)\" != '59 119' ]; do :; done; exit 7\n")
	_, _ = io.Copy(io.Discard, out)
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("got %v", err)
	}
	if text, code := output(t, c, "echo on; exit 5"); text != "on\n" || code != 5 {
		t.Errorf("%q (%d)", text, code)
	}
	_ = c.Close()
	events := f.readRecord(t, f.awaitEnding(t))
	for code, want := range map[string]string{"o": "alive", "i": "ali\"\"ve", "r": "119x59",
		"m": "a shell, in the container main of pod " + f.session.permission.Pod.Namespace + "/queue-0"} {
		if got := joined(events, code); !strings.Contains(got, want) {
			t.Errorf("the record lacks %q: %.2000q", want, got)
		}
	}
}

// D2: the owner's stop ends a session in a pod with all that it started.
func TestD2StopInPod(t *testing.T) {
	f := newPodFixture(t)
	s, err := f.mustConnect(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := `trap "" HUP TERM; (setsid sh -c 'trap "" HUP TERM; echo $$ >` + dir + `/deep; exec sleep 600' &) ; ` +
		`echo $$ >` + dir + `/shell; while :; do sleep 1; done`
	if err := s.Start(script); err != nil {
		t.Fatal(err)
	}
	pids := []int{awaitPid(t, filepath.Join(dir, "deep")), awaitPid(t, filepath.Join(dir, "shell"))}
	if err := f.folder.Stop(f.id); err != nil {
		t.Fatal(err)
	}
	e := f.awaitEnding(t)
	if e.why != debugfolder.ErrStopped.Error() {
		t.Errorf("it ended because %s", e.why)
	}
	for _, pid := range pids {
		awaitEnd(t, pid)
	}
	f.readRecord(t, e)
}

// stubbornPod is a cluster in whose pod something does not end at first.
type stubbornPod struct {
	PodShells
	ended chan string
}

func (p stubbornPod) Run(context.Context, debug.Pod, debug.PodShell) (int, error) {
	return 0, debug.ErrMayGoOn
}

func (p stubbornPod) End(_ context.Context, _ debug.Pod, request string) error {
	p.ended <- request
	return nil
}

// What may go on in a pod is said, on the record, and the agent goes on ending it; also one that was started again.
func TestWhatMayGoOnInPod(t *testing.T) {
	t.Parallel()
	pod := debug.Pod{Namespace: "shop", Name: "queue-0", Container: "main", UID: "1"}
	f := newFixture(t, debug.Shell, func(p *debug.Permission) { p.Pod = &pod })
	c := f.mustConnect(t)
	if text, code := output(t, c, "id"); code != codeRefused || !strings.Contains(text, "this cell is no cluster") {
		t.Errorf("%q (%d)", text, code)
	}
	stubborn := stubbornPod{ended: make(chan string, 1)}
	f.session.podShells = stubborn
	if text, code := output(t, c, "id"); code != codeEnded || !strings.Contains(text, "may go on there") {
		t.Errorf("%q (%d)", text, code)
	}
	if id := <-stubborn.ended; id != f.id {
		t.Error(id)
	}
	d := f.restart(t)
	d.options.PodShells = stubborn
	d.closeInterrupted()
	if id := <-stubborn.ended; id != f.id {
		t.Error(id)
	}
}
