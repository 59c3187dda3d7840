package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/gitrepo"
)

// keptFile is what the engine keeps in the data folder so that its next start is quick. It can be deleted.
const keptFile = "read.cache"

// defaultListen is where serve listens; agents and --server name it in their examples.
const defaultListen = "127.0.0.1:7600"

// running is what serve and tick are told.
type running struct {
	listen []string
	secret string // file
	poll   time.Duration
	author string
	key    string
	level  string
}

func (r *running) engineFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.author, "author", "Sluice <sluice@localhost>", "in whose name promotions are committed")
	f.StringVar(&r.key, "signing-key", "", "`FILE` of a private SSH key that signs promotions")
	f.StringVar(&r.level, "log", "info", "log level: debug, info, warn, error")
}

func (a *app) serveVerb() *cobra.Command {
	var r running
	cmd := &cobra.Command{
		Use:     "serve --repo R --data DIR",
		GroupID: groupRun,
		Short:   "Run the engine and the control plane",
		Long: `Promotes by the repository's gates, and answers cells and people over HTTP, until it is interrupted. DIR gets the mirror of
the repository and the store; deleting the store loses no intent, it refills from the cells' reports. A push is noticed at once on
a local repository or by a hook (POST /v1/hooks/push, with $SLUICE_HOOK_SECRET or --hook-secret-file), else by polling.

Cells have no keys yet, so it listens on loopback or a unix socket only.

To reach the repository: https:// takes $SLUICE_GIT_USERNAME and $SLUICE_GIT_TOKEN (and $SLUICE_GIT_CA_FILE), ssh:// takes the SSH agent or
$SLUICE_SSH_KEY, and checks the host against ~/.ssh/known_hosts or $SLUICE_SSH_KNOWN_HOSTS.`,
		Example: `  sluice serve --repo /srv/git/releases.git --data /var/lib/sluice
  sluice serve --repo ssh://git@git.example/releases --data /var/lib/sluice --listen unix:///run/sluice.sock`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, r) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&r.listen, "listen", []string{defaultListen}, "`ADDRESS` on loopback, or unix:///PATH; may be repeated")
	f.StringVar(&r.secret, "hook-secret-file", "", "`FILE` with the secret that the git host signs push hooks with")
	f.DurationVar(&r.poll, "poll", time.Minute, "how often to look at the branch without being told of a push")
	r.engineFlags(cmd)
	return cmd
}

// engaged is an engine with what it works on. Close it.
type engaged struct {
	*engine.Engine
	repo  *opened
	store *store.Store
	log   zerolog.Logger
}

func (e *engaged) Close() error {
	e.repo.Close()
	return e.store.Close()
}

// engage opens what the engine works on.
func (a *app) engage(ctx context.Context, cmd *cobra.Command, r running) (*engaged, error) {
	if a.data == "" {
		return nil, usage(cmd, "--data, the folder for the mirror and the store, is missing")
	}
	level, err := zerolog.ParseLevel(r.level)
	if err != nil {
		return nil, usage(cmd, "--log %q is none of debug, info, warn, error", r.level)
	}
	log := a.logger().Level(level)
	as := identity{}
	name, rest, ok := strings.Cut(r.author, " <")
	mail, closed := strings.CutSuffix(rest, ">")
	if as.person = (releases.Person{Name: name, Email: mail}); !ok || !closed || name == "" {
		return nil, usage(cmd, "--author %q is not of the form Name <address>", r.author)
	}
	if r.key != "" {
		if as.signer, err = gitrepo.LoadSigner(r.key); err != nil {
			return nil, err
		}
	}
	st, err := store.Open(ctx, filepath.Join(a.data, storeFile), log)
	if err != nil {
		return nil, err
	}
	repo, err := a.open(ctx, cmd, as)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	e, err := engine.New(ctx, repo.Repo, st, engine.Options{Log: log, Probe: engine.HTTPProber{}, Poll: r.poll, Keep: filepath.Join(a.data, keptFile)})
	if err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	return &engaged{Engine: e, repo: repo, store: st, log: log}, nil
}

func (a *app) serve(cmd *cobra.Command, r running) (err error) {
	ctx := cmd.Context()
	secret, err := a.hookSecret(r.secret)
	if err != nil {
		return err
	}
	listeners, err := listen(r.listen)
	if err != nil {
		return fail(err, "choose another with --listen; only loopback addresses and unix sockets are safe")
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // closed already, but where starting failed
		}
	}()
	e, err := a.engage(ctx, cmd, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	server, err := controlplane.New(controlplane.Options{
		Views: e, Inbox: e, Repository: e.repo, Journal: e.store, Log: e.log,
		Pushed: e.Pushed, HookSecret: secret, Branch: a.branch,
		Reachable: e.Reachable, Store: e.store.Ready,
	})
	if err != nil {
		return err
	}
	watch, err := a.watchPushes(ctx, e)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		a.stdout.line("listening on %s", address(l))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.Run(ctx, watch) })
	g.Go(func() error { return server.Serve(ctx, listeners...) })
	return g.Wait()
}

