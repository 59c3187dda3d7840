package ownercmd

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/internal/words"
)

// clusterDiff is the output of cell diff where the target is a cluster.
type clusterDiff struct {
	From      string          `json:"from,omitempty"` // what the cell runs; empty: nothing yet
	To        owner.Candidate `json:"to"`
	Problems  []string        `json:"problems,omitempty"` // what keeps the release as a whole from being applied
	Objects   []objectChange  `json:"objects"`
	Unchanged int             `json:"unchanged"`
}

type objectChange struct {
	Object string `json:"object"`
	Change string `json:"change"` // added, changed, removed, kept, refused, unknown
	Reason string `json:"reason,omitempty"`
	Diff   string `json:"diff,omitempty"`
}

// diffFlags say where the cell's target is, as the agent's do.
type diffFlags struct {
	own                                    ownFiles
	target, kubeconfig, context, namespace string
}

func cellDiffVerb(a *cli.App) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use: "diff [RELEASE]", Short: "Show what a release that is offered would change in this cell",
		Args: cli.ArgumentCount(0, 1, "[RELEASE]"),
		Long: `For the cell's owner, on the cell's machine or in the agent's pod, before approving. It changes nothing.

In a cluster it asks the API server, by a dry run, what it would make of each object, and compares that
with what runs: object by object, with what would be removed, kept or refused. It may do what the agent
may. Where the target is a folder it compares the manifests, as sluice cell approve --rendered does.
Values of Secrets are not shown, only whether they differ.

It exits with 1 if the release could not be applied as it is.`,
		Example: `  sluice cell diff --state /var/lib/sluice
  kubectl -n sluice exec sluice-agent-0 -- sluice cell diff --state /var/lib/sluice/agent`,
	}
	folder := findStateFolder(a, cmd)
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		state, err := folder()
		if err != nil {
			return err
		}
		offered, err := agent.LoadOffer(state)
		if err != nil {
			return fmt.Errorf("cell diff: %w", err)
		}
		c, err := chooseCandidate("cell diff", candidates(offered), args)
		if err != nil {
			return err
		}
		files, objects, err := f.compare(cmd.Context(), a, state, offered, c)
		switch {
		case err != nil:
			return err
		case files != nil:
			return printRendered(a, *files)
		}
		return printCluster(a, *objects)
	}
	return cmd
}

func (f *diffFlags) add(cmd *cobra.Command) {
	f.own.add(cmd, "")
	cmd.Flags().StringVar(&f.target, "target", "",
		"directory or kubernetes, as the agent was given (default: kubernetes if the agent has begun with a cluster)")
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "",
		"`FILE` that says how to reach the cluster (default: the pod's own cluster, else that of kubectl)")
	cmd.Flags().StringVar(&f.context, "context", "", "`NAME` of a context of the kubeconfig (default: its current one)")
	cmd.Flags().StringVar(&f.namespace, "namespace", "",
		"`NAMESPACE` of objects that name none (default: the agent's, else that of the context or of the pod)")
}

func (f *diffFlags) check(cmd *cobra.Command) error {
	if f.target != "" && f.target != "directory" && f.target != "kubernetes" {
		return cli.UsageError(cmd, "--target %q is neither directory nor kubernetes", f.target)
	}
	return nil
}

// compare returns what a candidate would change: in the manifests where the target is a folder, else in the cluster.
func (f *diffFlags) compare(ctx context.Context, a *cli.App, state string, o agent.Offer, c owner.Candidate,
) (files *renderedDiff, objects *clusterDiff, err error) {
	known, inCluster, err := kubernetes.ReadKnown(state)
	if err != nil {
		return nil, nil, fmt.Errorf("cell diff: %w", err)
	}
	k, err := newKeptRenderer(a, "cell diff", state, f.own)
	if err != nil {
		return nil, nil, err
	}
	defer k.close()
	if cmp.Or(f.target, "directory") == "directory" && (f.target != "" || !inCluster) {
		found, err := compareRendered(ctx, k, o, c)
		return &found, nil, err
	}
	found, err := f.compareCluster(ctx, k, state, o, c, known)
	return nil, &found, err
}

// compareCluster returns what a candidate would change in the cluster.
func (f *diffFlags) compareCluster(ctx context.Context, k *keptRenderer, state string, o agent.Offer, c owner.Candidate,
	known kubernetes.Known,
) (out clusterDiff, err error) {
	cell, _, err := agent.StateDirCell(state)
	if err != nil {
		return out, fmt.Errorf("cell diff: %w", err)
	}
	rendered, err := k.manifests(ctx, offeredAssignment(o, c))
	if err != nil {
		return out, err
	}
	config, namespace, err := kubernetes.Connect(f.kubeconfig, f.context)
	if err != nil {
		return out, cli.Fail(fmt.Errorf("cell diff: %w", err),
			"--kubeconfig FILE names another, and --context one of its contexts")
	}
	target, err := kubernetes.New(kubernetes.Options{Cell: cmp.Or(cell, known.Cell), Config: config, StateDir: state,
		Namespace: cmp.Or(f.namespace, known.Namespace, namespace)})
	if err != nil {
		return out, fmt.Errorf("cell diff: %w", err)
	}
	defer target.Close()
	found, err := target.Compare(ctx, rendered)
	if err != nil {
		return out, cli.Fail(fmt.Errorf("cell diff: %w", err), "run it where the agent runs, or name its --kubeconfig")
	}
	out = clusterDiff{To: c, Problems: found.Problems, Unchanged: found.Unchanged,
		Objects: describeChanges(found.Changes)}
	if o.Running != nil {
		out.From = o.Running.Release
	}
	return out, nil
}

// printCluster prints changes, and returns an error if the release could not be applied as it is.
func printCluster(a *cli.App, out clusterDiff) error {
	if err := a.PrintResult(out, func() { printClusterDiff(a, out) }); err != nil {
		return err
	}
	bad := len(out.Problems)
	for _, change := range out.Objects {
		if change.Change == string(kubernetes.Refused) {
			bad++
		}
	}
	if bad > 0 {
		return cli.Fail(fmt.Errorf("cell diff: %s could not be applied as it is: %s", out.To.Release,
			words.Count(bad, "reason")), "what the cell's owner can't mend is the vendor's: do not approve it meanwhile")
	}
	return nil
}

// describeChanges returns changes with their differences, as far as these are not too long together.
func describeChanges(all []kubernetes.Change) []objectChange {
	out := make([]objectChange, 0, len(all))
	files := make([]filediff.File, 0, len(all))
	for _, c := range all {
		out = append(out, objectChange{Object: c.Object, Change: string(c.Kind), Reason: c.Reason})
		files = append(files, filediff.One(c.Object, c.Before, c.After))
	}
	filediff.Bound(files)
	for i := range files {
		out[i].Diff = files[i].Diff
	}
	return out
}

func printClusterDiff(a *cli.App, d clusterDiff) {
	a.Stdout.PrintLine("%s -> %s, %s: %s, %d unchanged", cli.OrDash(d.From), d.To.Release, d.To.Digest,
		words.Count(len(d.Objects), "object"), d.Unchanged)
	for _, p := range d.Problems {
		a.Stdout.PrintLine("problem  %s", p)
	}
	for _, o := range d.Objects {
		line := fmt.Sprintf("%-8s %s", o.Change, o.Object)
		if o.Reason != "" {
			line += ": " + o.Reason
		}
		a.Stdout.PrintLine("%s", line)
		a.Stdout.PrintDiff(filediff.File{Diff: o.Diff})
	}
}
