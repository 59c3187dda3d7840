package runcmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/words"
)

func TickVerb(a *cli.App) *cobra.Command {
	var r engineOptions
	cmd := &cobra.Command{
		Use:     "tick --repo R --data DIR",
		GroupID: cli.GroupRun,
		Short:   "Run the engine once: decide, do what there is to do, and exit",
		Long: `Makes one pass of what serve does all the time: for a cron job, a CronJob or a Lambda. It reads the
branch, asks for what gates need from outside, decides, pushes, and prints what it did and what is
blocked. It may be killed at any instant and run again, even while another runs. With --flags-repo
it does the same for announcements; only sluice serve tells webhooks.`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return tick(a, cmd, r) },
	}
	repos.AddFlagsRepoFlags(a, cmd)
	r.engineFlags(cmd)
	addTLSDirFlag(cmd, &r.tlsDir)
	return cmd
}

// maxGateRounds bounds how often one tick decides again after gates were answered: an answer may lead to the
// next gate.
const maxGateRounds = 4

func tick(a *cli.App, cmd *cobra.Command, r engineOptions) (err error) {
	ctx := cmd.Context()
	if !cmd.Flags().Changed("log") {
		r.level = "warn" // what was done is printed
	}
	e, err := openEngine(ctx, a, cmd, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	announcing, err := openAnnouncer(a, cmd, e, r)
	if err != nil {
		return err
	}
	defer announcing.Close()
	if announcing != nil {
		defer e.HoldLease(ctx)()
	}
	_, cursor, err := e.store.Decisions(ctx, -1, 1)
	if err != nil {
		return err
	}
	made, err := e.Tick(ctx)
	for range maxGateRounds {
		if err != nil || len(made.Wants) == 0 {
			break
		}
		if err = e.RunProbes(ctx, made.Wants); err == nil {
			made, err = e.Tick(ctx)
		}
	}
	if lack := new(gitrepo.IncompleteError); errors.As(err, &lack) {
		return repos.FailFetch(err, "--repo")
	} else if err != nil {
		return cli.Fail(err, "it is safe to run it again")
	}
	var records []announce.Write
	if announcing != nil {
		if _, records, err = announcing.Tick(ctx); err != nil { // what was done for releases is told all the same
			defer func(failed error) { err = errors.Join(failed, err) }(cli.Fail(fmt.Errorf("flags: %w", err),
				"it is safe to run it again"))
		}
	}
	if done, err := a.PrintEncoded(made); done {
		return err
	}
	if !e.TickLed() {
		a.Stdout.PrintLine("another process leads, and does what there is to do")
	}
	const most = 1000
	decided, _, err := e.store.Decisions(ctx, cursor, most)
	if err != nil {
		return err
	}
	for _, d := range decided {
		a.Stdout.PrintLine("%s", decisionText(d))
	}
	for _, act := range made.Actions {
		if act.Kind == plan.Grant {
			a.Stdout.PrintLine("grant %s of %s to %s", act.Release, act.Channel, words.Some(act.Cells, 5))
		}
	}
	for _, w := range records {
		a.Stdout.PrintLine("flags: %s", w.Why)
	}
	if len(decided)+len(made.Actions)+len(records) == 0 {
		a.Stdout.PrintLine("nothing to do")
	}
	for _, v := range made.Blocked {
		a.Stdout.PrintLine("%s: %s", strings.Join(strings.Fields(v.Channel+" "+v.Cell+" "+v.Release), " "), v)
	}
	return nil
}

// decisionText returns a decision in words.
func decisionText(d plan.Decided) string {
	switch d.Kind {
	case plan.Promote:
		return fmt.Sprintf("promote %s to %s, commit %s", d.Release, d.Channel, cli.ShortID(d.Commit))
	case plan.Rollback:
		return fmt.Sprintf("roll back %s from %s to %s, commit %s", d.Channel, cli.OrDash(d.Replaces), d.Release,
			cli.ShortID(d.Commit))
	case plan.Adopted, plan.Quarantine, plan.Halt, plan.Grant:
	}
	return fmt.Sprintf("%s %s in %s, commit %s", d.Kind, d.Release, d.Channel, cli.ShortID(d.Commit))
}