func (a *app) hookSecret(file string) (string, error) {
	if file == "" {
		return a.getenv("SLUICE_HOOK_SECRET"), nil
	}
	secret, err := readBounded(file)
	if err != nil {
		return "", fmt.Errorf("read the hook secret: %w", err)
	}
	return strings.TrimSpace(string(secret)), nil
}

// watchPushes tells of pushes to a repository on this disk. Where watching fails, polling does the work.
func (a *app) watchPushes(ctx context.Context, e *engaged) (<-chan struct{}, error) {
	source, err := gitrepo.Watch(ctx, e.repo.address)
	if err != nil {
		e.log.Warn().Err(err).Msg("pushes are not noticed at once, but by polling")
		return nil, nil
	}
	if source == nil {
		return nil, nil
	}
	told := make(chan struct{}, 1)
	go func() { // ends with source, which ends with ctx
		for range source {
			select {
			case told <- struct{}{}:
			default:
			}
		}
		if ctx.Err() == nil {
			e.log.Warn().Msg("the watch on the repository was lost: pushes are found by polling")
		}
	}()
	return told, nil
}

func listen(addresses []string) (all []net.Listener, err error) {
	for _, at := range addresses {
		var l net.Listener
		if path, ok := strings.CutPrefix(at, "unix://"); ok {
			l, err = controlplane.ListenUnix(path)
		} else {
			l, err = controlplane.ListenLoopback(at)
		}
		if err != nil {
			for _, open := range all {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// address is a listener's as --server takes it.
func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

func (a *app) tickVerb() *cobra.Command {
	var r running
	cmd := &cobra.Command{
		Use:     "tick --repo R --data DIR",
		GroupID: groupRun,
		Short:   "Let the engine look once, do what there is to do, and end",
		Long: `One pass of what serve does all the time: for a cron job, a CronJob or a Lambda. It looks at the branch, asks what gates need
from outside, decides, pushes, and prints what it did and what is blocked. It may be killed at any instant and run again, also
while another runs.`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tick(cmd, r) },
	}
	r.engineFlags(cmd)
	return cmd
}

// maxAsks is how often one tick goes on after gates were answered: an answer may open the way to the next gate.
const maxAsks = 4

func (a *app) tick(cmd *cobra.Command, r running) (err error) {
	ctx := cmd.Context()
	if !cmd.Flags().Changed("log") {
		r.level = "warn" // what was done is printed
	}
	e, err := a.engage(ctx, cmd, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	_, cursor, err := e.store.Decisions(ctx, -1, 1)
	if err != nil {
		return err
	}
	plan, err := e.Tick(ctx)
	for range maxAsks {
		if err != nil || len(plan.Wants) == 0 {
			break
		}
		if err = e.Answer(ctx, plan.Wants); err == nil {
			plan, err = e.Tick(ctx)
		}
	}
	if err != nil {
		return fail(err, "it is safe to run it again")
	}
	if done, err := a.encode(plan); done {
		return err
	}
	const most = 1000
	decided, _, err := e.store.Decisions(ctx, cursor, most)
	if err != nil {
		return err
	}
	for _, d := range decided {
		a.stdout.line("%s", told(d))
	}
	for _, act := range plan.Actions {
		if act.Kind == engine.Grant {
			a.stdout.line("grant %s of %s to %s", act.Release, act.Channel, some(act.Cells))
		}
	}
	if len(decided)+len(plan.Actions) == 0 {
		a.stdout.line("nothing to do")
	}
	for _, v := range plan.Blocked {
		a.stdout.line("%s: %s", strings.Join(strings.Fields(v.Channel+" "+v.Cell+" "+v.Release), " "), v)
	}
	return nil
}

// told says a decision in a line.
func told(d engine.Decided) string {
	switch d.Kind {
	case engine.Promote:
		return fmt.Sprintf("promote %s to %s, commit %s", d.Release, d.Channel, short(d.Commit))
	case engine.Rollback:
		return fmt.Sprintf("roll back %s from %s to %s, commit %s", d.Channel, orDash(d.Replaces), d.Release, short(d.Commit))
	case engine.Adopted, engine.Quarantines, engine.Halt, engine.Grant:
	}
	return fmt.Sprintf("%s %s in %s, commit %s", d.Kind, d.Release, d.Channel, short(d.Commit))
}

// selfPath is this program, for child processes.
func selfPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return self, nil
}
