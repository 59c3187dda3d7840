package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cellcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/debugcmd"
	"github.com/sluice-cd/sluice/cmd/internal/decidecmd"
	"github.com/sluice-cd/sluice/cmd/internal/demo"
	"github.com/sluice-cd/sluice/cmd/internal/flagcmd"
	"github.com/sluice-cd/sluice/cmd/internal/infracmd"
	"github.com/sluice-cd/sluice/cmd/internal/lookcmd"
	"github.com/sluice-cd/sluice/cmd/internal/releasecmd"
	"github.com/sluice-cd/sluice/cmd/internal/runcmd"
	"github.com/sluice-cd/sluice/cmd/internal/trustcmd"
)

const rootHelp = `Sluice takes releases from a git repository through channels (staging, then dedicated) into cells:
instances of a product that run in customers' own accounts and only ever dial out.

The release repository says which release each channel runs. When every gate holds, the engine
promotes a release from one channel to the next with one git commit. Cells sync to their channel's
head. Each command that commits shows its commit with --dry-run, and makes none.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 blocked by a gate or a hold. With -o json, standard
output is JSON or empty; errors are printed in words on standard error.`

// root builds the tree of all commands.
func root(a *cli.App) *cobra.Command {
	root := cli.Group("sluice", "Promote releases through channels into cells", rootHelp)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout.Writer)
	root.SetErr(a.Stderr.Writer)
	root.SetFlagErrorFunc(cli.FlagError)
	root.SetHelpCommand(cli.HelpVerb())
	fitHelp(a, root)

	flags := root.PersistentFlags()
	flags.StringVar(&a.Repo, "repo", "",
		"release repository: a folder or a URL (default $SLUICE_REPO, else the repository around the working folder)")
	flags.StringVar(&a.Branch, "branch", "", "branch of the release repository (default: the one that HEAD names)")
	flags.StringVar(&a.Data, "data", "", "`DIR` for the mirror of the repository and the store (default $SLUICE_DATA)")
	flags.StringVar(&a.Database, "database", "",
		"PostgreSQL database to use instead of the store in --data: `postgres://USER@HOST:PORT/DATABASE` "+
			"(default $SLUICE_DATABASE; put the password in PGPASSWORD or a password file)")
	flags.StringVarP(&a.Output, "output", "o", cli.AsTable, "output `FORM`: table, json or yaml")
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if !runcmd.KeepsRunning(cmd) {
			cli.CollectLazily(a)
		}
		a.Complete = cli.NextSteps(cmd)
		if !slices.Contains([]string{cli.AsTable, cli.AsJSON, cli.AsYAML}, a.Output) {
			return cli.UsageError(cmd, "-o %q is none of table, json, yaml", a.Output)
		}
		if a.Data == "" {
			a.Data = a.Getenv("SLUICE_DATA")
		}
		if a.Database == "" {
			a.Database = a.Getenv("SLUICE_DATABASE")
		} else if cli.HasPassword(a.Database) {
			return cli.UsageError(cmd,
				"a password in --database can be read by everyone on this machine: put the whole address in "+
					"SLUICE_DATABASE, or the password in PGPASSWORD")
		}
		if err := cmp.Or(cli.RefuseNegative(cmd), cli.RefuseAlone(cmd),
			cli.RefuseShorter(cmd, cli.ShortestTime, "poll", "every", "timeout")); err != nil {
			return err
		}
		if !runcmd.MakesData(cmd) {
			if err := cli.CheckData(a); err != nil {
				return err
			}
		}
		return cli.RefuseCredentials(cmd, args)
	}

	root.AddGroup(
		&cobra.Group{ID: cli.GroupAuthor, Title: "The release repository:"},
		&cobra.Group{ID: cli.GroupDecide, Title: "Decisions (each is one commit in your name):"},
		&cobra.Group{ID: cli.GroupFlags, Title: "Features and their announcements:"},
		&cobra.Group{ID: cli.GroupLook, Title: "What is happening, and why:"},
		&cobra.Group{ID: cli.GroupCells, Title: "Who has access:"},
		&cobra.Group{ID: cli.GroupRun, Title: "Programs to run:"},
	)
	root.AddCommand(verbs(a)...)
	cli.CompleteFlagValues(a, root)
	cli.AddDryRunFlags(a, root, "init", "release cut", "release prune", "channel add", "promote", "approve",
		"passkey add", "hold", "freeze", "rollback", "quarantine", "hotfix", "rollout halt", "rollout resume",
		"rollout skip-wave", "cell add", "cell bootstrap", "cell edit", "cell move", "cell rename", "cell remove",
		"cell revoke", "cell retry", "flag init", "flag set", "flag kill", "flag unkill", "flag promote",
		"announce new", "announce approve", "announce cancel", "announce hold", "announce publish", "engine-key rotate",
		"engine-key add", "engine-key remove", "infra notify", "infra extend", "infra exempt", "trust init",
		"trust sign", "trust revoke", "trust rotate", "trust support add", "trust support remove")
	return root
}

