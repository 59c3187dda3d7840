package trustcmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
)

func supportVerb(a *cli.App) *cobra.Command {
	return cli.Group("support", "Say whose keys may ask cells' owners for debug access",
		`A cell with a root of trust takes a request for debug access only if its key is among these, so that whoever takes the control plane over
can't ask in a person's name. Its owner permits each session all the same. It counts once enough signers signed.`,
		supportAddVerb(a), supportRemoveVerb(a))
}

func supportAddVerb(a *cli.App) *cobra.Command {
	var d edits.NameSupport
	var key, from, until string
	cmd := &cobra.Command{
		Use:   "add NAME…",
		Short: "Vouch for a person's keys",
		Long: `A NAME is a person in people of sluice.yaml, all of whose keys there are named, or NAME=FILE with a .pub file. Look at the keys that
--dry-run shows: you vouch that they are that person's. A key that is named already gets the new times.`,
		Example: `  sluice trust support add ada
  sluice trust support add mia=mia.pub --until 2027-03-01T00:00:00Z`,
		Args: cli.ArgumentCount(1, -1, "NAME"),
	}
	cmd.Flags().StringVar(&from, "from", "", "`TIME`, or duration from now, from which on the keys count (default: at once)")
	cmd.Flags().StringVar(&until, "until", "", "`TIME`, or duration from now, until which they count (default: until removed)")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		begin, err := parseInstant(cmd, "--from", from)
		if err != nil {
			return err
		}
		end, err := parseInstant(cmd, "--until", until)
		if err != nil {
			return err
		}
		return commit(a, cmd, key, func(s *edits.Releases) (signers []trust.Key, err error) {
			if signers, err = currentSigners(s); err != nil {
				return nil, err
			}
			d.Add, err = findSupport(s, args)
			for i := range d.Add {
				d.Add[i].From, d.Add[i].Until = begin, end
			}
			return signers, err
		}, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func supportRemoveVerb(a *cli.App) *cobra.Command {
	var d edits.NameSupport
	var key string
	cmd := &cobra.Command{
		Use:   "remove NAME…",
		Short: "Vouch for a person's keys no more",
		Long: `Removes all support keys of a person, or with NAME=FILE the one of a .pub file. Once enough signers signed, cells end requests and
sessions of these keys within half a minute.`,
		Example: `  sluice trust support remove ada
  sluice trust support remove mia=mia.pub`,
		Args: cli.ArgumentCount(1, -1, "NAME"),
	}
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, text := range args {
			name, file, isFile := strings.Cut(text, "=")
			is := trust.SupportKey{Name: name}
			if isFile {
				var err error
				if is, err = readSupport(name, file); err != nil {
					return fmt.Errorf("%s%w", cli.CommandPrefix(cmd), err)
				}
			}
			d.Remove = append(d.Remove, is)
		}
		return commit(a, cmd, key, currentSigners, func(by trust.Signer) edits.Decision[*edits.Releases] {
			d.Signer = by
			return d
		})
	}
	return cmd
}

func parseInstant(cmd *cobra.Command, flag, text string) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	if t, err = cli.ParseInstant(text, time.Now()); err != nil {
		return t, cli.UsageError(cmd, "%s %w", flag, err)
	}
	return t, nil
}

// findSupport returns the keys that NAME and NAME=FILE stand for.
func findSupport(s *edits.Releases, texts []string) (keys []trust.SupportKey, err error) {
	for _, text := range texts {
		name, file, isFile := strings.Cut(text, "=")
		if isFile {
			k, err := readSupport(name, file)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
			continue
		}
		member := s.People()[name]
		if member == nil || len(member.Keys) == 0 {
			return nil, cli.Fail(fmt.Errorf("people of sluice.yaml has no key of %s", name),
				"add it there, for the control plane asks for it too, or name a key: %s=FILE.pub", name)
		}
		for _, line := range member.Keys {
			k, err := trust.ParseSupportKey(name, line)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func readSupport(name, file string) (trust.SupportKey, error) {
	data, err := cli.ReadSmallFile(file)
	if err != nil {
		return trust.SupportKey{}, cli.Fail(err, "name the .pub file of an SSH key")
	}
	k, err := trust.ParseSupportKey(name, string(data))
	if err != nil {
		return k, cli.Fail(fmt.Errorf("%s: %w", file, err), "ssh-keygen -t ed25519 makes a key")
	}
	return k, nil
}

// supportKey is a support key in the output of sluice trust status.
type supportKey struct {
	Name  string    `json:"name"`
	Key   string    `json:"key"` // fingerprint
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	Waits string    `json:"waits,omitempty"` // what becomes of it once the waiting policy is signed: named or removed

	fault error // why it does not count now
}

const (
	waitsNamed   = "named"
	waitsRemoved = "removed"
)

// describeSupport returns the support keys that count, and what a policy that waits for signatures changes of them.
func describeSupport(l *trust.Ledger, now time.Time) []supportKey {
	all := []supportKey{}
	add := func(k trust.SupportKey, waits string) {
		all = append(all, supportKey{k.Name, k.Fingerprint(), k.From, k.Until, waits, k.Check(now)})
	}
	proposed, waits := l.Proposed()
	for _, k := range l.Policy.Support {
		if waits && !slices.ContainsFunc(proposed.Support, k.Equal) {
			add(k, waitsRemoved)
			continue
		}
		add(k, "")
	}
	for _, k := range proposed.Support {
		if !slices.ContainsFunc(l.Policy.Support, k.Equal) {
			add(k, waitsNamed)
		}
	}
	return all
}

// times returns from when and until when the key is to count.
func (k supportKey) times() (text string) {
	if !k.From.IsZero() {
		text = ", from " + cli.FormatTime(k.From)
	}
	if !k.Until.IsZero() {
		text += ", until " + cli.FormatTime(k.Until)
	}
	return text
}

func printSupport(a *cli.App, v status) {
	if len(v.Support) == 0 {
		if v.Signed {
			a.Stdout.PrintLine("support keys: none, so cells with a root of trust take no requests for debug access: " +
				"sluice trust support add NAME")
		}
		return
	}
	var rows [][]cli.Field
	for _, k := range v.Support {
		counts := cli.Text("now")
		switch {
		case k.Waits == waitsNamed:
			counts = cli.Coloured("once it is signed"+k.times(), cli.Yellow)
		case k.Waits == waitsRemoved:
			counts = cli.Coloured("until its removal is signed", cli.Yellow)
		case k.fault != nil && errors.Is(k.fault, trust.ErrExpired):
			counts = cli.Coloured("no more, since "+cli.FormatTime(k.Until), cli.Yellow)
		case k.fault != nil:
			counts = cli.Coloured("from "+cli.FormatTime(k.From), cli.Yellow)
		case !k.Until.IsZero():
			counts = cli.Text("until " + cli.FormatTime(k.Until))
		}
		rows = append(rows, []cli.Field{cli.Text(k.Name), cli.Text(k.Key), counts})
	}
	a.Stdout.PrintTable([]string{"SUPPORT", "KEY", "COUNTS"}, rows)
}
