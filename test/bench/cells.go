package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	cellCount   = 10
	switchCount = 40
)

// measureCells measures the time from a push until ten cells on this machine run the release and have reported so.
func measureCells(ctx context.Context, dir string) ([]figures.Row, error) {
	p, err := startPipeline(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	renders, err := figures.TimeRuns(10, func(i int) error { return p.renderAll(ctx, i) })
	if err != nil {
		return nil, err
	}
	all, err := figures.TimeRuns(switchCount, func(i int) error { return p.deployRelease(ctx, i+1) })
	if err != nil {
		return nil, err
	}
	seen, err := goBenchmark(ctx, "./cells/agent/render", "BenchmarkRenderSeenBefore")
	if err != nil {
		return nil, err
	}
	agent, err := measureAgent(ctx, p)
	if err != nil {
		return nil, err
	}
	render, p99 := figures.Median(renders), figures.Quantile(all, 0.99)
	return append([]figures.Row{
		{
			What: "pushed until 10 cells are healthy on it, p99 beyond render", Got: figures.Time(p99 - render),
			Base:  fmt.Sprintf("p99 %s, 10 renders %s", figures.Time(p99), figures.Time(render)),
			Ratio: float64(p99-render) / float64(500*time.Millisecond), Limit: 1,
		},
		{
			What: "the same, p50 beyond render", Got: figures.Time(figures.Median(all) - render),
			Base:  "p50 " + figures.Time(figures.Median(all)),
			Ratio: float64(figures.Median(all)-render) / float64(500*time.Millisecond), Limit: 1,
		},
		figures.TimeRow("a render that was seen before", seen, "10 renders", render, 0.005),
	}, agent...), nil
}

func measureMemory(ctx context.Context, dir string) ([]figures.Row, error) {
	url, err := repositoryWithHeads(ctx, dir)
	if err != nil {
		return nil, err
	}
	binary, err := buildBinary(ctx, dir)
	if err != nil {
		return nil, err
	}
	p := &pipeline{binary: binary, dir: url + ".run", repo: url}
	defer p.stop()
	if err := p.serve(ctx); err != nil {
		return nil, err
	}
	first, err := settledMemory(ctx, p.server.Process.Pid)
	if err != nil {
		return nil, err
	}
	p.stop()
	if err := p.serve(ctx); err != nil {
		return nil, err
	}
	again, err := settledMemory(ctx, p.server.Process.Pid)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		{What: "memory of serve, 2,000 releases, 5,000 commits, 10,000 cells", Got: fmt.Sprintf("%.0f MB", again),
			Base: "limit 150 MB", Ratio: again / 150, Limit: 1},
		{What: "the same, after the first start ever, which clones", Got: fmt.Sprintf("%.0f MB", first),
			Base: "limit 150 MB", Ratio: first / 150, Limit: 1},
	}, nil
}

type pipeline struct {
	binary, agent      string // sluice, sluice-agent
	dir, repo, address string
	server             *exec.Cmd
	agents             []*exec.Cmd
	people             *gitrepo.Repo
}

func startPipeline(ctx context.Context, dir string) (*pipeline, error) {
	binary, err := buildBinary(ctx, dir)
	if err != nil {
		return nil, err
	}
	agent, err := buildProgram(ctx, dir, "sluice-agent")
	if err != nil {
		return nil, err
	}
	p := &pipeline{binary: binary, agent: agent, dir: filepath.Join(dir, "cells"),
		repo: filepath.Join(dir, "cells", "releases.git")}
	files := map[string][]byte{
		"sluice.yaml":                   []byte("apiVersion: sluice/v1\nkind: Pipeline\n"),
		"channels/staging/channel.yaml": []byte("apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"),
	}
	for i := range cellCount {
		files[fmt.Sprintf("cells/cell-%d/cell.yaml",
			i)] = []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n")
	}
	for name, data := range productRelease(0) {
		files[name] = data
	}
	ada := releases.Person{Name: "ada", Email: "ada@example.com"}
	if _, err := gitrepo.Init(ctx, p.repo, gitrepo.InitOptions{Bare: true, Files: files, Message: "begin", Author: ada,
		When: time.Now()}); err != nil {
		return nil, err
	}
	if p.people, err = gitrepo.Open(ctx, p.repo,
		gitrepo.Options{Mirror: filepath.Join(p.dir, "people"), Author: ada}); err != nil {
		return nil, err
	}
	if err := p.serve(ctx); err != nil {
		p.stop()
		return nil, err
	}
	for i := range cellCount {
		name := fmt.Sprintf("cell-%d", i)
		program := p.agent
		if i == wholeAgent {
			program = p.binary
		}
		a := exec.CommandContext(ctx, program, "agent", "--cell", name, "--server", "http://"+p.address, "--dir",
			filepath.Join(p.dir, name), "--healthy-for", "0s", "--log", "error")
		a.Stderr = os.Stderr
		if err := a.Start(); err != nil {
			p.stop()
			return nil, err
		}
		p.agents = append(p.agents, a)
	}
	return p, p.awaitRelease(ctx, version(0))
}

func version(i int) string { return fmt.Sprintf("1.%d.0", i) }

