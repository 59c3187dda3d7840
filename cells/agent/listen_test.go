package agent

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
)

func writeFile(t testing.TB, name string) {
	t.Helper()
	must(t, os.WriteFile(name, nil, 0o600))
}

func removeFile(t testing.TB, name string) {
	t.Helper()
	must(t, os.Remove(name))
}

// Invariant 6: flags are served on this machine only, and any other address is refused before anything starts.
func TestFlagsAreServedLocallyOnly(t *testing.T) {
	p := newControlPlane(t)
	for _, where := range []string{
		"0.0.0.0:8013", ":8013", "8013", "[::]:8013", "192.0.2.1:8013", "example.com:8013", "localhost:8013",
		"127.0.0.1", "[::ffff:192.0.2.1]:80",
		"http://127.0.0.1:8013", "unix://relative/s", "unix:s", "unix://", "unix:///s?mode=0777", "unix:///s?mode=rw",
		"tcp://127.0.0.1:1",
	} {
		s := newSettings(t, p)
		s.Flags = where
		o, err := s.options()
		must(t, err)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "flags") {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// An address in use is an error at start that says what to do, and leaves nothing of the agent running.
func TestFlagsAddressIsTaken(t *testing.T) {
	p := newControlPlane(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s := newSettings(t, p)
	s.Flags = l.Addr().String()
	for range 2 { // the state folder is free again
		o, err := s.options()
		must(t, err)
		a, err := New(o)
		must(t, err)
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") ||
			!strings.Contains(err.Error(), "choose another address") {
			t.Fatalf("it runs: %v", err)
		}
	}
}

// Where one address can't be had, the others are free again, and no socket stays.
func TestImagesAddressIsTaken(t *testing.T) {
	p := newControlPlane(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	taken := l.Addr().String()
	for name, set := range map[string]func(o *Options, socket string){
		"images": func(o *Options, _ string) { o.ImagesListen = taken },
		"images of nodes": func(o *Options, socket string) {
			o.ImagesListen, o.NodePulls = "unix://"+socket, &NodePulls{Listen: taken}
		},
	} {
		dir := t.TempDir()
		s := newSettings(t, p)
		s.Flags = "unix://" + filepath.Join(dir, "flags")
		o, err := s.options()
		must(t, err)
		set(&o, filepath.Join(dir, "images"))
		a, err := New(o)
		must(t, err)
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: it says %v", name, err)
		}
		left, err := os.ReadDir(dir)
		must(t, err)
		for _, file := range left {
			t.Errorf("%s: %s is left", name, file.Name())
		}
	}
}

// A free port is chosen, logged and served.
func TestFlagsOnAnyPort(t *testing.T) {
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Flags = "127.0.0.1:0"
	text, told := net.Pipe()
	c := start(t, s, func(o *Options) { o.Log = zerolog.New(told).Level(zerolog.InfoLevel) })
	seen, buffer := "", make([]byte, 4<<10)
	for !strings.Contains(seen, "flags are served") {
		n, err := text.Read(buffer)
		must(t, err)
		seen = string(buffer[:n])
	}
	_ = text.Close()
	_, rest, _ := strings.Cut(seen, `"address":"`)
	address, _, _ := strings.Cut(rest, `"`)
	conn, err := net.Dial("tcp", address)
	must(t, err)
	must(t, conn.Close())
	c.stop()
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("it listens after its end")
	}
}

// After a kill while it opened the socket in a private folder, the agent starts again.
func TestSocketLeftHalfMade(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	must(t, os.MkdirAll(filepath.Join(s.State, ".new-123"), 0o700))
	writeFile(t, filepath.Join(s.State, ".new-123", "s"))
	serveFlags(t, &s)
	start(t, s)
	p.setFlags(p.newFlags(1, newBundle()))
	p.await(t, "a start", func(r cells.Report) bool { return r.Flags != nil })
}

// A thousand callers, streams that nobody reads and requests that never end: other requests get responses, the agent
// ends, and the next one can use the port.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.Flags = free.Addr().String()
	must(t, free.Close())
	c := start(t, s)
	f := p.newFlags(1, newBundle())
	p.setFlags(f)
	p.await(t, "in force", flagsInForce(f))
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	say := func(text string) {
		conn, err := net.Dial("tcp", s.Flags)
		must(t, err)
		_, err = conn.Write([]byte(text))
		must(t, err)
		idle = append(idle, conn)
	}
	for range 270 { // more than the limit of streams
		say("GET /ofrep/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	for range 100 {
		say("POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: localhost\r\n" +
			"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	}
	for range 400 {
		say("")
	}
	for range 400 {
		say("GET /flags.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	begun := time.Now()
	client := http.Client{Transport: &http.Transport{}}
	response, err := client.Post("http://"+s.Flags+"/ofrep/v1/evaluate/flags/plain", "application/json",
		strings.NewReader("{}"))
	must(t, err)
	_ = response.Body.Close()
	client.CloseIdleConnections()
	// A crowd must not shut others out, even on a slow machine.
	if took := time.Since(begun); response.StatusCode != http.StatusOK || took > 30*time.Second {
		t.Errorf("%s after %s", response.Status, took)
	}
	for i := range 50 { // the streams are not read
		p.setFlags(p.newFlags(int64(i+2), newBundle(flags.Gate{ID: fmt.Sprint(i), Features: []string{"x"}})))
	}
	begun = time.Now()
	c.stop()
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it takes %s to end", took)
	}
	// Another test may use the port for a moment.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.Listen("tcp", s.Flags)
		if err == nil {
			must(t, l.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
