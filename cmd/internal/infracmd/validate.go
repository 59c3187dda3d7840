package infracmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/infrastructure"
	"github.com/sluice-cd/sluice/releases/infrastructure/template"
)

func validateVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Find every fault in the infrastructure updates of a release repository's folder",
		Long: `Reads infrastructure/ in DIR (default: the repository that the working folder is in), and prints one fault
a line, as "file:line: fault"; exits 1 if there is any. sluice validate finds the same, among all else.

Templates are checked against AWS's published schema (types, properties, required ones, primitive types), for
references to what is not there, and by rules on what a template may do in a customer's account:

  no-ingress             nothing from outside may open a connection
  no-wildcard-trust      no role trusts everybody
  no-outside-principal   no role trusts another account
  agent-may-not          no policy allows to change stacks or roles, or to pass roles
  version                Metadata and the SSM parameter InfrastructureVersion have the folder's number
  described              each parameter has a description
  size                   at most 1 MB; above 51,200 bytes a template has to be in a bucket (a warning)
  unchecked              no macros, nested stacks or custom resources

No AWS is asked: a template that passes here may still be refused there.`,
		Example: `  sluice infra validate
  sluice infra validate ./releases -o json`,
		Args: cli.ArgumentCount(0, 1, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := ""
			if len(args) == 1 {
				dir = args[0]
			} else {
				dir = repos.EnclosingFolder(cmd.Context(), a)
			}
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return cli.Fail(fmt.Errorf("infra validate %s: it is no folder", dir),
					"name a checkout of the repository")
			}
			files := os.DirFS(dir)
			updates, faults := infrastructure.Load(nil, files)
			return cli.PrintFaults(a, manifest.Sort(append(faults, template.CheckAll(files, updates)...)))
		},
	}
}
