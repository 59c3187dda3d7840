package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/fixtures"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// demo is one run of the demo: its folder, its child processes, and their last known status. One goroutine uses
// it; each child has another, which sends to childErrors.
type demo struct {
	app    *cli.App // with the environment, --data and --server of this run
	dir    string
	repo   string
	flags  string
	server string
	self   string
	reader releases.Person // who acts in the console
	screen *screen

	childContext context.Context // ends with stopChildren
	stopChildren context.CancelFunc
	children     sync.WaitGroup
	childErrors  chan error // children that ended by themselves; room for all

	productSocket string // where the agent of demoCell answers the product
	elsewhere     string // folder of that, if it is outside the demo's; empty: it isn't
	users         *users // of the product

	clusters *clusters // the cells' clusters; nil: they are folders

	source    *repos.OpenRepository
	status    view.Status   // as last seen
	desired   *plan.Desired // the repository, as last seen
	invariant func() error  // checked after every refresh
}

const markerFile = ".sluice-demo" // marks a folder as one that the demo may empty

const maxChildren = 8

func newDemo(ctx context.Context, a *cli.App, dir string) (*demo, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	self, err := cli.ExecutablePath()
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, markerFile)); err != nil {
			return nil, cli.Fail(fmt.Errorf("demo: %s holds files that are not the demo's", dir),
				"name another folder: --dir DIR")
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("demo: empty %s: %w", dir, err)
		}
	}
	err = os.MkdirAll(filepath.Join(dir, "logs"), 0o755) //nolint:gosec // for people to look at
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, markerFile), nil, 0o600)); err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	// The demo also runs for a user without a name in git's configuration.
	env := cli.WithoutGitEnv(a.Env)
	if who, err := repos.FindAuthor(ctx, a); err == nil {
		env = append(env, "GIT_AUTHOR_NAME="+who.Name, "GIT_AUTHOR_EMAIL="+who.Email)
	} else {
		env = append(env, "GIT_AUTHOR_NAME=Demo", "GIT_AUTHOR_EMAIL=demo@sluice.example")
	}
	own := *a
	own.Env, own.Data, own.Branch, own.Output = env, filepath.Join(dir, "look"), "", cli.AsTable
	return &demo{
		app: &own, dir: dir, repo: filepath.Join(dir, "releases"), flags: filepath.Join(dir, "flags"), self: self,
		childErrors: make(chan error, maxChildren),
		screen:      newScreen(a.Stdout), invariant: func() error { return nil }, stopChildren: func() {},
	}, nil
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

func (d *demo) git(ctx context.Context, dir string, args ...string) (string, error) {
	return repos.RunGit(ctx, d.app, dir, args...)
}

