package ownercmd

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/kubernetes/podshell"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// podFlags name the pod that a shell is permitted in, and how to reach its cluster.
type podFlags struct{ pod, kubeconfig, context string }

func (o *podFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.pod, "pod", "", "permit the shell in this `POD`, NAMESPACE/POD or NAMESPACE/POD/CONTAINER, as the "+
		"container's user; the agent needs the rights of sluice agent manifest --shells")
	f.StringVar(&o.kubeconfig, "kubeconfig", "",
		"with --pod: `FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	f.StringVar(&o.context, "context", "", "with --pod: `NAME` of a context of the kubeconfig (default: its current one)")
}

// find returns the pod that has the name now, and the image of its container; nil: none is named.
func (o *podFlags) find(ctx context.Context) (*debug.Pod, string, error) {
	if o.pod == "" {
		return nil, "", nil
	}
	wanted, err := debug.ParsePod(o.pod)
	if err != nil {
		return nil, "", fmt.Errorf("--pod: %w", err)
	}
	config, _, err := kubernetes.Connect(o.kubeconfig, o.context)
	if err != nil {
		return nil, "", cli.Fail(err, "--kubeconfig FILE names another, and --context one of its contexts")
	}
	shells, err := podshell.New(config)
	if err != nil {
		return nil, "", err
	}
	found, image, err := shells.Find(ctx, wanted)
	if err != nil {
		return nil, "", cli.Fail(err, "run it where the agent runs, or name its --kubeconfig")
	}
	return &found, image, nil
}

// describeGrant says what a permission lets the person do. image is that of the pod's container.
func describeGrant(s debug.Scope, pod *debug.Pod, image string) string {
	if pod == nil {
		return s.Describe()
	}
	return fmt.Sprintf("use a shell: every command, in the %s (image %s, UID %s), as that container's user", pod, image,
		pod.UID)
}
