// Package runcmd has the verbs that run the control plane (serve, tick), with its tools.
//
// It builds and wires their parts by hand, and decides nothing itself. Loops run in an errgroup, which ends
// with the verb.
package runcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/auditor"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// defaultListen is the default of --listen; the examples name it too.
const defaultListen = "127.0.0.1:7600"

// serveOptions are the flags of serve.
type serveOptions struct {
	engine engineOptions
	listen listenOptions
	images imageOptions
	signIn signInOptions
	otlp   string // endpoint for what cells export; empty: nothing is passed on
	as     consoleAsOption
}

func ServeVerb(a *cli.App) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:     "serve --repo R --data DIR",
		GroupID: cli.GroupRun,
		Short:   "Run the engine and the control plane",
		Long: `Promotes by the repository's gates, and answers cells and people over HTTP, until interrupted. DIR
holds the mirror of the repository and the store. Deleting the store loses no intent: it fills again
from the cells' reports. Only one serve may use a DIR. A push is noticed at once in a local
repository or by a hook (POST /v1/hooks/push, with $SLUICE_HOOK_SECRET or --hook-secret-file), else
by polling.

People and hooks connect to --listen: on loopback anyone on the machine may read, a unix socket is
for the machine's administrator, and any other address takes https:// and a token (sluice token
add), or people sign in there at the identity provider that --oidc-issuer names (docs/signin.md);
access in sluice.yaml says who has which role. Cells connect to --cells, each with a key of its own
(sluice cell add). The control plane's own keys, active and standby, are made at the first start in
DIR/tls: keep a copy, since cells know no other. Replicas share them. Without --cells, cells have no
keys and name themselves: for trying things out, on this machine only.

With --flags-repo, serve reads a flags repository too: it sends flags and announcements to cells
ahead of time, commits what has to be remembered to that repository only, and tells webhooks what
was published, suspended and killed. Without it, no flags are served.

Where the release repository has a notices.yaml, people are told what happens: a promotion, an
approval that is waited for, a rollout that fails, a repository that can't be read (sluice notices).

To reach a repository, https:// uses $SLUICE_GIT_USERNAME and $SLUICE_GIT_TOKEN (and
$SLUICE_GIT_CA_FILE); ssh:// uses the SSH agent or $SLUICE_SSH_KEY, and checks the host against
~/.ssh/known_hosts or $SLUICE_SSH_KNOWN_HOSTS.`,
		Example: `  sluice serve --repo /srv/git/releases.git --data /var/lib/sluice
  sluice serve --repo /srv/git/releases.git --flags-repo /srv/git/flags.git --data /var/lib/sluice
  sluice serve --repo ssh://git@git.example/releases --data /var/lib/sluice --listen unix:///run/sluice.sock --listen https://0.0.0.0:7600 --cells 0.0.0.0:7601 --cells-address sluice.example.com:7601`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(a, cmd, o) },
	}
	f, r := cmd.Flags(), &o.engine
	o.listen.addFlags(cmd)
	o.images.addFlags(cmd)
	o.signIn.addFlags(cmd)
	o.as.addFlags(cmd)
	repos.AddFlagsRepoFlags(a, cmd)
	f.StringVar(&r.hookSecretFile, "hook-secret-file", "",
		"`FILE` with the secret that the git host signs push hooks with")
	f.StringSliceVar(&r.webhooksReach, "webhooks-reach", []string{reach.Default},
		"`WHERE` the webhooks of the flags repository and the sinks of notices.yaml may be, a list as for --gates-reach")
	f.StringVar(&r.noticeSecrets, "notice-secrets", "",
		"`DIR` with the files that notices.yaml names as secrets: of webhooks, chat programs and mail servers")
	f.StringVar(&o.otlp, "otlp", "",
		"pass on what cells export to the OTLP endpoint at this `URL`, below which there are v1/metrics and v1/logs, "+
			"with the headers in $"+exports.HeadersVariable+" (default: only the last values are kept)")
	cli.AddDurationFlag(f, &r.poll, "poll", time.Minute, "how often to check the branch when no push is announced")
	r.engineFlags(cmd)
	return cmd
}

