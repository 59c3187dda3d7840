// Package agentcmd has the verbs that run in a cell: its agent, the part of it on each node, and what the agent starts
// as children of its own.
//
// It builds and wires their parts by hand, decides nothing itself, and needs nothing of the engine. A verb runs in one
// goroutine, and ends what it started.
package agentcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/kubernetes/podlogs"
	"github.com/sluice-cd/sluice/cells/kubernetes/podshell"
	"github.com/sluice-cd/sluice/cells/node"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases"
)

func AgentVerb(a *cli.App) *cobra.Command {
	var o agent.Options
	var d directory.Options
	var more agentFlags
	cmd := &cobra.Command{
		Use:     "agent --join TOKEN|@FILE {--dir DIR | --target kubernetes --state DIR}",
		GroupID: cli.GroupRun,
		Short:   "Run a cell's agent: pull, verify, render, apply, check health, report, or go back",
		Long: `Runs in the cell and only dials out. On its first start the agent makes its own key and registers it
with the token that sluice cell add printed; the token is valid for an hour, and says where the
control plane is and how to recognise it. From then on the key identifies the cell: it stays in the
state folder, and no token is needed again. A new token makes a new key. Pass the token in a file or
in $SLUICE_JOIN rather than on the command line, which others on the machine can read. HTTPS_PROXY
and NO_PROXY are obeyed; what passes through the proxy is encrypted end to end.

With --server http://127.0.0.1:PORT or unix:///PATH there is no key: the cell names itself, for trying
things out.

The release that its channel's head names is fetched, verified against its digest, rendered by
kustomize in a child process, and switched to by one rename: DIR/current is a link to the manifests.
If the hook or the health command fails, the agent goes back to the last good release, by itself and
offline.

With --target kubernetes the manifests go into a cluster instead, by server-side apply: the pod's own, or
that of --kubeconfig. An object that names no namespace is put into --namespace. The objects' own health
takes the place of --health, and annotated Jobs that of --hook. The folder of --state remembers what the
releases have in the cluster, so it must outlive the pod.

With --flags-listen the agent serves feature flags there, by OFREP and as /flags.json for flagd, to
programs on this machine only, even while the control plane can't be reached. There it also tells the
product of maintenances and grants its operations: see docs/maintenance.md.

--hook runs after each switch; --health reports whether the product works (exit 0). Both are shell
commands with SLUICE_DIR (the folder of the manifests), SLUICE_CELL, SLUICE_CHANNEL, SLUICE_RELEASE,
SLUICE_DIGEST and SLUICE_PROFILE in their environment; for the hook, SLUICE_GONE names a file with the
objects that the release no longer has.`,
		Example: `  sluice agent --join @/run/secrets/join --dir /srv/product --health "curl -fsS localhost:8080/ready"
  sluice agent --cell acme --server http://127.0.0.1:7600 --dir /srv/product --health "curl -fsS localhost:8080/ready"
  sluice agent --cell acme --server unix:///run/sluice.sock --dir product --hook "kubectl apply -f \$SLUICE_DIR/manifests.yaml"
  sluice agent --join @/run/secrets/join --target kubernetes --namespace shop --state /var/lib/sluice`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := more.check(a, cmd, &o); err != nil {
				return err
			}
			err := cli.RefuseShorter(cmd, cli.ShortestTime, "hook-timeout", "health-command-timeout", "health-timeout",
				"health-every", "heal-every", "report-every", "poll-wait")
			if err != nil {
				return err
			}
			named := a.StateDir(o.StateDir, "") != ""
			o.StateDir = a.StateDir(o.StateDir, more.dir)
			if real, err := filepath.EvalSymlinks(o.StateDir); err == nil && named { // its owner may name a link
				o.StateDir = real
			}
			if more.isGuard(a) {
				return runGuard(cmd.Context(), a, o.StateDir, more.updateLimit)
			}
			if err := identifyCell(a, cmd, &o, more.join); err != nil {
				return err
			}
			l, err := zerolog.ParseLevel(more.level)
			if err != nil {
				return cli.UsageError(cmd, "--log %q is none of debug, info, warn, error", more.level)
			}
			o.Log = a.Logger().Level(l).With().Str("cell", o.Cell).Logger()
			if d.Mode, d.Group, err = parseOwnership(more.mode, more.group); err != nil {
				return cli.UsageError(cmd, "%w", err)
			}
			return runUnderEachName(a, cmd, o, d, more)
		},
	}
	more.add(cmd, &o, &d)
	cmd.AddCommand(ManifestVerb(a), preflightVerb(a), guardVerb(a))
	return cmd
}

