package controlplane_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
)

// A stream sends what polls return: the answer at once, then changes of this cell's answer only.
func TestStream(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	poll := func(i int) (etag, body string) {
		w := f.dial(t, i).get(t, "/v1/desired", "")
		b, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.Header.Get("ETag"), strings.TrimSpace(string(b))
	}
	e := f.dial(t, 0).stream(t, "")
	etag, data := e.nextDesired(t)
	if wantTag, want := poll(0); etag != wantTag || data != want {
		t.Errorf("the stream says %s %s, a poll %s %s", etag, data, wantTag, want)
	}
	if wantTag, want := f.desiredOf(t, cellName(0)); etag != wantTag || data != want {
		t.Errorf("the stream says %s %s, the view %s %s", etag, data, wantTag, want)
	}
	var d cells.Desired
	if err := json.Unmarshal([]byte(data), &d); err != nil || d.Cell != cellName(0) {
		t.Errorf("%v: %s", err, data)
	}
	v := f.View()
	f.setView(withHeldCells(v, "soak", cellName(1))) // only the other cell's answer changes
	f.setView(withHeldCells(v, "soak", cellName(0), cellName(1)))
	next, _ := e.nextDesired(t)
	if wantTag, _ := poll(0); next == etag || next != wantTag {
		t.Errorf("sent %s after %s, a poll returns %s", next, etag, wantTag)
	}
	// After a reconnect with the newest ETag no event is sent (R31). Last-Event-ID and If-None-Match mean the same.
	for _, header := range []string{"Last-Event-ID: " + next, "X: If-None-Match"} {
		l := f.dial(t, 0)
		w := l.get(t, "/v1/desired", next, "Accept: text/event-stream", header)
		first, err := (&eventReader{bufio.NewReader(w.Body)}).nextBlock()
		if err != nil || !strings.HasPrefix(first, ":") {
			t.Errorf("%s: %q (%v), not a comment", header, first, err)
		}
		l.Close()
	}
}

// A cell has at most two streams: a third closes the oldest.
func TestThirdStreamReplacesTheFirst(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	var all []*eventReader
	for range 3 {
		e := f.dial(t, 0).stream(t, "")
		e.nextDesired(t)
		all = append(all, e)
	}
	if _, err := all[0].nextBlock(); err == nil {
		t.Error("the first of three streams goes on")
	}
	f.setView(withHeldCells(f.View(), "soak", cellName(0)))
	all[1].nextDesired(t)
	all[2].nextDesired(t)
}

// Fault 37: a reconnecting fleet must not hold two connections for each cell until heartbeats find the first dead.
func TestReconnectClosesEndedStreams(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	first := f.dial(t, 0)
	first.stream(t, "").nextDesired(t)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	f.dial(t, 0).stream(t, "").nextDesired(t)
	for deadline := time.Now().Add(5 * time.Second); ; { // less than a heartbeat
		if _, body := f.request(t, "GET", "/metrics", ""); strings.Contains(body, "\nsluice_streams 1\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the stream that its cell ended is still counted")
		}
	}
}

// Fault 40: a revoked cell's stream is closed and its waiting poll ended; other cells' are not.
func TestRevokedStreamCloses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	revoked, other := f.dial(t, 0).stream(t, ""), f.dial(t, 1).stream(t, "")
	etag, _ := revoked.nextDesired(t)
	other.nextDesired(t)
	polled := make(chan int)
	l := f.dial(t, 0)
	go func() { polled <- l.get(t, "/v1/desired?wait=60s", etag).StatusCode }()
	f.awaitLongPolls(t, "1")
	f.members.revoke(cellName(0))
	if block, err := revoked.nextBlock(); err == nil {
		t.Errorf("still sent: %q", block)
	}
	if status := <-polled; status != 401 {
		t.Errorf("the waiting poll got %d", status)
	}
	f.setView(withHeldCells(f.View(), "soak", cellName(0), cellName(1)))
	other.nextDesired(t)
	if w := f.dial(t, 0).get(t, "/v1/desired", "", "Accept: text/event-stream"); w.StatusCode != 401 {
		t.Errorf("back in: %s", w.Status)
	}
}

