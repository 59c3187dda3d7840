package flagcmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/flags"
)

// evaluation is the output of flag eval.
type evaluation struct {
	Key      string         `json:"key"`
	Value    any            `json:"value"`
	Variant  string         `json:"variant,omitempty"`
	Reason   flags.Reason   `json:"reason"`
	Error    string         `json:"errorCode,omitempty"`
	Why      string         `json:"why,omitempty"`
	Cell     string         `json:"cell,omitempty"`
	At       time.Time      `json:"at"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

func flagEvalVerb(a *cli.App) *cobra.Command {
	var contexts []string
	var cell, at, agent string
	cmd := &cobra.Command{
		Use:   "eval KEY",
		Short: "Show a flag's value for a caller, and why",
		Long: `Evaluates the flag at the repository's tip as a cell would, offline. Without --cell, the flag's
feature is taken as announced and contained: this tries the rules alone. With --cell and the release
repository (--repo or $SLUICE_REPO), the flag is evaluated as in that cell once it runs its
channel's head: gates, kills, containment and time count, and the output says which of them decided.
What the cell's owner holds is known only to the cell and to the control plane (sluice flag show).
--at evaluates at another instant.

--context NAME=VALUE takes true, false, numbers and JSON as such. The targetingKey is always text, and
so is a number that JSON would write otherwise, such as the version 1.10.

--agent asks a running agent instead, at the address of its --flags-listen, as the product does: on
the cell's machine.`,
		Example: `  sluice flag eval theme --context plan=pro --context targetingKey=user-17
  sluice flag eval new-editor --context '{"targetingKey": "user-17"}' --cell acme --repo releases --at 2026-12-01T10:00:00+01:00
  sluice flag eval new-editor --context targetingKey=user-17 --agent http://127.0.0.1:8013`,
		Args: cli.ArgumentCount(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			caller, err := parseContext(a, contexts)
			if err != nil {
				return cli.UsageError(cmd, "--context: %w", err)
			}
			if agent != "" {
				if cell != "" || at != "" {
					return cli.UsageError(cmd, "--agent asks one cell about this moment: leave out --cell and --at")
				}
				return evaluateByAgent(cmd.Context(), a, agent, args[0], caller)
			}
			now := time.Now()
			if at != "" {
				if now, err = time.Parse(time.RFC3339, at); err != nil {
					return cli.UsageError(cmd, "--at %s is not a time like 2026-12-01T10:00:00+01:00", at)
				}
			}
			return evaluateFlag(a, cmd, args[0], caller, cell, now)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&contexts, "context", nil,
		"evaluation context of the caller: JSON, `@FILE` with JSON, or NAME=VALUE; may be repeated")
	f.StringVar(&cell, "cell", "", "evaluate as in this `CELL`")
	f.StringVar(&at, "at", "", "evaluate at this `INSTANT` (RFC 3339; default: now)")
	f.StringVar(&agent, "agent", "",
		"ask the agent that listens at this `ADDRESS`: http://127.0.0.1:PORT or unix:///PATH")
	return cmd
}

// parseContext merges the parts of an evaluation context.
func parseContext(a *cli.App, parts []string) (flags.Context, error) {
	all := flags.Context{}
	for _, part := range parts {
		text := []byte(part)
		if file, ok := strings.CutPrefix(part, "@"); ok {
			var err error
			if text, err = a.ReadFile(file, maxRuleBytes); err != nil {
				return nil, err
			}
		} else if name, value, ok := strings.Cut(part, "="); ok && !strings.HasPrefix(part, "{") {
			all[name] = flags.TypedValue(name, value)
			if _, isText := all[name].(string); !isText {
				warnOfRounding(a, []byte(value))
			}
			continue
		}
		var more flags.Context
		if err := json.Unmarshal(text, &more); err != nil {
			return nil, fmt.Errorf("%.60q is neither NAME=VALUE nor a JSON object: %w", part, err)
		}
		if _, isText := more["targetingKey"].(string); !isText && more["targetingKey"] != nil {
			return nil, fmt.Errorf("targetingKey is %v, which is no text, so cells refuse it: quote it", more["targetingKey"])
		}
		warnOfRounding(a, text)
		maps.Copy(all, more)
	}
	return all, nil
}

