// Package cellcmd has the verbs of access: cells and their keys, on the vendor's side, and the tokens of people and
// programs. The verbs of a cell's owner, in package ownercmd, are below the same group.
//
// It never reads a cell's private key, and prints a token only once. A verb runs in one goroutine.
package cellcmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/ownercmd"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
)

func CellVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("cell", "Add cells, and manage their keys",
		`A cell is a file, cells/NAME/cell.yaml, and a key, which its agent makes and never gives away.
sluice cell add commits the file and makes a one-time token: the agent registers its key with the
token, and is known by that key from then on. The engine commits the key to
cells/NAME/identity.yaml.

These commands ask the control plane (--server, with $SLUICE_TOKEN) or, on the server's machine, use
the store in --data or --database. The cell's owner decides on the cell's own machine, with owner,
pause, pin, window, approval, approve and feature: the vendor sees these decisions and can't
override them.`,
		append([]*cobra.Command{
			cellAddVerb(a),
			cellBootstrapVerb(a),
			cellListVerb(a),
			repos.Complete(a, cellShowVerb(a), repos.CellNames),
			repos.Complete(a, cellRetryVerb(a), repos.CellNames),
			repos.Complete(a, cellEditVerb(a), repos.CellNames),
			repos.Complete(a, cellMoveVerb(a), repos.CellNames),
			repos.Complete(a, cellRotateVerb(a), repos.CellNames),
			repos.Complete(a, cellRevokeVerb(a), repos.CellNames),
			repos.Complete(a, cellRenameVerb(a), repos.CellNames),
			repos.Complete(a, cellRemoveVerb(a), repos.CellNames),
		}, ownercmd.Verbs(a)...)...)
	cmd.GroupID = cli.GroupCells
	return cmd
}

func cellListVerb(a *cli.App) *cobra.Command {
	var channel string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List cells: what they run, and the state of their keys",
		Example: `  sluice cell list --server unix:///run/sluice.sock
  sluice cell list --channel dedicated -o json`,
		Args: cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := fetchMembers(a, cmd, channel)
			if err != nil {
				return err
			}
			return a.PrintResult(map[string]any{"cells": all}, func() {
				rows := make([][]cli.Field, 0, len(all))
				for _, m := range all {
					rows = append(rows, []cli.Field{cli.Text(m.Name), cli.Text(m.Channel),
						cli.Text(cli.OrDash(m.Release)), cli.Text(string(m.State)), accessField(m.Access),
						cli.Text(cli.Ago(time.Now(), m.LastReport))})
				}
				a.Stdout.PrintTable([]string{"CELL", "CHANNEL", "RELEASE", "STATE", "KEY", "LAST REPORT"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "list only the cells of this `CHANNEL`")
	client.AddServerFlag(a, cmd)
	return cmd
}

func accessField(is view.Access) cli.Field {
	switch is {
	case view.AccessGood:
		return cli.Coloured(string(is), cli.Green)
	case view.AccessRevoked, view.AccessQuarantined:
		return cli.Coloured(string(is), cli.Red)
	case view.AccessNone, view.AccessRotating:
	}
	return cli.Coloured(string(is), cli.Yellow)
}

func cellShowVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one cell: identity, state, last report, channel, release",
		Example: `  sluice cell show acme --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := fetchMember(a, cmd, args[0])
			if err != nil {
				return err
			}
			return printMember(a, m)
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func printMember(a *cli.App, m view.Member) error {
	return a.PrintResult(m, func() {
		now := time.Now()
		for _, l := range [][2]string{
			{"cell", m.Name}, {"channel", m.Channel}, {"key", string(m.Access)}, {"quarantined", m.Quarantined},
			{"public key", m.PublicKey}, {"previous key", m.Previous}, {"state", string(m.State)},
			{"release", cli.OrDash(m.Release)},
			{"applying", m.Applying}, {"message", m.Message}, {"last report", cli.Ago(now, m.LastReport)},
		} {
			if l[1] != "" {
				// A cell's message must not look like another line.
				a.Stdout.PrintLine("%-13s %s", l[0], strings.Join(strings.Fields(l[1]), " "))
			}
		}
		if m.Unhealthy != nil {
			for _, line := range m.Unhealthy.Lines() {
				a.Stdout.PrintLine("%-13s %s", "not healthy", strings.Join(strings.Fields(line), " "))
			}
		}
		if i := m.Infrastructure; i != nil {
			a.Stdout.PrintLine("%-13s %d, %s", "infrastructure", i.Has, strings.ReplaceAll(string(i.State), "-", " "))
			if i.Actual != nil {
				a.Stdout.PrintLine("%-13s %s", "actual", strings.Join(strings.Fields(i.Actual.String()), " "))
			}
		}
		for _, b := range m.Blocked {
			a.Stdout.PrintLine("%-13s %s: %s", "held by", b.Gate, strings.Join(strings.Fields(b.Reason), " "))
		}
	})
}

func cellRotateVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rotate NAME",
		Short:   "Ask a cell for a new key; the old one works until the new one has been used",
		Example: `  sluice cell rotate acme --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !client.UsesServer(a) {
				return cli.UsageError(cmd, "only the control plane does this: name it with --server")
			}
			var m view.Member
			err := client.CallServer(cmd.Context(), a, http.MethodPost, cellPath(args[0], "/rotate"), nil, &m)
			if err != nil {
				return fmt.Errorf("rotate the key of %s: %w", args[0], err)
			}
			return printMember(a, m)
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func cellRevokeVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Shut a cell out: its key is refused until the cell gets a new token",
		Long: `With --server, every replica refuses the key within 2 s, and the engine commits the revocation.
Without, the revocation is a commit in your name, in force as soon as it is read. What the cell runs
keeps running. sluice cell add NAME lets the cell back in, with a new key.`,
		Example: `  sluice cell revoke acme --server unix:///run/sluice.sock`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if a.DryRun || !client.UsesServer(a) {
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.RevokeCell{Name: name})
			}
			var m view.Member
			err := client.CallServer(cmd.Context(), a, http.MethodPost, cellPath(name, "/revoke"), nil, &m)
			if err != nil {
				return fmt.Errorf("revoke %s: %w", name, err)
			}
			return printMember(a, m)
		},
	}
	client.AddServerFlag(a, cmd)
	return cmd
}

func cellRemoveVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a cell and its key from the release repository, in one commit",
		Long: `Removes cells/NAME. The cell's key is refused as soon as the commit is read; what the cell runs
keeps running. A cell that is added again under this name starts anew, with another key.`,
		Example: `  sluice cell remove acme`,
		Args:    cli.ArgumentCount(1, 1, "NAME"),
	}
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		return edits.RemoveCell{Name: args[0]}
	})
}

func cellRenameVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Give a cell another name, in one commit; its key and its agent stay",
		Long: `Moves cells/NAME to cells/NEW. The cell's key is that of NEW as soon as the commit is read: the agent
learns its new name with the next request, and goes on where it was. A name that another cell had
before, with a key, is refused: its agent may still be around.`,
		Example: `  sluice cell rename acme acme-eu`,
		Args:    cli.ArgumentCount(2, 2, "NAME and NEW"),
	}
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(), func(args []string) edits.Decision[*edits.Releases] {
		return edits.RenameCell{Name: args[0], To: args[1]}
	})
}

func cellPath(name, rest string) string { return "/v1/cells/" + url.PathEscape(name) + rest }

// fetchMembers returns the cells of a channel (empty: all), from the control plane or, without one, from the
// repository and the store.
func fetchMembers(a *cli.App, cmd *cobra.Command, channel string) ([]view.Member, error) {
	ctx := cmd.Context()
	if !client.UsesServer(a) {
		repos.NoteNotObserved(a)
		return readMembers(ctx, a, cmd, view.StatusPage{Channel: channel})
	}
	all := []view.Member{}
	err := client.EachPage(ctx, a, "/v1/cells", client.ChannelQuery(channel), func(page peopleapi.MemberPage) string {
		all = append(all, page.Cells...)
		return page.Next
	})
	return all, err
}

func fetchMember(a *cli.App, cmd *cobra.Command, name string) (view.Member, error) {
	if client.UsesServer(a) {
		var m view.Member
		return m, client.GetResource(cmd.Context(), a, cellPath(name, ""), &m)
	}
	repos.NoteNotObserved(a)
	v, err := repos.LocalView(cmd.Context(), a, cmd, false)
	if err == nil {
		_, err = (&edits.Releases{Desired: v.Desired}).Cell(name)
	}
	if err != nil {
		return view.Member{}, err
	}
	return view.MemberOf(view.CellOf(v, name), v.Identity(name)), nil
}

func readMembers(ctx context.Context, a *cli.App, cmd *cobra.Command, page view.StatusPage) ([]view.Member, error) {
	v, err := repos.LocalView(ctx, a, cmd, false)
	if err != nil {
		return nil, err
	}
	if page.Channel != "" {
		if _, err := (&edits.Releases{Desired: v.Desired}).Channel(page.Channel); err != nil {
			return nil, err
		}
	}
	return view.MembersOf(v, page), nil
}

// isUnknownCell reports whether the control plane has not read the cell yet.
func isUnknownCell(err error) bool {
	no := new(client.Refusal)
	return errors.As(err, &no) && no.Status == http.StatusNotFound
}
