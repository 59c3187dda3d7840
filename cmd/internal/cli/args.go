package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// UsageError returns the error of a wrong command line for cmd.
func UsageError(cmd *cobra.Command, format string, args ...any) error {
	path := strings.TrimPrefix(cmd.CommandPath()+" ", "sluice ")
	next := "sluice help " + path
	if path != "" {
		next = cmd.UseLine() + "    (more: sluice help " + strings.TrimSpace(path) + ")"
	}
	return &exitError{&stepError{fmt.Errorf("%s"+format, append([]any{CommandPrefix(cmd)}, args...)...),
		strings.TrimSpace(next)}, ExitUsage}
}

// CommandPrefix returns cmd's name as errors begin with it.
func CommandPrefix(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return ""
	}
	return strings.TrimPrefix(cmd.CommandPath(), "sluice ") + ": "
}

// RefuseCredentials refuses an address with credentials among the arguments and flags, since everyone on the machine
// can read the command line (R54), and in SLUICE_SERVER, since messages and output show that address.
func RefuseCredentials(a *App, cmd *cobra.Command, args []string) error {
	var found error
	const onLine = "everyone on this machine can read the command line"
	refuse := func(where, address, why, next string) {
		if found == nil && cleantext.HasCredentials(address) {
			found = &exitError{&stepError{fmt.Errorf("%sthe address %s %s holds credentials, and %s",
				CommandPrefix(cmd), where, cleantext.Address(address), why),
				"give the address without them: " + next}, ExitUsage}
		}
	}
	const git = "for git over https, put a password or token in SLUICE_GIT_TOKEN, and its user in SLUICE_GIT_USERNAME"
	for _, arg := range args {
		refuse("in", arg, onLine, git)
	}
	const token = "put the token in SLUICE_TOKEN"
	cmd.Flags().Visit(func(f *pflag.Flag) {
		next := git
		if f.Name == "server" {
			next = token
		}
		refuse("in --"+f.Name, f.Value.String(), onLine, next)
	})
	if cmd.Flags().Lookup("server") != nil {
		refuse("in SLUICE_SERVER", a.Getenv("SLUICE_SERVER"), "messages and output would show them", token)
	}
	return found
}

// RefuseNegative refuses a negative length of time and a negative number, which no flag has a sense for.
func RefuseNegative(cmd *cobra.Command) (err error) {
	what := map[string]string{"duration": "a length of time", "int": "a number", "int64": "a number"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if kind := what[f.Value.Type()]; kind != "" && strings.HasPrefix(f.Value.String(), "-") {
			err = UsageError(cmd, "--%s %s: %s can't be negative here", f.Name, f.Value, kind)
		}
	})
	return err
}

// ShortestTime bounds intervals and time limits: below it a program would keep the machine busy, or end before it can
// have done anything.
const ShortestTime = 100 * time.Millisecond

// RefuseShorter refuses a length of time below least for the flags that were given: the program would do nothing else,
// or could never succeed.
func RefuseShorter(cmd *cobra.Command, least time.Duration, names ...string) error {
	for _, name := range names {
		if d, err := cmd.Flags().GetDuration(name); err == nil && cmd.Flags().Changed(name) && d < least {
			return UsageError(cmd, "--%s %s: give a length of time of at least %s", name, d, least)
		}
	}
	return nil
}

// RefuseAlone refuses a flag without the flag that it is about, where a verb has both: it would do nothing.
func RefuseAlone(cmd *cobra.Command) (err error) {
	about := map[string]string{"timeout": "wait", "every": "watch", "ramp-by": "ramp",
		"kubeconfig": "pod", "context": "pod"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		other := cmd.Flags().Lookup(about[f.Name])
		if other != nil && !other.Changed {
			err = UsageError(cmd, "--%s is about --%s", f.Name, other.Name)
		}
	})
	return err
}

// ArgumentCount returns a check of the number of arguments; most < 0: any number.
func ArgumentCount(least, most int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least && least > 1:
			return UsageError(cmd, "name %s", strings.TrimSuffix(want, ","))
		case len(args) < least:
			return UsageError(cmd, "%s is missing", want)
		case most == 0 && len(args) > 0:
			return UsageError(cmd, "takes no arguments, got %q", args[0])
		case most >= 0 && len(args) > most:
			return UsageError(cmd, "unexpected argument %q: it takes only %s", args[most], strings.TrimSuffix(want, ","))
		}
		return nil
	}
}

// RequireReason adds --reason, which is mandatory.
func RequireReason(cmd *cobra.Command, into *string, why string) {
	cmd.Flags().StringVar(into, "reason", "", why)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *into == "" {
			return UsageError(cmd, "--reason is missing")
		}
		return nil
	}
}

// ParseInstant parses a time, or a duration after base.
func ParseInstant(s string, base time.Time) (time.Time, error) {
	if d, err := words.ParseDuration(s); err == nil {
		return base.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%s is neither a time like 2026-12-20T00:00:00Z nor a duration like 48h", s)
	}
	return t, nil
}

// Group returns a command that only has subcommands.
func Group(use, brief, long string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: brief, Long: long}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(cmd, args[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.HasParent() {
			return UsageError(cmd, "the subcommand is missing")
		}
		return cmd.Help()
	}
	cmd.AddCommand(below...)
	return cmd
}

// HelpVerb returns the verb that explains another, and refuses one that is not there.
func HelpVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  "Explains a command, as COMMAND --help does.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion,
			cobra.ShellCompDirective) {
			at, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return subcommandNames(at), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			at, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(at, rest[0])
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

// RefuseHelpOfNothing returns the error for --help after a verb that is not there: cobra would explain another. It is
// called after such a help was asked for.
func RefuseHelpOfNothing(cmd *cobra.Command) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return nil
}

func subcommandNames(cmd *cobra.Command) (names []string) {
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			names = append(names, below.Name())
		}
	}
	return names
}

func unknownCommand(at *cobra.Command, name string) error {
	return UsageError(at, "there is no command %q%s", name, words.DidYouMean(name, subcommandNames(at)))
}

// FlagError returns the error of flags that can't be read, with the flag that was most likely meant.
func FlagError(cmd *cobra.Command, err error) error {
	missing := new(pflag.NotExistError)
	if !errors.As(err, &missing) {
		return UsageError(cmd, "%w", err)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	near := words.Nearest(missing.GetSpecifiedName(), names)
	if near == "" {
		return UsageError(cmd, "%w", err)
	}
	return UsageError(cmd, "%w; did you mean --%s?", err, near)
}