// warnOfRounding says which number of a context a cell evaluates as another.
func warnOfRounding(a *cli.App, text []byte) {
	if rounded := flags.RoundedNumber(text); rounded != "" {
		a.Stderr.PrintLine("%s", a.Stderr.Paint(cli.Yellow,
			"warning: "+rounded+" is rounded, as in a cell: quote it to compare it as text"))
	}
}

func evaluateFlag(a *cli.App, cmd *cobra.Command, key string, caller flags.Context, cell string, now time.Time) error {
	o, err := openFlagsState(a, cmd, now)
	if err != nil {
		return err
	}
	defer o.Close()
	reportTipFaults(a, o.Flags)
	if _, err := o.Definition(key); err != nil {
		return err
	}
	input, facts, err := o.ungatedInput(), flags.Facts{Features: o.features()}, error(nil)
	if cell != "" {
		if input, facts, err = o.inputOfCell(cell); err != nil {
			return err
		}
	}
	folded, err := foldFlags(input, facts, now)
	if err != nil {
		return fmt.Errorf("flag eval %s: %w", key, err)
	}
	result := folded.Evaluate(key, caller, flags.Instant(now))
	out := evaluation{
		Key: key, Value: result.Value, Variant: result.Variant, Reason: result.Reason, Error: string(result.Error),
		Cell: cell,
		At:   now.Truncate(time.Second), Metadata: result.Metadata, Why: o.explainValue(key, input, facts, folded),
	}
	if result.Message != "" {
		out.Why = result.Message
	}
	return printEvaluation(a, out)
}

func printEvaluation(a *cli.App, e evaluation) error {
	if done, err := a.PrintEncoded(e); done {
		return err
	}
	value, err := json.Marshal(e.Value)
	if err != nil {
		return err
	}
	a.Stdout.PrintLine("%s = %s", e.Key, a.Stdout.Paint(cli.Bold, string(value)))
	a.Stdout.PrintLine("variant %s, reason %s", cli.OrDash(e.Variant), strings.TrimSpace(string(e.Reason)+" "+e.Error))
	if e.Why != "" {
		a.Stdout.PrintLine("%s", e.Why)
	}
	return nil
}

// foldFlags compiles a cell's bundle and folds it for one instant.
func foldFlags(input cellInput, facts flags.Facts, now time.Time) (*flags.Folded, error) {
	c, err := flags.Compile(input.bundle)
	if err != nil {
		return nil, err
	}
	return c.Fold(input.orders, facts, flags.Instant(now)), nil
}

// cellInput is what the control plane sends to a cell.
type cellInput struct {
	bundle *flags.Bundle
	orders flags.Orders
}

// ungatedInput returns the tip's flags with every feature announced.
func (o *flagsState) ungatedInput() cellInput {
	b := &flags.Bundle{Version: flags.BundleVersion, Flags: map[string]json.RawMessage{}}
	for key, d := range o.Tree.Flags {
		b.Flags[key] = d.Encode()
	}
	for _, f := range o.features() {
		b.Gates = append(b.Gates, flags.Gate{ID: f, Features: []string{f}})
	}
	return cellInput{bundle: b}
}

