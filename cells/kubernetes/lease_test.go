package kubernetes_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/kubernetes"
)

// second returns another agent's target for the world's namespace.
func (w *world) second(t *testing.T, stateDir string) *kubernetes.Target {
	t.Helper()
	o := w.options
	o.Cell, o.StateDir = "other", stateDir
	target, err := kubernetes.New(o)
	must(t, err)
	t.Cleanup(target.Close)
	return target
}

func wantWaiting(t *testing.T, err error, texts ...string) {
	t.Helper()
	var unavailable *cells.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("it says %v", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it lacks %q: %v", text, err)
		}
	}
}

// Of two agents in a cluster one acts. The other writes nothing, and says who acts and since when, until that one ends.
func TestTwoAgentsInOneCluster(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.install(t, release("1.0.0", configMap("a", "1")))
	other := w.second(t, t.TempDir())
	r := release("2.0.0", configMap("b", "2"))
	says := []string{"the agent of cell " + w.namespace + " on host ", " acts in this cluster since 20", "Z (Lease " +
		w.namespace + "/sluice-agent)"}
	wantWaiting(t, other.Apply(t.Context(), r), says...)
	wantWaiting(t, other.Health(t.Context()), says...)
	_, err := other.Heal(t.Context(), r)
	wantWaiting(t, err, says...)
	wantWaiting(t, other.Acting(t.Context()), says...)
	if w.has(t, "configmap", "b") {
		t.Error("it wrote nevertheless")
	}
	w.awaitHealthy(t)
	w.target.Close()
	eventually(t, "the other acts", func() error { return other.Apply(t.Context(), r) })
	w.open(t)
	err = w.target.Apply(t.Context(), release("1.0.0", configMap("a", "1")))
	wantWaiting(t, err, "the agent of cell other on host ")
}

// A copy of the state folder takes over, as a process that is started anew does. The one before notices in the middle
// of an apply, stops, and says it.
func TestACopyTakesOver(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.install(t, release("1.0.0", many(40, "1")))
	reached, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.options.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPatch {
				once.Do(func() { close(reached) })
				select {
				case <-goOn:
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			return next.RoundTrip(r)
		})
	}
	w.open(t)
	done := make(chan error, 1)
	go func() { done <- w.target.Apply(t.Context(), release("1.1.0", many(40, "2"))) }()
	<-reached
	w.options.Config.WrapTransport = nil
	copied := t.TempDir()
	must(t, os.CopyFS(copied, os.DirFS(w.options.StateDir)))
	other := w.second(t, copied)
	must(t, other.Acting(t.Context()))
	wantWaiting(t, <-done, "the agent of cell other on host ", "with a copy of this state folder")
	close(goOn)
	for name, value := range w.values(t) {
		if value != "1" {
			t.Errorf("%s has %s: it was written after the other took over", name, value)
		}
	}
}
