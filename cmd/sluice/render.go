package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/render"
)

// renderVerb is the hidden verb that the agent starts as a child: it renders one release and ends. run knows it before
// anything else is set up; here it is only described.
const renderVerb = "render"

func (a *app) renderVerb() *cobra.Command {
	return &cobra.Command{
		Use:    renderVerb,
		Hidden: true,
		Short:  "Render one release for an agent: a request and a tar on standard input, manifests on standard output",
		Args:   arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if code := render.Main(a.stdin, a.stdout.Writer); code != 0 {
				return &failure{err: errors.New("render: standard input has no request"), next: "the agent starts this by itself", code: code}
			}
			return nil
		},
	}
}
