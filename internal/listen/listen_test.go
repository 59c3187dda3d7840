package listen_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/listen"
)

func TestLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", "127.1.2.3:0"} {
		l, err := listen.Loopback(addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		l.Close()
	}
	for addr, says := range map[string]string{
		":8400": "only loopback is safe", "0.0.0.0:8400": "write https://0.0.0.0:8400", "[::]:8400": "unix socket",
		"192.0.2.1:8400": "127.0.0.1:8400",
		"example.com:80": "only loopback", "127.0.0.1": "host:port", "": "host:port", "127.0.0.1:nope": "nope",
	} {
		l, err := listen.Loopback(addr)
		if err == nil {
			l.Close()
			t.Errorf("listened on %q", addr)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, wanted %q in it", addr, err, says)
		}
	}
}

func TestUnix(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sluice") // socket paths are limited to about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	first, err := listen.Unix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	if l, err := listen.Unix(path); err == nil {
		l.Close()
		t.Error("two servers on one socket")
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	first.Close()
	second, err := listen.Unix(path)
	if err != nil {
		t.Fatalf("the socket of a killed server: %v", err)
	}
	second.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listen.Unix(file); err == nil {
		l.Close()
		t.Error("a file was taken for a socket")
	}
}
