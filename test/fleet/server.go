package main

import (
	"bufio"
	"context"
	_ "embed" // for the profiler's source
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/test/swarm"
)

// server is a process that runs sluice serve. One goroutine uses it.
type server struct {
	binary     string
	repo       string
	data       string
	database   string // URL; empty: SQLite in data
	flagsRepo  string // empty: none
	registries string // file; empty: no images are served
	socket     string // path of a socket for people with all rights; empty: none

	address     string // of the listener for people
	cellAddress string // of the listener for cells; the same after a restart
	pin         string
	cmd         *exec.Cmd // nil: not running
	exited      chan struct{}
	listened    time.Time // zero: not yet
}

// readyTimeout bounds a start. The first start clones.
const readyTimeout = 2 * time.Minute

func (s *server) start(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		return err
	}
	return s.awaitReady(ctx)
}

// launch starts the server, and returns when the server listens.
func (s *server) launch(ctx context.Context) error {
	at := s.cellAddress
	if at == "" {
		at = "127.0.0.1:0"
	}
	args := []string{"serve", "--repo", s.repo, "--data", s.data, "--listen", "127.0.0.1:0", "--cells", at, "--log",
		"error"}
	if s.flagsRepo != "" {
		args = append(args, "--flags-repo", s.flagsRepo)
	}
	if s.registries != "" {
		args = append(args, "--registries", s.registries, "--images-warm-within", "0")
	}
	if s.socket != "" {
		args = append(args, "--listen", "unix://"+s.socket)
	}
	s.cmd = exec.CommandContext(ctx, s.binary, args...)
	s.cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"SLUICE_CPU_PROFILE="+filepath.Join(filepath.Dir(s.data), "cpu.pprof"))
	if s.database != "" {
		s.cmd.Env = append(s.cmd.Env, "SLUICE_DATABASE="+s.database) // contains a password
	}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for (s.address == "" || s.pin == "" || s.listened.IsZero()) && lines.Scan() {
		s.parseLine(lines.Text())
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.exited)
	if s.pin == "" {
		return errors.New("serve did not say where it listens")
	}
	return nil
}

func (s *server) parseLine(line string) {
	if at := regexp.MustCompile(`^listening for cells on (\S+),`).FindStringSubmatch(line); at != nil {
		s.cellAddress, s.listened = at[1], time.Now()
	} else if at := regexp.MustCompile(`^listening on http://(\S+)`).FindStringSubmatch(line); at != nil {
		s.address = at[1]
	} else if pin, ok := strings.CutPrefix(line, "active key "); ok {
		s.pin = pin
	}
}

func (s *server) awaitReady(ctx context.Context) error {
	for begun := time.Now(); time.Since(begun) < readyTimeout; time.Sleep(5 * time.Millisecond) {
		select {
		case <-s.exited:
			return errors.New("serve ended")
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if _, err := s.httpGet(ctx, "/readyz"); err == nil {
			return nil
		}
	}
	return errors.New("serve is not ready")
}

func (s *server) httpGet(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		return nil, err
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer w.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(w.Body, 64<<20))
	if err == nil && w.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, w.Status, body)
	}
	return body, err
}

// adminClient returns a client that connects to the socket, whatever the URL.
func (s *server) adminClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn,
		error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket)
	}}}
}

func (s *server) readStatus(ctx context.Context, v any) error {
	body, err := s.httpGet(ctx, "/v1/status?limit=1")
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// sumMetric returns the sum of a metric's series whose labels contain all the given texts. ok is false if there is no
// such metric.
func (s *server) sumMetric(ctx context.Context, name string, labels ...string) (sum float64, ok bool, err error) {
	body, err := s.httpGet(ctx, "/metrics")
	if err != nil {
		return 0, false, err
	}
	for line := range strings.Lines(string(body)) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		series, value := "", strings.TrimSpace(rest)
		if rest[0] == '{' {
			i := strings.LastIndexByte(rest, '}')
			series, value = rest[:i], strings.TrimSpace(rest[i+1:])
		}
		fits := true
		for _, l := range labels {
			fits = fits && strings.Contains(series, l)
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w", line, err)
		}
		if ok = true; fits {
			sum += n
		}
	}
	return sum, ok, nil
}

func (s *server) controlPlane() swarm.ControlPlane {
	return swarm.ControlPlane{Addresses: []string{s.cellAddress}, Pins: []string{s.pin}}
}

// stop ends the server as an administrator would, kill as a power failure would.
func (s *server) stop() { s.signalAndWait(syscall.SIGTERM) }
func (s *server) kill() { s.signalAndWait(syscall.SIGKILL) }

func (s *server) signalAndWait(how syscall.Signal) {
	if s == nil || s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(how)
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd, s.address, s.listened = nil, "", time.Time{}
}

// processUsage is what a process has used so far.
type processUsage struct {
	cpu time.Duration // user and system
	rss int64         // bytes, now
}

func readUsage(pid int) (u processUsage, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // after the name, which may contain spaces
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return u, errors.New("/proc has no times of the process")
	}
	const ticks, page = 100, 4096 // of Linux, wherever this program runs
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	u.rss = pages * page
	return u, err
}

// settledMemory returns a process's resident memory once it stays the same for a while, without forcing a garbage
// collection.
func settledMemory(ctx context.Context, pid int) (int64, error) {
	var last int64
	for same, samples := 0, 0; same < 3 && samples < 40; samples++ {
		u, err := readUsage(pid)
		if err != nil {
			return 0, err
		}
		if same++; u.rss > last+last/200 || u.rss < last-last/200 {
			same, last = 0, u.rss
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return last, nil
}

// profilerSource makes a binary write a CPU profile between two signals. It is laid over cmd/sluice when the binary is
// built for that.
//
//go:embed profiler.go.txt
var profilerSource []byte

// buildBinary builds the command as make build does, or with profilerSource if profiles is true.
func buildBinary(ctx context.Context, dir string, profiles bool) (string, error) {
	binary := filepath.Join(dir, "sluice")
	args := []string{"build", "-trimpath", "-o", binary}
	if profiles {
		source, overlay := filepath.Join(dir, "profiler.go"), filepath.Join(dir, "overlay.json")
		at, err := filepath.Abs("cmd/sluice/profiler.go")
		if err != nil {
			return "", err
		}
		text, err := json.Marshal(map[string]map[string]string{"Replace": {at: source}})
		if err != nil {
			return "", err
		}
		if err := errors.Join(os.WriteFile(source, profilerSource, 0o600),
			os.WriteFile(overlay, text, 0o600)); err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	c := exec.CommandContext(ctx, "go", append(args, "./cmd/sluice")...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
}

// withProfile writes a CPU profile of the server during do to a file; an empty name: no profile.
func (s *server) withProfile(file string, do func() error) error {
	if file == "" {
		return do()
	}
	written := filepath.Join(filepath.Dir(s.data), "cpu.pprof")
	_ = os.Remove(written)
	if err := s.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	err := do()
	_ = s.cmd.Process.Signal(syscall.SIGUSR2) // the server writes and renames the file
	for range 200 {
		if os.Rename(written, file) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