// runUnderEachName runs the agent, and again whenever the vendor renamed its cell.
func runUnderEachName(a *cli.App, cmd *cobra.Command, o agent.Options, d directory.Options, more agentFlags) error {
	for {
		err := runAgent(a, cmd, o, d, more)
		renamed := new(agent.RenamedError)
		if !errors.As(err, &renamed) {
			return err
		}
		o.Cell, o.Join = renamed.Cell, nil // the key that it registered is what counts
		o.Log = a.Logger().Level(o.Log.GetLevel()).With().Str("cell", o.Cell).Logger()
	}
}

// agentFlags are those flags of the agent that are no option of its parts.
type agentFlags struct {
	dir, join, values, level, mode, group  string
	target, kubeconfig, context, namespace string
	nodes, nodePulls, infrastructure       string
	trustRoot                              string
	selfUpdate                             bool
	updateLimit                            time.Duration
	quotas                                 map[string]string
}

// The kinds of target.
const (
	targetDirectory  = "directory"
	targetKubernetes = "kubernetes"
)

// check returns what is wrong with the flags of the target, and sets what has a default in the environment.
func (more *agentFlags) check(a *cli.App, cmd *cobra.Command, o *agent.Options) error {
	foreign := map[string][]string{
		targetDirectory: {"kubeconfig", "context", "namespace", "nodes", "images-nodes"},
		targetKubernetes: {"dir", "mode", "group", "hook", "health", "hook-timeout", "hook-grace",
			"health-command-timeout"},
	}
	names, known := foreign[more.target]
	if !known {
		return cli.UsageError(cmd, "--target %q is neither %s nor %s", more.target, targetDirectory, targetKubernetes)
	}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return cli.UsageError(cmd, "--%s means nothing with --target %s", name, more.target)
		}
	}
	if _, _, ok := splitConfigMap(more.nodes); more.nodes != "" && !ok {
		return cli.UsageError(cmd, "--nodes %q is not NAMESPACE/NAME", more.nodes)
	}
	if o.TrustRoot = releases.Digest(more.trustRoot); more.trustRoot != "" {
		if _, err := releases.ParseDigest(more.trustRoot); err != nil {
			return cli.UsageError(cmd, "--trust-root %q is no digest: sluice trust status shows it", more.trustRoot)
		}
	}
	o.KeyFile = cmp.Or(o.KeyFile, a.Getenv(cli.AgeKeyVariable))
	if err := more.openInfrastructure(cmd, o); err != nil {
		return err
	}
	if _, err := netip.ParseAddrPort(more.nodePulls); more.nodePulls != "" && (err != nil || more.nodes == "") {
		return cli.UsageError(cmd, "--images-nodes %q is IP:PORT of this pod, and goes with --nodes", more.nodePulls)
	}
	switch {
	case more.target == targetDirectory && more.dir == "":
		return cli.UsageError(cmd, "--dir is missing")
	case more.target == targetKubernetes && a.StateDir(o.StateDir, "") == "":
		return cli.UsageError(cmd, "--state is missing: a folder that outlives the pod")
	}
	return nil
}