// features returns the features that the tip's flags name, sorted.
func (o *flagsState) features() (all []string) {
	for _, d := range o.Tree.Flags {
		if f := d.Feature(); f != "" {
			all = append(all, f)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inputOfCell returns what a cell is sent, and the known facts about the cell.
func (o *flagsState) inputOfCell(cell string) (input cellInput, facts flags.Facts, err error) {
	if o.view == nil {
		return input, facts, cli.Fail(fmt.Errorf("what %s runs is in the release repository", cell),
			"name it: --repo FOLDER-OR-URL, or set SLUICE_REPO")
	}
	c := o.view.Desired.Cells[cell]
	if c == nil {
		return input, facts, cli.Fail(fmt.Errorf("there is no cell %q", cell), "sluice status lists them")
	}
	facts = flags.Facts{Cell: cell, Channel: c.Channel, Labels: c.Labels, Region: c.Labels["region"]}
	for _, known := range o.input.Cells {
		if known.Name == cell {
			facts.Release, facts.Features = known.Release, known.Features
		}
	}
	// Without a known report, the cell is taken to run its channel's head.
	if head := o.view.Desired.Channels[c.Channel]; facts.Release == "" && head != nil && head.Effective != nil {
		facts.Release = head.Effective.Release
		if r := o.view.Desired.Releases[facts.Release]; r != nil {
			facts.Features = slices.Sorted(slices.Values(r.Features))
		}
	}
	t := o.plan.CellFlags[cell]
	if t == nil || t.Bundle == nil {
		return input, facts, cli.Fail(fmt.Errorf("nothing is known of the flags of %s", c.Channel),
			"sluice flag lint, and sluice validate of the release repository, show what is wrong")
	}
	return cellInput{t.Bundle, t.Orders}, facts, nil
}

// explainValue returns in words what decided the value.
func (o *flagsState) explainValue(key string, input cellInput, facts flags.Facts, folded *flags.Folded) string {
	for _, k := range input.orders.Killed {
		if k.Flag == key {
			return "it is killed: " + k.Reason
		}
	}
	feature := o.Tree.Flags[key].Feature()
	switch {
	case feature == "":
		return "it names no feature: only its own rules apply"
	case facts.Cell == "":
		return "as if its feature " + feature + " were announced and contained; --cell shows what it is in a cell"
	}
	var states []string
	for _, g := range input.bundle.Gates {
		if slices.Contains(g.Features, feature) {
			states = append(states, o.gateText(g, facts, folded.States()[g.ID]))
		}
	}
	if len(states) > 0 {
		return strings.Join(states, "; ")
	}
	for _, id := range o.Announcing(feature) {
		for _, s := range o.plan.Announcements {
			if s.Announcement.ID == id {
				return fmt.Sprintf("announcement %s of its feature %s is not sent to %s: %s", id, feature, facts.Cell,
					cmp.Or(s.Needs, s.Summary, string(s.State)))
			}
		}
	}
	return fmt.Sprintf("no announcement has its feature %s", feature)
}

func (o *flagsState) gateText(g flags.Gate, facts flags.Facts, s flags.CellState) string {
	switch s {
	case flags.Waiting, flags.Suspended:
		return fmt.Sprintf("announcement %s waits for a release with its features: %s does not contain all of %s",
			g.ID, cli.OrDash(facts.Release), strings.Join(g.Features, ", "))
	case flags.Armed:
		return fmt.Sprintf("announcement %s is published at %s", g.ID, cli.FormatTime(time.Unix(g.At, 0).UTC()))
	case flags.Ramping:
		return fmt.Sprintf("announcement %s is on for a share", g.ID)
	case flags.On:
		return fmt.Sprintf("announcement %s is on", g.ID)
	}
	return fmt.Sprintf("announcement %s is %s", g.ID, s)
}

// evaluateByAgent evaluates a flag as a cell's product does, by OFREP, and without a token.
func evaluateByAgent(ctx context.Context, a *cli.App, agent, key string, caller flags.Context) error {
	ctx, cancel := context.WithTimeout(ctx, client.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"context": caller})
	if err != nil {
		return err
	}
	a.Server = agent
	base, transport, err := client.Transport(a)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		strings.TrimRight(base, "/")+"/ofrep/v1/evaluate/flags/"+url.PathEscape(key), bytes.NewReader(body))
	if err != nil {
		return cli.Fail(fmt.Errorf("ask %s: not an address: %w", agent, client.WithoutURL(err)),
			"--agent is http://127.0.0.1:PORT or unix:///PATH")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return cli.Fail(fmt.Errorf("ask %s: %w", agent, client.WithoutURL(err)),
			"is sluice agent running there with --flags-listen?")
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRuleBytes))
	if err != nil {
		return fmt.Errorf("ask %s: %w", agent, err)
	}
	var response struct {
		evaluation
		Details string `json:"errorDetails"`
	}
	if err := json.Unmarshal(data, &response); err != nil {
		return cli.Fail(fmt.Errorf("ask %s: %s: the answer can't be read", agent, resp.Status),
			"--agent is the address of sluice agent's --flags-listen")
	}
	if resp.StatusCode != http.StatusOK {
		return cli.Fail(fmt.Errorf("ask %s: %s %s", agent, response.Error, response.Details),
			"sluice cell flags shows what is in force there")
	}
	if reason, killed := response.Metadata["killed"].(string); killed {
		response.Why = "it is killed: " + reason
	}
	response.Key, response.At = key, time.Now().Truncate(time.Second)
	return printEvaluation(a, response.evaluation)
}
