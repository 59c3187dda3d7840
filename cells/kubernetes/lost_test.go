package kubernetes_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/cluster"
)

// The cluster's store is restored from a backup: its versions go back, and with them what the release made of objects.
// The agent notices, although what it knew was newer.
func TestStoreIsRestored(t *testing.T) {
	c := cluster.New(t, 0)
	w := newWorld(t, c)
	first := release("1.0.0", many(20, "1"))
	w.install(t, first)
	stopped := func(do func() error) {
		c.StopAPIServer()
		c.StopEtcd()
		must(t, errors.Join(do(), c.StartEtcd(), c.StartAPIServer(t.Context())))
	}
	stopped(c.BackUpEtcd)
	second := release("1.1.0", documents(many(20, "2"), configMap("more", "2")))
	eventually(t, "applied", func() error { return w.target.Apply(t.Context(), second) })
	w.awaitHealthy(t)
	for i := range 20 { // so that the versions of the old store are well behind
		w.kubectl(t, "annotate", "configmap", "c-0000", fmt.Sprintf("x=%d", i), "--overwrite")
	}
	stopped(c.RestoreEtcd)
	w.healUntil(t, second, "healed after the restore", func() error {
		values := w.values(t)
		for name, value := range values {
			if value != "2" {
				return fmt.Errorf("%s has %s", name, value)
			}
		}
		if len(values) != 21 {
			return fmt.Errorf("there are %d objects", len(values))
		}
		return nil
	})
}

// An API server that ends each watch with an error is not asked again and again without a pause.
func TestWatchesFail(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	w.install(t, release("1.0.0", configMap("a", "1")))
	var lists atomic.Int64
	w.options.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("watch") == "" {
				if strings.HasSuffix(r.URL.Path, "/configmaps") {
					lists.Add(1)
				}
				return next.RoundTrip(r)
			}
			const event = `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","code":500}}`
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(event + "\n")), Request: r}, nil
		})
	}
	w.open(t)
	w.awaitHealthy(t)
	began := time.Now()
	eventually(t, "some lists", func() error {
		if lists.Load() < 4 {
			return errors.New("not yet")
		}
		return nil
	})
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("several lists within %s", took)
	}
	w.kubectl(t, "patch", "configmap", "a", "-p", `{"data":{"value":"drifted"}}`)
	w.healUntil(t, release("1.0.0", configMap("a", "1")), "healed by lists alone", func() error {
		if got := w.values(t)["a"]; got != "1" {
			return fmt.Errorf("a has %s", got)
		}
		return nil
	})
}
