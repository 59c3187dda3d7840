package controlplane_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

// members are members in memory, without registration.
type members struct {
	controlplane.Members
	mu      sync.Mutex
	all     map[string]cells.Identity
	roster  *roster.Roster // of all
	stale   error
	changed chan struct{}
}

func (m *members) Roster() *roster.Roster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster
}

func (m *members) CheckFresh() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stale
}

func (m *members) RosterChanged() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// revoke removes a cell's key from the roster.
func (m *members) revoke(cell string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, cell)
	m.roster = roster.New(m.all)
	close(m.changed)
	m.changed = make(chan struct{})
}

// fleet is a site whose cells connect by mutual TLS.
type fleet struct {
	*site
	members *members
	addr    string
	certs   []tls.Certificate
	names   []string
	stop    func() error // stops the server gracefully
}

// newFleet serves cells 0 to n-1 of staging on loopback.
func newFleet(t testing.TB, n int, change func(*controlplane.Options)) *fleet {
	t.Helper()
	f := &fleet{members: &members{all: map[string]cells.Identity{}, changed: make(chan struct{})}}
	for i := range n {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := identity.SelfSignedCertificate(rand.Reader, private, cellName(i), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f.certs, f.names = append(f.certs, cert), append(f.names, cellName(i))
		f.members.all[cellName(i)] = cells.Identity{PublicKey: identity.FormatKey(public)}
	}
	f.members.roster = roster.New(f.members.all)
	keys, err := transport.OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f.site = newSite(t, store.Options{}, func(o *controlplane.Options) {
		o.Members, o.Keys = f.members, keys
		if change != nil {
			change(o)
		}
	})
	f.setView(fleetView(n, "1.0.1"))
	l, err := transport.ListenCells("127.0.0.1:0", keys)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(ctx, l) }()
	f.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func cellName(i int) string { return fmt.Sprintf("cell-%05d", i) }

// fleetView returns a view with n cells that run a release in staging.
func fleetView(n int, version string) *view.View {
	v := viewOf(version)
	staging := v.Desired.Channels["staging"]
	for i := range n {
		name := cellName(i)
		cell := &plan.Cell{}
		cell.Name, cell.Channel = name, "staging"
		v.Desired.Cells[name] = cell
		staging.Cells = append(staging.Cells, cell)
		v.Observed.Cells[name] = &plan.CellState{
			Name: name, Channel: "staging", Sequence: 3, Release: version, Digest: digestOf(version),
			State: cells.StateHealthy, LastReport: noon,
			Granted: &cells.Assignment{Channel: "staging", Sequence: 3, Release: version, Digest: digestOf(version),
				Values: map[string]any{"domain": name + ".example", "replicas": 3}},
		}
	}
	return v
}

// withHeldCells returns a view of the same repository in which the answers of the named cells differ.
func withHeldCells(v *view.View, gate string, names ...string) *view.View {
	c := &view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan}
	o := *v.Observed
	o.Cells = map[string]*plan.CellState{}
	for name, s := range v.Observed.Cells {
		o.Cells[name] = s
	}
	for _, name := range names {
		s := *o.Cells[name]
		a := *s.Granted
		a.Sequence++
		s.Granted = &a
		o.Cells[name] = &s
	}
	c.Observed = &o
	c.Plan.Blocked = append(c.Plan.Blocked[:len(c.Plan.Blocked):len(c.Plan.Blocked)],
		channels.Verdict{Channel: "dedicated", Gate: gate})
	return c
}

func (f *fleet) clientTLS(i int) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: f.certs[i : i+1], InsecureSkipVerify: true}
}

// dial connects cell i.
func (f *fleet) dial(t testing.TB, i int) *cellConn {
	t.Helper()
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingConn{Conn: raw}
	c := tls.Client(counted, f.clientTLS(i))
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return &cellConn{Conn: c, counter: counted, reader: bufio.NewReader(c)}
}

// countingConn counts a connection's bytes.
type countingConn struct {
	net.Conn
	in, out int
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in += n
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out += n
	return n, err
}

// cellConn is a cell's connection.
type cellConn struct {
	*tls.Conn
	counter *countingConn
	reader  *bufio.Reader
}

// get sends a request with the headers of an agent.
func (l *cellConn) get(t testing.TB, path, etag string, headers ...string) *http.Response {
	t.Helper()
	text := "GET " + path +
		" HTTP/1.1\r\nHost: sluice.example:7601\r\nUser-Agent: Go-http-client/1.1\r\nAccept: " +
		"application/json\r\nIf-None-Match: " + etag + "\r\nAccept-Encoding: gzip\r\n"
	for _, h := range headers {
		text += h + "\r\n"
	}
	if _, err := l.Write([]byte(text + "\r\n")); err != nil {
		t.Fatal(err)
	}
	w, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// report sends a cell's report.
func (l *cellConn) report(t testing.TB, cell string) *http.Response {
	t.Helper()
	body := `{"cell":"` + cell + `","boot":"b","state":"pending"}`
	text := "POST /v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
	if _, err := l.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	w, err := http.ReadResponse(l.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// stream requests a stream. known is an ETag, or empty.
func (l *cellConn) stream(t testing.TB, known string) *eventReader {
	t.Helper()
	w := l.get(t, "/v1/desired", known, "Accept: text/event-stream")
	if w.StatusCode != 200 || w.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("no stream: %s %v", w.Status, w.Header)
	}
	return &eventReader{lines: bufio.NewReader(w.Body)}
}

// eventReader reads a stream of events.
type eventReader struct{ lines *bufio.Reader }

// nextBlock returns the lines up to the next empty one.
func (e *eventReader) nextBlock() (block string, err error) {
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return block, err
		}
		if line == "\n" {
			return block, nil
		}
		block += line
	}
}

// nextDesired returns the next answer, without heartbeats.
func (e *eventReader) nextDesired(t testing.TB) (etag, data string) {
	t.Helper()
	for {
		block, err := e.nextBlock()
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if strings.HasPrefix(block, ":") {
			continue
		}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch key {
			case "id":
				etag = value
			case "data":
				data = value
			}
		}
		if !strings.HasPrefix(block, "event: desired\n") || etag == "" || data == "" {
			t.Fatalf("no answer: %q", block)
		}
		return etag, data
	}
}

// desiredOf returns a cell's answer, encoded by the standard library.
func (s *site) desiredOf(t testing.TB, cell string) (etag, body string) {
	t.Helper()
	d, etag, ok := s.View().Cell(cell)
	text, err := json.Marshal(d)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return etag, string(text)
}

func withoutLimits(o *controlplane.Options) {
	o.Log = zerolog.Nop()
	o.Limits.Cells.Polls.PerSecond, o.Limits.Cells.Reports.PerSecond = -1, -1
}
