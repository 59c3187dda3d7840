package lookcmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
)

// NoticesVerb has the verbs about what people are told.
func NoticesVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("notices", "See who is told what, and try it",
		`notices.yaml in the release repository says where notices go (webhooks, chat programs, mail) and
which of them. sluice serve finds what happened and delivers it; a rollout that fails is one thread,
told when it begins, when it gets worse and when it is over, however many cells it is about.`,
		noticesListVerb(a), noticesTestVerb(a))
	cmd.GroupID = cli.GroupLook
	return cmd
}

// sinkState is a sink as notices list shows it.
type sinkState struct {
	Name          string           `json:"name"`
	Type          notices.SinkType `json:"type"`
	To            []string         `json:"to,omitempty"`
	Subscriptions int              `json:"subscriptions"`
	Delivery      *outbox.State    `json:"delivery,omitempty"`
}

func noticesListVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the sinks of notices.yaml, and how their deliveries fare",
		Long: `Lists the sinks of notices.yaml at the branch's tip. With --data or --database, on the control plane's
machine, it also says what arrived last, what waits and why.`,
		Example: "  sluice notices list --data /var/lib/sluice",
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			subscriptions, err := readSubscriptions(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			var states map[string]outbox.State
			err = repos.ReadStore(cmd.Context(), a, func(st repos.Store) error {
				messages, err := st.Messages(cmd.Context(), maxMessages)
				if err == nil {
					states = statesByName(subscriptions, messages)
				}
				return err
			})
			if err != nil {
				return err
			}
			return printSinks(a, subscriptions, states)
		},
	}
}

const maxMessages = 50_000 // more than the store keeps

func statesByName(s *notices.Subscriptions, messages []plan.Message) map[string]outbox.State {
	states := map[string]outbox.State{}
	for _, state := range outbox.NoticeStates(s, messages) {
		states[state.Name] = state
	}
	return states
}

func printSinks(a *cli.App, s *notices.Subscriptions, states map[string]outbox.State) error {
	list := []sinkState{}
	for _, name := range slices.Sorted(maps.Keys(s.Sinks)) {
		sink := sinkState{Name: name, Type: s.Sinks[name].Type, To: s.Sinks[name].To}
		for i := range s.Subscribe {
			if s.Subscribe[i].Sink == name {
				sink.Subscriptions++
			}
		}
		if state, ok := states[name]; ok {
			sink.Delivery = &state
		}
		list = append(list, sink)
	}
	return a.PrintResult(list, func() {
		rows := make([][]cli.Field, 0, len(list))
		for _, sink := range list {
			last, waiting, why := "-", "-", cli.Text("-")
			if d := sink.Delivery; d != nil {
				if !d.LastSuccess.IsZero() {
					last = cli.FormatTime(d.LastSuccess)
				}
				waiting = fmt.Sprint(d.Waiting)
				if d.LastError != "" {
					why = cli.Coloured(d.LastError, cli.Red)
				}
			}
			rows = append(rows, []cli.Field{cli.Coloured(sink.Name, cli.Bold), cli.Text(string(sink.Type)),
				cli.Text(fmt.Sprint(sink.Subscriptions)), cli.Text(last), cli.Text(waiting), why})
		}
		a.Stdout.PrintTable([]string{"SINK", "TYPE", "SUBSCRIPTIONS", "LAST ARRIVED", "WAITING", "WHY"}, rows)
	})
}

// readSubscriptions reads notices.yaml at the branch's tip.
func readSubscriptions(ctx context.Context, a *cli.App, cmd *cobra.Command) (*notices.Subscriptions, error) {
	repo, err := repos.OpenReleases(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	_, files, err := repo.ReadTip(ctx, "sluice init --repo "+words.Shell(repo.Address))
	if err != nil {
		return nil, err
	}
	found, faults := notices.Load(nil, files)
	if manifest.Fatal(faults) {
		return nil, cli.Fail(fmt.Errorf("%s has faults: %s", notices.File, faults[0]), "sluice validate lists them all")
	}
	if found == nil {
		return nil, cli.Fail(fmt.Errorf("the repository has no %s: nobody is told anything", notices.File),
			"docs/notices.md has one to begin with")
	}
	return found, nil
}

// testResult is what came of a test at one target.
type testResult struct {
	Target  string `json:"target"`
	Arrived bool   `json:"arrived"`
	Why     string `json:"why,omitempty"`
}

func noticesTestVerb(a *cli.App) *cobra.Command {
	var secrets string
	var where []string
	cmd := &cobra.Command{
		Use:   "test [SINK]",
		Short: "Send a test message to the sinks of notices.yaml, and say what came of it",
		Long: `Sends one message, of the kind test, to SINK or to all sinks, as sluice serve would: from this machine, with
the secrets in --notice-secrets, and only where --webhooks-reach allows. It exits 1 if a message did not
arrive.`,
		Example: "  sluice notices test ops-chat --notice-secrets /etc/sluice/notices",
		Args:    cli.ArgumentCount(0, 1, "SINK"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := reach.Parse(where)
			if err != nil {
				return cli.UsageError(cmd, "--webhooks-reach: %w", err)
			}
			s, err := readSubscriptions(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			names := slices.Sorted(maps.Keys(s.Sinks))
			if len(args) == 1 {
				if s.Sinks[args[0]] == nil {
					return cli.Fail(fmt.Errorf("there is no sink %s", args[0]), "it has %s", strings.Join(names, ", "))
				}
				names = args
			}
			results := trySinks(cmd.Context(), s, names, secrets, list)
			err = a.PrintResult(results, func() { printTrials(a, results) })
			for _, r := range results {
				if !r.Arrived {
					err = errors.Join(err, fmt.Errorf("%s: %s", r.Target, r.Why))
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&secrets, "notice-secrets", "", "`DIR` with the files that notices.yaml names as secrets")
	f.StringSliceVar(&where, "webhooks-reach", []string{reach.Default},
		"`WHERE` sinks may be, a list of: public, private, loopback, an address, a range such as 10.1.0.0/16, "+
			"the name of a host")
	return cmd
}

func trySinks(ctx context.Context, s *notices.Subscriptions, names []string, secrets string,
	list reach.List) []testResult {
	o := outbox.NoticeOptions{Secret: cli.NoticeSecrets(secrets),
		Subscriptions: func() (*notices.Subscriptions, bool) { return s, true }}
	now := time.Now().UTC().Truncate(time.Second)
	n := notices.Notice{ID: fmt.Sprintf("notice/test/%d", time.Now().UnixNano()), Thread: "test", Number: 1,
		Kind: notices.Test, Severity: notices.Info, At: now, Title: "This is a test of notices: nothing happened", Over: true,
		Lines: []string{"sluice notices test sent it"}}
	results := []testResult{}
	for _, name := range names {
		for _, target := range s.Sinks[name].Targets(name) {
			why := outbox.Try(ctx, o, list, target, n)
			results = append(results, testResult{strings.TrimPrefix(target, notices.TargetPrefix), why == "", why})
		}
	}
	return results
}

func printTrials(a *cli.App, results []testResult) {
	rows := make([][]cli.Field, 0, len(results))
	for _, r := range results {
		state := cli.Coloured("arrived", cli.Green)
		if !r.Arrived {
			state = cli.Coloured("not arrived", cli.Red)
		}
		rows = append(rows, []cli.Field{cli.Coloured(r.Target, cli.Bold), state, cli.Text(cli.OrDash(r.Why))})
	}
	a.Stdout.PrintTable([]string{"SINK", "TEST", "WHY"}, rows)
}
