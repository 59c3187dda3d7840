// Package listen opens listeners that no other machine can reach: on loopback, and on unix sockets.
//
// It serves nothing. Its functions may be called from any goroutine; Unix sets the process's umask for a moment.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// Loopback listens on a loopback address such as 127.0.0.1:8400, [::1]:8400 or localhost:0, and refuses other
// addresses: on a network, everyone on the way could read and change plain requests, tokens included.
func Loopback(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w: give host:port, such as 127.0.0.1:8400", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf(
			"listen on %q: without TLS only loopback is safe, as others on the network could read and change the "+
				"traffic: write https://%s, or 127.0.0.1:%s, or a unix socket",
			addr, net.JoinHostPort(host, port), port)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	// The machine may map localhost to any address.
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(
			fmt.Errorf("listen on %s: it is %s, not loopback: use 127.0.0.1:%s", addr, l.Addr(), port), l.Close())
	}
	return l, nil
}

// Unix listens on a unix socket that only its owner may use. It replaces the socket that a killed server left.
func Unix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			return nil, errors.Join(
				fmt.Errorf("listen on %s: another server listens there: stop it, or choose another path", path),
				c.Close())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("listen on %s: remove the old socket: %w", path, err)
			}
		}
	}
	// The socket's users are administrators: a chmod after Listen would come too late.
	before := syscall.Umask(0o077)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}
