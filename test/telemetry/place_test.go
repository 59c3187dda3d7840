package telemetry

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

// place is a release repository with its control plane, and one cell.
type place struct {
	t       *testing.T
	dir     string
	program string
	logs    []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "otel-") // short: the path of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &place{t: t, dir: dir, program: os.Getenv("SLUICE")}
	if p.program == "" {
		p.program = p.path("sluice")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "./cmd/sluice")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build sluice: %v\n%s", err, out)
		}
	}
	return p
}

func (p *place) path(name ...string) string {
	return filepath.Join(append([]string{p.dir}, name...)...)
}

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(p.t.Context(), p.program, args...)
	c.Dir = p.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=ada",
		"GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=ada", "GIT_COMMITTER_EMAIL=ada@example.com",
		"SLUICE_REPO=" + p.path("releases.git"), "SLUICE_SERVER=unix://" + p.path("s")}
	return c
}

// sluice runs a verb.
func (p *place) sluice(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	if err != nil {
		p.fail("sluice %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// export runs a verb of the cell's owner.
func (p *place) export(args ...string) string {
	p.t.Helper()
	return p.sluice(append(append([]string{"cell", "export"}, args...), "--state", p.path("product", ".agent"))...)
}

// start starts a program that runs until the test ends.
func (p *place) start(args ...string) {
	p.t.Helper()
	log := p.path(args[0] + ".log")
	file, err := os.Create(log)
	if err != nil {
		p.t.Fatal(err)
	}
	p.logs = append(p.logs, log)
	c := p.command(args...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) } // the context ends before the cleanups
	c.WaitDelay = time.Minute
	c.Stdout, c.Stderr = file, file
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _, _ = c.Wait(), file.Close() })
}

// await waits until isSo, and says what never came.
func (p *place) await(isSo func() bool, what func() string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !isSo(); time.Sleep(200 * time.Millisecond) { // between two looks
		if time.Now().After(end) {
			p.fail("it never came: %s", what())
		}
	}
}

// awaitSaid waits until a verb, which may fail until then, says something.
func (p *place) awaitSaid(text string, args ...string) {
	p.t.Helper()
	var out []byte
	p.await(func() bool {
		out, _ = p.command(args...).CombinedOutput()
		return strings.Contains(string(out), text)
	}, func() string { return text + " in: " + string(out) })
}

// fail ends the test with what the programs logged.
func (p *place) fail(format string, args ...any) {
	p.t.Helper()
	for _, log := range p.logs {
		text, _ := os.ReadFile(log)
		p.t.Logf("%s: %s", log, text[max(0, len(text)-4000):])
	}
	p.t.Fatalf(format, args...)
}
