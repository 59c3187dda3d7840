package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
)

func (a *app) whyVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "why CELL|CHANNEL",
		GroupID: groupLook,
		Short:   "Tell in a few lines what it runs, what it should run, and every verdict between",
		Example: `  sluice why dedicated --server http://127.0.0.1:7600
  sluice why acme --repo https://git.example/releases --data /var/lib/sluice`,
		Args: arguments(1, 1, "CELL or CHANNEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			why, err := a.why(cmd, args[0])
			if err != nil {
				return fmt.Errorf("why %s: %w", args[0], err)
			}
			if done, err := a.encode(why); done {
				return err
			}
			for i, line := range why.Lines {
				if i == 0 {
					line = a.stdout.paint(bold, line)
				}
				a.stdout.line("%s", line)
			}
			return nil
		},
	}
	a.serverFlag(cmd)
	return cmd
}

func (a *app) why(cmd *cobra.Command, name string) (why peopleapi.Why, err error) {
	ctx := cmd.Context()
	if a.asksServer() {
		return why, a.ask(ctx, "/v1/why/"+url.PathEscape(name), &why)
	}
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return why, err
	}
	defer repo.Close()
	v, err := a.view(ctx, repo)
	if err != nil {
		return why, err
	}
	lines, ok := view.Why(v, name)
	if !ok {
		return why, fail(errNotFound, "sluice status lists them")
	}
	return peopleapi.Why{Name: name, Lines: lines}, nil
}
