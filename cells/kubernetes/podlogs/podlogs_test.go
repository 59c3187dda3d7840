package podlogs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells/kubernetes/podlogs"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/test/cluster"
	"github.com/sluice-cd/sluice/test/cluster/kubelet"
)

var shared cluster.Shared

func TestMain(m *testing.M) { os.Exit(shared.RunTests(m)) }

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, of: shop}}
    spec: {containers: [{name: main, image: shop/web}, {name: proxy, image: shop/proxy}]}
`

func config(t *testing.T, c *cluster.Cluster) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// awaitPods returns the names of so many pods that run.
func awaitPods(t *testing.T, c *cluster.Cluster, namespace string, n int) []string {
	t.Helper()
	until := time.Now().Add(2 * time.Minute)
	for time.Now().Before(until) {
		pods := strings.Fields(c.Run(t, "", "-n", namespace, "get", "pods", "--field-selector=status.phase=Running",
			"-o", "jsonpath={.items[*].metadata.name}"))
		if len(pods) == n {
			return pods
		}
	}
	t.Fatalf("there are no %d pods: %s", n, c.Run(t, "", "-n", namespace, "get", "pods"))
	return nil
}

// sink collects what is read and said.
type sink struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sink) say(text string) { _, _ = s.Write([]byte("! " + text + "\n")) }

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *sink) await(t *testing.T, text string) {
	t.Helper()
	until := time.Now().Add(2 * time.Minute)
	for !strings.Contains(s.String(), text) {
		if time.Now().After(until) {
			t.Fatalf("%q does not come: %s", text, s)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

func TestRead(t *testing.T) {
	c := shared.Get(t)
	k, namespace := kubelet.NewLogs(t, c), c.Namespace(t)
	c.Run(t, manifests, "-n", namespace, "apply", "-f", "-")
	pod := awaitPods(t, c, namespace, 1)[0]
	k.Add(pod+"/main before", "crashed")
	k.Add(pod+"/main", "one")
	k.Add(pod+"/main", strings.Repeat("x", 100<<10)+" end")
	k.Add(pod+"/main", "two")
	k.Add(pod+"/proxy", "three")
	web := diagnostics.Log{Name: "web", Pods: &diagnostics.Pods{Workload: "deployment/web"}}
	shop := diagnostics.Log{Name: "shop", Pods: &diagnostics.Pods{Namespace: namespace,
		Labels: map[string]string{"of": "shop"}}}
	main, proxy := pod+"/main: ", pod+"/proxy: "
	for name, want := range map[string]struct {
		what diagnostics.LogRead
		text string // with … for what is long
		err  string
	}{
		"deployment": {diagnostics.LogRead{Log: web, Tail: 1}, main + "two\n" + proxy + "three\n", ""},
		"labels":     {diagnostics.LogRead{Log: shop, Tail: 1}, main + "two\n" + proxy + "three\n", ""},
		"container":  {diagnostics.LogRead{Log: web, Tail: 9, Container: "proxy"}, proxy + "three\n", ""},
		"since":      {diagnostics.LogRead{Log: shop, Since: time.Hour, Container: "proxy"}, proxy + "three\n", ""},
		"before": {diagnostics.LogRead{Log: web, Tail: 9, Container: "main", Previous: true}, main + "crashed\n",
			""},
		"no container": {diagnostics.LogRead{Log: web, Tail: 9, Container: "none"}, "",
			"no such pod in namespace " + namespace + " has a container none"},
		"no pods": {diagnostics.LogRead{Tail: 9, Log: diagnostics.Log{Pods: &diagnostics.Pods{
			Labels: map[string]string{"of": "none"}}}}, "", "there are no such pods"},
		"no workload": {diagnostics.LogRead{Tail: 9, Log: diagnostics.Log{Pods: &diagnostics.Pods{
			Workload: "job/none"}}}, "", `find job/none in namespace ` + namespace},
		"pod": {diagnostics.LogRead{Tail: 1, Container: "main", Log: diagnostics.Log{Pods: &diagnostics.Pods{
			Workload: "pod/" + pod}}}, main + "two\n", ""},
	} {
		reader, err := podlogs.New(config(t, c), namespace)
		if err != nil {
			t.Fatal(err)
		}
		var out sink
		err = reader.Read(t.Context(), want.what, &out, out.say)
		if out.String() != want.text || (err == nil) != (want.err == "") ||
			err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %.300q, %v", name, out.String(), err)
		}
	}
	reader, err := podlogs.New(config(t, c), namespace)
	if err != nil {
		t.Fatal(err)
	}
	var out sink
	if err := reader.Read(t.Context(), diagnostics.LogRead{Log: web, Tail: 9}, &out, out.say); err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		if len(l) > 65<<10 || !strings.HasPrefix(l, main) && !strings.HasPrefix(l, proxy) {
			t.Errorf("a line of %d bytes: %.100q", len(l), l)
		}
	}
	if got := strings.Count(out.String(), "x"); got < 100<<10 {
		t.Errorf("of a long line %d bytes came", got)
	}
}

// Without the right, the person hears who grants it.
func TestReadNeedsTheRight(t *testing.T) {
	c := shared.Get(t)
	namespace := c.Namespace(t)
	as := config(t, c)
	as.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	reader, err := podlogs.New(as, namespace)
	if err != nil {
		t.Fatal(err)
	}
	var out sink
	err = reader.Read(t.Context(), diagnostics.LogRead{Tail: 1, Log: diagnostics.Log{Pods: &diagnostics.Pods{
		Workload: "deployment/web"}}}, &out, out.say)
	if err == nil || !strings.Contains(err.Error(), "cannot get resource") || !strings.Contains(err.Error(), "--logs") {
		t.Error(err)
	}
}

// A log that is followed goes on after its connection broke off, without a gap and without a line twice, and has the
// pods that are started meanwhile.
func TestFollow(t *testing.T) {
	c := shared.Get(t)
	k, namespace := kubelet.NewLogs(t, c), c.Namespace(t)
	c.Run(t, manifests, "-n", namespace, "apply", "-f", "-")
	pod := awaitPods(t, c, namespace, 1)[0]
	k.Add(pod+"/main", "too old")
	k.Add(pod+"/main", "first")
	reader, err := podlogs.New(config(t, c), namespace)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out sink
	done := make(chan error, 1)
	go func() {
		done <- reader.Read(ctx, diagnostics.LogRead{Tail: 1, Follow: true, Log: diagnostics.Log{
			Pods: &diagnostics.Pods{Workload: "deployment/web"}}}, &out, out.say)
	}()
	out.await(t, "/main: first\n")
	for i := range 3 {
		k.Add(pod+"/main", fmt.Sprintf("before cut %d", i))
		out.await(t, fmt.Sprintf("before cut %d\n", i))
		k.Cut()
		k.Add(pod+"/main", fmt.Sprintf("after cut %d", i))
		out.await(t, fmt.Sprintf("after cut %d\n", i))
	}
	c.Run(t, "", "-n", namespace, "scale", "deployment/web", "--replicas=2")
	for _, other := range awaitPods(t, c, namespace, 2) {
		if other != pod {
			k.Add(other+"/main", "from its beginning")
			k.Add(other+"/main", "on")
			out.await(t, other+"/main: from its beginning\n"+other+"/main: on\n")
		}
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	seen := map[string]bool{}
	for _, l := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		if seen[l] || strings.HasPrefix(l, "! ") || strings.Contains(l, "too old") {
			t.Errorf("%q", l)
		}
		seen[l] = true
	}
}
