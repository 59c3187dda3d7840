package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

const (
	productNamespace = "workspaces"     // of the sample product's objects
	demoClusterTime  = 20 * time.Second // for a release to become healthy in a cluster
	kubectlTimeout   = time.Minute
	maxKubectlOutput = 1 << 20
)

// clusters are the cells' clusters, by kubeconfigs in a folder. Methods of a nil *clusters do nothing: the cells are
// folders then. One goroutine uses it.
type clusters struct {
	dir     string
	kubectl string // the program
	env     []string

	serving string        // the file in which a watch writes how many of the server's replicas serve; empty: none runs
	replied chan struct{} // closed once that watch ended
}

// openClusters returns the clusters of a folder.
func openClusters(dir string, env []string) (*clusters, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &clusters{dir: dir, env: env}
	if c.kubectl, err = exec.LookPath("kubectl"); err != nil {
		return nil, cli.Fail(fmt.Errorf("demo: --clusters: %w", err), "install kubectl, or use make demo TARGET=kubernetes")
	}
	if _, err := os.Stat(c.kubeconfig(demoCell)); err != nil {
		return nil, cli.Fail(fmt.Errorf("demo: --clusters: %w", err), "make demo TARGET=kubernetes makes such a folder")
	}
	return c, nil
}

// kubeconfig returns the file that says how to reach a cell's cluster.
func (c *clusters) kubeconfig(cell string) string { return filepath.Join(c.dir, cell) }

// command returns kubectl's command for the product's objects in a cell.
func (c *clusters) command(cell string, args ...string) []string {
	return append([]string{c.kubectl, "--kubeconfig", c.kubeconfig(cell), "-n", productNamespace}, args...)
}

// get asks a cell's cluster by kubectl.
func (c *clusters) get(ctx context.Context, cell string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, kubectlTimeout, errors.New("kubectl took too long"))
	defer cancel()
	out, faults := process.NewLimitedBuffer(maxKubectlOutput), process.NewTail(4<<10)
	err := process.Child{Args: c.command(cell, append([]string{"get"}, args...)...), Env: c.env, Stdout: out,
		Stderr: faults}.Run(ctx)
	if err != nil {
		return "", fmt.Errorf("kubectl get %s in %s: %w: %s", args[0], cell, err, faults.LastLine(1<<10))
	}
	return string(out.Bytes()), nil
}

// What is shown of a cluster.
func deployments() []string {
	return []string{"deployments", "-o", "custom-columns=DEPLOYMENT:.metadata.name,REPLICAS:.spec.replicas," +
		"SERVING:.status.availableReplicas,IMAGE:.spec.template.spec.containers[0].image"}
}

func serverPods() []string { return []string{"pods", "-l", "app.kubernetes.io/name=server"} }

// show prints what kubectl says of a cell.
func (c *clusters) show(ctx context.Context, s *screen, cell, when string, what func() []string) error {
	if c == nil {
		return nil
	}
	args := what()
	out, err := c.get(ctx, cell, args...)
	if err != nil {
		return err
	}
	s.printEvent("%s, %s: $ kubectl get %s", cell, when, args[0])
	for line := range strings.Lines(out) {
		s.out.PrintLine("         %s", strings.TrimRight(line, " \n"))
	}
	return nil
}

// showBefore shows a cell's cluster before the first update.
func (d *demo) showBefore(ctx context.Context) error {
	return d.clusters.show(ctx, d.screen, demoCell, "before", deployments)
}

// watchServing follows how many of the server's replicas serve in staging, until ctx ends.
func (d *demo) watchServing(ctx context.Context) error {
	c := d.clusters
	if c == nil {
		return nil
	}
	c.serving, c.replied = d.path("logs", "serving.log"), make(chan struct{})
	file, err := os.Create(c.serving)
	if err != nil {
		return err
	}
	d.children.Go(func() {
		defer close(c.replied)
		defer file.Close()
		// Whatever ends it, checkServing demands what it would have written.
		_ = process.Child{Args: c.command(demoCell, "get", "deployment", "server", "--watch", "-o",
			`jsonpath={.metadata.generation} {.status.availableReplicas}{"\n"}`), Env: c.env, Stdout: file}.Run(ctx)
	})
	return nil
}

// watchBadRelease waits until the pods of the bad release fail, and shows them beside those that serve.
func (d *demo) watchBadRelease(ctx context.Context) error {
	c := d.clusters
	if c == nil {
		return nil
	}
	err := d.pollUntil(ctx, func() bool {
		out, err := c.get(ctx, demoCell, serverPods()...)
		return err == nil && strings.Contains(out, "CrashLoopBackOff")
	})
	if err != nil {
		return err
	}
	return c.show(ctx, d.screen, demoCell, "while "+demoBad+" fails", serverPods)
}

// checkServing fails unless as many replicas of the server as before served while the bad release came and went.
func (d *demo) checkServing(ctx context.Context) error {
	c := d.clusters
	if c == nil {
		return nil
	}
	last, err := c.get(ctx, demoCell, "deployment", "server", "-o", "jsonpath={.metadata.generation}")
	if err != nil {
		return err
	}
	for {
		text, err := os.ReadFile(c.serving)
		if err != nil {
			return err
		}
		before, fewest, seen := readServing(string(text), last)
		switch {
		case fewest < before:
			return fmt.Errorf("of %d replicas of the server in %s, %d served while %s failed", before, demoCell, fewest,
				demoBad)
		case seen:
			d.screen.printEvent("%d replicas of the server served in %s all the while", fewest, demoCell)
			return c.show(ctx, d.screen, demoCell, "after the rollback", deployments)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.replied:
			return fmt.Errorf("kubectl, which followed the server's replicas in %s, ended", demoCell)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readServing reads lines of generation and serving replicas. It returns how many served at first, how few at any time,
// and whether a generation was seen.
func readServing(text, generation string) (before, fewest int, seen bool) {
	before, fewest = -1, -1
	for line := range strings.Lines(text) {
		of, available, whole := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if !whole || !strings.HasSuffix(line, "\n") {
			break // the rest of the line comes
		}
		n, err := strconv.Atoi(available)
		if err != nil {
			n = 0 // the field is absent: none serves
		}
		if before < 0 {
			before, fewest = n, n
		}
		fewest = min(fewest, n)
		seen = seen || of == generation
	}
	return before, fewest, seen
}

// markBadRelease gives the bad release's server a digest that begins with bad: containers don't run on nodes that kwok
// plays, and such an image crash-loops there.
func markBadRelease(upcoming map[string][]byte) {
	serverImage := regexp.MustCompile(`workspaces/server@sha256:([0-9a-f]{64})`)
	digest := serverImage.FindSubmatch(upcoming[demoBad+"/release.yaml"])[1]
	bad := append([]byte("bad"), digest[3:]...)
	for name, data := range upcoming {
		if strings.HasPrefix(name, demoBad+"/") {
			upcoming[name] = bytes.ReplaceAll(data, digest, bad)
		}
	}
}
