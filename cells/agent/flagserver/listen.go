package flagserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags/ofrep"
)

const (
	maxConnections = 1024 // open at a time; more wait
	socketMode     = 0o600
)

// errNotLocal refuses every address but loopback (invariant 6).
var errNotLocal = errors.New("the agent serves programs on this machine only: use 127.0.0.1:PORT, [::1]:PORT or unix:///PATH")

// Address is where the server listens.
type Address struct {
	address string      // HOST:PORT on loopback; empty: a socket
	path    string      // of the socket
	mode    fs.FileMode // of the socket
}

// ParseAddress parses 127.0.0.1:PORT, [::1]:PORT or unix:///PATH. A query such as ?mode=0660 lets other users connect
// to a socket.
func ParseAddress(where string) (Address, error) {
	if !strings.HasPrefix(where, "unix:") {
		address, err := netip.ParseAddrPort(where)
		if err != nil || !address.Addr().IsLoopback() {
			return Address{}, fmt.Errorf("listen on %.100q: %w", where, errNotLocal)
		}
		return Address{address: where}, nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Host != "" || !filepath.IsAbs(u.Path) {
		return Address{}, fmt.Errorf("listen on %.100q: %w", where, errNotLocal)
	}
	mode, asked := uint64(socketMode), u.Query().Get("mode")
	if asked != "" {
		mode, err = strconv.ParseUint(asked, 8, 32)
	}
	if err != nil || mode&^0o666 != 0 {
		return Address{}, fmt.Errorf("listen on %.100q: a socket's mode is octal, such as 0660", where)
	}
	return Address{path: u.Path, mode: fs.FileMode(mode)}, nil
}

// Listen opens a listener at the address.
func (a Address) Listen(ctx context.Context) (net.Listener, error) {
	if a.path != "" {
		return a.listenUnix(ctx)
	}
	var c net.ListenConfig
	return c.Listen(ctx, "tcp", a.address)
}

// ListenLater returns a listener, for Serve alone, whose socket is made as soon as its disk allows it.
func (a Address) ListenLater() net.Listener { return &unmadeListener{a} }

// unmadeListener is a socket that can't be made yet.
type unmadeListener struct{ at Address }

func (u *unmadeListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (u *unmadeListener) Close() error              { return nil }
func (u *unmadeListener) Addr() net.Addr            { return &net.UnixAddr{Name: u.at.path, Net: "unix"} }

func (a Address) listenUnix(ctx context.Context) (net.Listener, error) {
	if err := removeStaleSocket(ctx, a.path); err != nil {
		return nil, err
	}
	// The socket begins in a private folder: it must not accept connections before its mode is set, and the process's
	// umask must not change.
	private, err := os.MkdirTemp(filepath.Dir(a.path), disk.UnfinishedPattern)
	if refused, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("listen on %s: make a folder beside it: %w", a.path, refused.Err) // always in the same words
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a.path, err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	privatePath := filepath.Join(private, "s")
	if room := len(syscall.RawSockaddrUnix{}.Path) - 1; max(len(privatePath), len(a.path)) > room {
		return nil, fmt.Errorf("listen on %s: the path is too long for a socket: use a folder of at most %d bytes",
			a.path, room-len(privatePath)+len(filepath.Dir(a.path)))
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "unix", privatePath)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a.path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the socket is renamed below
	if err := errors.Join(os.Chmod(privatePath, a.mode), os.Rename(privatePath, a.path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	file, err := os.Lstat(a.path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", a.path, err), l.Close())
	}
	return &unixListener{l, a, file}, nil
}

// unixListener is a listener that removes its socket's file when closed.
type unixListener struct {
	net.Listener
	at   Address
	file fs.FileInfo // of the socket
}

func (s *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: s.at.path, Net: "unix"} }

func (s *unixListener) Close() error {
	var err error
	if s.isThere() { // what else is in its place is not ours
		err = os.Remove(s.at.path)
	}
	return errors.Join(s.Listener.Close(), err)
}

// isThere reports whether programs that use the path find this listener.
func (s *unixListener) isThere() bool {
	file, err := os.Lstat(s.at.path)
	return err == nil && os.SameFile(file, s.file)
}

// removeStaleSocket frees a path. It removes only a socket without a listener.
func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: the path exists and is not a socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen on %s: another process listens there already", path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: it is unknown whether another process listens there: %w", path, err)
	}
	return nil
}

// Serve answers programs on this machine, and web pages of the origins, until ctx ends. What is no matter of flags goes
// to local, which has the routes below /v1/ and /metrics; nil: there are none. A socket that somebody removed, or that
// could not be made yet, is made.
func (s *Server) Serve(ctx context.Context, l net.Listener, origins []string, local http.Handler) {
	socket, ok := l.(*unixListener)
	if unmade, later := l.(*unmadeListener); later {
		s.Sockets.lack(unmade.at.path)
		socket = s.Sockets.listenAgain(ctx, unmade.at)
	} else if !ok {
		s.serve(ctx, l, origins, local)
		return
	}
	for socket != nil {
		s.Sockets.add(socket)
		serving, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func(l net.Listener) {
			defer close(done)
			s.serve(serving, l, origins, local)
		}(socket)
		s.Sockets.awaitGone(ctx, socket.at.path)
		stop()
		<-done
		socket = s.Sockets.listenAgain(ctx, socket.at)
	}
}

func (s *Server) serve(ctx context.Context, l net.Listener, origins []string, local http.Handler) {
	evaluate := ofrep.New(s, s.log, ofrep.Options{Origins: origins})
	server := ofrep.Server(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local != nil && (r.URL.Path == "/metrics" || strings.HasPrefix(r.URL.Path, "/v1/")) {
			local.ServeHTTP(w, r)
			return
		}
		evaluate.ServeHTTP(w, r)
	}))
	server.WriteTimeout = 30 * time.Second // streams set their own
	server.ErrorLog = log.New(s.log, "", 0)
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	limited := &limitedListener{Listener: l, slots: make(chan struct{}, maxConnections)}
	if err := server.Serve(limited); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error().Err(err).Msg("flags are no longer served: restart the agent")
	}
	<-closed
}

// limitedListener bounds the connections that are open at a time.
type limitedListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, freeSlot: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitedConn struct {
	net.Conn
	freeSlot func()
}

func (c *limitedConn) Close() error {
	defer c.freeSlot()
	return c.Conn.Close()
}
