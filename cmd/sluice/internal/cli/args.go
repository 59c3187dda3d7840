package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/edits"
)

// Usage is a wrong command line for cmd.
func Usage(cmd *cobra.Command, format string, args ...any) error {
	path := strings.TrimPrefix(cmd.CommandPath()+" ", "sluice ")
	next := "sluice help " + path
	if path != "" {
		next = cmd.UseLine() + "    (sluice help " + strings.TrimSpace(path) + " says more)"
	}
	return &coded{&edits.Error{Err: fmt.Errorf("%s"+format, append([]any{Verb(cmd)}, args...)...), Next: strings.TrimSpace(next)}, ExitUsage}
}

// Verb is cmd's name as errors begin with it.
func Verb(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return ""
	}
	return strings.TrimPrefix(cmd.CommandPath(), "sluice ") + ": "
}

// Arguments gives cobra a check of how many arguments there are; max < 0: any number.
func Arguments(least, most int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return Usage(cmd, "%s is missing", want)
		case most == 0 && len(args) > 0:
			return Usage(cmd, "takes no arguments, got %q", args[0])
		case most >= 0 && len(args) > most:
			return Usage(cmd, "unexpected argument %q, want %s", args[most], want)
		}
		return nil
	}
}

// NeedReason adds --reason, without which the verb does nothing.
func NeedReason(cmd *cobra.Command, into *string, why string) {
	cmd.Flags().StringVar(into, "reason", "", why)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *into == "" {
			return Usage(cmd, "--reason is missing")
		}
		return nil
	}
}

// Decides has a verb commit what the caller decides by it.
func Decides[S edits.Snapshot](a *App, cmd *cobra.Command, to Side[S], decision func(args []string) edits.Decision[S]) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return Commit(a, cmd, to, decision(args)) }
	return cmd
}

// Instant reads a time, or a duration after base.
func Instant(s string, base time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return base.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%s is neither a time like 2026-12-20T00:00:00Z nor a duration like 48h", s)
	}
	return t, nil
}

// Group is a command that only has others below it.
func Group(use, brief, long string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: brief, Long: long}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return Usage(cmd, "there is no %q; did you mean %s?", args[0], strings.Join(near, " or "))
		}
		return Usage(cmd, "there is no %q", args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.HasParent() {
			return Usage(cmd, "the subcommand is missing")
		}
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(below...)
	return cmd
}
