package ofrep

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// testSource is a flags.Source whose flags are swapped whole, as in an agent.
type testSource struct {
	mu      sync.Mutex
	folded  *flags.Folded
	at      int64
	changed chan struct{}
}

func (c *testSource) Current() (*flags.Folded, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.folded, c.at
}

func (c *testSource) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *testSource) setFlags(f *flags.Folded, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folded, c.at = f, at
	close(c.changed)
	c.changed = make(chan struct{})
}

func newTestSource(f *flags.Folded, at int64) *testSource {
	return &testSource{folded: f, at: at, changed: make(chan struct{})}
}

// testBundle returns flags for every kind of answer. Its one announcement without embargo is at 100.
func testBundle() *flags.Bundle {
	return &flags.Bundle{
		Version: flags.BundleVersion,
		Channel: "dedicated",
		Flags: map[string]json.RawMessage{
			"static": json.RawMessage(`{"state":"ENABLED","variants":{"a":"<b>&","b":"x"},"defaultVariant":"a"}`),
			"rule": json.RawMessage(
				`{"state":"ENABLED","variants":{"hi":{"n":[1,2.5,null]},"lo":{}},"defaultVariant":"lo","targeting":{"if":[{"==":[{"var":"tier"},"gold"]},"hi",null]},"metadata":{"owner":"web","weight":1.5}}`,
			),
			"page": json.RawMessage(
				`{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a","metadata":{"expose":"client"}}`,
			),
			"off":  json.RawMessage(`{"state":"DISABLED","variants":{"a":1},"defaultVariant":"a"}`),
			"none": json.RawMessage(`{"state":"ENABLED","variants":{"a":1}}`),
			"bad": json.RawMessage(
				`{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a","targeting":{"var":"tier"}}`,
			),
			"gated": json.RawMessage(
				`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on","metadata":{"feature":"f","off":"off"}}`,
			),
			"secret": json.RawMessage(
				`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on","metadata":{"expose":"client","feature":"s","off":"off"}}`,
			),
			"release": json.RawMessage(
				`{"state":"ENABLED","variants":{"new":"new","old":"old"},"defaultVariant":"old","targeting":{"if":[{"sem_ver":[{"var":"release"},">=","9.0.0"]},"new",null]}}`,
			),
			"cell": json.RawMessage(
				`{"state":"ENABLED","variants":{"mine":"mine","theirs":"theirs"},"defaultVariant":"theirs","targeting":{"if":[{"==":[{"var":"cell"},"beta"]},"mine",null]}}`,
			),
			"zz spaces": json.RawMessage(`{"state":"ENABLED","variants":{"a":1},"defaultVariant":"a"}`),
		},
		Gates: []flags.Gate{
			{ID: "autumn", Features: []string{"f"}, At: 100},
			{ID: "winter", Features: []string{"s"}, At: 200, Embargo: true},
		},
	}
}

func compile(t testing.TB, b *flags.Bundle) *flags.Compiled {
	t.Helper()
	parsed, err := flags.ParseBundle(b.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c, err := flags.Compile(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func acmeFacts() flags.Facts {
	return flags.Facts{Cell: "acme", Channel: "dedicated", Release: "2.0.0", Features: []string{"f", "s"}}
}

func foldBundle(t testing.TB, at int64) *flags.Folded {
	return compile(t, testBundle()).Fold(flags.Orders{}, acmeFacts(), at)
}

// serve serves a source on loopback, as an agent does.
func serve(t testing.TB, source flags.Source, options Options) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	server := start(t, Server(ctx, New(source, zerolog.New(zerolog.NewTestWriter(t)), options)))
	t.Cleanup(stop) // before the server closes, which waits for streams
	return server
}

func start(t testing.TB, config *http.Server) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = config
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// response is a response with its body.
type response struct {
	status int
	header http.Header
	body   string
}

func request(t testing.TB, method, url, body string, header ...string) response {
	t.Helper()
	return requestBy(t, http.DefaultClient, method, url, body, header...)
}

func requestBy(t testing.TB, client *http.Client, method, url, body string, header ...string) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	got, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{got.StatusCode, got.Header, string(text)}
}

// overSocket serves a source on a unix socket and returns a client.
func overSocket(t *testing.T, source flags.Source) *http.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flags.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := Server(t.Context(), New(source, zerolog.Nop(), Options{}))
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}
