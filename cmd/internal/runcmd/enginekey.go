package runcmd

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/signing"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// EngineKeyVerb is the tree of verbs about the keys that the engine signs with.
func EngineKeyVerb(a *cli.App) *cobra.Command {
	var tlsDir string
	cmd := &cobra.Command{
		Use:     "engine-key",
		GroupID: cli.GroupRun,
		Short:   "Show and change the keys that the engine signs its commits with",
		Long: `What the engine writes into the release repository counts only in commits that a key in engine.keys of sluice.yaml signed. The engine
makes a key at its first start, in DIR/tls/engine.key, and lists it where none is listed. Replicas need the same file. The list
changes only by a commit that a listed key signed: keep a copy of the file, and list a second key that is kept offline.`,
	}
	cmd.AddCommand(showEngineKey(a, &tlsDir), rotateEngineKey(a, &tlsDir), changeEngineKeys(a, "add", &tlsDir),
		changeEngineKeys(a, "remove", &tlsDir))
	for _, verb := range cmd.Commands() {
		addTLSDirFlag(verb, &tlsDir)
	}
	return cmd
}

func addTLSDirFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "tls-dir", "",
		"`DIR` with the control plane's keys, engine.key among them, which replicas share (default: tls in --data)")
}

type engineKeys struct {
	Key     string   `json:"key,omitempty"`    // in the data folder
	Listed  []string `json:"listed"`           // in force
	Ignored string   `json:"ignored,omitzero"` // the commit whose list does not count
}

func showEngineKey(a *cli.App, tlsDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "show --repo R --data DIR",
		Short:   "Show the key in --data, and those that count",
		Example: `  sluice engine-key show --repo /srv/git/releases.git --data /var/lib/sluice`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
			if err != nil {
				return err
			}
			out := engineKeys{Listed: s.Desired.Authority.Keys, Ignored: s.Desired.Authority.Ignored}
			key, err := signing.Load(engineKeyFile(a.Data, *tlsDir))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			} else if err == nil {
				out.Key = signing.Public(key)
			}
			if encoded, err := a.PrintEncoded(out); encoded {
				return err
			}
			a.Stdout.PrintLine("key in %s: %s", engineKeyFile(a.Data, *tlsDir), cli.OrDash(out.Key))
			switch {
			case s.Desired.Authority.Unsigned:
				a.Stdout.PrintLine("sluice.yaml says engine: unsigned: whoever may push may promote")
			case len(out.Listed) == 0:
				a.Stdout.PrintLine(
					"sluice.yaml lists no key yet: whoever may push may promote until sluice serve lists its own")
			}
			for _, key := range out.Listed {
				a.Stdout.PrintLine("counts: %s", key)
			}
			if out.Ignored != "" {
				a.Stdout.PrintLine(
					"the list in sluice.yaml was changed in %s without the signature of one of these, and does not count", cli.ShortID(out.Ignored))
			}
			return nil
		},
	}
}

func rotateEngineKey(a *cli.App, tlsDir *string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "rotate --repo R --data DIR",
		Short: "Make a new key for the engine, and list it",
		Long: `The commit that lists the new key is signed by the one before, or by --signing-key, which is listed. Both count until the old one is removed:
restart serve and its replicas, then remove it with sluice engine-key remove.`,
		Example: `  sluice engine-key rotate --repo /srv/git/releases.git --data /var/lib/sluice`,
		Args:    cli.ArgumentCount(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.Data == "" {
				return cli.UsageError(cmd, missingData)
			}
			if a.DryRun {
				return showRotation(a, cmd, engineKeyFile(a.Data, *tlsDir), file)
			}
			var done edits.Result
			err := signing.Rotate(engineKeyFile(a.Data, *tlsDir), rand.Reader,
				func(next, before ssh.Signer) error {
					signer, err := rotationSigner(before, file)
					if err != nil {
						return err
					}
					push := func(_ *repos.OpenRepository, p edits.Pusher[*edits.Releases]) error {
						done, err = p.Push(cmd.Context(), edits.EngineKeys{Add: []string{signing.Public(next)}})
						return err
					}
					err = withKeys(a, cmd, signer, push)
					done.Next = "copy " + engineKeyFile(a.Data, *tlsDir) +
						" to the replicas and restart serve, then: sluice engine-key remove '" +
						signing.Public(before) + "'"
					return err
				})
			if errors.Is(err, fs.ErrNotExist) {
				return cli.Fail(err, "sluice serve makes a key at its first start: there is none to replace in %s",
					a.Data)
			} else if err != nil {
				return err
			}
			return repos.PrintDone(a, done)
		},
	}
	cmd.Flags().StringVar(&file, "signing-key", "",
		"`FILE` of a private SSH key that is listed (default: DIR/tls/engine.key of --data)")
	return cmd
}

