package imagerelay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
)

// toServer sends every request to a test's server, as the client of the control plane does.
type toServer struct{ *httptest.Server }

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", s.Listener.Addr().String()
	return http.DefaultTransport.RoundTrip(r)
}

func relay(t *testing.T, o imagerelay.Options) (base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		imagerelay.New(o).Serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return "http://" + l.Addr().String()
}

func ask(t *testing.T, method, address string, header http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

// Pulls are passed on with what a pull needs, and without what a program says about itself or its secrets.
func TestPullsArePassedOn(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Clone(context.Background())
		w.Header().Set("Docker-Content-Digest", "sha256:1")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
	}))
	defer plane.Close()
	base := relay(t, imagerelay.Options{To: toServer{plane}, Rate: 10 << 20})
	answer, text := ask(t, http.MethodGet, base+"/v2/team/app/blobs/sha256:1?ns=registry.example", http.Header{
		"Range": {"bytes=5-"}, "Accept": {"a/b"}, "Authorization": {"Basic c2VjcmV0"}, "Cookie": {"a=b"},
		"X-Forwarded-For": {"10.0.0.1"}, "User-Agent": {"containerd"}})
	if answer.StatusCode != http.StatusPartialContent || len(text) != 100_000 ||
		answer.Header.Get("Docker-Content-Digest") != "sha256:1" {
		t.Errorf("%s, %d bytes, %v", answer.Status, len(text), answer.Header)
	}
	r := <-got
	if r.URL.String() != "/v2/team/app/blobs/sha256:1?ns=registry.example" || r.Header.Get("Range") != "bytes=5-" ||
		r.Header.Get("Accept") != "a/b" {
		t.Errorf("%s %v", r.URL, r.Header)
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-For"} {
		if v := r.Header.Get(name); v != "" {
			t.Errorf("%s: %s was passed on", name, v)
		}
	}
}

func TestOnlyPullsArePassedOn(t *testing.T) {
	t.Parallel()
	plane := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was passed on", r.Method, r.URL)
	}))
	defer plane.Close()
	base := relay(t, imagerelay.Options{To: toServer{plane}})
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPut, "/v2/app/manifests/latest", http.StatusMethodNotAllowed},
		{http.MethodPost, "/v2/app/blobs/uploads/", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/v2/app/manifests/sha256:1", http.StatusMethodNotAllowed},
		{http.MethodGet, "/v1/desired", http.StatusNotFound},
		{http.MethodGet, "/v2/../v1/desired", http.StatusNotFound},
		{http.MethodGet, "/v2/%2e%2e/v1/desired", http.StatusNotFound},
		{http.MethodGet, "/", http.StatusNotFound},
	} {
		if answer, text := ask(t, test.method, base+test.path, nil); answer.StatusCode != test.status ||
			!strings.Contains(text, `{"errors":[{"code":"`) {
			t.Errorf("%s %s: %s %s", test.method, test.path, answer.Status, text)
		}
	}
}

// away fails every request.
type away struct{}

func (away) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no route to host")
}

func TestControlPlaneIsAway(t *testing.T) {
	t.Parallel()
	base := relay(t, imagerelay.Options{To: away{}})
	began := time.Now()
	answer, text := ask(t, http.MethodGet, base+"/v2/", nil)
	if answer.StatusCode != http.StatusBadGateway || !strings.Contains(text, "can't be reached") ||
		time.Since(began) > 30*time.Second {
		t.Errorf("%s %s after %s", answer.Status, text, time.Since(began))
	}
}
