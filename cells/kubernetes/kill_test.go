package kubernetes_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/test/child"
)

// childVariable names the file with what a child process is to do.
const childVariable = "SLUICE_KUBERNETES_TEST_CHILD"

// childTask is an apply that ends by kill -9 after a number of writes.
type childTask struct {
	Kubeconfig, StateDir, Cell, Namespace string
	Writes                                int64
	Rendered                              cells.Rendered
	Heal                                  bool
}

// runChild carries out a task. The exit code is 0 if it came to its end.
func runChild() int {
	text, err := os.ReadFile(os.Getenv(childVariable))
	var task childTask
	if err == nil {
		err = json.Unmarshal(text, &task)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	config, err := clientcmd.BuildConfigFromFlags("", task.Kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	killAfter(config, task.Writes)
	target, err := kubernetes.New(kubernetes.Options{Cell: task.Cell, Config: config, StateDir: task.StateDir,
		Namespace: task.Namespace, WaitTimeout: wait})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if task.Heal {
		for err = target.Health(context.Background()); err != nil; err = target.Health(context.Background()) {
		}
		_, err = target.Heal(context.Background(), task.Rendered)
	} else {
		err = target.Apply(context.Background(), task.Rendered)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// killAfter ends this process, with no chance to tidy up, when the API server has answered so many writes.
func killAfter(config *rest.Config, writes int64) {
	var done atomic.Int64
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			isWrite := r.Method == http.MethodPatch || r.Method == http.MethodDelete
			if isWrite && err == nil && done.Add(1) == writes {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return answer, err
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// runKilled runs a task in a child, and reports whether it was killed.
func (w *world) runKilled(t *testing.T, r cells.Rendered, heal bool, writes int64) (killed bool) {
	t.Helper()
	text, err := json.Marshal(childTask{w.Kubeconfig, w.options.StateDir, w.options.Cell, w.namespace, writes, r, heal})
	must(t, err)
	file := filepath.Join(t.TempDir(), "task")
	must(t, os.WriteFile(file, text, 0o600))
	self, err := child.Program()
	must(t, err)
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childVariable+"="+file)
	out, err := child.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("after %d writes: %v\n%s", writes, err, out)
	}
	return true
}

// Fault 34: killed after each single write of an apply and of a removal, the agent ends where it would have ended
// undisturbed: no orphan, no object lost.
func TestFault34KilledAfterEachWrite(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	group := "g" + w.namespace[:8] + ".example.com"
	crd := definition(group, "Widget", "v1")
	widget := fmt.Sprintf("apiVersion: %s/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n", group)
	first := release("1.0.0", documents(configMap("a", "1"), configMap("b", "1"), deployment("web", "web:1")))
	second := release("1.1.0", documents(configMap("a", "2"), configMap("c", "2"), crd, widget,
		"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n", deployment("other", "web:1"),
		"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n"))
	first.Kubernetes.RemoveMost = true
	inPlace := func() string {
		return w.kubectl(t, "get", "configmaps,secrets,serviceaccounts,deployments.apps", "-l", "sluice/cell="+w.namespace,
			"-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name}={.data.value}{" "}{end}`)
	}
	apply := func(r cells.Rendered) string {
		w.install(t, r)
		w.target.Close()
		return inPlace()
	}
	apply(first)
	w.open(t)
	want := apply(second)
	if !strings.Contains(want, "ConfigMap/c=2") || strings.Contains(want, "ConfigMap/b") {
		t.Fatalf("undisturbed it is %s", want)
	}
	for n := int64(1); ; n++ {
		w.open(t)
		apply(first)
		_, _ = w.Kubectl(t.Context(), "", "delete", "crd", "widgets."+group) // it stays when a release drops it
		killed := w.runKilled(t, second, false, n)
		if !killed {
			if n < 8 {
				t.Errorf("an apply has only %d writes", n-1)
			}
			break
		}
		w.open(t)
		if got := apply(second); got != want {
			t.Errorf("killed after write %d: %s, want %s", n, got, want)
		}
	}
	for n := int64(1); ; n++ { // of the removal
		w.open(t)
		apply(first)
		w.open(t)
		must(t, w.target.Apply(t.Context(), second))
		w.target.Close()
		r := second
		r.Proven = true
		killed := w.runKilled(t, r, true, n)
		w.open(t)
		if got := apply(second); got != want {
			t.Errorf("killed after removal %d: %s, want %s", n, got, want)
		}
		if !killed {
			break
		}
	}
}

// Killed in an apply that then fails: the rollback leaves nothing of it, at each write.
func TestFault34KilledThenBack(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	first := release("1.0.0", documents(configMap("a", "1"), deployment("web", "web:1")))
	second := release("1.1.0", documents(configMap("a", "2"), configMap("b", "2"), deployment("web", "web:2"),
		deployment("extra", "web:2")))
	w.install(t, first)
	for n := int64(1); ; n++ {
		w.target.Close()
		if !w.runKilled(t, second, false, n) {
			break
		}
		w.open(t)
		back := first
		back.Back = true
		w.install(t, back)
		if got := w.values(t); len(got) != 1 || got["a"] != "1" {
			t.Errorf("killed after write %d and rolled back: %v", n, got)
		}
		w.wantThere(t, false, "deployment", "extra")
	}
}

func definition(group, kind string, versions ...string) string {
	plural := strings.ToLower(kind) + "s"
	text := fmt.Sprintf("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"+
		"metadata: {name: %[1]s.%[2]s}\nspec:\n  group: %[2]s\n  scope: Namespaced\n"+
		"  names: {kind: %[3]s, plural: %[1]s, singular: %[4]s}\n  versions:\n",
		plural, group, kind, strings.ToLower(kind))
	for i, v := range versions {
		text += fmt.Sprintf("  - name: %s\n    served: true\n    storage: %t\n    schema: {openAPIV3Schema: {type: object, "+
			"x-kubernetes-preserve-unknown-fields: true}}\n", v, i == 0)
	}
	return text
}
