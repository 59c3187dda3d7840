// Package infracmd has the verbs of infrastructure updates: where cells stand with them, and what people record about
// their deadlines.
//
// It judges no deadline: engine/plan/deadline does. A verb runs in one goroutine.
package infracmd

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

func Verb(a *cli.App) *cobra.Command {
	cmd := cli.Group("infra", "Infrastructure updates: where cells stand, and their deadlines",
		`An infrastructure update is a folder, infrastructure/N, with templates that a cell's customer executes.
Once a notice of it was delivered to the customer, a deadline runs (infrastructure.deadline in
sluice.yaml, default 14d). A cell that has not executed the update by then is out of support: it gets
no new release until it has. What it runs goes on, and so do rollbacks.`,
		statusVerb(a),
		repos.Complete(a, showVerb(a), repos.CellNames),
		repos.Complete(a, notifyVerb(a), repos.CellNames),
		repos.Complete(a, extendVerb(a), repos.CellNames),
		repos.Complete(a, exemptVerb(a), repos.CellNames),
		validateVerb(a),
		prepareVerb(a),
	)
	cmd.GroupID = cli.GroupAuthor
	return cmd
}

// fetchStatus asks the control plane or, without one, reads the repository and the store.
func fetchStatus(a *cli.App, cmd *cobra.Command, channel string) (view.Status, error) {
	var repo *repos.OpenRepository
	defer func() {
		if repo != nil {
			repo.Close()
		}
	}()
	repos.NoteNotObserved(a)
	return repos.FetchStatus(cmd.Context(), a, cmd, &repo, view.StatusPage{Channel: channel})
}

func statusVerb(a *cli.App) *cobra.Command {
	var channel string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which infrastructure update each cell has and lacks, and by when it is due",
		Long: `Cells that need attention come first.

  overdue      out of support: the deadline has passed
  failed       an update failed or was rolled back, or what it made was changed by hand
  due soon     due within three days
  applying     an update is being executed
  unnotified   an update is open, and no notice of it was delivered: no deadline runs
  notified     a deadline runs
  exempt       no update is asked of the cell
  current      the cell has the newest update`,
		Example: `  sluice infra status --server http://127.0.0.1:7600
  sluice infra status --channel dedicated -o json`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := fetchStatus(a, cmd, channel)
			if err != nil {
				return err
			}
			return a.PrintResult(statusOf(s), func() { printStatus(a, s) })
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "show only the cells of this `CHANNEL`")
	client.AddServerFlag(a, cmd)
	return cmd
}

// cellStanding is a cell, as infra status and infra show print it.
type cellStanding struct {
	Name    string `json:"name"`
	Channel string `json:"channel"`
	view.CellInfrastructure
}

type status struct {
	Updates []infrastructure.Update `json:"updates"`
	Cells   []cellStanding          `json:"cells"`
}

func statusOf(s view.Status) status {
	out := status{Updates: append([]infrastructure.Update{}, s.Infrastructure...), Cells: []cellStanding{}}
	for _, is := range ladder() {
		for _, c := range s.Cells {
			if c.Infrastructure != nil && c.Infrastructure.State == is {
				out.Cells = append(out.Cells, cellStanding{c.Name, c.Channel, *c.Infrastructure})
			}
		}
	}
	return out
}

// ladder returns all states, in the order in which people should look at cells.
func ladder() []deadline.State {
	return []deadline.State{deadline.Overdue, deadline.Failed, deadline.DueSoon, deadline.Applying,
		deadline.Unnotified, deadline.Notified, deadline.Exempt, deadline.Current}
}

func printStatus(a *cli.App, s view.Status) {
	if len(s.Infrastructure) == 0 {
		a.Stdout.PrintLine("the repository has no infrastructure updates")
		return
	}
	newest := s.Infrastructure[len(s.Infrastructure)-1]
	a.Stdout.PrintLine("the newest update is %d", newest.Number)
	var rows [][]cli.Field
	for _, c := range statusOf(s).Cells {
		rows = append(rows, []cli.Field{cli.Coloured(c.Name, cli.Bold), cli.Text(c.Channel),
			cli.Text(numberText(c.Has)), stateField(c.Standing), cli.Text(numberText(c.Number)),
			cli.Text(dueText(c.Due)), cli.Text(note(c.CellInfrastructure))})
	}
	a.Stdout.PrintTable([]string{"CELL", "CHANNEL", "HAS", "STATE", "LACKS", "DUE", "NOTE"}, rows)
}

func numberText(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func dueText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return words.FormatTime(t)
}

