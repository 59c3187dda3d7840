package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completionTimeout bounds how long a shell waits for completions.
const completionTimeout = 3 * time.Second

// Lister returns the completions of a value.
type Lister func(context.Context, *cobra.Command) ([]string, error)

// CompleteArguments completes so many of cmd's arguments, in order. An error completes nothing: the command itself will
// report it.
func CompleteArguments(cmd *cobra.Command, arguments int,
	list func(ctx context.Context, i int) ([]string, error)) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion,
		cobra.ShellCompDirective) {
		if len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		found, err := list(ctx, len(args))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// CompleteFlagValues completes the values of all flags below root, by the placeholder in the flag's own help. Values of
// which neither more nor this package has a list are completed as files.
func CompleteFlagValues(root *cobra.Command, more map[string]Lister) {
	fixed := map[string][]string{
		"FORM": {AsTable, AsJSON, AsYAML}, "ROLE": {"viewer", "operator", "approver", "admin"},
		"LEVEL": {"debug", "info", "warn", "error"},
	}
	complete := func(cmd *cobra.Command, f *pflag.Flag) {
		place, _ := pflag.UnquoteUsage(f)
		list, known := more[place]
		values := fixed[place]
		if !known && values == nil {
			return
		}
		// The error would say that the flag has a completion already.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion,
			cobra.ShellCompDirective) {
			if !known {
				return values, cobra.ShellCompDirectiveNoFileComp
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
			defer cancel()
			found, err := list(ctx, cmd)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return found, cobra.ShellCompDirectiveNoFileComp
		})
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { complete(root, f) })
	for _, cmd := range allBelow(root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { complete(cmd, f) })
	}
}

func allBelow(cmd *cobra.Command) (all []*cobra.Command) {
	for _, below := range cmd.Commands() {
		all = append(append(all, below), allBelow(below)...)
	}
	return all
}
