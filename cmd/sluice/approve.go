package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

func (a *app) approveVerb() *cobra.Command {
	var person, key, comment string
	cmd := &cobra.Command{
		Use:     "approve CHANNEL V",
		GroupID: groupDecide,
		Short:   "Approve a release for a channel, signed with your SSH key",
		Long: `Commits channels/CHANNEL/approvals/V/PERSON.yaml with the release's digest, signed with an SSH key that sluice.yaml lists
for you under people. The key is --key, or git's user.signingKey, or one that your SSH agent has. An approval never counts from
an author of the release.`,
		Example: `  sluice approve dedicated 2026.11.3
  sluice approve dedicated 2026.11.3 --as ada --key ~/.ssh/id_ed25519 --comment "tried it on staging"`,
		Args: arguments(2, 2, "CHANNEL and V, the release's version,"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.approve(cmd, args[0], args[1], person, key, comment)
		},
	}
	f := cmd.Flags()
	f.StringVar(&person, "as", "", "the `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	f.StringVar(&key, "key", "", "`FILE` of the private SSH key that signs")
	f.StringVar(&comment, "comment", "", "what goes with it")
	return cmd
}

func (a *app) approve(cmd *cobra.Command, channel, version, person, key, comment string) error {
	ctx := cmd.Context()
	c := change{what: fmt.Sprintf("approve %s for %s", version, channel), body: comment, key: key, signed: true}
	who, err := a.author(ctx)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	first, err := a.open(ctx, cmd, committer{}) // who may sign is in the repository
	if err != nil {
		return wrapFailure(c.what, err)
	}
	s, err := first.snapshot(ctx)
	first.Close()
	if err != nil {
		return wrapFailure(c.what, err)
	}
	people := s.desired.Pipeline.People
	emails := map[string]string{}
	for name, m := range people {
		if m != nil {
			emails[name] = m.Email
		}
	}
	if person, err = approver(emails, person, who); err != nil {
		return wrapFailure(c.what, err)
	}
	c.keys = people[person].Keys
	repo, err := a.openAs(cmd, c)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	defer repo.Close()
	file := path.Join(channels.Dir, channel, "approvals", version, person+".yaml")
	id, err := a.push(ctx, repo, c, func(s *snapshot) (map[string][]byte, error) {
		r, err := approvable(s, channel, version, person)
		if err != nil {
			return nil, err
		}
		if err := repo.provable(person, s.desired.Pipeline.People[person].Keys, s.desired.Pipeline.TrustAuthors); err != nil {
			return nil, err
		}
		data, err := yaml.Marshal(channels.Approved{Digest: r.Digest, Comment: comment})
		return map[string][]byte{file: anew(s.files, file, data)}, err
	})
	if errors.Is(err, errUnchanged) {
		return a.wrote(written{Did: c.what + ": it is so already"})
	}
	if err != nil {
		return err
	}
	if after, err := repo.snapshot(ctx); err == nil && !proven(after, channel, version, person) {
		return fail(fmt.Errorf("%s: it is committed, and does not count: the key that signed it is none that sluice.yaml lists for %s", c.what, person),
			"have the key added to people.%s.keys in sluice.yaml, then approve again", person)
	}
	return a.wrote(written{Commit: id, Did: c.what + " as " + person, Next: "the engine counts it; sluice why " + channel + " tells what else it waits for"})
}

// provable refuses an approval that would not be proven to be the person's, before it is committed (R22).
func (o *opened) provable(person string, keys []string, trustAuthors bool) error {
	switch {
	case trustAuthors:
		return nil
	case o.signs == nil:
		return fail(errors.New("an approval is signed, and there is no SSH key to sign with"), "name one that sluice.yaml lists for %s: --key FILE, or load it into your SSH agent", person)
	case !isListed(o.signs, keys):
		return fail(fmt.Errorf("it would not count: sluice.yaml does not list the key %s for %s", ssh.FingerprintSHA256(o.signs), person),
			"name one that it lists: --key FILE; or have this one added to people.%s.keys", person)
	}
	return nil
}

// anew gives data in other words if the file says it already: what proves an approval is the commit that changed its file.
func anew(files fs.FS, file string, data []byte) []byte {
	if before, err := fs.ReadFile(files, file); err == nil && bytes.Equal(before, data) {
		return append(data, "# once more\n"...)
	}
	return data
}

// approver finds whom the caller is in sluice.yaml, whose people have these addresses.
func approver(emails map[string]string, name string, who releases.Person) (string, error) {
	known := sortedKeys(emails)
	if len(known) == 0 {
		return "", fail(errors.New("sluice.yaml names no people, so that no approval would count"), "add yourself there, under people: with your email and keys (docs/formats.md)")
	}
	if name != "" {
		if _, there := emails[name]; !there {
			return "", fail(fmt.Errorf("sluice.yaml has no person %q", name), "it has %s", orDash(strings.Join(known, ", ")))
		}
		return name, nil
	}
	i := slices.IndexFunc(known, func(n string) bool { return emails[n] != "" && strings.EqualFold(emails[n], who.Email) })
	if i < 0 {
		return "", fail(fmt.Errorf("sluice.yaml has no person with the address %s", who.Email), "say who you are: --as %s", orDash(strings.Join(known, " or ")))
	}
	return known[i], nil
}

// approvable refuses what would not count, before it is written (R22).
func approvable(s *snapshot, channel, version, person string) (*plan.Release, error) {
	member := s.desired.Pipeline.People[person]
	if member == nil {
		return nil, fail(fmt.Errorf("sluice.yaml has no person %q any more", person), "have %s added to people again", person)
	}
	c, err := s.channel(channel)
	if err != nil {
		return nil, err
	}
	r, err := s.release(version)
	if err != nil {
		return nil, err
	}
	mine := slices.Contains(r.Release.Authors, person) || member.Email != "" && slices.Contains(r.Release.Authors, member.Email) ||
		slices.ContainsFunc(r.Authors, func(p releases.Person) bool { return member.Email != "" && strings.EqualFold(p.Email, member.Email) })
	if mine {
		return nil, fail(fmt.Errorf("%s is an author of %s, and authors don't approve their own releases", person, version), "ask somebody else")
	}
	if err := wanted(c, person, member); err != nil {
		return nil, err
	}
	if proven(s, channel, version, person) {
		return nil, errUnchanged
	}
	return r, nil
}

// wanted tells whether some gate of c would count an approval of member's.
func wanted(c *plan.Channel, person string, member *channels.Member) error {
	var from []string
	asked := false
	for _, g := range policyGates(c) {
		if g.Approval == nil {
			continue
		}
		asked = true
		if len(g.Approval.From) == 0 || slices.ContainsFunc(member.Roles, func(role string) bool { return slices.Contains(g.Approval.From, role) }) {
			return nil
		}
		from = append(from, g.Approval.From...)
	}
	if !asked {
		return fail(fmt.Errorf("%s asks for no approval", c.Name), "sluice why %s tells what it waits for", c.Name)
	}
	return fail(fmt.Errorf("%s asks for approvals of %s, and %s is none", c.Name, strings.Join(from, " or "), person),
		"ask somebody who is, or have people.%s.roles changed in sluice.yaml", person)
}

func policyGates(c *plan.Channel) []channels.Gate {
	if c.Policy == nil {
		return nil
	}
	return c.Policy.Gates
}

// proven tells whether a person's approval of a release as it is now counts.
func proven(s *snapshot, channel, version, person string) bool {
	c, r := s.desired.Channels[channel], s.desired.Releases[version]
	return c != nil && r != nil && slices.ContainsFunc(c.Approved, func(p plan.Approved) bool {
		return p.Person == person && p.Release == version && p.Digest == r.Digest
	})
}