func stateField(s deadline.Standing) cli.Field {
	text := strings.ReplaceAll(string(s.State), "-", " ")
	switch {
	case s.OutOfSupport, s.State == deadline.Failed:
		return cli.Coloured(text, cli.Red)
	case s.State == deadline.DueSoon, s.State == deadline.Unnotified, s.State == deadline.Applying:
		return cli.Coloured(text, cli.Yellow)
	}
	return cli.Text(text)
}

func note(s view.CellInfrastructure) string {
	var all []string
	switch {
	case s.OutOfSupport && s.Hotfixes:
		all = append(all, "out of support; it still gets hotfixes")
	case s.OutOfSupport:
		all = append(all, "out of support")
	case s.Undelivered:
		all = append(all, "the notice was not delivered")
	case s.Extension != nil:
		all = append(all, "extended by "+words.OneLine(s.Extension.Approver))
	case s.Exempt != "":
		all = append(all, words.OneLine(s.Exempt))
	}
	if s.Actual.NeedsLook() {
		all = append(all, words.OneLine(s.Actual.String()))
	}
	return strings.Join(all, "; ")
}

func showVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show CELL",
		Short: "Show which infrastructure update a cell has to execute, by when, and the steps",
		Example: `  sluice infra show acme
  sluice infra show acme --server http://127.0.0.1:7600 -o json`,
		Args: cli.ArgumentCount(1, 1, "CELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := fetchStatus(a, cmd, "")
			if err != nil {
				return err
			}
			for _, c := range s.Cells {
				if c.Name != args[0] {
					continue
				}
				if c.Infrastructure == nil {
					return cli.Fail(fmt.Errorf("infra show %s: the repository has no infrastructure updates", c.Name),
						"add infrastructure/N (docs/infrastructure.md)")
				}
				is := cellStanding{c.Name, c.Channel, *c.Infrastructure}
				update := findUpdate(s.Infrastructure, is.Newest)
				return a.PrintResult(map[string]any{"cell": is, "update": update},
					func() { printCell(a, is, update) })
			}
			return cli.Fail(fmt.Errorf("infra show: there is no cell %q", args[0]),
				"sluice infra status lists the cells")
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

// findUpdate returns the update with a number; nil: it is not listed.
func findUpdate(all []infrastructure.Update, number int) *infrastructure.Update {
	for i := range all {
		if all[i].Number == number {
			return &all[i]
		}
	}
	return nil
}

func printCell(a *cli.App, c cellStanding, newest *infrastructure.Update) {
	say := func(what, format string, args ...any) {
		a.Stdout.PrintLine("%-9s %s", what, fmt.Sprintf(format, args...))
	}
	say("cell", "%s", c.Name)
	say("has", "%s", numberText(c.Has))
	say("state", "%s", strings.ReplaceAll(string(c.State), "-", " "))
	if c.Actual != nil {
		say("actual", "%s", words.OneLine(c.Actual.String()))
	}
	if c.Exempt != "" {
		say("exempt", "%s", words.OneLine(c.Exempt))
	}
	if c.Undelivered {
		say("notice", "sent, and not delivered: no deadline runs for update %d", c.Newest)
	}
	if !c.Due.IsZero() {
		say("notice", "of update %d, delivered at %s by %s", c.Number, words.FormatTime(c.Noticed), words.OneLine(c.By))
		say("due", "%s", words.FormatTime(c.Due))
	}
	if x := c.Extension; x != nil {
		say("extended", "by %s: %s", words.OneLine(x.Approver), words.OneLine(x.Reason))
	}
	for _, contact := range c.Contacts {
		say("contact", "%s <%s>", words.OneLine(contact.Name), words.OneLine(contact.Email))
		if c.Due.IsZero() || c.OutOfSupport {
			continue
		}
		var at []string
		for _, t := range deadline.Reminders(c.Noticed, c.Due, contact.Location()) {
			at = append(at, t.Format(time.RFC3339))
		}
		say("", "remind at %s", cli.OrDash(strings.Join(at, ", ")))
	}
	if c.Number == 0 || newest == nil {
		return
	}
	say("update", "%d, the newest, which has all that those before have", newest.Number)
	if newest.Faulty {
		say("", "its description has faults: sluice validate")
		return
	}
	say("impact", "%s", newest.Impact)
	for _, q := range newest.Quotas {
		say("quota", "at least %g of %s (%s, %s)", q.Least, words.OneLine(q.Name), q.Service, q.Code)
	}
	say("notes", "%s", words.OneLine(newest.Notes))
	if newest.Link != "" {
		say("link", "%s", newest.Link)
	}
	for i, file := range newest.Templates() {
		say("step", "%d. execute %s", i+1, file)
	}
}

func notifyVerb(a *cli.App) *cobra.Command {
	var d edits.NotifyInfrastructure
	var delivered, undelivered, at string
	cmd := &cobra.Command{
		Use:   "notify CELL --delivered HOW | --undelivered HOW",
		Short: "Record that a cell's customer was notified of an update, which starts the deadline",
		Long: `Sluice notifies customers itself where notices.yaml names sinks for them. Elsewhere notify the customer's
contact (sluice infra show names them), and record with --delivered how it reached them. The commit in your name fixes the deadline, as an instant in UTC: neither
a later policy nor a cell without contact moves it. Of a notice that did not arrive, record --undelivered:
no deadline runs, and status says so.`,
		Example: `  sluice infra notify acme --delivered "mail to ops@acme.example, answered in ticket 4711"
  sluice infra notify acme --number 8 --delivered "call with A. Smith" --at 2026-11-02T10:00:00Z
  sluice infra notify acme --undelivered "mail to ops@acme.example bounced"`,
		Args: cli.ArgumentCount(1, 1, "CELL"),
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if (delivered == "") == (undelivered == "") {
			return cli.UsageError(cmd, "say how the notice was sent, with either --delivered or --undelivered")
		}
		d.By, d.Undelivered = words.OneLine(delivered+undelivered), undelivered != ""
		if at == "" {
			return nil
		}
		var err error
		if d.At, err = time.Parse(time.RFC3339, at); err != nil {
			return cli.UsageError(cmd, "--at %s is no time like 2026-12-20T00:00:00Z", at)
		}
		return nil
	}
	f := cmd.Flags()
	f.IntVar(&d.Number, "number", 0, "the update's `NUMBER` (default: the newest)")
	f.StringVar(&delivered, "delivered", "", "`HOW` the notice reached the customer")
	f.StringVar(&undelivered, "undelivered", "", "`HOW` the notice was sent that did not arrive")
	f.StringVar(&at, "at", "", "when it was delivered, as an RFC 3339 time (default: now)")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		d.Cell = args[0]
		return d
	})
}