// open sets the target that the flags name, and what the cell's nodes read. end ends the target.
func (more *agentFlags) open(o *agent.Options, d directory.Options) (end func(), err error) {
	if more.target == targetDirectory {
		folder, err := directory.New(more.dir, d)
		if err != nil {
			return nil, err
		}
		release, err := folder.Lock("cell " + o.Cell)
		if err != nil {
			return nil, err
		}
		o.Target = folder
		return func() { _ = release() }, nil // the lock ends with the process in any case
	}
	config, namespace, err := kubernetes.Connect(more.kubeconfig, more.context)
	if err != nil {
		return nil, cli.Fail(err, "--kubeconfig FILE names another, and --context one of its contexts")
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, err
	}
	cluster, err := kubernetes.New(kubernetes.Options{
		Cell: o.Cell, Config: config, StateDir: o.StateDir, Namespace: cmp.Or(more.namespace, namespace),
		WaitTimeout: o.HealthTimeout,
		OnWarning:   func(text string) { o.Log.Warn().Str("warning", text).Msg("the cluster's API server warns") },
	})
	if err != nil {
		return nil, err
	}
	if in, name, ok := splitConfigMap(more.nodes); ok {
		maps, err := kubernetes.NewConfigMaps(config, in)
		if err != nil {
			return nil, err
		}
		beats, err := kubernetes.NewHeartbeats(config, in)
		if err != nil {
			return nil, err
		}
		o.Nodes = node.NewPublisher(maps, name, cluster.Acting)
		o.NodeOperations = node.NewBoard(maps, beats, name, cluster.Acting)
		if more.nodePulls != "" {
			secrets, err := kubernetes.NewSecrets(config, in)
			if err != nil {
				return nil, err
			}
			o.NodePulls = &agent.NodePulls{Listen: more.nodePulls,
				Share: node.AccessSharer(secrets, name, cluster.Acting)}
		}
	}
	if o.PodLogs, err = podlogs.New(config, cmp.Or(more.namespace, namespace)); err != nil {
		return nil, err
	}
	if o.PodShells, err = podshell.New(config); err != nil {
		return nil, err
	}
	o.Target = cluster
	return cluster.Close, nil
}

