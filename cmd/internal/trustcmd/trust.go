// Package trustcmd has the verbs of release signers: they found a repository's trust, sign releases, revoke them, and
// change who signs. Each verb that changes something makes one commit, with the signer's signature in the files.
//
// The package decides nothing: channels/trust says what counts, and engine/edits makes the commits. It reads private
// keys from files and agents, and never prints or keeps one.
package trustcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// Verb is the tree of the signers' verbs.
func Verb(a *cli.App) *cobra.Command {
	cmd := cli.Group("trust", "Have releases signed by people before they may run",
		`Signers decide which releases may run in which channels, by signatures that the engine's keys can't replace. Their files are in the folder
trust of the release repository; docs/trust.md says who can do what with which keys, and what is not protected yet. Each verb that
changes something commits files with your signature; the other signers add theirs with sluice trust sign.`,
		initVerb(a), signVerb(a), revokeVerb(a), rotateVerb(a), supportVerb(a), statusVerb(a), verifyVerb(a))
	cmd.GroupID = cli.GroupAuthor
	return cmd
}

func addKeyFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "key", "",
		"`FILE` with your private SSH key (default: git's user.signingKey, else a signer's key in the SSH agent)")
}

func initVerb(a *cli.App) *cobra.Command {
	var d edits.FoundTrust
	var signers, engine []string
	var floor, key string
	cmd := &cobra.Command{
		Use:   "init --signer NAME --signer NAME …",
		Short: "Make the first trust files, and sign them",
		Long: `Writes version 1 of root, targets and releases into the folder trust, with your signature. Nothing changes until as many signers as
--threshold signed: each runs sluice trust sign. From then on the channels take only signed releases.

A NAME is a person in people of sluice.yaml who has one ssh-ed25519 key there, or NAME=FILE with a .pub file. Keep the keys apart from
each other and from the control plane: who has as many of them as --threshold decides what cells run. What the channels run now, and
may go back to, is listed as signed.`,
		Example: `  sluice trust init --signer ada --signer grace --signer linus
  sluice trust init --signer ada=ada.pub --signer grace=grace.pub --channel dedicated --key ~/.ssh/id_ed25519`,
		Args: cli.ArgumentCount(0, 0, ""),
	}
	f := cmd.Flags()
	f.StringArrayVar(&signers, "signer", nil, "who signs: `NAME` or NAME=FILE; give it for each signer")
	f.IntVar(&d.Threshold, "threshold", trust.LeastThreshold, "how many signers have to sign")
	f.StringSliceVar(&d.Channels, "channel", nil, "`CHANNEL` that takes only signed releases; may be repeated (default: all)")
	f.StringVar(&floor, "floor", "", "oldest `RELEASE` that may run")
	f.StringArrayVar(&engine, "engine-key", nil,
		"`FILE` with a public key of the engine's (default: the keys in engine.keys of sluice.yaml)")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(signers) < trust.LeastThreshold {
			return cli.UsageError(cmd, "name at least %d signers: --signer", trust.LeastThreshold)
		}
		var err error
		if d.Floor, err = parseVersion(cmd, "--floor", floor); err != nil {
			return err
		}
		for _, file := range engine {
			k, err := readPublic("engine", file)
			if err != nil {
				return fmt.Errorf("--engine-key: %w", err)
			}
			d.Engine = append(d.Engine, k)
		}
		return commit(a, cmd, key, func(s *edits.Releases) (keys []trust.Key, err error) {
			d.Signers, err = findKeys(s, signers)
			return d.Signers, err
		}, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func signVerb(a *cli.App) *cobra.Command {
	var d edits.SignTrust
	var key string
	var flags bool
	cmd := &cobra.Command{
		Use:   "sign [RELEASE…]",
		Short: "Sign releases, and all that waits for your signature",
		Long: `With releases, lists them as allowed in the channels that need signatures, or in those that --channel names, and signs the list. Without,
signs what other signers changed. Look at it before: sluice trust status, or --dry-run.

With --flags, lists each definition and each announcement of the flags repository, as its branch has them, beside those that were signed
before: channels may still be at these. --newest-only takes them off.`,
		Example: `  sluice trust sign 2026.11.3
  sluice trust sign
  sluice trust sign --flags`,
		Args: cli.ArgumentCount(0, -1, "RELEASE"),
	}
	cmd.Flags().StringSliceVar(&d.Channels, "channel", nil,
		"`CHANNEL` that the releases may run in; may be repeated (default: all that need signatures)")
	cmd.Flags().BoolVar(&flags, "flags", false, "sign what the flags repository has")
	cmd.Flags().BoolVar(&d.NewestOnly, "newest-only", false, "with --flags: nothing older may be served any more")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if d.Releases = args; len(args) == 0 && len(d.Channels) > 0 {
			return cli.UsageError(cmd, "--channel is about releases: name them")
		}
		if d.NewestOnly && !flags {
			return cli.UsageError(cmd, "--newest-only is about flags: --flags")
		}
		if flags {
			s, err := repos.FlagsRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return fmt.Errorf("trust sign: %w", err)
			}
			d.Flags = s.Tree
		}
		return commit(a, cmd, key, currentSigners, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func revokeVerb(a *cli.App) *cobra.Command {
	var d edits.RevokeTrust
	var key, below string
	cmd := &cobra.Command{
		Use:   "revoke RELEASE --reason WHY | --below RELEASE --reason WHY",
		Short: "Let a release, or all below a floor, never run again",
		Long: `Revokes by version, for good: no channel that needs signatures takes the release any more, whatever was signed before. It counts once
enough signers signed. Cells that run it are not stopped: roll the channel back (sluice rollback). To stop a release at once, quarantine
it too (sluice quarantine).`,
		Example: `  sluice trust revoke 2026.11.2 --reason "loses workspaces"
  sluice trust revoke --below 2026.11.0 --reason "no longer supported"`,
		Args: cli.ArgumentCount(0, 1, "RELEASE"),
	}
	f := cmd.Flags()
	f.StringVar(&below, "below", "", "let nothing below this `RELEASE` run")
	addKeyFlag(cmd, &key)
	cli.RequireReason(cmd, &d.Reason, "reason, which everybody sees who meets the release")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (below != "") {
			return cli.UsageError(cmd, "name a release, or --below one")
		}
		var err error
		if d.Below, err = parseVersion(cmd, "--below", below); err != nil {
			return err
		}
		if len(args) == 1 {
			if d.What, err = parseVersion(cmd, "RELEASE", args[0]); err != nil {
				return err
			}
		}
		return commit(a, cmd, key, currentSigners, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func rotateVerb(a *cli.App) *cobra.Command {
	var d edits.RotateTrust
	var add, flagSigners []string
	var key string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change who signs, or sign everything for another year",
		Long: `Makes the next version of every trust file, with your signature. Without flags nothing changes but the time at which they expire. The next
root needs the signatures of enough signers as before, and of enough as after the change.

Flags are unsigned until --flag-signer says who signs them. They may be other people than those who sign releases.`,
		Example: `  sluice trust rotate
  sluice trust rotate --flag-signer ada --flag-signer mia
  sluice trust rotate --add mia --remove linus
  sluice trust rotate --engine`,
		Args: cli.ArgumentCount(0, 0, ""),
	}
	f := cmd.Flags()
	f.StringArrayVar(&add, "add", nil, "one more signer: `NAME` or NAME=FILE; may be repeated")
	f.StringSliceVar(&d.Rotation.Remove, "remove", nil, "`NAME` who signs no more; may be repeated")
	f.IntVar(&d.Rotation.Threshold, "threshold", 0, "how many signers have to sign (default: as before)")
	f.BoolVar(&d.Engine, "engine", false, "take the engine's keys from sluice.yaml, after sluice engine-key rotate")
	f.StringSliceVar(&d.Rotation.Channels, "channel", nil, "`CHANNEL` that takes only signed releases from now on; may be repeated")
	f.StringSliceVar(&d.Rotation.Unsigned, "unsigned-channel", nil,
		"`CHANNEL` that needs no signatures any more; may be repeated")
	f.StringArrayVar(&flagSigners, "flag-signer", nil,
		"who signs flags from now on, instead of those before: `NAME` or NAME=FILE; give it for each")
	f.IntVar(&d.Rotation.FlagThreshold, "flag-threshold", 0, "how many of them have to sign (default: as before, or 2)")
	f.BoolVar(&d.Rotation.UnsignedFlags, "unsigned-flags", false, "flags need no signatures any more")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if d.Rotation.UnsignedFlags && len(flagSigners) > 0 {
			return cli.UsageError(cmd, "--unsigned-flags and --flag-signer contradict each other")
		}
		return commit(a, cmd, key, func(s *edits.Releases) (keys []trust.Key, err error) {
			if d.Rotation.Add, err = findKeys(s, add); err != nil {
				return nil, err
			}
			if d.Rotation.FlagSigners, err = findKeys(s, flagSigners); err != nil {
				return nil, err
			}
			keys, err = currentSigners(s)
			return append(keys, d.Rotation.Add...), err
		}, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func parseVersion(cmd *cobra.Command, what, text string) (v releases.Version, err error) {
	if text == "" {
		return v, nil
	}
	if v, err = releases.ParseVersion(text); err != nil {
		return v, cli.UsageError(cmd, "%s %w", what, err)
	}
	return v, nil
}

func currentSigners(s *edits.Releases) ([]trust.Key, error) {
	if s.Desired.Trust == nil {
		return nil, cli.Fail(errors.New("the repository is unsigned: it has no signers"), "sluice trust init")
	}
	return s.Desired.Trust.Signers(), nil
}

// findKeys returns the keys that NAME and NAME=FILE stand for.
func findKeys(s *edits.Releases, texts []string) (keys []trust.Key, err error) {
	for _, text := range texts {
		name, file, isFile := strings.Cut(text, "=")
		if !edits.ValidName(name) {
			return nil, cli.Fail(fmt.Errorf("%q can't be a signer's name", name), "use letters, digits, dots, dashes and underscores")
		}
		if isFile {
			k, err := readPublic(name, file)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
			continue
		}
		k, err := findPerson(s, name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func readPublic(name, file string) (trust.Key, error) {
	data, err := cli.ReadSmallFile(file)
	if err != nil {
		return trust.Key{}, cli.Fail(err, "name the .pub file of an ssh-ed25519 key")
	}
	k, err := trust.ParseKey(name, string(data))
	if err != nil {
		return k, cli.Fail(fmt.Errorf("%s: %w", file, err), "ssh-keygen -t ed25519 makes a key")
	}
	return k, nil
}

// findPerson returns the one ssh-ed25519 key of a person of sluice.yaml.
func findPerson(s *edits.Releases, name string) (found trust.Key, err error) {
	member := s.People()[name]
	if member == nil {
		return found, cli.Fail(fmt.Errorf("%s is not in people of sluice.yaml", name),
			"add the person there, or name a key: --signer %s=FILE.pub", name)
	}
	n := 0
	for _, line := range member.Keys {
		if k, err := trust.ParseKey(name, line); err == nil {
			found, n = k, n+1
		}
	}
	if n != 1 {
		return found, cli.Fail(fmt.Errorf("%s has %d ssh-ed25519 keys in sluice.yaml, and signs with one", name, n),
			"name it: %s=FILE.pub", name)
	}
	return found, nil
}

// commit makes a signer's decision, with the signature of one of the keys that wanted returns; the same key signs the
// commit.
func commit(a *cli.App, cmd *cobra.Command, file string, wanted func(*edits.Releases) ([]trust.Key, error),
	decide func(trust.Signer) edits.Decision[*edits.Releases]) error {
	ctx := cmd.Context()
	repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	defer repo.Close()
	s, err := p.ReadSnapshot(ctx)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	keys, err := wanted(s)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	key, err := findSigner(ctx, a, file, keys)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	by, err := signerOf(key.Key)
	if err != nil {
		return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
	}
	return repos.PushOrShow(ctx, a, repo, repos.WithSigner(p, repo, key), decide(by))
}

func findSigner(ctx context.Context, a *cli.App, file string, keys []trust.Key) (*gitrepo.SSHSigner, error) {
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.Line())
	}
	key, err := repos.FindSigner(ctx, a, file, lines)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, cli.Fail(err, "name the file of your private key: --key FILE")
	case err == nil && key == nil:
		return nil, cli.Fail(errors.New("no signer's key is here"),
			"name the file of your private key (--key FILE), or load it into the SSH agent (ssh-add)")
	}
	return key, err
}

// signerOf returns what signs with an SSH key.
func signerOf(key ssh.Signer) (trust.Signer, error) {
	by, err := trust.SSHSigner(key)
	if err != nil {
		return by, cli.Fail(err, "ssh-keygen -t ed25519 makes a key that can")
	}
	return by, nil
}
