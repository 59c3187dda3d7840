package agent

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

func writeFile(t testing.TB, name string) {
	t.Helper()
	must(t, os.WriteFile(name, nil, 0o600))
}

func removeFile(t testing.TB, name string) {
	t.Helper()
	must(t, os.Remove(name))
}

// Invariant 6: flags are served on this machine only, and whoever asks for more is told so before anything starts.
func TestFlagsAreServedLocallyOnly(t *testing.T) {
	p := newPlane(t)
	for _, where := range []string{
		"0.0.0.0:8013", ":8013", "8013", "[::]:8013", "192.0.2.1:8013", "example.com:8013", "localhost:8013", "127.0.0.1", "[::ffff:192.0.2.1]:80",
		"http://127.0.0.1:8013", "unix://relative/s", "unix:s", "unix://", "unix:///s?mode=0777", "unix:///s?mode=rw", "tcp://127.0.0.1:1",
	} {
		s := newSettings(t, p)
		s.Flags = where
		o, err := s.options()
		must(t, err)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "flags") {
			t.Errorf("%s: %v", where, err)
		}
	}
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", "127.8.9.10:0"} {
		at, err := parseLocal(where)
		must(t, err)
		l, err := at.listen(t.Context())
		if err != nil && strings.Contains(where, "::1") {
			t.Logf("this machine has no IPv6: %v", err)
			continue
		}
		must(t, err)
		must(t, l.Close())
	}
}

// The address is taken: an error at start, which says what to do, and nothing else of the agent is left behind.
func TestFlagsAddressIsTaken(t *testing.T) {
	p := newPlane(t)
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
		if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "give another place") {
			t.Fatalf("it runs: %v", err)
		}
	}
}

// A free port is found, told in the log and served.
func TestFlagsOnAnyPort(t *testing.T) {
	p := newPlane(t)
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

// A socket is for its owner alone unless they say otherwise; one that was left behind is replaced, anything else is left alone.
func TestFlagsSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "socket")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	listen := func(query string) (net.Listener, error) {
		at, err := parseLocal("unix://" + path + query)
		must(t, err)
		return at.listen(t.Context())
	}
	mode := func(want fs.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode %o, want %o", got, want)
		}
	}
	l, err := listen("")
	must(t, err)
	mode(0o600)
	if _, err := listen(""); err == nil || !strings.Contains(err.Error(), "listens there already") {
		t.Errorf("two at one place: %v", err)
	}
	must(t, l.(*socket).Listener.Close()) // as if it was killed
	mode(0o600)
	l, err = listen("?mode=0660")
	must(t, err)
	mode(0o660)
	conn, err := net.Dial("unix", path)
	must(t, err)
	must(t, conn.Close())
	must(t, l.Close())
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
	writeFile(t, path)
	if _, err := listen(""); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file is replaced: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("there is %v", left)
	}
}
