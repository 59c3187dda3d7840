package infracmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/infrastructure/stack"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/words"
)

func prepareVerb(a *cli.App) *cobra.Command {
	var change stack.Change
	cmd := &cobra.Command{
		Use:   "prepare TEMPLATE --stack NAME",
		Short: "Prepare a change set of a CloudFormation stack, for the owner of the account to execute",
		Long: `Asks AWS, with the credentials of whoever runs this in the customer's account, what a template would change in a
stack, prints that, and where to look at the change set and execute it. It executes nothing. Parameters keep
the values that the stack has. The region and the credentials are found as AWS's own programs find them:
AWS_REGION, AWS_PROFILE and so on.`,
		Example: `  sluice infra prepare acme/instance.yaml --stack sluice-acme-instance
  sluice infra prepare acme/instance.yaml --stack sluice-acme-instance --parameter NodeType=m8i.2xlarge -o json`,
		Args: cli.ArgumentCount(1, 1, "TEMPLATE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if _, err := stack.ParseNames(change.Stack); err != nil {
				return cli.UsageError(cmd, "--stack: %w", err)
			}
			if change.Template, err = cli.ReadSmallFile(args[0]); err != nil {
				return fmt.Errorf("infra prepare: %w", err)
			}
			if len(change.Template) > stack.MaxInline && change.URL == "" {
				return cli.UsageError(cmd, "%s has more than %d bytes: AWS takes it from a bucket, so name its address "+
					"with --template-url", args[0], stack.MaxInline)
			}
			p, err := stack.Prepare(cmd.Context(), change)
			if err != nil {
				return fmt.Errorf("infra prepare %s: %w", change.Stack, err)
			}
			return a.PrintResult(p, func() {
				count := words.Count(len(p.Changes), "resource")
				if p.Cut {
					count = "more than " + count + ", of which these are listed"
				}
				a.Stdout.PrintLine("change set %s of %s changes %s", p.Name, p.Stack, count)
				for _, c := range p.Changes {
					a.Stdout.PrintLine("  %s %s (%s), replacement: %s", c.Action, c.Resource, c.Type, c.Replacement)
				}
				a.Stdout.PrintLine("nothing was executed; look at it, and execute it, at")
				a.Stdout.PrintLine("  %s", p.Link)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&change.Stack, "stack", "", "`NAME` of the stack")
	f.StringVar(&change.Name, "name", "", "`NAME` of the change set (default: sluice- and the number of the update)")
	f.StringVar(&change.URL, "template-url", "", "`URL` of the template in a bucket, if it is too large otherwise")
	f.StringToStringVar(&change.Parameters, "parameter", nil, "value of a parameter, `NAME=VALUE`; may be repeated")
	return cmd
}
