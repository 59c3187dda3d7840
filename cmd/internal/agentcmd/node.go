package agentcmd

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/node"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/install"
)

// NodeVerb serves a cell's feature flags, and grants operations, on one node of its cluster.
func NodeVerb(a *cli.App) *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:     "node --configmap NAMESPACE/NAME --state DIR",
		GroupID: cli.GroupRun,
		Short:   "Serve feature flags and maintenances to the pods of one Kubernetes node",
		Long: `Runs on each node of a cell's cluster, since pods can't reach the loopback of the agent's pod. It watches the
ConfigMap that the agent writes (sluice agent --nodes), and answers programs on this node by OFREP. There it
also tells them of maintenances and grants their operations: see docs/maintenance.md. It has no key of the
cell, opens no port, and needs nothing but the rights to read that ConfigMap and those beside it, and to write
a Lease, in which it says that it is there. What it knew last is in the folder of --state, and holds while the
API server is away; operations are then no longer granted after 30 s.

With --images-listen it also passes pulls of the releases' images on to the agent (docs/images.md), and with
--exports what programs here measure (docs/export.md), by a token in a Secret that the agent writes beside
the ConfigMap (sluice agent --images-nodes).

sluice agent manifest --node prints what runs it on every node.`,
		Example: `  sluice node --configmap sluice-node/sluice-node --state /var/lib/sluice/node
  sluice node --configmap sluice-node/sluice-node --state node --listen 127.0.0.1:8016 --kubeconfig ~/.kube/config`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(a, cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.configMap, "configmap", "", "`NAMESPACE/NAME` of the ConfigMap that the agent writes")
	f.StringVar(&flags.options.Node, "node", "",
		"`NAME` of the node, which no other has (default $NODE_NAME, else the host's name)")
	f.StringVar(&flags.options.StateDir, "state", "", "`FOLDER` on the node, for what is known last")
	f.StringArrayVar(&flags.options.Listen, "listen", []string{"unix:///run/sluice/flags.sock?mode=0666"},
		"`ADDRESS` where pods ask for flags: unix:///PATH[?mode=0666], 127.0.0.1:PORT or [::1]:PORT; may be repeated")
	f.StringArrayVar(&flags.options.Origins, "flags-origin", nil,
		"`ORIGIN`, such as https://console.example.com, whose pages may ask for flags; may be repeated")
	f.StringVar(&flags.images.Listen, "images-listen", "",
		"127.0.0.1:`PORT` or [::1]:PORT where this node pulls the releases' images through the agent (default: none)")
	f.StringArrayVar(&flags.images.Registries, "images-registry", nil,
		"`HOST[:PORT]` of a registry whose images come that way; may be repeated")
	f.StringVar(&flags.images.HostsDir, "images-hosts", "",
		"`FOLDER` of containerd's config_path, to tell it of that (default: somebody else does)")
	f.BoolVar(&flags.exports, "exports", false,
		"pass on to the agent what programs here send as OTLP where they ask for flags")
	f.StringVar(&flags.kubeconfig, "kubeconfig", "",
		"`FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	f.StringVar(&flags.context, "context", "", "`NAME` of a context of the kubeconfig (default: its current one)")
	f.StringVar(&flags.level, "log", "info", "log `LEVEL`: debug, info, warn, error")
	return cmd
}

// nodeFlags are the flags of NodeVerb.
type nodeFlags struct {
	options                               node.Options
	images                                node.Images
	exports                               bool
	configMap, kubeconfig, context, level string
}

func (n *nodeFlags) run(a *cli.App, cmd *cobra.Command) error {
	namespace, name, ok := splitConfigMap(n.configMap)
	switch {
	case n.configMap == "":
		return cli.UsageError(cmd, "--configmap is missing: the one that the agent's --nodes names")
	case !ok:
		return cli.UsageError(cmd, "--configmap %q is not NAMESPACE/NAME", n.configMap)
	case n.options.StateDir == "":
		return cli.UsageError(cmd, "--state is missing: a folder on the node")
	}
	if err := checkImages(cmd, n.images); err != nil {
		return err
	}
	l, err := zerolog.ParseLevel(n.level)
	if err != nil {
		return cli.UsageError(cmd, "--log %q is none of debug, info, warn, error", n.level)
	}
	n.options.Log, n.options.Name = a.Logger().Level(l), name
	config, _, err := kubernetes.Connect(n.kubeconfig, n.context)
	if err != nil {
		return cli.Fail(err, "--kubeconfig FILE names another, and --context one of its contexts")
	}
	if n.options.Maps, err = kubernetes.NewConfigMaps(config, namespace); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if n.options.Heartbeats, err = kubernetes.NewHeartbeats(config, namespace); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.options.Node = strings.ToLower(cmp.Or(n.options.Node, a.Getenv("NODE_NAME"), host))
	if !nodeName().MatchString(n.options.Node) {
		return cli.UsageError(cmd, "--node %q is no name of a node", n.options.Node)
	}
	way := &node.AgentWay{Name: name, Log: n.options.Log}
	if way.Secrets, err = kubernetes.NewSecrets(config, namespace); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.images.Agent, n.images.Log = way, n.options.Log
	if n.exports {
		n.options.Agent = way
	}
	debug.SetGCPercent(50) // it mostly idles: memory counts, not speed
	g, ctx := errgroup.WithContext(cmd.Context())
	if n.exports || n.images.Listen != "" {
		g.Go(func() error {
			way.Follow(ctx)
			return nil
		})
	}
	g.Go(func() error { return node.Run(ctx, n.options) })
	if n.images.Listen != "" {
		g.Go(func() error { return n.images.Run(ctx) })
	}
	return g.Wait()
}

// nodeName is as Kubernetes has it.
var nodeName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
})

// checkImages returns what is wrong with the flags about images.
func checkImages(cmd *cobra.Command, i node.Images) error {
	if i.Listen == "" && (len(i.Registries) > 0 || i.HostsDir != "") {
		return cli.UsageError(cmd, "--images-listen is missing: where this node pulls images")
	}
	for _, r := range i.Registries {
		if !imagerelay.ValidRegistry(r) {
			return cli.UsageError(cmd, "--images-registry %q is not HOST or HOST:PORT", r)
		}
	}
	return nil
}

// splitConfigMap splits NAMESPACE/NAME.
func splitConfigMap(text string) (namespace, name string, ok bool) {
	namespace, name, ok = strings.Cut(text, "/")
	return namespace, name, ok && install.ValidName(namespace) && install.ValidName(name)
}
