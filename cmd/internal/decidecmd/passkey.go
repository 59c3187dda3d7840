package decidecmd

import (
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
)

func PasskeyVerb(a *cli.App) *cobra.Command {
	cmd := cli.Group("passkey", "List passkeys of yours, to approve with",
		`A passkey that sluice.yaml lists for a person signs that person's approvals, in the console or by
sluice approve --assertion. A browser makes it: the console's page "Add a passkey of yours" does so, and
shows the command with all values.`,
		passkeyAddVerb(a),
	)
	cmd.GroupID = cli.GroupDecide
	return cmd
}

func passkeyAddVerb(a *cli.App) *cobra.Command {
	var d edits.AddPasskey
	cmd := &cobra.Command{
		Use:   "add --id ID --public-key KEY --origin ORIGIN",
		Short: "Add a passkey of yours to sluice.yaml",
		Long: `Commits the passkey under people.PERSON.passkeys in sluice.yaml. Where sluice.yaml lists owners, the
commit counts if one of them signs it.`,
		Example: `  sluice passkey add --id 5TqGx0pS1f0m0pTn8p5g3w --public-key MFkwEwYH… --origin https://sluice.example.com:7600`,
		Args:    cli.ArgumentCount(0, 0, "no arguments"),
	}
	f := cmd.Flags()
	f.StringVar(&d.Key.ID, "id", "", "the credential's `ID`, in base64url")
	f.StringVar(&d.Key.PublicKey, "public-key", "", "the `KEY` that getPublicKey() returned in the browser, in base64")
	f.StringVar(&d.Key.Origin, "origin", "", "the `ORIGIN` of the page that may ask for it")
	f.StringVar(&d.As, "as", "", "add it for this `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	return repos.RunDecision(a, cmd, repos.ReleaseRepository(),
		func([]string) edits.Decision[*edits.Releases] { return d })
}
