package runcmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
)

func TickVerb(a *cli.App) *cobra.Command {
	var r running
	cmd := &cobra.Command{
		Use:     "tick --repo R --data DIR",
		GroupID: cli.GroupRun,
		Short:   "Run the engine once: decide, do what there is to do, and exit",
		Long: `Makes one pass of what serve does all the time: for a cron job, a CronJob or a Lambda. It reads the
branch, asks for what gates need from outside, decides, pushes, and prints what it did and what is
blocked. It may be killed at any instant and run again, even while another runs. With --flags-repo
it does the same for announcements; only sluice serve tells webhooks.`,
		Args: cli.Arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return tick(a, cmd, r) },
	}
	cli.FlagsRepoFlags(a, cmd)
	r.engineFlags(cmd)
	return cmd
}

// maxAsks is how often one tick goes on after gates were answered: an answer may open the way to the next gate.
const maxAsks = 4

func tick(a *cli.App, cmd *cobra.Command, r running) (err error) {
	ctx := cmd.Context()
	if !cmd.Flags().Changed("log") {
		r.level = "warn" // what was done is printed
	}
	e, err := engage(ctx, a, cmd, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	announces, err := openAnnouncer(a, cmd, e, r)
	if err != nil {
		return err
	}
	defer announces.Close()
	if announces != nil {
		defer e.Lead(ctx)()
	}
	_, cursor, err := e.store.Decisions(ctx, -1, 1)
	if err != nil {
		return err
	}
	made, err := e.Tick(ctx)
	for range maxAsks {
		if err != nil || len(made.Wants) == 0 {
			break
		}
		if err = e.Answer(ctx, made.Wants); err == nil {
			made, err = e.Tick(ctx)
		}
	}
	if err != nil {
		return cli.Fail(err, "it is safe to run it again")
	}
	var remembered []announce.Write
	if announces != nil {
		if _, remembered, err = announces.Tick(ctx); err != nil { // what was done for releases is told all the same
			defer func(failed error) { err = errors.Join(failed, err) }(cli.Fail(fmt.Errorf("flags: %w", err), "it is safe to run it again"))
		}
	}
	if done, err := a.Encode(made); done {
		return err
	}
	if !e.Led() {
		a.Stdout.Line("another process leads, and does what there is to do")
	}
	const most = 1000
	decided, _, err := e.store.Decisions(ctx, cursor, most)
	if err != nil {
		return err
	}
	for _, d := range decided {
		a.Stdout.Line("%s", told(d))
	}
	for _, act := range made.Actions {
		if act.Kind == plan.Grant {
			a.Stdout.Line("grant %s of %s to %s", act.Release, act.Channel, cli.Some(act.Cells))
		}
	}
	for _, w := range remembered {
		a.Stdout.Line("flags: %s", w.Why)
	}
	if len(decided)+len(made.Actions)+len(remembered) == 0 {
		a.Stdout.Line("nothing to do")
	}
	for _, v := range made.Blocked {
		a.Stdout.Line("%s: %s", strings.Join(strings.Fields(v.Channel+" "+v.Cell+" "+v.Release), " "), v)
	}
	return nil
}

// told says a decision in a line.
func told(d plan.Decided) string {
	switch d.Kind {
	case plan.Promote:
		return fmt.Sprintf("promote %s to %s, commit %s", d.Release, d.Channel, cli.Short(d.Commit))
	case plan.Rollback:
		return fmt.Sprintf("roll back %s from %s to %s, commit %s", d.Channel, cli.OrDash(d.Replaces), d.Release, cli.Short(d.Commit))
	case plan.Adopted, plan.Quarantines, plan.Halt, plan.Grant:
	}
	return fmt.Sprintf("%s %s in %s, commit %s", d.Kind, d.Release, d.Channel, cli.Short(d.Commit))
}
