package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/agentcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cellcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/debugcmd"
	"github.com/sluice-cd/sluice/cmd/internal/decidecmd"
	"github.com/sluice-cd/sluice/cmd/internal/demo"
	"github.com/sluice-cd/sluice/cmd/internal/flagcmd"
	"github.com/sluice-cd/sluice/cmd/internal/infracmd"
	"github.com/sluice-cd/sluice/cmd/internal/lookcmd"
	"github.com/sluice-cd/sluice/cmd/internal/releasecmd"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
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
	root := cli.Root(a, "Promote releases through channels into cells", rootHelp,
		func(cmd *cobra.Command) error { return checkPlace(a, cmd) })
	flags := root.PersistentFlags()
	flags.StringVar(&a.Repo, "repo", "",
		"release repository: a folder or a URL (default $SLUICE_REPO, else the repository around the working folder)")
	flags.StringVar(&a.Branch, "branch", "", "branch of the release repository (default: the one that HEAD names)")
	flags.StringVar(&a.Data, "data", "", "`DIR` for the mirror of the repository and the store (default $SLUICE_DATA)")
	flags.StringVar(&a.Database, "database", "",
		"PostgreSQL database to use instead of the store in --data: `postgres://USER@HOST:PORT/DATABASE` "+
			"(default $SLUICE_DATABASE; put the password in PGPASSWORD or a password file)")
	root.AddGroup(
		&cobra.Group{ID: cli.GroupAuthor, Title: "The release repository:"},
		&cobra.Group{ID: cli.GroupDecide, Title: "Decisions (each is one commit in your name):"},
		&cobra.Group{ID: cli.GroupFlags, Title: "Features and their announcements:"},
		&cobra.Group{ID: cli.GroupLook, Title: "What is happening, and why:"},
		&cobra.Group{ID: cli.GroupCells, Title: "Who has access:"},
		&cobra.Group{ID: cli.GroupRun, Title: "Programs to run:"},
	)
	root.AddCommand(verbs(a)...)
	cli.CompleteFlagValues(root, repos.Listers(a))
	repos.AddDryRunFlags(a, root, "init", "release cut", "release prune", "channel add", "promote", "approve",
		"passkey add", "hold", "freeze", "rollback", "quarantine", "hotfix", "rollout halt", "rollout resume",
		"rollout skip-wave", "cell add", "cell bootstrap", "cell edit", "cell move", "cell rename", "cell remove",
		"cell revoke", "cell retry", "flag init", "flag set", "flag kill", "flag unkill", "flag promote",
		"announce new", "announce approve", "announce cancel", "announce hold", "announce publish", "engine-key rotate",
		"engine-key add", "engine-key remove", "infra notify", "infra extend", "infra exempt", "trust init",
		"trust sign", "trust revoke", "trust rotate", "trust support add", "trust support remove")
	return root
}

// checkPlace returns what is wrong with the flags that name the data of a control plane, which the environment may name
// instead.
func checkPlace(a *cli.App, cmd *cobra.Command) error {
	a.Data = cmp.Or(a.Data, a.Getenv("SLUICE_DATA"))
	if a.Database == "" {
		a.Database = a.Getenv("SLUICE_DATABASE")
	} else if repos.HasPassword(a.Database) {
		return cli.UsageError(cmd,
			"a password in --database can be read by everyone on this machine: put the whole address in "+
				"SLUICE_DATABASE, or the password in PGPASSWORD")
	}
	if runcmd.MakesData(cmd) {
		return nil
	}
	return repos.CheckData(a)
}

func verbs(a *cli.App) []*cobra.Command {
	return []*cobra.Command{
		releasecmd.InitVerb(a),
		releasecmd.ValidateVerb(a),
		releasecmd.ReleaseVerb(a),
		releasecmd.ChannelVerb(a),
		infracmd.Verb(a),
		trustcmd.Verb(a),
		repos.Complete(a, releasecmd.RenderVerb(a), repos.ReleaseNames),
		repos.Complete(a, decidecmd.PromoteVerb(a), repos.ChannelsAndReleases, repos.ReleaseNames),
		repos.Complete(a, decidecmd.ApproveVerb(a), repos.ChannelNames, repos.ReleaseNames),
		decidecmd.PasskeyVerb(a),
		repos.Complete(a, decidecmd.HoldVerb(a), repos.ChannelNames),
		repos.Complete(a, decidecmd.FreezeVerb(a), repos.ChannelNames),
		repos.Complete(a, decidecmd.RollbackVerb(a), repos.ChannelNames),
		repos.Complete(a, decidecmd.QuarantineVerb(a), repos.ReleaseNames),
		repos.Complete(a, decidecmd.HotfixVerb(a), repos.ReleaseNames),
		decidecmd.RolloutVerb(a),
		flagcmd.FlagVerb(a),
		flagcmd.AnnounceVerb(a),
		lookcmd.StatusVerb(a),
		lookcmd.PlanVerb(a),
		lookcmd.SimulateVerb(a),
		repos.Complete(a, lookcmd.WhyVerb(a), repos.EverythingWithAWhy),
		repos.Complete(a, lookcmd.VerifyVerb(a), repos.ChannelsAndReleases),
		repos.Complete(a, lookcmd.WaitVerb(a), repos.ChannelNames, repos.ReleaseNames),
		repos.Complete(a, lookcmd.LogVerb(a), repos.ChannelNames),
		lookcmd.EventsVerb(a),
		lookcmd.NoticesVerb(a),
		lookcmd.AuditVerb(a),
		debugcmd.Verb(a),
		repos.Complete(a, lookcmd.DiffVerb(a), repos.ChannelNames, repos.ReleaseNames),
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
		agentcmd.AgentVerb(a),
		agentcmd.NodeVerb(a),
		demo.Verb(a),
		agentcmd.SuperviseVerb(a),
		agentcmd.EncloseVerb(a),
		agentcmd.VersionVerb(a),
	}
}
