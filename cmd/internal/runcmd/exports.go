package runcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/exports"
)

// openExports returns what takes the exports of cells, and passes them on to an endpoint; empty: to none.
func openExports(a *cli.App, cmd *cobra.Command, endpoint string, e *runningEngine) (*exports.Keeper, error) {
	if endpoint == "" {
		return exports.New(e.store.Records(), nil), nil
	}
	sink, err := exports.NewOTLP(endpoint, a.Getenv(exports.HeadersVariable),
		e.log.With().Str("about", "exports").Logger())
	if err != nil {
		return nil, cli.UsageError(cmd, "--otlp %v", err)
	}
	return exports.New(e.store.Records(), sink), nil
}

// epochs returns the epochs of all cells' identities; nil: they are not known, or another process leads.
func (e *runningEngine) epochs() map[string]int64 {
	v := e.View()
	if v == nil || v.Desired == nil || !e.Leads() {
		return nil
	}
	all := map[string]int64{}
	for name := range v.Desired.Cells {
		all[name] = e.Roster().Identity(name).Epoch
	}
	return all
}
