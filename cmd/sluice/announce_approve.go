package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/edit"
)

func (a *app) announceApproveVerb() *cobra.Command {
	var person, key, comment string
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve an announcement with its flags as they are now, signed with your SSH key",
		Long: `Commits approvals/ID/PERSON.yaml with the hash of the announcement and its flags' definitions, signed with an SSH key that sluice.yaml
of the flags repository lists for you under people. The key is --key, or git's user.signingKey, or one that your SSH agent has. Whoever
wrote the announcement can't approve it. An edit of the announcement or of its flags needs approval again.`,
		Example: `  sluice announce approve workspace-classes
  sluice announce approve workspace-classes --as ada --key ~/.ssh/id_ed25519 --comment "the docs are out"`,
		Args: arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.announceApprove(cmd, args[0], person, key, comment)
		},
	}
	f := cmd.Flags()
	f.StringVar(&person, "as", "", "the `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	f.StringVar(&key, "key", "", "`FILE` of the private SSH key that signs")
	f.StringVar(&comment, "comment", "", "what goes with it")
	return cmd
}

func (a *app) announceApprove(cmd *cobra.Command, id, person, key, comment string) error {
	ctx := cmd.Context()
	c := change{what: "approve the announcement " + id, body: comment, key: key, signed: true}
	who, err := a.author(ctx)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	first, err := a.openFlags(ctx, cmd, committer{}) // who may sign is in the repository
	if err != nil {
		return wrapFailure(c.what, err)
	}
	s, err := first.flags(ctx)
	first.Close()
	if err != nil {
		return wrapFailure(c.what, err)
	}
	people := s.tree.Settings.People
	if person, err = approver(emailsOf(people), person, who); err != nil {
		return wrapFailure(c.what, err)
	}
	c.keys = people[person].Keys
	repo, err := a.openFlagsAs(cmd, c)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	defer repo.Close()
	commit, err := a.pushFlags(ctx, repo, c, func(s *flagsSnapshot) (map[string][]byte, error) {
		files, err := s.approval(ctx, id, person, comment)
		if err == nil {
			err = repo.provable(person, s.tree.Settings.People[person].Keys, s.tree.Settings.TrustAuthors)
		}
		return files, err
	})
	if err == nil {
		if err := a.counts(ctx, repo, c.what, id, person); err != nil {
			return err
		}
		c.what += " as " + person
	}
	return a.landed(c, commit, err, func() string {
		return "the engine counts it; sluice announce show " + id + " tells what else it waits for"
	})
}

func emailsOf(people map[string]*flags.Person) map[string]string {
	emails := map[string]string{}
	for name, p := range people {
		if p != nil {
			emails[name] = p.Email
		}
	}
	return emails
}

// approval is the file that approves an announcement; what would not count is refused before it is written (R22, R42).
func (s *flagsSnapshot) approval(ctx context.Context, id, person, comment string) (map[string][]byte, error) {
	announcement, err := s.announcement(id)
	if err != nil {
		return nil, err
	}
	member := s.tree.Settings.People[person]
	switch {
	case s.tree.Invalid:
		return nil, fail(fmt.Errorf("the repository has faults, and nothing of it is taken until they are mended: %s", fatal(s.tree.Faults)[0]), "sluice flag lint tells all of them")
	case announcement.Cancelled != "":
		return nil, fail(fmt.Errorf("it is cancelled: %s", announcement.Cancelled), "write another: sluice announce new")
	case announcement.Archived:
		return nil, fail(errors.New("it is archived"), "write another: sluice announce new")
	case member == nil:
		return nil, fail(fmt.Errorf("sluice.yaml has no person %q any more", person), "have %s added to people again", person)
	}
	rule := s.tree.Settings.Approvals
	if announcement.Approvals != nil {
		rule = *announcement.Approvals
	}
	if len(rule.From) > 0 && !slices.ContainsFunc(member.Roles, func(r string) bool { return slices.Contains(rule.From, r) }) {
		return nil, fail(fmt.Errorf("it asks for approvals of %s, and %s is none", strings.Join(rule.From, " or "), person),
			"ask somebody who is, or have people.%s.roles changed in sluice.yaml", person)
	}
	known, err := announcer.Look(ctx, s.repo.Repo, s.commit, nil, time.Now())
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(known.Authors[id], func(email string) bool { return member.Email != "" && strings.EqualFold(email, member.Email) }) {
		return nil, fail(fmt.Errorf("%s wrote it, and authors don't approve their own announcements", person), "ask somebody else")
	}
	hash, _ := s.tree.Hash(announcement)
	if slices.ContainsFunc(known.Proven, func(p announce.Proven) bool { return p.Announcement == id && p.Person == person && p.Hash == hash }) {
		return nil, errUnchanged
	}
	approved := edit.Fields{{Key: "hash", Value: hash}}
	if comment != "" {
		approved = append(approved, edit.Field{Key: "comment", Value: comment})
	}
	data, err := edit.New(approved)
	file := path.Join(flags.ApprovalsDir, id, person+".yaml")
	return map[string][]byte{file: anew(s.files, file, data)}, err
}

// counts tells whether an approval that was just committed is proven to be the person's.
func (a *app) counts(ctx context.Context, repo *opened, what, id, person string) error {
	after, err := repo.flags(ctx)
	if err != nil {
		return nil //nolint:nilerr // it landed: whether it counts, announce show tells
	}
	known, err := announcer.Look(ctx, repo.Repo, after.commit, nil, time.Now())
	if err != nil || slices.ContainsFunc(known.Proven, func(p announce.Proven) bool { return p.Announcement == id && p.Person == person }) {
		return nil //nolint:nilerr // as above
	}
	return fail(fmt.Errorf("%s: it is committed, and does not count: the key that signed it is none that sluice.yaml lists for %s", what, person),
		"have the key added to people.%s.keys in sluice.yaml, then approve again", person)
}