func extendVerb(a *cli.App) *cobra.Command {
	var d edits.ExtendInfrastructure
	var until string
	cmd := &cobra.Command{
		Use:   "extend CELL --until T --reason WHY",
		Short: "Move a cell's deadline to a later instant",
		Long: `A commit in your name records the extension with its reason, its end and who granted it. It is of one
update: if others are due before, extend them too. T is an RFC 3339 time, or a duration from now.`,
		Example: `  sluice infra extend acme --until 2026-12-20T00:00:00Z --reason "their freeze ends on the 19th"
  sluice infra extend acme --number 8 --until 72h --reason "quota request is open" --as ada`,
		Args: cli.ArgumentCount(1, 1, "CELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Cell = args[0]
			if until == "" || d.Reason == "" {
				return cli.UsageError(cmd, "--until or --reason is missing")
			}
			var err error
			if d.Until, err = cli.ParseInstant(until, time.Now()); err != nil {
				return cli.UsageError(cmd, "--until %w", err)
			}
			return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), d)
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.Number, "number", 0, "the update's `NUMBER` (default: the one that is due first)")
	f.StringVar(&until, "until", "", "the new deadline: `T`")
	f.StringVar(&d.Reason, "reason", "", "reason, recorded with the extension")
	f.StringVar(&d.As, "as", "", "the `PERSON` of sluice.yaml who grants it (default: the one with your e-mail address)")
	return cmd
}

func exemptVerb(a *cli.App) *cobra.Command {
	var d edits.ExemptInfrastructure
	cmd := &cobra.Command{
		Use:   "exempt CELL --reason WHY | CELL --lift",
		Short: "Ask no infrastructure updates of a cell, such as one on the customer's own cluster",
		Example: `  sluice infra exempt initech --reason "runs on their own cluster"
  sluice infra exempt initech --lift`,
		Args: cli.ArgumentCount(1, 1, "CELL"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if d.Reason == "" && !d.Lift {
				return cli.UsageError(cmd, "--reason is missing")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Reason, "reason", "", "reason, recorded in the cell's infrastructure.yaml")
	f.BoolVar(&d.Lift, "lift", false, "end the exemption: deadlines of delivered notices count again")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		d.Cell = args[0]
		return d
	})
}