// The stream of a cell that leaves the repository ends.
func TestRemovedCellsStreamEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	e := f.dial(t, 1).stream(t, "")
	e.nextDesired(t)
	f.setView(fleetView(1, "1.0.1"))
	if block, err := e.nextBlock(); err == nil {
		t.Errorf("still sent: %q", block)
	}
}

// R29: a replica without a fresh roster sends nothing, as a revocation may be unknown.
func TestStaleReplicaSendsNoEvents(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	e := f.dial(t, 0).stream(t, "")
	e.nextDesired(t)
	v := f.View()
	f.members.mu.Lock()
	f.members.stale = io.ErrUnexpectedEOF
	f.members.mu.Unlock()
	f.setView(withHeldCells(v, "soak", cellName(0)))
	if w := f.dial(t, 0).get(t, "/v1/desired", ""); w.StatusCode != 503 {
		t.Errorf("a stale replica answers %s", w.Status)
	}
	f.setView(withHeldCells(v, "soak", cellName(0), cellName(0))) // replaces the answer that was not sent
	f.members.mu.Lock()
	f.members.stale = nil
	f.members.mu.Unlock()
	if etag, _ := e.nextDesired(t); etag != f.dial(t, 0).get(t, "/v1/desired", "").Header.Get("ETag") {
		t.Errorf("sent %s", etag)
	}
}

// A client that does not read delays no other, and is cut.
func TestSlowReaderIsCut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, withoutLimits)
	slow := f.dial(t, 0)
	slow.stream(t, "").nextDesired(t)
	quick := f.dial(t, 1).stream(t, "")
	quick.nextDesired(t)
	v := f.View()
	big := strings.Repeat("x", 64<<10)
	for i := 0; ; i++ { // until the kernels' buffers for the slow client are full
		next := withHeldCells(v, "soak", cellName(0), cellName(1))
		for _, name := range []string{cellName(0), cellName(1)} {
			a := next.Observed.Cells[name].Granted
			a.Sequence += int64(i)
			a.Values = map[string]any{"text": big}
		}
		f.setView(next)
		quick.nextDesired(t)
		if _, body := f.request(t, "GET", "/metrics", ""); strings.Contains(body,
			`sluice_streams_ended_total{reason="slow"} 1`) {
			break
		}
	}
	quick2 := f.dial(t, 2).stream(t, "")
	quick2.nextDesired(t)
}

// unixPipe is a pipe with a unix socket's address.
type unixPipe struct{ net.Conn }

