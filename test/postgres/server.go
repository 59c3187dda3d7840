// Package postgres runs real PostgreSQL servers for tests and benchmarks, from an installation that it finds, or makes
// where it may (Debian, as root).
//
// A server listens on loopback alone, requires a random password, keeps its data in a temporary folder with fsync on,
// and stops when the process that launched it ends or is killed. Servers refuse to run as root, so root runs them as
// the user postgres or nobody. The package never touches a server that it did not launch, except the one that Address
// names.
//
// Programs use Launch. Tests use Start, and call Main from TestMain to share one server. A Server's methods may be
// called by one goroutine at a time; Create, Drop and KillSessions by many at once.
package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/test/ports"
)

const (
	startTimeout = time.Minute // includes recovery after a crash
	stopTimeout  = time.Minute
	superuser    = "sluice"
)

// Options may be zero.
type Options struct {
	Folder string // parent of the data folder; default: the folder for temporary files
}

// Server is a running PostgreSQL server, which must be closed.
type Server struct {
	options  Options
	programs installation
	user     *syscall.Credential // nil: the user of this process
	folder   string
	lock     *os.File // held while the folder is in use
	password string
	port     int

	process *exec.Cmd     // nil: stopped
	exited  chan struct{} // closed when process has ended
	output  *outputLog    // of process
}

// Launch initializes a server in a new folder and starts it.
func Launch(ctx context.Context, o Options) (*Server, error) {
	s := &Server{options: o, password: rand.Text()}
	err := s.initialize(ctx)
	for attempt := 0; err == nil; attempt++ {
		free, found := ports.Free(1)
		if err = found; err != nil {
			break
		}
		s.port = free[0]
		// Another process may take the port before the server does.
		if err = s.Restart(ctx); err == nil || attempt == 4 || s.output == nil ||
			!strings.Contains(s.output.String(), "in use") {
			break
		}
		err = nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("launch PostgreSQL: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) initialize(ctx context.Context) (err error) {
	if s.programs, err = findInstallation(ctx); err != nil {
		return err
	}
	if s.user, err = serverUser(); err != nil {
		return err
	}
	if s.folder, s.lock, err = createFolder(cmp.Or(s.options.Folder, os.TempDir()), s.user); err != nil {
		return err
	}
	secret := filepath.Join(s.folder, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return err
	}
	if err := chown(secret, s.user); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.programs.initdb, "--pgdata="+s.dataFolder(), "--username="+superuser,
		"--pwfile="+secret,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.Env = s.folder, programEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", cmp.Or(ctx.Err(), err), lastOutput(string(out)))
	}
	return nil
}

// Restart starts the server again, at the same address, after Stop or Crash. It returns when the server accepts
// connections.
func (s *Server) Restart(ctx context.Context) error {
	if s.process != nil {
		return errors.New("start PostgreSQL: it runs")
	}
	cmd := exec.Command(s.programs.postgres, "-D", s.dataFolder(), "-c", "listen_addresses=127.0.0.1",
		"-c", "port="+strconv.Itoa(s.port),
		"-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "shared_buffers=64MB",
		"-c", "timezone=UTC", "-c", "fsync=on")
	output := &outputLog{ready: make(chan struct{})}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.folder, programEnvironment(), output, output
	cmd.WaitDelay = stopTimeout
	cmd.SysProcAttr = childAttributes(s.user)
	s.output = output
	exited, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.process, s.exited = cmd, exited
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-output.ready:
		return nil
	case <-exited:
		s.process = nil
		return fmt.Errorf("start PostgreSQL: it ended: %s", lastOutput(output.String()))
	case <-timeout.C:
		err = fmt.Errorf("start PostgreSQL: not ready after %s: %s", startTimeout, lastOutput(output.String()))
	case <-ctx.Done():
		err = fmt.Errorf("start PostgreSQL: %w", ctx.Err())
	}
	return errors.Join(err, s.Crash())
}

// startProcess starts cmd from a thread that lives as long as cmd does: the kernel signals the death of the parent
// thread, not of the parent process.
func startProcess(cmd *exec.Cmd) (exited chan struct{}, err error) {
	exited = make(chan struct{})
	started := make(chan error)
	go runOnLockedThread(func() {
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the output says how it ended
			close(exited)
		}
	})
	return exited, <-started
}

// Stop ends sessions and stops the server as an administrator would. It does nothing if the server is stopped.
func (s *Server) Stop() error { return s.signalAndWait(syscall.SIGINT) }

// Crash stops the server at once, without a checkpoint, so that Restart recovers from the log.
func (s *Server) Crash() error { return s.signalAndWait(syscall.SIGQUIT) }

func (s *Server) signalAndWait(signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	_ = s.process.Process.Signal(signal) // it may have ended already
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-s.exited:
	case <-timeout.C:
		return fmt.Errorf("stop PostgreSQL: still there after %s: %s", stopTimeout, lastOutput(s.output.String()))
	}
	s.process = nil
	return nil
}

// Close stops the server and removes its folder.
func (s *Server) Close() error {
	if err := s.Crash(); err != nil { // no checkpoint is needed
		return err
	}
	if s.folder == "" {
		return nil
	}
	err := os.RemoveAll(s.folder)
	return errors.Join(err, s.lock.Close())
}

// URL returns the address of a database of the server, with the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) dataFolder() string { return filepath.Join(s.folder, "data") }

// programEnvironment leaves out variables that would change the programs' defaults or language.
func programEnvironment() []string {
	return []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
}
