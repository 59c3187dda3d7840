package agentcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/cells/selfupdate/host"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
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
			part, err := podPart(a, selfupdate.Guard, kubeconfig, state, limit, a.Logger().Level(zerolog.InfoLevel))
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

// podPart returns the agent or its guard as they take part in updates of the agent in a pod.
func podPart(a *cli.App, part, kubeconfig, state string, limit time.Duration, log zerolog.Logger) (
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
	return selfupdate.New(selfupdate.Options{Part: part, Dir: filepath.Join(state, selfupdate.FolderName),
		Workload: own, Limit: limit, Log: log}), nil
}

// isGuard reports whether this process is to be the guard of the agent that it starts: on a machine, the agent runs
// below it, with a variable that says so.
func (more *agentFlags) isGuard(a *cli.App) bool {
	return more.selfUpdate && more.target == targetDirectory && a.Getenv(host.RunningVariable) == ""
}

// selfUpdatePart returns the agent as it takes part in its own updates.
func (more *agentFlags) selfUpdatePart(a *cli.App, state string, log zerolog.Logger) (*selfupdate.Part, error) {
	if more.target == targetKubernetes {
		return podPart(a, selfupdate.Agent, more.kubeconfig, state, more.updateLimit, log)
	}
	running := a.Getenv(host.RunningVariable)
	if err := os.Unsetenv(host.RunningVariable); err != nil { // hooks inherit the environment
		return nil, err
	}
	// A service's manager tells the guard and the agent to end, and the guard tells the agent too. A second signal
	// would end the agent at once, in the middle of a hook.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
	dir := filepath.Join(state, selfupdate.FolderName)
	return selfupdate.New(selfupdate.Options{Part: selfupdate.Agent, Dir: dir, Workload: host.OfAgent(dir, running),
		Limit: more.updateLimit, Log: log}), nil
}

// runGuard runs the agent, with this process's arguments, as the child of this process.
func runGuard(ctx context.Context, a *cli.App, state string, limit time.Duration) error {
	defer cli.OutliveReaders()()
	debug.SetGCPercent(50)
	self, err := cli.ExecutablePath()
	if err != nil {
		return err
	}
	err = host.NewGuard(host.GuardOptions{Dir: filepath.Join(state, selfupdate.FolderName), Program: self,
		Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Limit: limit,
		Log: a.Logger().Level(zerolog.InfoLevel)}).Run(ctx)
	if ended := new(exec.ExitError); errors.As(err, &ended) && ended.ExitCode() > 0 {
		return cli.WithExitCode(fmt.Errorf("the agent ended: %w", err), ended.ExitCode())
	}
	return err
}
