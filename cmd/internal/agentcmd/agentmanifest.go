package agentcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/install"
)

// ManifestVerb prints the manifest of an agent in a cluster.
func ManifestVerb(a *cli.App) *cobra.Command {
	var i install.Agent
	cmd := &cobra.Command{
		Use:   "manifest --image IMAGE --for NAMESPACE",
		Short: "Print what puts an agent into a Kubernetes cluster",
		Long: `Prints plain YAML for kubectl apply: one agent with a volume for its state, without root, with a read-only
file system and nothing that reaches it, and with rights on the usual kinds in the namespaces that releases
go into. With --node, pods on every node get the cell's feature flags and ask for operations. Releases with
other kinds need more rights: the agent says which before it changes anything.`,
		Example: `  sluice agent manifest --image registry.example/sluice-agent:1.0 --for shop | kubectl apply -f -`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := i.Check(); err != nil {
				return cli.UsageError(cmd, "%w", err)
			}
			text, err := i.Manifest()
			if err == nil {
				_, err = fmt.Fprint(a.Stdout, text)
			}
			return err
		},
	}
	i.AddFlags(cmd.Flags())
	return cmd
}
