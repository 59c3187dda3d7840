package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// ListenLoopback listens on a loopback address such as 127.0.0.1:8400, [::1]:8400 or localhost:0, and on
// nothing else: in the plain form anyone who can connect can speak for any cell.
func ListenLoopback(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w: give host:port, such as 127.0.0.1:8400", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen on %q: cells are not known by key here, so that anyone who can connect could report for any of them; "+
			"only loopback is safe: use 127.0.0.1:%s, or a unix socket", addr, port)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	// What localhost means is up to the machine.
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("listen on %s: it is %s, not loopback: use 127.0.0.1:%s", addr, l.Addr(), port), l.Close())
	}
	return l, nil
}

// ListenUnix listens on a unix socket that only its owner may use. A socket that a killed server left is taken over.
func ListenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: another server answers there: stop it, or choose another path", path), c.Close())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("listen on %s: remove the old socket: %w", path, err)
			}
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// stopWithin is how long requests that are under way have to end once a server stops.
const stopWithin = 10 * time.Second

// Serve answers on the listeners until ctx ends, then lets what is under way end, and closes them. Polls that
// wait are let go with jitter, so that not all cells come back at once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(s.log, "", 0),
	}
	var g errgroup.Group
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, l := range listeners {
		g.Go(func() error {
			defer cancel() // one that fails stops the others
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	<-ended.Done()
	s.Drain()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	err := server.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop: requests were still under way after %s: %w", stopWithin, err), server.Close())
	}
	return errors.Join(g.Wait(), err)
}
