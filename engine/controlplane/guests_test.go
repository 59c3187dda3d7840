package controlplane_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// http2Frame returns a frame by RFC 9113, section 4.1.
func http2Frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
	head = append(head, kind, flags)
	return string(binary.BigEndian.AppendUint32(head, stream)) + payload
}

const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

func http2Ping() string { return http2Frame(6, 0, 0, "12345678") }

// newNobody returns a TLS configuration with a key that is no cell's.
func newNobody(t *testing.T, protocol string) *tls.Config {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := identity.SelfSignedCertificate(rand.Reader, key, "nobody", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{protocol}}
}

func (f *fleet) dialRaw(t *testing.T) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (f *fleet) dialNobody(t *testing.T, protocol string) net.Conn {
	t.Helper()
	c := tls.Client(f.dialRaw(t), newNobody(t, protocol))
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitClosed reads until the server closes the connection, and returns how long that took.
func awaitClosed(t *testing.T, name string, c net.Conn) time.Duration {
	t.Helper()
	begun := time.Now()
	_ = c.SetReadDeadline(begun.Add(time.Minute))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: still open after a minute", name)
	}
	return time.Since(begun)
}

// R57: whoever proves nobody's key, or nothing, is dropped soon, however it goes about it. A cell's idle connection
// stays.
func TestR57StrangersStayBriefly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	cell := f.dial(t, 0)
	if w := cell.get(t, "/v1/desired", ""); w.StatusCode != 200 {
		t.Fatal(w.Status)
	} else if _, err := io.Copy(io.Discard, w.Body); err != nil {
		t.Fatal(err)
	}
	keepSending := func(c net.Conn, text string) {
		go func() {
			for {
				if _, err := io.WriteString(c, text); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	kinds := map[string]net.Conn{}
	kinds["silent"] = f.dialRaw(t)
	kinds["one byte"] = f.dialRaw(t)
	fmt.Fprint(kinds["one byte"], "\x16")
	kinds["a byte now and then"] = f.dialRaw(t)
	fmt.Fprint(kinds["a byte now and then"], "\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb")
	keepSending(kinds["a byte now and then"], "\x00")
	kinds["no TLS"] = f.dialRaw(t)
	fmt.Fprint(kinds["no TLS"], "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	half := f.dialRaw(t)
	kinds["half a handshake"] = half
	go func() { _ = tls.Client(&halfConn{Conn: half}, newNobody(t, "http/1.1")).Handshake() }()
	kinds["idle"] = f.dialNobody(t, "http/1.1")
	kinds["idle, HTTP/2"] = f.dialNobody(t, "h2")
	kinds["pings, HTTP/2"] = f.dialNobody(t, "h2")
	fmt.Fprint(kinds["pings, HTTP/2"], http2Preface+http2Frame(4, 0, 0, ""))
	keepSending(kinds["pings, HTTP/2"], http2Ping())
	kinds["a slow registration"] = f.dialNobody(t, "http/1.1")
	fmt.Fprint(kinds["a slow registration"], "POST /v1/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
		"Content-Length: 4000\r\n\r\n")
	keepSending(kinds["a slow registration"], " ")
	kinds["slow headers"] = f.dialNobody(t, "http/1.1")
	fmt.Fprint(kinds["slow headers"], "POST /v1/register HTTP/1.1\r\n")
	keepSending(kinds["slow headers"], "A: b\r\n")
	begun := time.Now()
	for name, c := range kinds {
		if name != "half a handshake" {
			awaitClosed(t, name, c)
		}
	}
	for openConnections(t, f) > 1 {
		if time.Since(begun) > time.Minute {
			t.Fatal("a stranger is still there")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("all were dropped after %s", took)
	}
	if w := cell.report(t, cellName(0)); w.StatusCode != 200 {
		t.Errorf("over the cell's idle connection: %s", w.Status)
	}
}

// halfConn sends the first message and reads nothing.
type halfConn struct{ net.Conn }

func (h *halfConn) Read([]byte) (int, error) { select {} }

// openConnections returns the metric.
func openConnections(t *testing.T, f *fleet) (n int) {
	t.Helper()
	_, text := f.request(t, "GET", "/metrics", "")
	_, rest, ok := strings.Cut(text, "\nsluice_connections ")
	if _, err := fmt.Sscan(rest, &n); err != nil || !ok {
		t.Fatalf("no metric: %v", err)
	}
	return n
}

// R57: a cell that opens ever more connections loses its own oldest ones, and no other cell's.
func TestR57ConnectionsOfOneCell(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, nil)
	first, other := f.dial(t, 0), f.dial(t, 1)
	for i, c := range []*cellConn{first, other} {
		if w := c.report(t, cellName(i)); w.StatusCode != 200 {
			t.Fatal(w.Status)
		} else if _, err := io.Copy(io.Discard, w.Body); err != nil {
			t.Fatal(err)
		}
	}
	last := f.dial(t, 0)
	for range 64 {
		last = f.dial(t, 0)
	}
	awaitClosed(t, "the oldest", first)
	if w := last.report(t, cellName(0)); w.StatusCode != 200 {
		t.Errorf("over its newest: %s", w.Status)
	}
	if w := other.report(t, cellName(1)); w.StatusCode != 200 {
		t.Errorf("another cell: %s", w.Status)
	}
}

// R57: nobody's key that sends more than a registration is dropped, on both versions of HTTP; a cell's is not.
func TestR57NobodySaysMuch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	reset := http2Frame(1, 5, 1, "\x82\x87\x84") + http2Frame(3, 0, 1, "\x00\x00\x00\x08")
	for name, flood := range map[string]string{
		"ping": http2Ping(), "settings": http2Frame(4, 0, 0, ""), "rapid reset": reset,
		"continuation":  http2Frame(9, 0, 1, strings.Repeat("\x82", 1000)),
		"window update": http2Frame(8, 0, 0, "\x00\x00\x00\x01"),
		"priority":      http2Frame(2, 0, 1, "\x00\x00\x00\x00\x01"),
	} {
		c := f.dialNobody(t, "h2")
		fmt.Fprint(c, http2Preface+http2Frame(4, 0, 0, ""))
		go func() { _, _ = io.Copy(io.Discard, c) }()
		sent := 0
		for sent < 64<<20 {
			n, err := io.WriteString(c, flood)
			sent += n
			if err != nil {
				break
			}
		}
		if sent >= 64<<20 {
			t.Errorf("%s: a stranger sent %d bytes", name, sent)
		}
	}
	cell := f.dial(t, 0)
	for range 300 { // more than a stranger may send
		w := cell.get(t, "/v1/desired", `"x"`, "Padding: "+strings.Repeat("x", 500))
		if _, err := io.Copy(io.Discard, w.Body); err != nil {
			t.Fatal(err)
		}
	}
}

// R57: while silent connections keep coming, faster than they may wait, a cell's report waits for none of them, over
// its connection and over a new one.
func TestR57FloodsDelayNoReport(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"silent": "", "one byte": "\x16",
		"a hello's beginning": "\x16\x03\x01\x02"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, func(o *controlplane.Options) {
				o.Limits.Transport = transport.Limits{Strangers: 50, ConcurrentHandshakes: 1}
			})
			cell := f.dial(t, 0)
			done, made := make(chan struct{}), new(atomic.Int64)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Millisecond):
					}
					c, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.addr)
					if err != nil {
						continue
					}
					defer c.Close()
					made.Add(1)
					_, _ = io.WriteString(c, first) // it may be closed already
				}
			}()
			for made.Load() < 60 { // full
				time.Sleep(time.Millisecond)
			}
			slowest := time.Duration(0)
			for n := range 10 {
				begun := time.Now()
				other := cell
				if n%2 == 1 {
					other = f.dial(t, 1)
				}
				w := other.report(t, cellName(n%2))
				if w.StatusCode != 200 {
					t.Errorf("report: %s", w.Status)
				}
				if said, err := io.ReadAll(w.Body); err != nil {
					t.Errorf("report %d: %v after %q %v", n, err, said, w.Header)
				}
				slowest = max(slowest, time.Since(begun))
			}
			close(done)
			<-ended
			t.Logf("%d strangers, the slowest report took %s", made.Load(), slowest)
			if n := openConnections(t, f); n > 200 {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}
