package runcmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/exports"
)

// openExports returns what takes the exports of cells, and passes them on to an endpoint; empty: to none.
func openExports(cmd *cobra.Command, endpoint string, e *runningEngine) (*exports.Keeper, error) {
	if endpoint == "" {
		return exports.New(e.store.Records(), nil), nil
	}
	sink, err := exports.NewOTLP(endpoint, e.log.With().Str("about", "exports").Logger())
	if err != nil {
		return nil, cli.UsageError(cmd, "--otlp %v", err)
	}
	return exports.New(e.store.Records(), sink), nil
}
