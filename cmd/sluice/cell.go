package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/view"
)

func (a *app) cellVerb() *cobra.Command {
	cmd := group("cell", "Add cells, and look after their keys", `A cell is a file, cells/NAME/cell.yaml, and a key, which its agent makes and never gives away. sluice cell add commits the one and makes
a one-time token for the other: the agent shows it once, and is its key from then on. The engine commits the key to cells/NAME/identity.yaml.

These ask the control plane (--server, with $SLUICE_TOKEN) or, on the server's machine, the store in --data or --database. The cell's owner decides on
the cell's machine, by pause, pin, window and approve: the vendor sees it and can't override it.`,
		append([]*cobra.Command{
			a.cellAddVerb(),
			a.cellListVerb(),
			a.complete(a.cellShowVerb(), cellNames),
			a.complete(a.cellRotateVerb(), cellNames),
			a.complete(a.cellRevokeVerb(), cellNames),
			a.complete(a.cellRemoveVerb(), cellNames),
		}, a.ownerVerbs()...)...)
	cmd.GroupID = groupCells
	return cmd
}

func (a *app) cellListVerb() *cobra.Command {
	var channel string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List cells: what they run, and whether they may come in",
		Example: `  sluice cell list --server unix:///run/sluice.sock
  sluice cell list --channel dedicated -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.members(cmd, channel)
			if err != nil {
				return err
			}
			if done, err := a.encode(map[string]any{"cells": all}); done {
				return err
			}
			rows := make([][]field, 0, len(all))
			for _, m := range all {
				rows = append(rows, []field{text(m.Name), text(m.Channel), text(orDash(m.Release)), text(string(m.State)), accessField(m.Access), text(ago(time.Now(), m.LastReport))})
			}
			a.stdout.table([]string{"CELL", "CHANNEL", "RELEASE", "STATE", "KEY", "LAST REPORT"}, rows)
			return nil
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "only this `CHANNEL`'s")
	a.serverFlag(cmd)
	return cmd
}

func accessField(is view.Access) field {
	switch is {
	case view.AccessGood:
		return field{string(is), green}
	case view.AccessRevoked, view.AccessQuarantined:
		return field{string(is), red}
	case view.AccessNone, view.AccessRotating:
	}
	return field{string(is), yellow}
}

func (a *app) cellShowVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one cell: identity, state, last report, channel, release",
		Example: `  sluice cell show acme --server unix:///run/sluice.sock`,
		Args:    arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.member(cmd, args[0])
			if err != nil {
				return err
			}
			return a.printMember(m)
		},
	}
	a.serverFlag(cmd)
	return cmd
}

func (a *app) printMember(m view.Member) error {
	if done, err := a.encode(m); done {
		return err
	}
	now := time.Now()
	for _, l := range [][2]string{
		{"cell", m.Name}, {"channel", m.Channel}, {"key", string(m.Access)}, {"quarantined", m.Quarantined},
		{"public key", m.PublicKey}, {"previous key", m.Previous}, {"state", string(m.State)}, {"release", orDash(m.Release)},
		{"applying", m.Applying}, {"message", m.Message}, {"last report", ago(now, m.LastReport)},
	} {
		if l[1] != "" {
			a.stdout.line("%-13s %s", l[0], strings.Join(strings.Fields(l[1]), " ")) // a cell's words must not look like another line
		}
	}
	for _, b := range m.Blocked {
		a.stdout.line("%-13s %s: %s", "held by", b.Gate, strings.Join(strings.Fields(b.Reason), " "))
	}
	return nil
}

func (a *app) cellRotateVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rotate NAME",
		Short:   "Ask a cell for a new key; the old one is good until the new one was used",
		Example: `  sluice cell rotate acme --server unix:///run/sluice.sock`,
		Args:    arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !a.asksServer() {
				return usage(cmd, "the control plane does this: name it with --server")
			}
			var m view.Member
			if err := a.call(cmd.Context(), http.MethodPost, cellPath(args[0], "/rotate"), nil, &m); err != nil {
				return wrapFailure("rotate the key of "+args[0], err)
			}
			return a.printMember(m)
		},
	}
	a.serverFlag(cmd)
	return cmd
}