func changeEngineKeys(a *cli.App, verb string, tlsDir *string) *cobra.Command {
	var file string
	short := "List one more key as the engine's"
	if verb == "remove" {
		short = "Take a key off the list"
	}
	cmd := &cobra.Command{
		Use:   verb + " KEY --repo R {--data DIR | --signing-key FILE}",
		Short: short,
		Long:  "KEY is the line of a .pub file. A key that is listed signs the change: DIR/tls/engine.key, or --signing-key.",
		Example: fmt.Sprintf(
			"  sluice engine-key %s 'ssh-ed25519 AAAA…' --repo /srv/git/releases.git --data /var/lib/sluice", verb),
		Args: cli.ArgumentCount(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := edits.EngineKeys{Add: args}
			if verb == "remove" {
				d = edits.EngineKeys{Remove: args}
			}
			signer, err := gitrepo.LoadSigner(cmp.Or(file, engineKeyFile(a.Data, *tlsDir)))
			if err != nil {
				return cli.Fail(err, "name a key that sluice.yaml lists: --signing-key, or the --data of the engine")
			}
			return withKeys(a, cmd, signer, func(repo *repos.OpenRepository, p edits.Pusher[*edits.Releases]) error {
				return repos.PushOrShow(cmd.Context(), a, repo, p, d)
			})
		},
	}
	cmd.Flags().StringVar(&file, "signing-key", "",
		"`FILE` of a private SSH key that is listed (default: DIR/tls/engine.key of --data)")
	return cmd
}

// withKeys calls do with a pusher in the caller's name that signs with a key of the engine's.
func withKeys(a *cli.App, cmd *cobra.Command, signer gitrepo.SSHSigner,
	do func(*repos.OpenRepository, edits.Pusher[*edits.Releases]) error) error {
	repo, p, err := repos.ReleaseRepository().OpenPusher(a, cmd)
	if err != nil {
		return fmt.Errorf("change the engine's keys: %w", err)
	}
	defer repo.Close()
	return do(repo, repos.WithSigner(p, repo, &signer))
}

// rotationSigner returns the key that signs a rotation: the one in file or, without a file, the one so far.
func rotationSigner(before ssh.Signer, file string) (gitrepo.SSHSigner, error) {
	if file != "" {
		return gitrepo.LoadSigner(file)
	}
	return gitrepo.SSHSigner{Key: before}, nil
}

// showRotation shows the commit of a rotation, with a key that is made for that and kept nowhere.
func showRotation(a *cli.App, cmd *cobra.Command, file, signingKey string) error {
	before, err := signing.Load(file)
	if err != nil {
		return cli.Fail(err, "sluice serve makes a key at its first start: there is none to replace in %s", a.Data)
	}
	signer, err := rotationSigner(before, signingKey)
	if err != nil {
		return err
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	example, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	a.Stderr.PrintLine("note: the new key below is an example: rotate makes another one")
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(example)))
	return withKeys(a, cmd, signer, func(repo *repos.OpenRepository, p edits.Pusher[*edits.Releases]) error {
		return repos.PushOrShow(cmd.Context(), a, repo, p, edits.EngineKeys{Add: []string{line}})
	})
}
