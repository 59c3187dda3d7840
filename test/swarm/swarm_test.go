package swarm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/releases"
)

// testPlane is a minimal control plane for cells: one head for all, streams and polls, and stored reports.
type testPlane struct {
	*httptest.Server
	pin   string
	names map[string]string // by key

	mu           sync.Mutex // guards what follows
	head         cells.Assignment
	moved        chan struct{}
	events       map[string][]int64 // numbers, in the order of acknowledgement
	dropReceipts int                // so many reports are stored but not answered: the connection is closed
}

func newTestPlane(t *testing.T, members []Member, head cells.Assignment) *testPlane {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := identity.SelfSignedCertificate(rand.Reader, key, "plane", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := &testPlane{pin: identity.CertificatePin(cert.Leaf), names: map[string]string{}, head: head,
		moved:  make(chan struct{}),
		events: map[string][]int64{}}
	for _, m := range members {
		p.names[identity.FormatKey(m.Public())] = m.Name
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/desired", p.handleDesired)
	mux.HandleFunc("POST /v1/reports", p.handleReports)
	p.Server = httptest.NewUnstartedServer(mux)
	p.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
		MinVersion: tls.VersionTLS13}
	p.StartTLS()
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

func (p *testPlane) controlPlane() ControlPlane {
	return ControlPlane{Addresses: []string{p.Listener.Addr().String()}, Pins: []string{p.pin}}
}

func (p *testPlane) setHead(a cells.Assignment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.head = a
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *testPlane) cellName(r *http.Request) string {
	return p.names[identity.FormatKey(r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey))]
}

func (p *testPlane) currentDesired(name string) (etag string, body []byte, moved chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, _ = json.Marshal(cells.Desired{Cell: name, Assignment: &p.head})
	return fmt.Sprintf(`"%d"`, p.head.Sequence), body, p.moved
}

func (p *testPlane) handleDesired(w http.ResponseWriter, r *http.Request) {
	name := p.cellName(r)
	etag, body, moved := p.currentDesired(name)
	if r.Header.Get("Accept") == "text/event-stream" {
		for {
			fmt.Fprintf(w, ":\n\nid: %s\ndata: %s\n\n", etag, body)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-moved:
			case <-r.Context().Done():
				return
			}
			etag, body, moved = p.currentDesired(name)
		}
	}
	if r.URL.Query().Get("wait") != "" && r.Header.Get("If-None-Match") == etag {
		select {
		case <-moved:
		case <-r.Context().Done():
			return
		}
		etag, body, _ = p.currentDesired(name)
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Sluice-Next-Poll", "0")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body)
}

func (p *testPlane) handleReports(w http.ResponseWriter, r *http.Request) {
	var report cells.Report
	err := json.NewDecoder(r.Body).Decode(&report)
	if err == nil {
		err = report.Validate()
	}
	if name := p.cellName(r); err != nil || name != report.Cell {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	receipt := cells.Receipt{Time: time.Now()}
	for _, e := range report.Events {
		if all := p.events[report.Cell]; len(all) == 0 || all[len(all)-1] < e.Number {
			p.events[report.Cell] = append(all, e.Number)
		}
		receipt.Acknowledged = e.Number
	}
	p.dropReceipts--
	lost := p.dropReceipts >= 0
	p.mu.Unlock()
	if lost { // stored, but the response is lost
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(receipt)
}

func assignment(sequence int64) cells.Assignment {
	version := fmt.Sprintf("1.%d.0", sequence)
	return cells.Assignment{Channel: "fleet", Epoch: 1, Sequence: sequence, Release: version,
		Digest: releases.DigestBytes([]byte(version))}
}

// TestSwarm checks that in each mode cells apply what they are assigned, fail where they should, roll back, and deliver
// every event once and in order though responses are lost (R14, R35).
func TestSwarm(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]Mode{"stream": Stream, "long-poll": LongPoll, "poll": Poll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := Members("cell", 50, 7)
			p := newTestPlane(t, members, assignment(1))
			p.dropReceipts = 20
			s, err := New(Options{
				Plane: p.controlPlane(), Members: members, Mode: mode, Seed: 7,
				Apply: [2]time.Duration{0, 10 * time.Millisecond},
				Fails: map[string]float64{"1.2.0": 0.4}, RetryCap: 50 * time.Millisecond, ReportEvery: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			var run sync.WaitGroup
			run.Go(func() { s.Run(ctx) })
			defer run.Wait()
			defer cancel()
			on := func(sequence int64) func(Snapshot) bool {
				return func(w Snapshot) bool {
					return w.State == cells.StateHealthy && w.Running.Sequence == sequence && w.Confirmed == w.Last &&
						w.Acknowledged != nil && w.Acknowledged.State == w.State
				}
			}
			if err := s.Await(ctx, on(1)); err != nil {
				t.Fatal(err)
			}
			p.setHead(assignment(2))
			failed := func(w Snapshot) bool { return len(w.Failures) == 1 && on(1)(w) }
			if err := s.Await(ctx, func(w Snapshot) bool { return on(2)(w) || failed(w) }); err != nil {
				t.Fatal(err)
			}
			bad := 0
			for _, w := range s.Snapshots() {
				if failed(w) {
					bad++
				}
			}
			if bad < 10 || bad > 30 {
				t.Errorf("the release failed on %d of 50 cells, want about 40 %%", bad)
			}
			p.setHead(assignment(3))
			if err := s.Await(ctx, on(3)); err != nil {
				t.Fatal(err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, w := range s.Snapshots() {
				if all := p.events[w.Name]; int64(len(all)) != w.Confirmed || !slices.IsSorted(all) {
					t.Errorf("%s: %d events were acknowledged, and arrived as %v", w.Name, w.Confirmed, all)
				}
			}
			if c := s.Counts(); c.Connected != 50 || c.Acknowledged < 150 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestOlderAssignmentsAreRefused checks that a cell refuses older assignments, and another release with the same
// sequence (R2).
func TestOlderAssignmentsAreRefused(t *testing.T) {
	t.Parallel()
	p := newAgentState("acme", &Options{})
	now := time.Now()
	five, four, other := assignment(5), assignment(4), assignment(5)
	other.Digest = releases.DigestBytes([]byte("other"))
	if !p.handleAssignment(&five, now) || p.accepted != &five {
		t.Fatal("the first assignment is not accepted")
	}
	for _, a := range []*cells.Assignment{&four, &other} {
		if !p.handleAssignment(a, now) || p.accepted != &five || p.events[len(p.events)-1].Kind != "refused" {
			t.Errorf("an older or conflicting assignment is accepted: %+v", a)
		}
		if p.handleAssignment(a, now) {
			t.Error("the refusal is reported twice")
		}
	}
}

// TestWrongPin checks that a cell talks to no control plane with another pin.
func TestWrongPin(t *testing.T) {
	t.Parallel()
	members := Members("cell", 1, 1)
	p := newTestPlane(t, members, assignment(1))
	d, err := NewDialer(ControlPlane{Addresses: p.controlPlane().Addresses, Pins: []string{"sha256:00"}}, members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(t.Context(), 0, 0); err == nil ||
		!strings.Contains(err.Error(), identity.ErrPinMismatch.Error()) {
		t.Errorf("it connected: %v", err)
	}
}

// TestResponsesAreRead checks that Conn reads responses as net/http writes them.
func TestResponsesAreRead(t *testing.T) {
	t.Parallel()
	members := Members("cell", 1, 1)
	p := newTestPlane(t, members, assignment(1))
	long := bytes.Repeat([]byte("0123456789"), 20_000)
	p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.Header().Set("Trailer", "Checked")
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(long)
			w.Header().Set("Checked", "yes")
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write(body)
	})
	d, err := NewDialer(p.controlPlane(), members)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Dial(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 3 { // on one connection
		a, body, err := l.RoundTrip(time.Minute, "GET", "/chunked", "", nil)
		if err != nil || a.Status != 200 || !bytes.Equal(body, long) {
			t.Fatalf("%+v, %d bytes, %v", a, len(body), err)
		}
		a, body, err = l.RoundTrip(time.Minute, "POST", "/echo", "", []byte("word"))
		if err != nil || a.Status != 429 || a.RetryAfter != 7*time.Second || string(body) != "word" {
			t.Fatalf("%+v, %q, %v", a, body, err)
		}
	}
}

// TestRepository checks that git accepts the repository, and that commits are on the branch.
func TestRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/releases.git"
	members := Members("cell", 3, 1)
	r, err := CreateRepository(t.Context(), dir, ReleaseFiles("1.0.0", 2), members, func(int) string { return "fleet" })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(t.Context(), "cut 1.1.0", ReleaseFiles("1.1.0", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(t.Context(), "drop 1.0.0's part",
		map[string]string{"releases/1.0.0/part-1.yaml": ""}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "ls-tree", "-r", "--name-only", "main").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"cells/cell-00002/identity.yaml": true, "releases/1.1.0/part-0.yaml": true,
		"releases/1.0.0/part-0.yaml": true, "releases/1.0.0/part-1.yaml": false} {
		if got := strings.Contains(string(out), name+"\n"); got != want {
			t.Errorf("%s is there: %t", name, got)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "fsck", "--strict").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
