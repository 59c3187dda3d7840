package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/fixtures/workspaces/product"
)

const (
	demoCell    = "staging-eu"           // where the product runs
	demoWork    = 200 * time.Millisecond // that an operation takes
	demoVisits  = 50 * time.Millisecond  // between starts: 20 a second
	maxSocket   = 100                    // bytes of a socket's path
	demoSmall   = "2026.11.3"            // cut, and changes only what is not marked
	keptRunning = 3                      // workspaces that run all the while
)

// productVerb runs the sample product beside an agent.
func productVerb(a *cli.App) *cobra.Command {
	var listen, agent string
	cmd := &cobra.Command{
		Use:    "product --agent SOCKET",
		Hidden: true, // the demo runs it
		Short:  "Run the sample product",
		Args:   cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return product.Run(cmd.Context(), listen, agent, demoWork, a.Stdout)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDRESS` of the page")
	cmd.Flags().StringVar(&agent, "agent", "", "`SOCKET` of the cell's agent")
	return cmd
}

// socket returns where the cell's agent answers the product, in the demo's folder unless that has too long a name.
func (d *demo) socket() (string, error) {
	if path := d.path("product.sock"); len(path) <= maxSocket {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return "", err
	}
	d.elsewhere = dir
	return filepath.Join(dir, "s"), nil
}

// useProduct starts the product in one cell, workspaces that keep running, and users who start others all the time.
func (d *demo) useProduct(ctx context.Context) error {
	read, write := io.Pipe()
	err := d.startChild(d.childContext, "product", write, "demo", "product", "--agent", d.productSocket)
	if err != nil {
		return err
	}
	address := make(chan string, 1)
	go func() {
		if lines := bufio.NewScanner(read); lines.Scan() {
			address <- lines.Text()
		}
		_, _ = io.Copy(io.Discard, read)
	}()
	u := &users{}
	select {
	case u.product = <-address:
	case err := <-d.childErrors:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.users = u
	for i := range keptRunning {
		if status, text, err := u.call(ctx, http.MethodPost, fmt.Sprintf("/workspaces/kept-%d/start", i)); err != nil ||
			status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("start a workspace: %d %s", status, text))
		}
	}
	if u.kept, err = u.keptWorkspaces(ctx); err != nil {
		return err
	}
	d.children.Go(func() { u.run(d.childContext) })
	d.screen.printEvent("the product runs in %s, on %s; users start 20 workspaces a second there", demoCell, u.product)
	return nil
}

// checkUsers says what users saw of an update, and fails if they saw what they must not.
func (d *demo) checkUsers(ctx context.Context, version string, refusals bool) error {
	seen := d.users.take()
	kept, err := d.users.keptWorkspaces(ctx)
	switch {
	case err != nil:
		return err
	case kept != d.users.kept:
		return fmt.Errorf("workspaces were %q, and are %q after the update to %s", d.users.kept, kept, version)
	case seen.broken != "":
		return fmt.Errorf("a user's operation during the update to %s: %s", version, seen.broken)
	case refusals != (seen.refused > 0):
		return fmt.Errorf("%d starts were refused during the update to %s", seen.refused, version)
	case refusals:
		d.screen.printEvent("%s changes the server, which is marked: %d of %d starts were refused, within %s, with %q",
			version, seen.refused, seen.refused+seen.done, seen.last.Sub(seen.first).Round(10*time.Millisecond),
			seen.text)
	default:
		d.screen.printEvent("%s changes only the dashboard: none of %d starts was refused", version, seen.done)
	}
	d.screen.printEvent("no operation broke off, and %d workspaces ran all the while, the same processes", keptRunning)
	return nil
}

// rolloutSmallRelease takes a release everywhere that changes nothing marked.
func (d *demo) rolloutSmallRelease(ctx context.Context) error {
	d.users.take()
	if err := d.cutRelease(ctx, demoSmall); err != nil {
		return err
	}
	if err := d.awaitRelease(ctx, demoSmall); err != nil {
		return err
	}
	return d.checkUsers(ctx, demoSmall, false)
}

var dashboardImage = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`workspaces/dashboard@sha256:[0-9a-f]{64}`)
})

// addSmallRelease adds a release that is the good one but for the dashboard, which is that of the bad one.
func addSmallRelease(upcoming map[string][]byte) {
	dashboard := dashboardImage().Find(upcoming[demoBad+"/release.yaml"])
	for name, data := range upcoming {
		if rest, ok := strings.CutPrefix(name, demoGood+"/"); ok {
			data = []byte(strings.ReplaceAll(string(data), demoGood, demoSmall))
			upcoming[demoSmall+"/"+rest] = dashboardImage().ReplaceAllLiteral(data, dashboard)
		}
	}
}

// users use the product. Methods may be called at once, but for those of the demo's own goroutine: take and
// keptWorkspaces.
type users struct {
	product string // address
	kept    string // what the page says of the workspaces that keep running

	mu   sync.Mutex
	seen seenByUsers
}

// seenByUsers is what users saw since somebody asked.
type seenByUsers struct {
	done, refused int
	first, last   time.Time // of the refusals
	text          string    // of one
	broken        string    // an operation that failed otherwise; empty: none did
}

func (u *users) call(ctx context.Context, method, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, u.product+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, strings.TrimSpace(string(text)), err
}

var keptRow = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`kept-[0-9]+: process [0-9]+`) })

func (u *users) keptWorkspaces(ctx context.Context) (string, error) {
	_, page, err := u.call(ctx, http.MethodGet, "/")
	rows := keptRow().FindAllString(page, -1)
	if err == nil && len(rows) != keptRunning {
		err = fmt.Errorf("%d workspaces run, not %d: %s", len(rows), keptRunning, page)
	}
	return strings.Join(rows, ", "), err
}

// run starts workspaces until ctx ends, and stops each once it runs.
func (u *users) run(ctx context.Context) {
	var visits sync.WaitGroup
	defer visits.Wait()
	tick := time.NewTicker(demoVisits)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		visits.Go(func() { u.visit(ctx, fmt.Sprint("/workspaces/w", i)) })
	}
}

// visit starts a workspace, and stops it, which may be refused for a while.
func (u *users) visit(ctx context.Context, workspace string) {
	if !u.operate(ctx, workspace+"/start") {
		return
	}
	for ctx.Err() == nil && !u.operate(ctx, workspace+"/stop") {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// operate asks for an operation, takes note of the answer, and reports whether it was done.
func (u *users) operate(ctx context.Context, path string) bool {
	status, text, err := u.call(ctx, http.MethodPost, path)
	if ctx.Err() != nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s, isStart := &u.seen, strings.HasSuffix(path, "/start")
	switch {
	case err != nil:
		s.broken = err.Error()
	case status == http.StatusLocked && isStart:
		if s.last = time.Now(); s.refused == 0 {
			s.first = s.last
		}
		s.refused++
		s.text = text
	case status == http.StatusOK && isStart:
		s.done++
	case status != http.StatusOK && status != http.StatusLocked:
		s.broken = fmt.Sprintf("%s is answered %d: %s", path, status, text)
	}
	return status == http.StatusOK
}

// take returns what users saw since the last time.
func (u *users) take() seenByUsers {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = seenByUsers{}
	return seen
}
