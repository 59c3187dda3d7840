package flagserver

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/clock"
)

// Invariant 6: the server can listen on this machine's own addresses.
func TestListenOnLoopback(t *testing.T) {
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", "127.8.9.10:0"} {
		at, err := ParseAddress(where)
		must(t, err)
		l, err := at.Listen(t.Context())
		if err != nil && strings.Contains(where, "::1") {
			t.Logf("this machine has no IPv6: %v", err)
			continue
		}
		must(t, err)
		must(t, l.Close())
	}
}

// A socket is for its owner alone unless configured otherwise; a stale one is replaced, any other file is left alone.
func TestFlagsSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "socket")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	listen := func(query string) (net.Listener, error) {
		at, err := ParseAddress("unix://" + path + query)
		must(t, err)
		return at.Listen(t.Context())
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
	must(t, l.(*unixListener).Listener.Close()) // as after a kill
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
	// A path that is too long is an error that says so, as is a missing folder; a path through a link works.
	for where, want := range map[string]string{
		filepath.Join(dir, strings.Repeat("x", 90), "s"): "no such file",
		filepath.Join(dir, strings.Repeat("x", 120)):     "too long",
	} {
		at := Address{path: where, mode: socketMode}
		if _, err := at.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "listen on "+where) {
			t.Errorf("%s: %v", where, err)
		}
	}
	must(t, os.Mkdir(filepath.Join(dir, strings.Repeat("y", 80)), 0o700))
	at := Address{path: filepath.Join(dir, strings.Repeat("y", 80), "s"), mode: socketMode}
	if _, err := at.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long folder: %v", err)
	}
	must(t, os.RemoveAll(filepath.Join(dir, strings.Repeat("y", 80))))
	linked := t.TempDir() + "/link"
	must(t, os.Symlink(dir, linked))
	l, err = Address{path: linked + "/s", mode: socketMode}.Listen(t.Context())
	must(t, err)
	mode(0o600)
	must(t, l.Close())

	must(t, os.Symlink(filepath.Join(dir, "nowhere"), path))
	if _, err := listen(""); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a link is replaced: %v", err)
	}
	must(t, os.Remove(path))
	writeFile(t, path)
	if _, err := listen(""); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file is replaced: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("there is %v", left)
	}
}

func writeFile(t testing.TB, name string) {
	t.Helper()
	must(t, os.WriteFile(name, nil, 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A socket that somebody removed, or put another file in the place of, is made anew once that is possible, and who asks
// whether programs can ask hears of it.
func TestSocketThatIsRemoved(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "socket")
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	at, err := ParseAddress("unix://" + path + "?mode=0660")
	must(t, err)
	l, err := at.Listen(t.Context())
	must(t, err)
	s, err := New(Options{StateDir: t.TempDir(), Clock: clock.New(t.TempDir(), clock.Machine{}), Log: zerolog.Nop(),
		OnReport: func() {}, OnTestPoint: func(string) {}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, l, nil, http.NotFoundHandler())
	}()
	await := func(what string, reachable bool, interruptions int64) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			now, n := s.Sockets.Reachable()
			if now == reachable && n == interruptions {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: reachable is %v, after %d interruptions", what, now, n)
			}
		}
		conn, err := net.Dial("unix", path)
		if (err == nil) != reachable {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			must(t, conn.Close())
		}
	}
	await("at first", true, 0)
	must(t, os.Remove(path))
	await("removed", true, 2)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %s", info.Mode())
	}
	must(t, os.Rename(path, path+"-1"))
	must(t, os.WriteFile(path, nil, 0o600))
	await("another file is there", false, 3)
	if file, err := os.Lstat(path); err != nil || !file.Mode().IsRegular() {
		t.Errorf("what is in its place is not the agent's: %v, %v", file, err)
	}
	must(t, os.Remove(path))
	await("and is removed", true, 4)
	must(t, os.RemoveAll(dir))
	await("with its folder", false, 5)
	must(t, os.Mkdir(dir, 0o700))
	await("which is back", true, 6)
	cancel()
	<-done
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left behind: %v", err)
	}
}
