package runcmd

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/node"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
)

//go:embed agent.yaml
var agentManifest string

// agentInstall is what the manifest of an agent is made of.
type agentInstall struct {
	Image, Namespace string
	For              []string // namespaces that releases go into
	ClusterAdmin     bool
	Node             bool // with the part on each node
}

// nodeConfigMap is the ConfigMap through which the agent and the node parts meet.
const nodeConfigMap = "sluice-node"

// NodeConfigMap returns its name.
func (i agentInstall) NodeConfigMap() string { return nodeConfigMap }

// MaintenanceConfigMap returns the name of the one with maintenances.
func (i agentInstall) MaintenanceConfigMap() string { return node.MaintenanceName(nodeConfigMap) }

// NodeNamespace returns the namespace of the node parts, and of what they and the agent meet by. It is another than the
// agent's: node parts may write Leases in it, and need privileges that the agent does not.
func (i agentInstall) NodeNamespace() string { return i.Namespace + "-node" }

// BundleConfigMaps returns the names of the ConfigMaps with the bundle's parts.
func (i agentInstall) BundleConfigMaps() string {
	var names []string
	for n := range node.MaxParts {
		names = append(names, node.PartName(nodeConfigMap, n+1))
	}
	return strings.Join(names, ", ")
}

// Default returns the namespace of objects that name none.
func (i agentInstall) Default() string {
	if len(i.For) > 0 {
		return i.For[0]
	}
	return i.Namespace
}

var (
	namespaceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	imageName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
)

// ManifestVerb prints the manifest of an agent in a cluster.
func ManifestVerb(a *cli.App) *cobra.Command {
	var i agentInstall
	cmd := &cobra.Command{
		Use:   "manifest --image IMAGE --for NAMESPACE",
		Short: "Print what puts an agent into a Kubernetes cluster",
		Long: `Prints plain YAML for kubectl apply: one agent with a volume for its state, without root, with a read-only
file system and nothing that reaches it, and with rights on the usual kinds in the namespaces that releases
go into. With --node, pods on every node get the cell's feature flags and ask for operations. Releases with
other kinds need more rights: the agent says which before it changes anything.`,
		Example: `  sluice agent manifest --image registry.example/sluice:1.0 --for shop | kubectl apply -f -`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case i.Image == "":
				return cli.UsageError(cmd, "--image is missing: where the cluster gets this program from")
			case !imageName.MatchString(i.Image):
				return cli.UsageError(cmd, "--image %q is no name of an image", i.Image)
			case len(i.For) == 0 && !i.ClusterAdmin:
				return cli.UsageError(cmd, "--for is missing: the namespace that releases go into; or --cluster-admin")
			}
			for _, namespace := range append([]string{i.Namespace, i.NodeNamespace()}, i.For...) {
				if !namespaceName.MatchString(namespace) {
					return cli.UsageError(cmd, "%q can't be a namespace", namespace)
				}
			}
			text, err := template.New("agent").Parse(agentManifest)
			if err != nil {
				return fmt.Errorf("agent manifest: %w", err)
			}
			return text.Execute(a.Stdout, i)
		},
	}
	f := cmd.Flags()
	f.StringVar(&i.Image, "image", "", "`IMAGE` with this program")
	f.StringVar(&i.Namespace, "namespace", "sluice", "`NAMESPACE` of the agent itself")
	f.StringArrayVar(&i.For, "for", nil, "`NAMESPACE` that releases go into, which is there; may be repeated; objects "+
		"that name none go into the first")
	f.BoolVar(&i.Node, "node", false, "serve feature flags and maintenances on each node, to its pods (sluice node)")
	f.BoolVar(&i.ClusterAdmin, "cluster-admin", false, "let releases hold anything, such as definitions and roles")
	return cmd
}
