package main

import (
	"io"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

// app is what every verb has: the streams, the environment, and the flags that all share. One app serves one run.
type app struct {
	env    []string
	stdin  io.Reader
	stdout printer
	stderr printer

	repo     string // --repo
	branch   string // --branch; empty: the repository's HEAD, or main
	data     string // --data
	database string // --database; empty: the store is in data
	output   string // -o: asTable, asJSON or asYAML
	server   string // --server, where a verb has it

	flagsRepo   string // --flags-repo, where a verb has it
	flagsBranch string // --flags-branch
}

func newApp(env []string, stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{env: env, stdin: stdin}
	a.stdout, a.stderr = newPrinter(stdout, a.getenv), newPrinter(stderr, a.getenv)
	return a
}

// getenv looks in the environment that run was given; the last of equal names counts.
func (a *app) getenv(name string) string {
	for _, e := range slices.Backward(a.env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// logger writes to standard error, warnings and worse: in words on a terminal, as JSON lines elsewhere.
func (a *app) logger() zerolog.Logger {
	var w io.Writer = a.stderr.Writer
	if a.stderr.terminal {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !a.stderr.colours, TimeFormat: "15:04:05"}
	}
	return zerolog.New(w).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

const about = `Sluice takes releases from a git repository through channels (staging, then dedicated) into
cells: instances of a product that run in the customers' own accounts and only ever dial out.

The release repository says which release each channel runs. The engine promotes a release from one
channel to the next when every gate holds, by one git commit. Cells sync to their channel's head.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 blocked by a gate or a hold. With -o json standard output is JSON or nothing;
what went wrong is said on standard error, in words.`

// root builds the whole command tree by hand.
func (a *app) root() *cobra.Command {
	root := group("sluice", "Promote releases through channels into cells", about)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetIn(a.stdin)
	root.SetOut(a.stdout.Writer)
	root.SetErr(a.stderr.Writer)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })

	flags := root.PersistentFlags()
	flags.StringVar(&a.repo, "repo", "", "release repository: a folder or a URL (default $SLUICE_REPO, else the repository around the working folder)")
	flags.StringVar(&a.branch, "branch", "", "its branch (default: the one its HEAD names)")
	flags.StringVar(&a.data, "data", "", "data `DIR`: the mirror of the repository and the store (default $SLUICE_DATA)")
	flags.StringVar(&a.database, "database", "", "PostgreSQL database instead of the store in --data: `postgres://USER@HOST:PORT/DATABASE` (default $SLUICE_DATABASE; the password is better in PGPASSWORD or a password file)")
	flags.StringVarP(&a.output, "output", "o", asTable, "table, json or yaml")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{asTable, asJSON, asYAML}, a.output) {
			return usage(cmd, "-o %q is none of table, json, yaml", a.output)
		}
		if a.data == "" {
			a.data = a.getenv("SLUICE_DATA")
		}
		if a.database == "" {
			a.database = a.getenv("SLUICE_DATABASE")
		} else if hasPassword(a.database) {
			return usage(cmd, "a password in --database can be read by everyone on this machine: put the whole address in SLUICE_DATABASE, or the password in PGPASSWORD")
		}
		return nil
	}

	root.AddGroup(
		&cobra.Group{ID: groupAuthor, Title: "The release repository:"},
		&cobra.Group{ID: groupDecide, Title: "People's decisions (each is one commit of yours):"},
		&cobra.Group{ID: groupFlags, Title: "Features, and when they are told:"},
		&cobra.Group{ID: groupLook, Title: "What goes on, and why:"},
		&cobra.Group{ID: groupCells, Title: "Who may come in:"},
		&cobra.Group{ID: groupRun, Title: "What runs:"},
	)
	root.AddCommand(a.verbs()...)
	return root
}

const (
	groupAuthor = "author"
	groupDecide = "decide"
	groupFlags  = "flags"
	groupLook   = "look"
	groupRun    = "run"
	groupCells  = "cells"
)

func (a *app) verbs() []*cobra.Command {
	return []*cobra.Command{
		a.initVerb(),
		a.validateVerb(),
		a.releaseVerb(),
		a.complete(a.promoteVerb(), channelsAndReleases, releaseNames),
		a.complete(a.approveVerb(), channelNames, releaseNames),
		a.complete(a.holdVerb(), channelNames),
		a.complete(a.freezeVerb(), channelNames),
		a.complete(a.rollbackVerb(), channelNames),
		a.complete(a.quarantineVerb(), releaseNames),
		a.rolloutVerb(),
		a.flagVerb(),
		a.announceVerb(),
		a.statusVerb(),
		a.planVerb(),
		a.simulateVerb(),
		a.complete(a.whyVerb(), cellsAndChannels),
		a.complete(a.logVerb(), channelNames),
		a.complete(a.diffVerb(), channelNames, releaseNames),
		a.cellVerb(),
		a.tokenVerb(),
		a.serveVerb(),
		a.tickVerb(),
		a.backupVerb(),
		a.agentVerb(),
		a.demoVerb(),
		a.renderVerb(),
		a.versionVerb(),
	}
}

// group is a command that only has others below it.
func group(use, brief, long string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: brief, Long: long}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usage(cmd, "there is no %q; did you mean %s?", args[0], strings.Join(near, " or "))
		}
		return usage(cmd, "there is no %q", args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.HasParent() {
			return usage(cmd, "say which")
		}
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(below...)
	return cmd
}
