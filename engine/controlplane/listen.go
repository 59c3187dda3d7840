package controlplane

import (
	"context"
	"crypto/tls"
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
// nothing else: what goes over a network in the plain can be read and changed on the way, tokens included.
func ListenLoopback(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w: give host:port, such as 127.0.0.1:8400", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen on %q: without TLS only loopback is safe, for everyone between could read and change what is said: "+
			"write https://%s, or 127.0.0.1:%s, or a unix socket", addr, net.JoinHostPort(host, port), port)
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
	// Whoever gets in is an administrator: the socket is its owner's from the first moment on, not only once it was changed.
	before := syscall.Umask(0o077)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// secure is a listener whose connections are TLS, from the first byte.
type secure struct {
	net.Listener
	door door
	tls  *tls.Config
}

// ListenPeople listens on HOST:PORT for people and hooks, by TLS.
func ListenPeople(addr string, cert tls.Certificate) (net.Listener, error) {
	return listenTLS(addr, doorPeople, peopleTLS(cert))
}

// ListenCells listens on HOST:PORT for cells, by mutual TLS. The TLS must end here: what is in between passes bytes on.
func ListenCells(addr string, keys *Keys) (net.Listener, error) {
	return listenTLS(addr, doorCells, cellsTLS(keys.cert))
}

func listenTLS(addr string, d door, c *tls.Config) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("listen on %q: %w: give host:port, such as 0.0.0.0:7601", addr, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return &secure{Listener: l, door: d, tls: c}, nil
}

// stopWithin is how long requests that are under way have to end once a server stops.
const stopWithin = 10 * time.Second

// Serve answers on the listeners until ctx ends, then lets what is under way end, and closes them. Polls that
// wait are let go with jitter, so that not all cells come back at once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	var g errgroup.Group
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := make([]*http.Server, 0, len(listeners))
	for _, l := range listeners {
		server := s.behind(l)
		servers = append(servers, server)
		g.Go(func() error {
			defer cancel() // one that fails stops the others
			if t, ok := l.(*secure); ok {
				l = s.shaken(t.Listener, t.tls)
			} else {
				l = wired{l}
			}
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
	var stopped errgroup.Group
	for _, server := range servers {
		stopped.Go(func() error {
			err := server.Shutdown(stop)
			if err != nil {
				err = errors.Join(fmt.Errorf("stop: requests were still under way after %s: %w", stopWithin, err), server.Close())
			}
			return err
		})
	}
	stopped.Go(func() error { return s.Drained(stop) })
	return errors.Join(stopped.Wait(), g.Wait())
}

// behind is what answers behind a listener.
func (s *Server) behind(l net.Listener) *http.Server {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second, // a TLS handshake's too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(s.log, "", 0),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 32},
	}
	if t, ok := l.(*secure); ok {
		server.ConnContext = withPeer
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, t.door) })
	}
	return server
}

// Address is where people and programs reach a listener, as --server takes it.
func Address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + l.Addr().String()
	}
	if _, ok := l.(*secure); ok {
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}
