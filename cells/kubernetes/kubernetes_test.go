package kubernetes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/targettest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/child"
	"github.com/sluice-cd/sluice/test/cluster"
)

var shared cluster.Shared

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(runChild())
	}
	os.Exit(child.Run(m, shared.RunTests))
}

// wait is how long something may take on a busy machine: Kubernetes itself tries some things again only after minutes.
const wait = 5 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func configOf(t testing.TB, c *cluster.Cluster) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	must(t, err)
	return config
}

// world is a cell in a namespace of its own.
type world struct {
	*cluster.Cluster
	namespace string
	options   kubernetes.Options
	target    *kubernetes.Target
}

// newWorld opens a target for a cell that is named like the test's namespace.
func newWorld(t *testing.T, c *cluster.Cluster) *world {
	t.Helper()
	namespace := c.Namespace(t)
	w := &world{Cluster: c, namespace: namespace, options: kubernetes.Options{
		Cell: namespace, Config: configOf(t, c), StateDir: t.TempDir(), Namespace: namespace, WaitTimeout: wait,
		RemovalWait: 20 * time.Second,
	}}
	w.open(t)
	return w
}

// open opens the target, as an agent that starts does.
func (w *world) open(t *testing.T) {
	t.Helper()
	if w.target != nil {
		w.target.Close()
	}
	target, err := kubernetes.New(w.options)
	must(t, err)
	w.target = target
	t.Cleanup(target.Close)
}

// release returns a release of YAML documents.
func release(version, documents string) cells.Rendered {
	r := cells.Rendered{Files: map[string][]byte{}, Assignment: cells.Assignment{Channel: "staging", Epoch: 1,
		Release: version, Digest: releases.DigestBytes([]byte(version + documents))}}
	for i, d := range strings.Split(documents, "\n---\n") {
		if strings.TrimSpace(d) != "" {
			r.Files[fmt.Sprintf("object-%02d.yaml", i)] = []byte(d)
		}
	}
	return r
}

// install applies a release, waits for its health, and has what is left of others removed.
func (w *world) install(t *testing.T, r cells.Rendered) {
	t.Helper()
	must(t, w.target.Apply(t.Context(), r))
	w.awaitHealthy(t)
	w.settle(t, r)
}

// settle has what only earlier releases had removed.
func (w *world) settle(t *testing.T, r cells.Rendered) {
	t.Helper()
	r.Proven, r.Back = true, false
	if n, err := w.target.Heal(t.Context(), r); n != 0 || err != nil {
		t.Errorf("heal mended %d, %v", n, err)
	}
}

func (w *world) awaitHealthy(t *testing.T) {
	t.Helper()
	eventually(t, "healthy", func() error { return w.target.Health(t.Context()) })
}

// awaitUnhealthy waits until health says something with a text.
func (w *world) awaitUnhealthy(t *testing.T, text string) *cells.Unhealthy {
	t.Helper()
	var unhealthy *cells.Unhealthy
	eventually(t, "unhealthy: "+text, func() error {
		err := w.target.Health(t.Context())
		if errors.As(err, &unhealthy) && strings.Contains(err.Error(), text) {
			return nil
		}
		return fmt.Errorf("health says %v", err)
	})
	return unhealthy
}

// healUntil heals again and again until something is so.
func (w *world) healUntil(t *testing.T, r cells.Rendered, what string, isSo func() error) {
	t.Helper()
	eventually(t, what, func() error {
		if _, err := w.target.Heal(t.Context(), r); err != nil {
			return err
		}
		return isSo()
	})
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	until := time.Now().Add(wait)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("not within %s: %s: %v", wait, what, err)
		}
		time.Sleep(pause)
	}
}

// has reports whether an object of the world's namespace is there.
func (w *world) has(t *testing.T, kind, name string) bool {
	t.Helper()
	return w.Run(t, "", "-n", w.namespace, "get", kind, name, "--ignore-not-found", "-o", "name") != ""
}

func (w *world) wantThere(t *testing.T, want bool, kind string, names ...string) {
	t.Helper()
	for _, name := range names {
		if got := w.has(t, kind, name); got != want {
			t.Errorf("%s %s is there: %t, want %t", kind, name, got, want)
		}
	}
}

func (w *world) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return w.Run(t, "", append([]string{"-n", w.namespace}, args...)...)
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name, value)
}

func deployment(name, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: 2
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers: [{name: server, image: %[2]q, resources: {requests: {cpu: 1000m, memory: 0.5Gi}}}]
`, name, image)
}

func documents(all ...string) string { return strings.Join(all, "\n---\n") }

// placed is a target whose objects are in another namespace, healthy unless an annotation says that they are broken.
type placed struct {
	*kubernetes.Target
	namespace string
}

func (p placed) place(r cells.Rendered) cells.Rendered {
	files := map[string][]byte{}
	for name, text := range r.Files {
		files[name] = []byte(strings.ReplaceAll(string(text), "namespace: default", "namespace: "+p.namespace))
	}
	r.Files = files
	r.Kubernetes.Health = []releases.HealthRule{{Kind: "ConfigMap", Ready: `object.metadata.?labels.broken.orValue("") == ""`}}
	return r
}

func (p placed) Apply(ctx context.Context, r cells.Rendered) error {
	return p.Target.Apply(ctx, p.place(r))
}

func (p placed) Heal(ctx context.Context, r cells.Rendered) (int, error) {
	return p.Target.Heal(ctx, p.place(r))
}

func TestContract(t *testing.T) {
	targettest.Run(t, func(t *testing.T) targettest.Subject {
		w := newWorld(t, shared.Get(t))
		open := func(t *testing.T) cells.Target {
			w.open(t)
			return placed{w.target, w.namespace}
		}
		awaitChange := func(t *testing.T, change func()) {
			for len(w.target.Changed()) > 0 {
				<-w.target.Changed()
			}
			change()
			select {
			case <-w.target.Changed():
			case <-time.After(wait):
				t.Fatal("the target does not notice the change")
			}
		}
		isBroken := false
		return targettest.Subject{
			Target: open(t), Reopen: open,
			Observe: func(t *testing.T) map[string]string { return w.values(t) },
			Drift: func(t *testing.T, kind targettest.Drift, name string) {
				awaitChange(t, func() {
					if kind == targettest.Removed {
						w.kubectl(t, "delete", "configmap", name)
						return
					}
					w.kubectl(t, "patch", "configmap", name, "-p", `{"data":{"value":"drifted"}}`)
				})
			},
			Break: func(t *testing.T, broken bool) {
				if broken == isBroken {
					return
				}
				isBroken = broken
				label := "broken-"
				if broken {
					label = "broken=yes"
				}
				awaitChange(t, func() { w.kubectl(t, "label", "configmap", "a", label) })
			},
		}
	})
}

// values returns the ConfigMaps of the world's namespace, name to value, without those of Kubernetes itself.
func (w *world) values(t *testing.T) map[string]string {
	t.Helper()
	out := w.kubectl(t, "get", "configmaps", "-o",
		`jsonpath={range .items[*]}{.metadata.name}{"="}{.data.value}{"\n"}{end}`)
	values := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name != "kube-root-ca.crt" {
			values[name] = value
		}
	}
	return values
}