// productRelease returns the files of a release of ten objects.
func productRelease(i int) map[string][]byte {
	dir := "releases/" + version(i) + "/"
	kustomization := "resources:\n"
	files := map[string][]byte{dir + "release.yaml": fmt.Appendf(nil,
		"apiVersion: sluice/v1\nkind: Release\nversion: %s\n", version(i))}
	for j := range 10 {
		kustomization += fmt.Sprintf("  - part-%d.yaml\n", j)
		files[fmt.Sprintf("%spart-%d.yaml", dir, j)] = fmt.Appendf(nil,
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: part-%d}\nspec:\n"+
				"  selector: {matchLabels: {app: part-%d}}\n  template:\n    metadata: {labels: {app: part-%d}}\n"+
				"    spec: {containers: [{name: main, image: \"registry.example/part:%d\"}]}\n", j, j, j, i)
	}
	files[dir+"kustomization.yaml"] = []byte(kustomization)
	return files
}

// deployRelease pushes a release and waits until every cell is healthy on it.
func (p *pipeline) deployRelease(ctx context.Context, i int) error {
	base, err := p.people.Fetch(ctx)
	if err != nil {
		return err
	}
	if _, err := p.people.Push(ctx, base,
		[]releases.Draft{{Message: "cut " + version(i), When: time.Now(), Files: productRelease(i)}}); err != nil {
		return err
	}
	return p.awaitRelease(ctx, version(i))
}

// awaitRelease polls every few milliseconds until all cells are healthy on a release.
func (p *pipeline) awaitRelease(ctx context.Context, release string) error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		n, err := p.countHealthy(ctx, release)
		if err != nil {
			return err
		}
		if n == cellCount {
			return nil
		}
		time.Sleep(4 * time.Millisecond)
	}
	return fmt.Errorf("the cells are not on %s after a minute", release)
}

func (p *pipeline) countHealthy(ctx context.Context, release string) (n int, err error) {
	var status struct {
		Cells []struct{ Release, State string } `json:"cells"`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/v1/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return 0, err
	}
	for _, c := range status.Cells {
		if c.Release == release && c.State == "healthy" {
			n++
		}
	}
	return n, nil
}

// renderAll is the baseline: ten render children at once, as ten cells on one machine need.
func (p *pipeline) renderAll(ctx context.Context, i int) error {
	files := fstest.MapFS{}
	for name, data := range productRelease(1000 + i) {
		files[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
	var tar bytes.Buffer
	if err := releases.Pack(&tar, files, "releases/"+version(1000+i)); err != nil {
		return err
	}
	digest := releases.DigestBytes(tar.Bytes())
	header := fmt.Sprintf(`{"digest":%q,"memory":%d,"cpu":30}`+"\n", digest, 1<<30)
	var g errgroup.Group
	for range cellCount {
		g.Go(func() error {
			c := exec.CommandContext(ctx, p.agent, "render")
			c.Env = []string{}
			c.Stdin = strings.NewReader(header + tar.String())
			out, err := c.Output()
			if err == nil && !bytes.Contains(out, []byte("part-9")) {
				return fmt.Errorf("render: %.200s", out)
			}
			return err
		})
	}
	return g.Wait()
}

func (p *pipeline) serve(ctx context.Context) error {
	p.server = exec.CommandContext(ctx, p.binary, "serve", "--repo", p.repo, "--data", filepath.Join(p.dir, "data"),
		"--listen", "127.0.0.1:0", "--log", "error")
	p.server.Stderr = os.Stderr
	out, err := p.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.server.Start(); err != nil {
		return err
	}
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		return err
	}
	p.address = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(line[:n]))
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + p.address + "/readyz") //nolint:noctx // bounded by the loop
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.New("the control plane is not ready after a minute")
}

func (p *pipeline) stop() {
	for _, c := range append(slices.Clone(p.agents), p.server) {
		if c != nil && c.Process != nil {
			_ = c.Process.Signal(os.Interrupt)
			_ = c.Wait()
		}
	}
	p.agents, p.server = nil, nil
	if p.people != nil {
		_ = p.people.Close()
		p.people = nil
	}
}

func buildBinary(ctx context.Context, dir string) (string, error) {
	return buildProgram(ctx, dir, "sluice")
}

// buildProgram builds a program as a release has it.
func buildProgram(ctx context.Context, dir, name string) (string, error) {
	binary := filepath.Join(dir, name)
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
}

// goBenchmark runs a Go benchmark and returns its time per operation.
func goBenchmark(ctx context.Context, pkg, name string) (time.Duration, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", pkg).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	m := regexp.MustCompile(`([0-9.]+) ns/op`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s printed no time: %s", name, out)
	}
	ns, err := strconv.ParseFloat(string(m[1]), 64)
	return time.Duration(ns), err
}

// settledMemory returns a process's resident memory in MB once it stays the same.
func settledMemory(ctx context.Context, pid int) (float64, error) {
	last := 0.0
	for range 30 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(2 * time.Second):
		}
		now, err := residentMemory(pid)
		if err != nil {
			return 0, err
		}
		if now > last*0.98 && now < last*1.02 {
			return now, nil
		}
		last = now
	}
	return last, nil
}

func residentMemory(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		return 0, errors.New("no VmRSS in /proc")
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1000, err
}
