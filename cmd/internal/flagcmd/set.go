package flagcmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// setOptions are the flags of flag set.
type setOptions struct {
	isNew     bool
	file      string // of a new flag
	byDefault string
	state     string
	targeting string // a file
	variants  []string
	metadata  []string
	feature   string
	off       string
	reason    string
}

func flagSetVerb(a *cli.App) *cobra.Command {
	var e setOptions
	cmd := &cobra.Command{
		Use:   "set KEY",
		Short: "Change a flag, or create one with --new",
		Long: `Edits the flag in place, comments and spacing kept, in one commit in your name to the flags
repository. A value of --variants and --metadata is read as JSON if it is JSON, else as text. A number
that JSON would write otherwise, such as the version 1.10, is text.

--new creates a flag with the variants on and off, unless --variants says otherwise. With --feature
the flag is gated: while its feature is not announced, or not contained in the release that a cell
runs, it has the variant --off; then its own default, on. Without --feature it is off by default and
follows its rules alone.

A flag that an approved announcement turns on keeps its approved definition until the announcement
is approved again.`,
		Example: `  sluice flag set new-editor --new --feature workspace-classes
  sluice flag set new-editor --default off --reason "not yet"
  sluice flag set theme --new --variants light=#fff,dark=#000 --default light --file flags/looks.yaml
  sluice flag set theme --targeting-file rule.json --metadata expose=client`,
		Args: cli.ArgumentCount(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error { return setFlag(a, cmd, args[0], e) },
	}
	f := cmd.Flags()
	f.BoolVar(&e.isNew, "new", false, "create the flag")
	f.StringVar(&e.file, "file", "",
		"with --new: `FILE` to create it in (default: flags/FEATURE.yaml, or flags/flags.yaml)")
	f.StringVar(&e.byDefault, "default", "", "`VARIANT` where no rule says otherwise")
	f.StringVar(&e.state, "state", "", "ENABLED or DISABLED")
	f.StringVar(&e.targeting, "targeting-file", "",
		"JSON or YAML `FILE` with its rule; - is standard input; {} means no rule")
	f.StringSliceVar(&e.variants, "variants", nil, "`NAME=VALUE,…` to add or change")
	f.StringSliceVar(&e.metadata, "metadata", nil, "`NAME=VALUE,…` to add or change")
	f.StringVar(&e.feature, "feature", "", "`FEATURE` of release.yaml that its code belongs to (metadata.feature)")
	f.StringVar(&e.off, "off", "", "`VARIANT` while its feature is not announced or not contained (metadata.off)")
	f.StringVar(&e.reason, "reason", "", "reason, recorded in the commit")
	return cmd
}

func setFlag(a *cli.App, cmd *cobra.Command, key string, e setOptions) error {
	to, err := flagFromOptions(a, cmd, e)
	switch {
	case err != nil:
		return err
	case to.Empty() && !e.isNew:
		return cli.UsageError(cmd,
			"say what to change: --default, --state, --targeting-file, --variants, --metadata, --feature or --off")
	case e.isNew:
		return repos.CommitDecision(a, cmd, repos.FlagsRepository(),
			edits.NewFlag{Key: key, File: e.file, Flag: to, Reason: e.reason})
	case e.file != "":
		return cli.UsageError(cmd, "--file says where --new creates a flag; an existing flag stays where it is")
	}
	return repos.CommitDecision(a, cmd, repos.FlagsRepository(), edits.SetFlag{Key: key, Flag: to, Reason: e.reason})
}

func flagFromOptions(a *cli.App, cmd *cobra.Command, e setOptions) (to edits.Flag, err error) {
	to = edits.Flag{State: strings.ToUpper(e.state), Default: e.byDefault, Feature: e.feature, Off: e.off}
	if !slices.Contains([]string{"", enabled, disabled}, to.State) {
		return to, cli.UsageError(cmd, "--state %q is neither ENABLED nor DISABLED", e.state)
	}
	if to.Variants, err = parseValues(cmd, "variants", e.variants); err != nil {
		return to, err
	}
	if to.Metadata, err = parseValues(cmd, "metadata", e.metadata); err != nil {
		return to, err
	}
	if e.targeting != "" {
		to.Targeting, err = readRule(a, e.targeting)
	}
	return to, err
}

// parseValues parses NAME=VALUE, with JSON or text values.
func parseValues(cmd *cobra.Command, flag string, list []string) (all edit.Fields, err error) {
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, cli.UsageError(cmd, "--%s %q is not NAME=VALUE", flag, text)
		}
		if rounded := flags.RoundedNumber([]byte(value)); rounded != "" {
			return nil, cli.UsageError(cmd, "--%s %s: cells would round %s: put it into the flag's file in quotes, as text", flag,
				text, rounded)
		}
		all = append(all, edit.Field{Key: name, Value: flags.TypedValue("", value)})
	}
	return all, nil
}

// maxRuleBytes bounds files and responses that the verbs of flags read.
const maxRuleBytes = 1 << 20

func readRule(a *cli.App, file string) (map[string]any, error) {
	data, err := a.ReadFile(file, maxRuleBytes)
	if err != nil {
		return nil, cli.Fail(fmt.Errorf("read --targeting-file: %w", err),
			"it names a JSON or YAML file with the flag's targeting")
	}
	var rule map[string]any
	var node yaml.Node
	if len(data) > maxRuleBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxRuleBytes)
	} else if err = yaml.Unmarshal(data, &node); err == nil && !node.IsZero() {
		err = node.Decode(&rule)
	}
	if rounded := roundedNumber(&node); err == nil && rounded != "" {
		return nil, cli.Fail(fmt.Errorf("read --targeting-file %s: cells would round %s", file, rounded),
			"compare it as text: quote it in the rule, and let callers send text")
	}
	if err != nil {
		return nil, cli.Fail(fmt.Errorf("read --targeting-file %s: %w", file, err),
			`it holds one rule, such as {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}`)
	}
	if rule == nil {
		rule = map[string]any{}
	}
	return rule, nil
}

// roundedNumber returns the first whole number of a rule that cells would round; empty: there is none.
func roundedNumber(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		return flags.RoundedNumber([]byte(n.Value))
	}
	for _, c := range n.Content {
		if rounded := roundedNumber(c); rounded != "" {
			return rounded
		}
	}
	return ""
}
