package runcmd

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/node"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/install"
)

// NodeVerb serves a cell's feature flags, and grants operations, on one node of its cluster.
func NodeVerb(a *cli.App) *cobra.Command {
	var o node.Options
	var images node.Images
	var configMap, kubeconfig, context, level string
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

With --images-listen it also passes pulls of the releases' images on to the agent, by a token in a Secret that
the agent writes beside the ConfigMap (docs/images.md).

sluice agent manifest --node prints what runs it on every node.`,
		Example: `  sluice node --configmap sluice-node/sluice-node --state /var/lib/sluice/node
  sluice node --configmap sluice-node/sluice-node --state node --listen 127.0.0.1:8016 --kubeconfig ~/.kube/config`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			namespace, name, ok := splitConfigMap(configMap)
			switch {
			case configMap == "":
				return cli.UsageError(cmd, "--configmap is missing: the one that the agent's --nodes names")
			case !ok:
				return cli.UsageError(cmd, "--configmap %q is not NAMESPACE/NAME", configMap)
			case o.StateDir == "":
				return cli.UsageError(cmd, "--state is missing: a folder on the node")
			}
			if err := checkImages(cmd, images); err != nil {
				return err
			}
			l, err := zerolog.ParseLevel(level)
			if err != nil {
				return cli.UsageError(cmd, "--log %q is none of debug, info, warn, error", level)
			}
			o.Log, o.Name = a.Logger().Level(l), name
			config, _, err := kubernetes.Connect(kubeconfig, context)
			if err != nil {
				return cli.Fail(err, "--kubeconfig FILE names another, and --context one of its contexts")
			}
			if o.Maps, err = kubernetes.NewConfigMaps(config, namespace); err != nil {
				return fmt.Errorf("node: %w", err)
			}
			if o.Heartbeats, err = kubernetes.NewHeartbeats(config, namespace); err != nil {
				return fmt.Errorf("node: %w", err)
			}
			host, err := os.Hostname()
			if err != nil {
				return fmt.Errorf("node: %w", err)
			}
			o.Node = strings.ToLower(cmp.Or(o.Node, a.Getenv("NODE_NAME"), host))
			if !nodeName.MatchString(o.Node) {
				return cli.UsageError(cmd, "--node %q is no name of a node", o.Node)
			}
			if images.Secrets, err = kubernetes.NewSecrets(config, namespace); err != nil {
				return fmt.Errorf("node: %w", err)
			}
			images.Name, images.Log = name, o.Log
			debug.SetGCPercent(50) // it mostly idles: memory counts, not speed
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return node.Run(ctx, o) })
			if images.Listen != "" {
				g.Go(func() error { return images.Run(ctx) })
			}
			return g.Wait()
		},
	}
	f := cmd.Flags()
	f.StringVar(&configMap, "configmap", "", "`NAMESPACE/NAME` of the ConfigMap that the agent writes")
	f.StringVar(&o.Node, "node", "", "`NAME` of the node, which no other has (default $NODE_NAME, else the host's name)")
	f.StringVar(&o.StateDir, "state", "", "`FOLDER` on the node, for what is known last")
	f.StringArrayVar(&o.Listen, "listen", []string{"unix:///run/sluice/flags.sock?mode=0666"},
		"`ADDRESS` where pods ask for flags: unix:///PATH[?mode=0666], 127.0.0.1:PORT or [::1]:PORT; may be repeated")
	f.StringArrayVar(&o.Origins, "flags-origin", nil,
		"`ORIGIN`, such as https://console.example.com, whose pages may ask for flags; may be repeated")
	f.StringVar(&images.Listen, "images-listen", "",
		"127.0.0.1:`PORT` or [::1]:PORT where this node pulls the releases' images through the agent (default: none)")
	f.StringArrayVar(&images.Registries, "images-registry", nil,
		"`HOST[:PORT]` of a registry whose images come that way; may be repeated")
	f.StringVar(&images.HostsDir, "images-hosts", "",
		"`FOLDER` of containerd's config_path, to tell it of that (default: somebody else does)")
	f.StringVar(&kubeconfig, "kubeconfig", "",
		"`FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	f.StringVar(&context, "context", "", "`NAME` of a context of the kubeconfig (default: its current one)")
	f.StringVar(&level, "log", "info", "log `LEVEL`: debug, info, warn, error")
	return cmd
}

// nodeName is as Kubernetes has it.
var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

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