func (a *app) cellRevokeVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Shut a cell out: its key is not good any more, until it gets a new token",
		Long: `By --server within 2 s on every replica; the engine commits it. Without, it is a commit of yours, which counts as soon as it is read. What
the cell runs goes on running. sluice cell add NAME lets it come back, with a new key.`,
		Example: `  sluice cell revoke acme --server unix:///run/sluice.sock`,
		Args:    arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if !a.asksServer() {
				return a.commitRevoked(cmd, name)
			}
			var m view.Member
			if err := a.call(cmd.Context(), http.MethodPost, cellPath(name, "/revoke"), nil, &m); err != nil {
				return wrapFailure("revoke "+name, err)
			}
			return a.printMember(m)
		},
	}
	a.serverFlag(cmd)
	return cmd
}

// commitRevoked writes into the cell's identity that it is revoked: its serial is the next, so that older registrations are void.
func (a *app) commitRevoked(cmd *cobra.Command, name string) error {
	return a.commit(cmd, change{what: "revoke " + name}, func(s *snapshot) (map[string][]byte, error) {
		id, err := s.identity(name)
		switch {
		case err != nil:
			return nil, err
		case id.Revoked:
			return nil, errUnchanged
		case id.PublicKey == "":
			return nil, fail(fmt.Errorf("cell %s has no key in the repository", name), "name the control plane with --server: it may know of one that is not committed yet")
		}
		id.Serial++
		id.Revoked, id.Rotate = true, false
		data, err := identityYAML(id)
		return map[string][]byte{path.Join(cells.Dir, name, "identity.yaml"): data}, err
	}, func() string {
		return "the control plane shuts it out once it has read this; sluice cell add " + name + " lets it come back"
	})
}

func (a *app) cellRemoveVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a cell and its key from the release repository, by one commit",
		Long: `Removes cells/NAME. Its key is not good any more as soon as the commit is read; what runs there goes on running. A cell that is added again under this
name starts anew, with another key.`,
		Example: `  sluice cell remove acme`,
		Args:    arguments(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			return a.commit(cmd, change{what: "remove cell " + name}, func(s *snapshot) (map[string][]byte, error) {
				files, err := s.filesBelow(path.Join(cells.Dir, name))
				if err != nil || len(files) == 0 || !cells.ValidName(name) {
					return nil, fail(fmt.Errorf("the repository has no cell %q", name), "sluice cell list")
				}
				return files, nil
			}, func() string { return "nothing is asked of it any more, and nothing from it is taken" })
		},
	}
	return cmd
}

func cellPath(name, rest string) string { return "/v1/cells/" + url.PathEscape(name) + rest }

// members are the channel's cells, or all, as the control plane has them or, without one, as repository and store say.
func (a *app) members(cmd *cobra.Command, channel string) ([]view.Member, error) {
	ctx := cmd.Context()
	if !a.asksServer() {
		return a.membersHere(ctx, cmd, view.StatusPage{Channel: channel})
	}
	all := []view.Member{}
	q := url.Values{}
	if channel != "" {
		q.Set("channel", channel)
	}
	for {
		var page peopleapi.MemberPage
		if err := a.ask(ctx, "/v1/cells?"+q.Encode(), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Cells...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("after", page.Next)
	}
}

func (a *app) member(cmd *cobra.Command, name string) (view.Member, error) {
	if a.asksServer() {
		var m view.Member
		return m, a.ask(cmd.Context(), cellPath(name, ""), &m)
	}
	all, err := a.membersHere(cmd.Context(), cmd, view.StatusPage{})
	if err != nil {
		return view.Member{}, err
	}
	for _, m := range all {
		if m.Name == name {
			return m, nil
		}
	}
	return view.Member{}, fail(fmt.Errorf("the repository has no cell %q", name), "sluice cell list")
}

func (a *app) membersHere(ctx context.Context, cmd *cobra.Command, page view.StatusPage) ([]view.Member, error) {
	repo, err := a.open(ctx, cmd, committer{})
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	v, err := a.view(ctx, repo)
	if err != nil {
		return nil, err
	}
	if page.Channel != "" && v.Desired.Channels[page.Channel] == nil {
		return nil, fail(fmt.Errorf("there is no channel %q", page.Channel), "the channels are %s", strings.Join(v.Desired.Order, ", "))
	}
	return view.MembersOf(v, page), nil
}

// errNoCell: the control plane has not read of the cell.
func errNoCell(err error) bool {
	no := new(refusal)
	return errors.As(err, &no) && no.status == http.StatusNotFound
}