func (unixPipe) LocalAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// Heartbeats come within 15 s without other events (R33), and find a peer that has gone.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	synctest.Test(t, func(t *testing.T) {
		s.setView(viewOf("1.0.1")) // makes the view's channel in the bubble, as the server's are
		server, err := controlplane.New(
			controlplane.Options{Views: s, Inbox: s, Repository: s, Journal: s.store, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- server.Serve(ctx, l) }()
		ours, theirs := net.Pipe()
		l.conns <- unixPipe{theirs}
		if _, err := io.WriteString(ours,
			"GET /v1/desired?cell=acme HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		w, err := http.ReadResponse(bufio.NewReader(ours), nil)
		if err != nil {
			t.Fatal(err)
		}
		e := &eventReader{bufio.NewReader(w.Body)}
		e.nextDesired(t)
		for range 5 {
			began := time.Now()
			block, err := e.nextBlock()
			if took := time.Since(began); err != nil || block != ":\n" || took > 15*time.Second ||
				took < 5*time.Second {
				t.Errorf("after %s: %q (%v)", took, block, err)
			}
		}
		stop()
		if block, err := e.nextBlock(); err != nil || !strings.HasPrefix(block, "retry: ") {
			t.Errorf("the last word is %q (%v)", block, err)
		}
		if block, err := e.nextBlock(); err == nil {
			t.Errorf("after the last word: %q", block)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// Drain closes streams, each with a time to retry, and refuses new ones.
func TestDrainEndsStreams(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 20, nil)
	var all []*eventReader
	for i := range 20 {
		e := f.dial(t, i).stream(t, "")
		e.nextDesired(t)
		all = append(all, e)
	}
	late := f.dial(t, 0)
	f.server.Drain()
	if w := late.get(t, "/v1/desired", "", "Accept: text/event-stream"); w.StatusCode != 503 ||
		w.Header.Get("Retry-After") == "" {
		t.Errorf("a stream begins at a server that stops: %s", w.Status)
	}
	again := map[string]bool{}
	for i, e := range all {
		block, err := e.nextBlock()
		if err != nil || !strings.HasPrefix(block, "retry: ") {
			t.Errorf("cell %d: %q (%v)", i, block, err)
		}
		again[block] = true
		if _, err := e.nextBlock(); err == nil {
			t.Errorf("cell %d still receives events", i)
		}
	}
	if len(again) < 10 {
		t.Errorf("20 cells come back at %d different times", len(again))
	}
	if err := f.stop(); err != nil {
		t.Error(err)
	}
}

// Streams work over HTTP/2, beside other requests on the connection.
func TestStreamOverHTTP2(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	client := func(i int) *http.Client {
		transport := &http.Transport{TLSClientConfig: f.clientTLS(i), ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	open := func(c *http.Client) (*http.Response, *eventReader) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+f.addr+"/v1/desired", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		w, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Body.Close() })
		return w, &eventReader{bufio.NewReader(w.Body)}
	}
	w, e := open(client(0))
	if w.ProtoMajor != 2 || w.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", w.Proto, w.Header)
	}
	first, _ := e.nextDesired(t)
	f.setView(withHeldCells(f.View(), "soak", cellName(0)))
	if next, _ := e.nextDesired(t); next == first {
		t.Error("sent the same event again")
	}
	f.members.revoke(cellName(0))
	if block, err := e.nextBlock(); err == nil {
		t.Errorf("revoked, and sent %q", block)
	}
	_, e = open(client(1))
	e.nextDesired(t)
	f.server.Drain()
	if block, err := e.nextBlock(); err != nil || !strings.HasPrefix(block, "retry: ") {
		t.Errorf("the last word is %q (%v)", block, err)
	}
}

// Streams work on plain loopback, where cells have no keys.
func TestStreamOnLoopback(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/desired?cell=acme", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	e := &eventReader{bufio.NewReader(w.Body)}
	first, _ := e.nextDesired(t)
	s.setView(viewOf("1.0.2"))
	if next, data := e.nextDesired(t); next == first || !strings.Contains(data, "1.0.2") {
		t.Errorf("sent %s after %s: %s", next, first, data)
	}
}

// For the race detector: streams come and go while views change. In the end each has the last answer.
func TestStreamsUnderChange(t *testing.T) {
	t.Parallel()
	const n = 8
	f := newFleet(t, n, withoutLimits)
	v := f.View()
	last := withHeldCells(v, "last", f.names...)
	want := make([]string, n)
	for i := range n {
		_, want[i], _ = last.Cell(cellName(i))
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for range 5 {
				l := f.dial(t, i)
				l.stream(t, "").nextDesired(t)
				l.Close()
			}
			for e := f.dial(t, i).stream(t, ""); ; {
				if etag, _ := e.nextDesired(t); etag == want[i] {
					return
				}
			}
		})
	}
	for i := range 50 {
		f.setView(withHeldCells(v, "soak", f.names[i%n]))
	}
	f.setView(last)
	wg.Wait()
}

// Idle connections in the middle of a handshake keep no cell out.
func TestIdleHandshakesDelayNoCell(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(o *controlplane.Options) { o.Limits.Transport.ConcurrentHandshakes = 1 })
	for range 100 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte{22, 3, 1}); err != nil { // the beginning of a ClientHello
			t.Fatal(err)
		}
	}
	if w := f.dial(t, 0).get(t, "/v1/desired", ""); w.StatusCode != 200 {
		t.Error(w.Status)
	}
}