// close ends all children and, unless keep is set, removes the folder.
func (d *demo) close(keep bool) error {
	d.screen.clearView()
	d.stopChildren()
	d.children.Wait()
	if d.source != nil {
		d.source.Close()
	}
	err := os.RemoveAll(d.elsewhere)
	if keep {
		return err
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// prepareReleases makes the release repository and the cells' files from the fixtures.
func (d *demo) prepareReleases(ctx context.Context) error {
	sample := fixtures.Workspaces()
	files, err := repos.ReadFolder(sample, "repository")
	if err != nil {
		return err
	}
	overlay, err := repos.ReadFolder(sample, "demo")
	if err != nil {
		return err
	}
	health := overlay["health.sh"]
	delete(overlay, "health.sh")
	maps.Copy(files, overlay)
	if err := os.WriteFile(d.path("health.sh"), health, 0o755); err != nil { //nolint:gosec // it is run
		return err
	}
	upcoming, err := repos.ReadFolder(sample, "releases-to-come")
	if err != nil {
		return err
	}
	addSmallRelease(upcoming)
	if d.clusters != nil {
		markBadRelease(upcoming)
	}
	for name, data := range upcoming {
		to := d.path("to-come", filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(to), 0o755)
		if err = errors.Join(err, os.WriteFile(to, data, 0o644)); err != nil { //nolint:gosec // for people to look at
			return err
		}
	}
	who, err := repos.FindAuthor(ctx, d.app)
	if err != nil {
		return err
	}
	if d.reader = who; !strings.Contains(who.Email, "@") { // git takes any text
		d.reader.Email += "@sluice.example"
	}
	files["sluice.yaml"] = append(files["sluice.yaml"], accessOf(d.reader)...)
	_, err = gitrepo.Init(ctx, d.repo,
		gitrepo.InitOptions{Files: files, Message: "begin: two channels, four cells, two releases\n", Author: who,
			When: time.Now().Truncate(time.Second)})
	if err != nil {
		return err
	}
	d.app.Repo = d.repo
	d.screen.printEvent("made a release repository: %s", d.repo)
	d.source, err = repos.OpenLocation(ctx, d.app, repos.ReleaseLocation(d.app, d.repo), repos.CommitIdentity{})
	return err
}

// accessOf returns the part of sluice.yaml that lets a person act in the console.
func accessOf(who releases.Person) string {
	return fmt.Sprintf("access: # what people may do at the control plane; in the console, the reader of the demo\n"+
		"  emails: {%q: [admin]}\n", strings.ToLower(who.Email))
}

// startChild runs this program as a child; its output goes to out, its log to logs/NAME.log.
func (d *demo) startChild(ctx context.Context, name string, out io.Writer, args ...string) error {
	file, err := os.Create(d.path("logs", name+".log"))
	if err != nil {
		return err
	}
	d.children.Go(func() {
		defer file.Close()
		c := process.Child{Args: append([]string{d.self}, args...), Env: d.app.Env, Stdout: out, Stderr: file,
			Grace: 5 * time.Second}
		if out == nil {
			c.Stdout = file
		}
		err := c.Run(ctx)
		if ctx.Err() == nil {
			log, _ := os.ReadFile(file.Name())
			d.childErrors <- fmt.Errorf("%s ended: %w: %s", name, errors.Join(err), lastLine(log))
		}
	})
	return nil
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (d *demo) startServer(ctx context.Context) error {
	living, stop := context.WithCancel(context.WithoutCancel(ctx)) // close ends the children, not ctx
	d.stopChildren = stop
	read, write := io.Pipe()
	defer read.Close()
	err := d.startChild(living, "serve", write, "serve", "--repo", d.repo, "--flags-repo", d.flags, "--data",
		d.path("data"), "--listen", "127.0.0.1:0", "--console-as",
		(&mail.Address{Name: d.reader.Name, Address: d.reader.Email}).String())
	if err != nil {
		return err
	}
	address := make(chan string, 1)
	go func() { // ends when read is closed
		for lines := bufio.NewScanner(read); lines.Scan(); {
			if at, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
				address <- at
				_, _ = io.Copy(io.Discard, read)
				return
			}
		}
	}()
	select {
	case d.server = <-address:
	case err := <-d.childErrors:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.app.Server = d.server
	d.screen.printEvent("the control plane listens on %s", d.server)
	d.screen.printEvent("follow it in a browser: %s", d.consoleURL())
	d.childContext = living
	return nil
}

func (d *demo) startCells(context.Context) error {
	names, err := fs.ReadDir(fixtures.Workspaces(), "repository/cells")
	if err != nil {
		return err
	}
	if d.productSocket, err = d.socket(); err != nil {
		return err
	}
	var started []string
	for _, entry := range names {
		name := entry.Name()
		var more []string
		if name == demoCell {
			more = []string{"--flags-listen", "unix://" + d.productSocket}
		}
		target := []string{"--dir", d.path("cells", name), "--health", "sh " + quoteShell(d.path("health.sh")),
			"--health-timeout", "2s"}
		if d.clusters != nil {
			target = []string{"--target", "kubernetes", "--kubeconfig", d.clusters.kubeconfig(name), "--state",
				d.path("cells", name), "--health-timeout", demoClusterTime.String()}
		}
		err := d.startChild(d.childContext, name, nil, slices.Concat([]string{"agent", "--cell", name, "--server",
			d.server, "--healthy-for", "1s", "--health-every", "500ms", "--report-every", "1s", "--heal-every", "5s"},
			target, more)...)
		if err != nil {
			return err
		}
		started = append(started, name)
	}
	d.screen.printEvent("started the agents of %s", strings.Join(started, ", "))
	return nil
}

// consoleURL returns the address of the console's first page.
func (d *demo) consoleURL() string { return strings.TrimRight(d.server, "/") + console.Base }

// quoteShell quotes s for a shell.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// cutRelease runs the command that a release engineer would.
func (d *demo) cutRelease(ctx context.Context, version string) error {
	return d.runVerb(ctx, "", "release", "cut", version, "--from", d.path("to-come", version), "--repo", d.repo)
}

// refreshStatus reads the status and the repository, and prints what changed.
func (d *demo) refreshStatus(ctx context.Context) error {
	s, err := client.FetchServerStatus(ctx, d.app, "")
	if err != nil {
		return err
	}
	if d.desired == nil || d.desired.Commit != s.Commit {
		seen, err := d.source.ReadReleases(ctx)
		if err != nil {
			return err
		}
		d.desired = seen.Desired
	}
	d.screen.printChanges(d.status, s, d.desired)
	d.status = s
	return nil
}

// pollUntil refreshes the status until done reports true.
func (d *demo) pollUntil(ctx context.Context, done func() bool) error {
	const pace = 100 * time.Millisecond
	failures := 0
	for {
		err := d.refreshStatus(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if failures++; failures > 50 { // the server answers 503 until it has read the repository
				return err
			}
		default:
			failures = 0
			if err := d.invariant(); err != nil {
				return err
			}
			if done() {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-d.childErrors:
			return err
		case <-time.After(pace):
		}
	}
}
