package kubernetes_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// An empty release that is meant removes all that the cell ran, and is healthy, also for an agent that is started anew;
// the next release is installed as any other.
func TestEmptyReleaseIsMeant(t *testing.T) {
	w := newWorld(t, shared.Get(t))
	if err := w.target.Health(t.Context()); err == nil {
		t.Error("before any release the cell is healthy")
	}
	full := release("1.0.0", documents(many(9, "1"), deployment("web", "web:1")))
	w.install(t, full)
	empty := release("1.1.0", "")
	empty.Kubernetes.RemoveMost = true // as a release that says allowEmpty is rendered
	w.install(t, empty)
	w.wantThere(t, false, "deployment", "web")
	if left := w.values(t); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	must(t, w.target.Health(t.Context()))
	w.open(t)
	w.settle(t, empty)
	must(t, w.target.Health(t.Context()))
	w.install(t, release("1.2.0", configMap("a", "1")))
	w.wantThere(t, true, "configmap", "a")
	w.install(t, back(full))
	w.wantThere(t, true, "deployment", "web")
	w.wantThere(t, false, "configmap", "a")
}

// otherYear makes the answers of an API server those of one whose clock is years off: each instant in them is.
type otherYear struct {
	next http.RoundTripper
	year string
}

func (o otherYear) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := o.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{o.replaced(response.Body), response.Body}
	response.Header.Set("Date", "Thu, 01 Jan "+o.year+" 00:00:00 GMT")
	return response, nil
}

// replaced returns a stream in which instants of this year are of the other. An instant begins a string, and its year
// is in what one read returns, or is left as it is.
func (o otherYear) replaced(body io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		now, other := []byte(time.Now().UTC().Format(`"2006-`)), []byte(`"`+o.year+`-`)
		copy(p[:n], bytes.ReplaceAll(p[:n], now, other)) // of the same length
		return n, err
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The clock of a cluster is years off, either way: a release is applied, healed, judged, undone, and its leftovers are
// removed all the same; one agent acts, and the other says since when by that clock.
func TestClockOfTheClusterIsOff(t *testing.T) {
	for _, year := range []string{"2001", "2099"} {
		t.Run(year, func(t *testing.T) {
			w := newWorld(t, shared.Get(t))
			w.options.Config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
				return otherYear{next, year}
			}
			w.open(t)
			good := release("1.0.0", documents(deployment("web", "web:1"), configMap("a", "1"), configMap("b", "1")))
			w.install(t, good)
			w.kubectl(t, "patch", "configmap", "a", "-p", `{"data":{"value":"drifted"}}`)
			w.healUntil(t, good, "healed", func() error {
				if got := w.values(t)["a"]; got != "1" {
					return fmt.Errorf("a has %q", got)
				}
				return nil
			})
			bad := release("1.1.0", documents(deployment("web", "web:bad"), configMap("a", "2"), configMap("c", "1")))
			must(t, w.target.Apply(t.Context(), bad))
			w.awaitUnhealthy(t, "CrashLoopBackOff")
			other := w.second(t, t.TempDir())
			wantWaiting(t, other.Acting(t.Context()), "acts in this cluster since "+year)
			w.install(t, back(good))
			w.wantThere(t, false, "configmap", "c")
			w.install(t, release("1.2.0", documents(deployment("web", "web:2"), configMap("a", "1"))))
			w.wantThere(t, false, "configmap", "b")
			w.target.Close()
			eventually(t, "the other acts", func() error { return other.Acting(t.Context()) })
		})
	}
}
