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

// connectProxy is an HTTP proxy that wants a password and knows names that nobody else does.
type connectProxy struct {
	server *httptest.Server
	names  map[string]string // HOST:PORT as asked for: where it is

	mu     sync.Mutex
	asked  []string // what it was asked for, with its status
	passed bytes.Buffer
}

func newConnectProxy(t testing.TB, names map[string]string) *connectProxy {
	t.Helper()
	p := &connectProxy{names: names}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	t.Cleanup(p.server.CloseClientConnections)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := http.StatusOK
	to, known := p.names[r.Host]
	switch {
	case r.Method != http.MethodConnect:
		status = http.StatusMethodNotAllowed
	case r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("kim:hush")):
		status = http.StatusProxyAuthRequired
	case !known:
		status = http.StatusBadGateway
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host+" "+http.StatusText(status))
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
	go p.copy(near, far)
	p.copy(far, buffered.Reader)
	_, _ = far.Close(), near.Close()
}

// copy passes bytes on, and keeps them.
func (p *connectProxy) copy(to io.WriteCloser, from io.Reader) {
	defer func() { _ = to.Close() }()
	_, _ = io.Copy(to, io.TeeReader(from, writer(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.passed.Write(b)
	})))
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// Everything goes through a CONNECT proxy, with its password, and the proxy sees nothing but TLS.
func TestThroughAProxy(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	const name = "control.plane.invalid:7443" // only the proxy can find it
	p := newConnectProxy(t, map[string]string{name: k.address})
	at := strings.TrimPrefix(p.server.URL, "http://")
	token := k.token(t, "acme")
	token.Address = name
	s := k.settings(t, token)
	one := k.ship(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	k.assign(one)
	cmd := child(t, s, "HTTPS_PROXY=http://kim:hush@"+at)
	must(t, cmd.Start())
	k.await(t, "healthy", healthyOn(one))
	two := k.ship(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	k.assign(two)
	k.await(t, "healthy on the next", healthyOn(two))
	killedWith(cmd)
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.asked, func(a string) bool { return a != "CONNECT "+name+" OK" }) {
		t.Errorf("the proxy was asked for %v", p.asked)
	}
	for _, secret := range []string{secretOf(t, s.Join), "v1/desired", "hush"} {
		if bytes.Contains(p.passed.Bytes(), []byte(secret)) {
			t.Errorf("the proxy sees %q", secret)
		}
	}
}

// What is wrong with a proxy is said without its password; NO_PROXY goes past it.
func TestProxyThatDoesNotWork(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	const name = "control.plane.invalid:7443"
	p := newConnectProxy(t, map[string]string{name: k.address})
	at := strings.TrimPrefix(p.server.URL, "http://")
	token := k.token(t, "acme")
	token.Address = name
	for want, env := range map[string]string{
		"Proxy Authentication Required":             "HTTPS_PROXY=http://kim:secret@" + at,
		"HTTPS_PROXY is not the address of a proxy": "HTTPS_PROXY=https://kim:secret@" + at,
		"lookup control.plane.invalid":              "HTTPS_PROXY=http://kim:secret@" + at + "\nNO_PROXY=.invalid",
	} {
		s := k.settings(t, token)
		s.Log = true
		cmd := child(t, s, strings.Split(env, "\n")...)
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
		killedWith(cmd)
		text := strings.Join(said, "\n")
		if !strings.Contains(text, want) || strings.Contains(text, "secret") {
			t.Errorf("want %q: %s", want, text)
		}
	}
}

// Connections that are cut again and again cost no report, and no event comes twice.
func TestCutAgainAndAgain(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	l := newTCPLink(t, k.address)
	token := k.token(t, "acme")
	token.Address = l.listener.Addr().String()
	c := start(t, k.settings(t, token))
	for i := range int64(12) {
		version := fmt.Sprintf("1.0.%d", i)
		next := k.ship(t, version, i+1, agenttest.Release(version, nil))
		k.assign(next)
		l.cut()
		mark := k.mark()
		k.awaitAfter(t, mark, "it is back", func(cells.Report) bool { return true })
		l.cut()
		k.await(t, "healthy on "+version, healthyOn(next))
	}
	c.stop()
	k.controlPlane.mu.Lock()
	defer k.controlPlane.mu.Unlock()
	if len(k.clashes) > 0 {
		t.Errorf("history: %v", k.clashes)
	}
}
