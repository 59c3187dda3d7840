package plane

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// E4: exports that a control plane does not take up keep no other request of the cell waiting, such as a poll that
// brings a kill, or a report: they have connections of their own.
func TestE4ExportsHoldUpNothingElse(t *testing.T) {
	t.Parallel()
	stuck, release := make(chan string, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/exports" {
			stuck <- r.RemoteAddr
			<-release
		}
	}))
	defer server.Close()
	c, err := New(Options{Server: server.URL, Cell: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	exports := c.Transport(1)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(release)
	for range 3 {
		waiting.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://control-plane/v1/exports", http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			if w, err := exports.RoundTrip(r); err == nil {
				_ = w.Body.Close()
			}
		})
	}
	<-stuck
	for range 10 {
		w, err := c.send(t.Context(), http.MethodGet, "/v1/desired", nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Body.Close()
	}
	if len(stuck) > 0 {
		t.Errorf("%d batches are sent beside the first", len(stuck))
	}
}
