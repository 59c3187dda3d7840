package agent

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// connectProxy is an HTTP proxy that wants a password and resolves names that only it knows.
type connectProxy struct {
	server    *httptest.Server
	upstreams map[string]string // by requested HOST:PORT: the address

	mu       sync.Mutex
	requests []string // requests, with their status
	recorded bytes.Buffer
}

func newConnectProxy(t testing.TB, names map[string]string) *connectProxy {
	t.Helper()
	p := &connectProxy{upstreams: names}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	t.Cleanup(p.server.CloseClientConnections)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	to, known := p.upstreams[r.Host]
	switch {
	case r.Method != http.MethodConnect:
		status = http.StatusMethodNotAllowed
	case r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("kim:hush")):
		status = http.StatusProxyAuthRequired
	case !known:
		status = http.StatusBadGateway
	}
	p.mu.Lock()
	p.requests = append(p.requests, r.Method+" "+r.Host+" "+http.StatusText(status))
	p.mu.Unlock()
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = far.Close()
		return
	}
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	go p.copyRecorded(near, far)
	p.copyRecorded(far, buffered.Reader)
	_, _ = far.Close(), near.Close()
}

// copyRecorded copies bytes and records them.
func (p *connectProxy) copyRecorded(to io.WriteCloser, from io.Reader) {
	defer func() { _ = to.Close() }()
	_, _ = io.Copy(to, io.TeeReader(from, writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.recorded.Write(b)
	})))
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// All traffic passes a CONNECT proxy, with its password, and the proxy sees only TLS.
func TestThroughAProxy(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	const name = "control.plane.invalid:7443" // only the proxy can resolve it
	p := newConnectProxy(t, map[string]string{name: k.address})
	at := strings.TrimPrefix(p.server.URL, "http://")
	token := k.newToken(t, "acme")
	token.Address = name
	s := k.newSettings(t, token)
	one := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	k.assign(one)
	cmd := agentCommand(t, s, "HTTPS_PROXY=http://kim:hush@"+at)
	must(t, cmd.Start())
	k.await(t, "healthy", healthyOn(one))
	two := k.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	k.assign(two)
	k.await(t, "healthy on the next", healthyOn(two))
	killAndWait(cmd)
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.requests, func(a string) bool { return a != "CONNECT "+name+" OK" }) {
		t.Errorf("the proxy was asked for %v", p.requests)
	}
	for _, secret := range []string{tokenSecret(t, s.Join), "v1/desired", "hush"} {
		if bytes.Contains(p.recorded.Bytes(), []byte(secret)) {
			t.Errorf("the proxy sees %q", secret)
		}
	}
}

// Errors about a proxy do not contain its password; NO_PROXY is honoured.
func TestProxyThatDoesNotWork(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	const name = "control.plane.invalid:7443"
	p := newConnectProxy(t, map[string]string{name: k.address})
	at := strings.TrimPrefix(p.server.URL, "http://")
	token := k.newToken(t, "acme")
	token.Address = name
	for want, env := range map[string]string{
		"Proxy Authentication Required":             "HTTPS_PROXY=http://kim:secret@" + at,
		"the proxy " + at + " refuses the way to":   "HTTPS_PROXY=http://kim:secret@" + at,
		"HTTPS_PROXY is not the address of a proxy": "HTTPS_PROXY=https://kim:secret@" + at,
		"lookup control.plane.invalid":              "HTTPS_PROXY=http://kim:secret@" + at + "\nNO_PROXY=.invalid",
	} {
		s := k.newSettings(t, token)
		s.Log = true
		cmd := agentCommand(t, s, strings.Split(env, "\n")...)
		out, err := cmd.StderrPipe()
		must(t, err)
		must(t, cmd.Start())
		var said []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), "can't be registered yet") {
				break
			}
		}
		killAndWait(cmd)
		text := strings.Join(said, "\n")
		if !strings.Contains(text, want) || strings.Contains(text, "secret") {
			t.Errorf("want %q: %s", want, text)
		}
	}
}

// Connections that are cut again and again lose no report and repeat no event.
func TestCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	l := newTCPLink(t, k.address)
	token := k.newToken(t, "acme")
	token.Address = l.listener.Addr().String()
	c := start(t, k.newSettings(t, token))
	for i := range int64(12) {
		version := fmt.Sprintf("1.0.%d", i)
		next := k.addRelease(t, version, i+1, agenttest.Release(version, nil))
		k.assign(next)
		l.cutAll()
		since := k.reportCount()
		k.awaitAfter(t, since, "it is back", func(cells.Report) bool { return true })
		l.cutAll()
		k.await(t, "healthy on "+version, healthyOn(next))
	}
	c.stop()
	k.controlPlane.mu.Lock()
	defer k.controlPlane.mu.Unlock()
	if len(k.eventConflicts) > 0 {
		t.Errorf("history: %v", k.eventConflicts)
	}
}
