package controlplane_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/internal/listen"
)

// Serve stops when its context ends: it ends a waiting poll and closes both listeners.
func TestServeStops(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	tcp, err := listen.Loopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	unix, err := listen.Unix(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(ctx, tcp, unix) }()

	client := &http.Client{
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", unix.Addr().String())
		}}}
	ask := func(c *http.Client, url, etag string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("If-None-Match", etag)
		w, err := c.Do(r)
		if err == nil {
			w.Body.Close()
		}
		return w, err
	}
	w, err := ask(client, "http://sluice/v1/desired?cell=acme", "")
	if err != nil || w.StatusCode != 200 {
		t.Fatalf("over the socket: %v %v", w, err)
	}
	polled := make(chan string, 1)
	go func() {
		w, err := ask(http.DefaultClient, "http://"+tcp.Addr().String()+"/v1/desired?cell=acme&wait=60s",
			w.Header.Get("ETag"))
		if err != nil {
			polled <- err.Error()
			return
		}
		polled <- fmt.Sprint(w.StatusCode)
	}()
	s.awaitLongPolls(t, "1")
	stop()
	if got := <-polled; got != "304" {
		t.Errorf("the waiting poll got %s", got)
	}
	if err := <-served; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := ask(http.DefaultClient, "http://"+tcp.Addr().String()+"/livez", ""); err == nil {
		t.Error("it still answers")
	}
}

func TestServeFailsWithItsListener(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	l, err := listen.Loopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.server.Serve(t.Context(), l); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("served on a closed listener: %v", err)
	}
}

// pipeListener is a listener of pipes in memory, whose deadlines follow synctest's clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// A body that is announced and never sent does not hold a connection, whether the route reads bodies or not.
func TestMissingBodyEndsConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.server.Serve(ctx, l) }()
		for _, head := range []string{
			"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
			"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
			"POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
		} {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			if _, err := io.WriteString(ours, head); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			said, err := io.ReadAll(ours) // until the server closes the connection
			if err != nil || !strings.HasPrefix(string(said), "HTTP/1.1 ") {
				t.Errorf("%q: got %q (%v)", head, said, err)
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("%q: kept for %s", head, took)
			}
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