// fitHelp has help fit the terminal's width, and refuses help for what there is not.
func fitHelp(a *cli.App, root *cobra.Command) {
	explain := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if a.Misdirected = cli.RefuseHelpOfNothing(cmd); a.Misdirected != nil {
			return
		}
		columns := a.Stdout.Columns()
		if columns == 0 {
			explain(cmd, args)
			return
		}
		wrapped := fmt.Sprintf(".FlagUsagesWrapped %d |", columns)
		root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |", wrapped))
		var help strings.Builder
		root.SetOut(&help)
		explain(cmd, args)
		root.SetOut(a.Stdout.Writer)
		fmt.Fprint(a.Stdout.Writer, cli.FitHelp(help.String(), columns))
	})
}

func verbs(a *cli.App) []*cobra.Command {
	return []*cobra.Command{
		releasecmd.InitVerb(a),
		releasecmd.ValidateVerb(a),
		releasecmd.ReleaseVerb(a),
		releasecmd.ChannelVerb(a),
		infracmd.Verb(a),
		trustcmd.Verb(a),
		cli.Complete(a, releasecmd.RenderVerb(a), cli.ReleaseNames),
		cli.Complete(a, decidecmd.PromoteVerb(a), cli.ChannelsAndReleases, cli.ReleaseNames),
		cli.Complete(a, decidecmd.ApproveVerb(a), cli.ChannelNames, cli.ReleaseNames),
		decidecmd.PasskeyVerb(a),
		cli.Complete(a, decidecmd.HoldVerb(a), cli.ChannelNames),
		cli.Complete(a, decidecmd.FreezeVerb(a), cli.ChannelNames),
		cli.Complete(a, decidecmd.RollbackVerb(a), cli.ChannelNames),
		cli.Complete(a, decidecmd.QuarantineVerb(a), cli.ReleaseNames),
		cli.Complete(a, decidecmd.HotfixVerb(a), cli.ReleaseNames),
		decidecmd.RolloutVerb(a),
		flagcmd.FlagVerb(a),
		flagcmd.AnnounceVerb(a),
		lookcmd.StatusVerb(a),
		lookcmd.PlanVerb(a),
		lookcmd.SimulateVerb(a),
		cli.Complete(a, lookcmd.WhyVerb(a), cli.EverythingWithAWhy),
		cli.Complete(a, lookcmd.VerifyVerb(a), cli.ChannelsAndReleases),
		cli.Complete(a, lookcmd.WaitVerb(a), cli.ChannelNames, cli.ReleaseNames),
		cli.Complete(a, lookcmd.LogVerb(a), cli.ChannelNames),
		lookcmd.EventsVerb(a),
		lookcmd.NoticesVerb(a),
		lookcmd.AuditVerb(a),
		debugcmd.Verb(a),
		cli.Complete(a, lookcmd.DiffVerb(a), cli.ChannelNames, cli.ReleaseNames),
		cellcmd.CellVerb(a),
		cellcmd.TokenVerb(a),
		cellcmd.LoginVerb(a),
		cellcmd.LogoutVerb(a),
		cellcmd.SessionVerb(a),
		runcmd.ServeVerb(a),
		runcmd.TickVerb(a),
		runcmd.BackupVerb(a),
		runcmd.RestoreVerb(a),
		runcmd.EngineKeyVerb(a),
		runcmd.StandbyKeyVerb(a),
		runcmd.AgentVerb(a),
		runcmd.NodeVerb(a),
		demo.Verb(a),
		runcmd.SuperviseVerb(a),
		runcmd.EncloseVerb(a),
		runcmd.VersionVerb(a),
	}
}