func serve(a *cli.App, cmd *cobra.Command, flags serveOptions) (err error) {
	r, d := flags.engine, flags.listen
	defer cli.OutliveReaders()()
	ctx := cmd.Context()
	if a.Data == "" {
		return cli.UsageError(cmd, missingData)
	}
	if err := errors.Join(d.validate(cmd), flags.signIn.validate(cmd, d), flags.as.validate(cmd, d)); err != nil {
		return err
	}
	secret, err := readHookSecret(a, r.hookSecretFile)
	if err != nil {
		return err
	}
	listening, err := d.openListeners(a.Data)
	if err != nil {
		return err
	}
	defer func() { _ = listening.Close() }() // closed already, unless starting failed
	release, err := lockDataFolder(a.Data)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer func() { _ = release() }()
	r.tlsDir, r.ownsData = d.tlsDir, true
	var running atomic.Pointer[runningEngine]
	pulls, err := openImages(a, cmd, flags.images, running.Load, a.Logger())
	if err != nil {
		return err
	}
	r.warming = pulls.warming
	e, err := openEngine(ctx, a, cmd, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	running.Store(e)
	announcing, err := openAnnouncer(a, cmd, e, r)
	if err != nil {
		return err
	}
	defer announcing.Close()
	notices, err := openNotices(a, cmd, e, r, announcing != nil)
	if err != nil {
		return err
	}
	if err := storeAddresses(ctx, e, listening); err != nil {
		return err
	}
	people, err := flags.signIn.openSignIn(cmd, e, keysFolder(a.Data, d.tlsDir), r)
	if err != nil {
		return err
	}
	o := serverOptions(a, e, listening)
	if o.Exports, err = openExports(a, cmd, flags.otlp, e); err != nil {
		return err
	}
	o.SignIn, o.HookSecret, o.ConsoleAs = people, secret, flags.as.person
	announcing.extendOptions(&o, e)
	pulls.extendOptions(&o)
	extendByDesk(&o, e, announcing)
	o.Collectors = append(o.Collectors, notices.sender.Collector())
	server, err := controlplane.New(o)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	watch := watchPushes(ctx, e.repo, e.log)
	announcing.startLoops(ctx, g, e.log)
	pulls.startLoops(ctx, g)
	notices.startLoops(ctx, g)
	printListeners(a, listening)
	flags.as.print(a)
	g.Go(func() error { return e.Run(ctx, watch) })
	g.Go(func() error { return people.Run(ctx) })
	e.startRecorders(ctx, g)
	g.Go(func() error { return o.Exports.Run(ctx, e.epochs, e.log) })
	g.Go(func() error { return server.Serve(ctx, listening.all...) })
	return g.Wait()
}

// serverOptions returns what the server takes from the engine and the listeners alone.
func serverOptions(a *cli.App, e *runningEngine, listening *listeners) controlplane.Options {
	o := controlplane.Options{
		Views: e, Inbox: e, Repository: e.repo, Journal: e.store, Log: e.log,
		Members: e, Tokens: e.store, Facts: e.store, Address: listening.public,
		OnPush: e.NotifyPush, Branch: a.Branch, ContentDir: a.Data,
		CheckStore: e.store.Ready, Keys: listening.cellKeys(), Stats: e.Stats,
		Records: e.store.Records(), Debug: e.debugging,
		History: func() (*plan.History, error) { return engine.CopyHistory(e.Engine) },
	}
	if e.timestamps != nil {
		o.Trust = e.timestamps.Current
	}
	return o
}

// startRecorders starts what follows the engine and writes down what it sees: the audit, and which cells ran what.
func (e *runningEngine) startRecorders(ctx context.Context, g *errgroup.Group) {
	if e.timestamps != nil {
		g.Go(func() error { return e.timestamps.Run(ctx) })
	}
	g.Go(func() error { return e.debugging.Run(ctx) })
	auditing := auditor.New(e.Engine, e.store, e.log.With().Str("about", "audit").Logger(), 0)
	g.Go(func() error { return auditing.Run(ctx) })
	counting := adoption.NewKeeper(e.Engine, e.store.Records(), e.log.With().Str("about", "adoption").Logger())
	g.Go(func() error { return counting.Run(ctx) })
}

// storeAddresses stores where people on this machine, and cells, reach the control plane.
func storeAddresses(ctx context.Context, e *runningEngine, listening *listeners) error {
	if err := keepLocalAddress(ctx, e.store, listening); err != nil || listening.public == "" {
		return err
	}
	mine := repos.Advertised{Address: listening.public, Pins: listening.keys.Pins}
	return advertise(ctx, e.store, mine, listening.tlsDir, e.log)
}

func readHookSecret(a *cli.App, file string) (string, error) {
	if file == "" {
		return a.Getenv("SLUICE_HOOK_SECRET"), nil
	}
	secret, err := cli.ReadSmallFile(file)
	if err != nil {
		return "", fmt.Errorf("read the hook secret: %w", err)
	}
	text := strings.TrimSpace(string(secret))
	if text == "" {
		return "", cli.Fail(fmt.Errorf("the hook secret in %s is empty", file),
			"put one there, or leave --hook-secret-file out: then hooks are not served")
	}
	return text, nil
}

// watchPushes returns a channel that signals pushes to a repository on this disk; nil: none, and polling finds
// pushes.
func watchPushes(ctx context.Context, repo *repos.OpenRepository, log zerolog.Logger) <-chan struct{} {
	source, err := gitrepo.Watch(ctx, repo.Address)
	if err != nil {
		log.Warn().Err(err).Str("repository", repo.Address).Msg("pushes are not noticed at once, but by polling")
		return nil
	}
	if source == nil {
		return nil
	}
	pushes := make(chan struct{}, 1)
	go func() { // ends with source, which ends with ctx
		for range source {
			select {
			case pushes <- struct{}{}:
			default:
			}
		}
		if ctx.Err() == nil {
			log.Warn().Str("repository", repo.Address).
				Msg("the watch on the repository was lost: pushes are found by polling")
		}
	}()
	return pushes
}
