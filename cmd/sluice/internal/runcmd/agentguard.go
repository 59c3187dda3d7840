package runcmd

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
)

// The environment of the agent's pod, as its manifest sets it.
const (
	podVariable          = "POD_NAME"
	podNamespaceVariable = "POD_NAMESPACE"
	podUIDVariable       = "POD_UID"
)

// guardVerb watches over updates of the agent.
func guardVerb(a *cli.App) *cobra.Command {
	var state, kubeconfig string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "guard --state DIR",
		Short: "Watch over updates of the agent beside it, in the agent's pod",
		Long: `Runs as a second container of the agent's pod, as sluice agent manifest --self-update makes it. If an
agent that a release named does not report in time, the guard puts the one before back. It listens on
nothing, has no key of the cell, and asks the API server nothing while no update is under way.`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state = a.StateDir(state, ""); state == "" {
				return cli.UsageError(cmd, "--state is missing: the agent's folder")
			}
			part, err := selfUpdatePart(a, selfupdate.Guard, kubeconfig, state, limit,
				a.Logger().Level(zerolog.InfoLevel))
			if err != nil {
				return fmt.Errorf("agent guard: %w", err)
			}
			part.Run(cmd.Context())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "the agent's state folder (default $SLUICE_STATE)")
	f.StringVar(&kubeconfig, "kubeconfig", "",
		"`FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	addUpdateLimit(f, &limit)
	return cmd
}

// selfUpdatePart returns the agent or its guard as they take part in updates of the agent.
func selfUpdatePart(a *cli.App, part, kubeconfig, state string, limit time.Duration, log zerolog.Logger) (
	*selfupdate.Part, error,
) {
	config, namespace, err := kubernetes.Connect(kubeconfig, "")
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // a pod's is its name
	own, err := kubernetes.NewOwnPod(config, cmp.Or(a.Getenv(podNamespaceVariable), namespace),
		cmp.Or(a.Getenv(podVariable), host), a.Getenv(podUIDVariable))
	if err != nil {
		return nil, err
	}
	return selfupdate.New(selfupdate.Options{Part: part, Dir: filepath.Join(state, "update"), Workload: own,
		Limit: limit, Log: log}), nil
}
