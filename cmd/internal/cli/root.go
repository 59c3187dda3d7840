package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main is the main function of a command: it runs the command until that ends or a signal ends it, and exits with its
// code.
func Main(run func(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: after the first, signals are no longer caught.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// Root returns the root of a tree of verbs, without any. check is called before a verb runs, and returns what is wrong
// with the flags that the caller adds to the root.
func Root(a *App, brief, long string, check func(*cobra.Command) error) *cobra.Command {
	root := Group("sluice", brief, long)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout.Writer)
	root.SetErr(a.Stderr.Writer)
	root.SetFlagErrorFunc(FlagError)
	root.SetHelpCommand(HelpVerb())
	fitHelp(a, root)
	root.PersistentFlags().StringVarP(&a.Output, "output", "o", AsTable, "output `FORM`: table, json or yaml")
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if !KeepsRunning(cmd) {
			CollectLazily(a)
		}
		a.Complete = NextSteps(cmd)
		if !slices.Contains([]string{AsTable, AsJSON, AsYAML}, a.Output) {
			return UsageError(cmd, "-o %q is none of table, json, yaml", a.Output)
		}
		return cmp.Or(RefuseNegative(cmd), RefuseAlone(cmd),
			RefuseShorter(cmd, ShortestTime, "poll", "every", "timeout"), check(cmd), RefuseCredentials(a, cmd, args))
	}
	return root
}

// fitHelp has help fit the terminal's width, and refuses help for what there is not.
func fitHelp(a *App, root *cobra.Command) {
	explain := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if a.Misdirected = RefuseHelpOfNothing(cmd); a.Misdirected != nil {
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
		fmt.Fprint(a.Stdout.Writer, FitHelp(help.String(), columns))
	})
}

// KeepsRunning reports whether a verb is a program that goes on until it is stopped.
func KeepsRunning(cmd *cobra.Command) bool {
	for _, name := range []string{"watch", "follow"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Value.String() == "true" {
			return true
		}
	}
	return slices.Contains([]string{"sluice serve", "sluice agent", "sluice agent guard", "sluice node",
		"sluice supervise", "sluice enclose", "sluice cell ui", "sluice demo", "sluice demo product",
	}, cmd.CommandPath())
}
