package decidecmd

import (
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/releases"
)

func ApproveVerb(a *cli.App) *cobra.Command {
	var w repos.ApprovalOptions
	var challenge bool
	var assertion string
	cmd := &cobra.Command{
		Use:     "approve CHANNEL V",
		GroupID: cli.GroupDecide,
		Short:   "Approve a release for a channel, signed with your SSH key or a passkey",
		Long: `Commits channels/CHANNEL/approvals/V/PERSON.yaml with the release's digest, signed with an SSH key
that sluice.yaml lists for you under people. The key is --key, or git's user.signingKey, or one that
your SSH agent holds. An approval by an author of the release never counts.

A passkey that sluice.yaml lists for you can sign instead: --challenge prints what a page at the
passkey's origin passes to navigator.credentials.get, and --assertion takes what came of it, as
{"nonce": NONCE, "credential": the result's toJSON()}.`,
		Example: `  sluice approve dedicated 2026.11.3
  sluice approve dedicated 2026.11.3 --as ada --key ~/.ssh/id_ed25519 --comment "tried it on staging"
  sluice approve dedicated 2026.11.3 --as ada --challenge
  sluice approve dedicated 2026.11.3 --as ada --assertion assertion.json`,
		Args: cli.ArgumentCount(2, 2, "CHANNEL and V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			approve := edits.Approve{Channel: args[0], Release: args[1], As: w.As(), Comment: w.Comment}
			switch {
			case challenge && assertion != "":
				return cli.UsageError(cmd, "--challenge and --assertion are two steps: one of them at a time")
			case challenge:
				return printChallenge(a, cmd, approve)
			case assertion != "":
				var err error
				if approve.Passkey, err = readAssertion(a, assertion); err != nil {
					return err
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), edits.Decision[*edits.Releases](approve))
			}
			return repos.CommitApproval(a, cmd, repos.ReleaseRepository(), w,
				func(as string) edits.Decision[*edits.Releases] {
					approve.As = as
					return approve
				})
		},
	}
	w.AddFlags(cmd)
	cmd.Flags().BoolVar(&challenge, "challenge", false, "print the challenge for your passkey, and approve nothing")
	cmd.Flags().StringVar(&assertion, "assertion", "", "`FILE` with the assertion that your passkey made; -: standard input")
	return cmd
}

// printChallenge prints what a browser needs to approve with a passkey.
func printChallenge(a *cli.App, cmd *cobra.Command, approve edits.Approve) error {
	who := releases.Person{}
	if approve.As == "" {
		var err error
		if who, err = repos.FindAuthor(cmd.Context(), a); err != nil {
			return err
		}
	}
	s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
	if err != nil {
		return err
	}
	c, err := approve.Challenge(s, edits.Person{Person: who}, rand.Text(), "")
	if err != nil {
		return repos.DecisionError(edits.Decision[*edits.Releases](approve), err)
	}
	return a.PrintResult(c, func() {
		data, _ := json.MarshalIndent(c, "", "  ") // strings always encode
		a.Stdout.PrintLine("%s", data)
	})
}

// readAssertion reads what a browser made of a challenge.
func readAssertion(a *cli.App, file string) (*passkey.Assertion, error) {
	data, err := a.ReadFile(file, edits.MaxAssertion)
	if err != nil {
		return nil, fmt.Errorf("read the assertion: %w", err)
	}
	signed, err := edits.ParseAssertion(data)
	if err != nil {
		return nil, cli.Fail(fmt.Errorf("%s is no assertion: %w", file, err), "sluice approve --challenge begins anew")
	}
	return signed, nil
}