func (more *agentFlags) add(cmd *cobra.Command, o *agent.Options, d *directory.Options) {
	f := cmd.Flags()
	f.StringVar(&more.join, "join", "", "`TOKEN` that sluice cell add printed, or @FILE with it (default $SLUICE_JOIN)")
	f.StringVar(&o.Cell, "cell", "",
		"`NAME` of the cell, as in cells/NAME (default: the token's, or the one that registered here)")
	f.StringVar(&o.Server, "server", "",
		"`ADDRESS` of the control plane: https://HOST:PORT instead of the token's; http://127.0.0.1:PORT or "+
			"unix:///PATH without a key (default $SLUICE_SERVER)")
	f.StringVar(&more.dir, "dir", "", "folder for the product's manifests")
	f.StringVar(&more.target, "target", targetDirectory, "where releases go: directory or kubernetes")
	f.StringVar(&more.kubeconfig, "kubeconfig", "",
		"`FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	f.StringVar(&more.context, "context", "", "`NAME` of a context of the kubeconfig (default: its current one)")
	f.StringVar(&more.namespace, "namespace", "", "`NAMESPACE` of objects that name none (default: that of the context "+
		"or of the pod)")
	f.StringVar(&more.nodes, "nodes", "", "ConfigMap, as `NAMESPACE/NAME`, in which sluice node finds the cell's feature "+
		"flags, with maintenances beside it (default: none)")
	f.StringVar(&more.mode, "mode", "", "`MODE` of the product's files, such as 0640 (default 0600, with --group 0640); "+
		"who may read a file may enter its folder")
	f.StringVar(&more.group, "group", "", "`GROUP` of the product's files: a name or a number (default: the agent's own)")
	f.StringVar(&o.StateDir, "state", "", "folder for the agent's own state (default $SLUICE_STATE, else DIR/.agent)")
	f.StringVar(&d.Hook, "hook", "", "shell `COMMAND` to run after each switch")
	f.StringVar(&d.Health, "health", "", "shell `COMMAND` that exits 0 when the product works")
	cli.AddDurationFlag(f, &d.HookTimeout, "hook-timeout", 5*time.Minute, "limit for one run of the hook")
	cli.AddDurationFlag(f, &d.HookGrace, "hook-grace", 8*time.Second,
		"how long a hook may tidy up after it was told to end (SIGTERM), before it is killed")
	cli.AddDurationFlag(f, &d.HealthTimeout, "health-command-timeout", 10*time.Second,
		"limit for one run of the health command")
	cli.AddDurationFlag(f, &o.HealthTimeout, "health-timeout", 5*time.Minute,
		"how long an applied release may take to become healthy")
	cli.AddDurationFlag(f, &o.HealthyFor, "healthy-for", 10*time.Second,
		"how long a release must stay healthy before the agent no longer goes back from it")
	cli.AddDurationFlag(f, &o.HealthInterval, "health-every", 10*time.Second, "time between health checks")
	cli.AddDurationFlag(f, &o.HealInterval, "heal-every", 30*time.Second, "time between checks for drift")
	cli.AddDurationFlag(f, &o.ReportEvery, "report-every", 10*time.Second, "time between reports when nothing changes")
	cli.AddDurationFlag(f, &o.PollWait, "poll-wait", 30*time.Second, "how long one request may wait for a change")
	f.StringVar(&o.FlagsListen, "flags-listen", "",
		"`ADDRESS` where the product asks for feature flags and operations: 127.0.0.1:PORT, [::1]:PORT or "+
			"unix:///PATH[?mode=0660] (default: none)")
	f.StringArrayVar(&o.FlagsOrigins, "flags-origin", nil,
		"`ORIGIN`, such as https://console.example.com, whose pages may ask for flags; may be repeated")
	f.StringVar(&o.ImagesListen, "images-listen", "",
		"`ADDRESS`, as for --flags-listen, where this machine pulls the releases' images (default: none)")
	f.StringVar(&more.nodePulls, "images-nodes", "", "`IP:PORT` of this pod where sluice node pulls images, by a token "+
		"that only node parts can read (default: none)")
	f.StringArrayVar(&o.ExportScrape, "export-scrape", nil,
		"scrape this `URL` on this machine once a minute, such as http://127.0.0.1:9100/metrics, for what the owner "+
			"agreed to export; may be repeated")
	f.BoolVar(&more.selfUpdate, "self-update", false, "let releases replace the agent, by their component sluice-agent: "+
		"on a machine this process becomes its guard, in a cluster it needs sluice agent guard beside it")
	addUpdateLimit(f, &more.updateLimit)
	f.Int64Var(&o.ImagesRate, "images-rate", 0, "`BYTES` a second that pulls of images may take; 0: no limit")
	more.addInfrastructure(f, o)
	f.StringVar(&more.values, "values", "", "YAML `FILE` with the parameters that the cell itself owns")
	f.StringVar(&o.KeyFile, "age-key", "", "`FILE` with age keys, for what SOPS encrypted in releases (default "+
		"$SOPS_AGE_KEY_FILE)")
	f.StringVar(&more.trustRoot, "trust-root", "", "`DIGEST` of the release signers' root that this cell trusts, sha256:… "+
		"as sluice trust status shows it (default: that of the first token)")
	f.StringVar(&o.TrustChannel, "trust-channel", "", "`CHANNEL` whose releases a cell with a root of trust may take "+
		"(default: that of its first release)")
	f.StringVar(&more.level, "log", "info", "log `LEVEL`: debug, info, warn, error")
}

func addUpdateLimit(f *pflag.FlagSet, limit *time.Duration) {
	cli.AddDurationFlag(f, limit, "update-limit", 10*time.Minute, "how long a replaced agent, or guard, may take until it works; "+
		"then the one before is put back")
}

// parseOwnership returns the mode and the group of the product's files; nil: the process's group.
func parseOwnership(mode, group string) (fs.FileMode, *int, error) {
	var gid *int
	if group != "" {
		id, err := strconv.Atoi(group)
		if err != nil {
			found, err := user.LookupGroup(group)
			if err != nil {
				return 0, nil, fmt.Errorf("--group %q: there is no such group on this machine", group)
			}
			if id, err = strconv.Atoi(found.Gid); err != nil {
				return 0, nil, fmt.Errorf("--group %q has no number", group)
			}
		}
		if id < 0 {
			return 0, nil, fmt.Errorf("--group %q is neither a name nor a number", group)
		}
		gid = &id
		mode = cmp.Or(mode, "0640")
	}
	bits, err := strconv.ParseUint(cmp.Or(mode, "0600"), 8, 12)
	if err != nil || bits&^0o666 != 0 || bits&0o600 != 0o600 || bits&0o002 != 0 {
		return 0, nil, fmt.Errorf("--mode %q is no mode of files such as 0600, 0640 or 0644: the owner may read and write, "+
			"nobody may execute, and others may not write", mode)
	}
	return fs.FileMode(bits), gid, nil
}

// identifyCell sets which cell the agent is: by the token, by an earlier registration in the state folder, or
// by --cell.
func identifyCell(a *cli.App, cmd *cobra.Command, o *agent.Options, join string) error {
	if join == "" {
		join = a.Getenv("SLUICE_JOIN")
		if err := os.Unsetenv("SLUICE_JOIN"); err != nil { // hooks inherit the environment
			return fmt.Errorf("agent: %w", err)
		}
	}
	kept, keyed, err := agent.StateDirCell(o.StateDir)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if file, ok := strings.CutPrefix(join, "@"); ok {
		data, err := cli.ReadSmallFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && keyed: // it was for the first start only
		case err != nil:
			return cli.Fail(fmt.Errorf("agent: read --join: %w", err),
				"--join @FILE names a file with the token that sluice cell add printed")
		}
		join = string(data)
	}
	if o.Server == "" && join == "" && !keyed {
		o.Server = a.Getenv("SLUICE_SERVER")
	}
	if join != "" {
		token, err := identity.ParseToken(join)
		if err != nil {
			return cli.Fail(fmt.Errorf("agent: --join: %w", err), "sluice cell add makes a new one")
		}
		o.Join, kept = &token, token.Cell
	}
	if o.Cell, err = agent.PresentName(o.StateDir, cmp.Or(o.Cell, kept)); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	switch {
	case o.Server == "" && join == "" && !keyed:
		return cli.UsageError(cmd,
			"--join is missing: the token that sluice cell add printed; or --server, to try things out without a key")
	case o.Cell == "":
		return cli.UsageError(cmd, "--cell is missing")
	}
	return nil
}

