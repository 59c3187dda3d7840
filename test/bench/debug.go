package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/test/debian"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	keystrokes     = 1000
	keystrokePause = 2 * time.Millisecond // so that each side is at rest when a key is pressed
	echoBeyond     = 3 * time.Millisecond // what a debug session may add to OpenSSH's
	outputSize     = 50_000_000           // bytes
	outputRuns     = 4                    // more would fill the session's record; the first does not count
)

// measureDebug measures debug sessions: by OpenSSH's client through the control plane, beside the same client at an
// OpenSSH server on loopback; and the memory that many of them take at the control plane.
func measureDebug(ctx context.Context, dir string) ([]figures.Row, error) {
	for program, its := range map[string]string{"ssh": "openssh-client", "sshd": "openssh-server"} {
		if err := debian.Program(ctx, program, its); err != nil {
			return nil, err
		}
	}
	p := newSupport(dir)
	defer p.stop()
	if err := p.startCell(ctx); err != nil {
		return nil, err
	}
	if err := p.openSession(ctx); err != nil {
		return nil, err
	}
	echo, err := p.measureEcho(ctx)
	if err != nil {
		return nil, fmt.Errorf("keystrokes: %w", err)
	}
	output, err := p.measureOutput(ctx)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	relay, err := p.measureRelay(ctx)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return []figures.Row{echo, output, relay}, nil
}

// measureEcho measures how long a character takes from the keyboard to the screen, at both ends in turn.
func (p *support) measureEcho(ctx context.Context) (figures.Row, error) {
	var ends [2]*terminal
	for i, host := range []string{sessionHost, directHost} {
		t, err := p.openTerminal(ctx, host)
		if err != nil {
			return figures.Row{}, fmt.Errorf("%s: %w", host, err)
		}
		defer t.close()
		ends[i] = t
	}
	var took [2][]time.Duration
	for n := range keystrokes {
		for i, t := range ends {
			time.Sleep(keystrokePause)
			one, err := t.typeKey(byte('a' + n%26))
			if err != nil {
				return figures.Row{}, err
			}
			took[i] = append(took[i], one)
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	ours, direct := figures.Quantile(took[0], 0.99), figures.Quantile(took[1], 0.99)
	return figures.Row{What: "a keystroke's echo in a debug session, p99 beyond OpenSSH's",
		Got:   figures.Time(ours - direct),
		Base:  fmt.Sprintf("p99 %s, OpenSSH %s", figures.Time(ours), figures.Time(direct)),
		Ratio: float64(ours-direct) / float64(echoBeyond), Limit: 1}, nil
}

// terminal is a session whose far end shows what is typed, and does nothing else.
type terminal struct {
	ssh *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func (p *support) openTerminal(ctx context.Context, host string) (*terminal, error) {
	c := p.ssh(ctx, "-tt", host, "stty sane -icanon && echo ready && exec cat >/dev/null")
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	t := &terminal{c, in, bufio.NewReader(out)}
	for {
		line, err := t.out.ReadString('\n')
		if err != nil {
			t.close()
			return nil, fmt.Errorf("no terminal opens: %w", err)
		}
		if line == "ready\r\n" {
			return t, nil
		}
	}
}

// typeKey types a character, and returns how long it took to appear.
func (t *terminal) typeKey(key byte) (time.Duration, error) {
	begin := time.Now()
	if _, err := t.in.Write([]byte{key}); err != nil {
		return 0, err
	}
	shown, err := t.out.ReadByte()
	if err == nil && shown != key {
		err = fmt.Errorf("%q was typed, and %q is shown", key, shown)
	}
	return time.Since(begin), err
}

func (t *terminal) close() {
	_ = t.ssh.Process.Kill()
	_ = t.ssh.Wait()
}

// measureOutput measures a log of 50 MB that is printed, at both ends in turn.
func (p *support) measureOutput(ctx context.Context) (figures.Row, error) {
	if err := p.writeFile("log", logText(outputSize)); err != nil {
		return figures.Row{}, err
	}
	if err := p.await(ctx, func() error { return p.ssh(ctx, sessionHost, "true").Run() }); err != nil {
		return figures.Row{}, err // the terminal still ends: one command runs at a time
	}
	took := map[string][]time.Duration{}
	for run := range outputRuns {
		for _, host := range []string{sessionHost, directHost} {
			one, err := p.timeOutput(ctx, host)
			if err != nil {
				return figures.Row{}, fmt.Errorf("%s: %w", host, err)
			}
			if run > 0 {
				took[host] = append(took[host], one)
			}
		}
	}
	rate := func(host string) float64 { return outputSize / 1e6 / figures.Median(took[host]).Seconds() }
	ours, direct := rate(sessionHost), rate(directHost)
	return figures.Row{What: fmt.Sprintf("%d MB of output in a debug session", outputSize/1_000_000),
		Got: fmt.Sprintf("%.0f MB/s", ours), Base: fmt.Sprintf("OpenSSH %.0f MB/s", direct), Ratio: ours / direct,
		Limit: 0.6, Least: true}, nil
}

// logText returns lines such as a product logs, cut at a size.
func logText(size int) []byte {
	text := make([]byte, 0, size+200)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	for i := 0; len(text) < size; i++ {
		text = fmt.Appendf(text, "2026-11-30T12:%02d:%02d.%03dZ level=info request=%08x method=GET "+
			"path=/v1/workspaces/%d status=200 took=%dms\n", i/60000%60, i/1000%60, i%1000, random.Uint32(),
			random.IntN(5000), random.IntN(400))
	}
	return text[:size]
}

// timeOutput prints the log at a host, and returns how long it took from its first byte to its last.
func (p *support) timeOutput(ctx context.Context, host string) (time.Duration, error) {
	c := p.ssh(ctx, host, "cat "+p.path("log"))
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := c.Start(); err != nil {
		return 0, err
	}
	buffer, total := make([]byte, 1<<20), 0
	var begin, end time.Time
	for {
		n, err := out.Read(buffer)
		if begin.IsZero() {
			begin = time.Now()
		}
		if total += n; n > 0 {
			end = time.Now()
		}
		if err != nil {
			break // the end, as far as the size is right
		}
	}
	err = c.Wait()
	if total != outputSize {
		err = errors.Join(err, fmt.Errorf("%d bytes came, not %d", total, outputSize))
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return end.Sub(begin), nil
}

func (p *support) writeFile(name string, data []byte) error {
	return os.WriteFile(p.path(name), data, 0o600)
}