func runAgent(a *cli.App, cmd *cobra.Command, o agent.Options, d directory.Options, more agentFlags) error {
	defer cli.OutliveReaders()()
	debug.SetGCPercent(50) // the agent mostly idles: memory counts, not speed
	what := "agent of " + o.Cell
	d.Cell = o.Cell
	d.OnProblem = func(err error) { o.Log.Warn().Err(err).Msg("something in the product's folder needs a look") }
	self, err := cli.ExecutablePath()
	if err != nil {
		return err
	}
	if process.CanSupervise() {
		d.Supervisor, o.Enclose = []string{self, superviseName}, []string{self, encloseName}
	}
	o.Version = thisVersion().Version
	if more.values != "" {
		if o.Values, err = cli.ReadOwnValues(more.values); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if !cmd.Flags().Changed("healthy-for") {
		o.HealthyFor = 0 // the agent's own default
	} else if o.HealthyFor == 0 {
		o.HealthyFor = -1
	}
	if more.selfUpdate {
		if o.SelfUpdate, err = more.selfUpdatePart(a, o.StateDir, o.Log); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	end, err := more.open(&o, d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	if o.Render == nil {
		o.Render = []string{self, render.ChildVerb}
	}
	runs, err := agent.New(o)
	if err != nil {
		return cli.Fail(fmt.Errorf("%s: %w", what, err), "sluice help agent")
	}
	return runs.Run(cmd.Context())
}
