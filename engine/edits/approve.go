package edits

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// Approve approves a release for a channel, as it is now. It counts if the commit is proven to be the person's (R22).
type Approve struct {
	Release, Channel string
	As               string // a person of sluice.yaml; empty: the one with the committer's address
	Comment          string
}

func (a Approve) Message() (subject, body string) {
	return fmt.Sprintf("approve %s for %s", a.Release, a.Channel), a.Comment
}

// Edit writes the approval. What would not count is refused (R22).
func (a Approve) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	subject, _ := a.Message()
	person, err := s.People().Who(a.As, by)
	if err != nil {
		return Edit{}, err
	}
	member := s.People()[person]
	c, err := s.Channel(a.Channel)
	if err != nil {
		return Edit{}, err
	}
	r, err := s.Release(a.Release)
	if err != nil {
		return Edit{}, err
	}
	if r.Authorship().Includes(member.Approver(person)) {
		return Edit{}, Fail(fmt.Errorf("%s is an author of %s, and authors don't approve their own releases", person, a.Release), "ask somebody else")
	}
	if err := asked(c, person, member); err != nil {
		return Edit{}, err
	}
	if a.counts(s, person) {
		return Edit{}, nil
	}
	if err := s.People().provable(person, by, s.Desired.Pipeline.TrustAuthors); err != nil {
		return Edit{}, err
	}
	data, err := yaml.Marshal(channels.Approved{Digest: r.Digest, Comment: a.Comment})
	return Edit{
		Files: approval(s.Files, path.Join(channels.Dir, a.Channel, "approvals", a.Release, person+".yaml"), data),
		Did:   subject + " as " + person,
		Next:  "the engine counts it; sluice why " + a.Channel + " tells what else it waits for",
	}, err
}

// Confirm reports as an error that the approval landed and does not count.
func (a Approve) Confirm(after *Releases, by Person) error {
	if person, err := after.People().Who(a.As, by); err == nil && !a.counts(after, person) {
		return notCounted(person)
	}
	return nil
}

// counts reports whether a person's approval of the release as it is now is proven.
func (a Approve) counts(s *Releases, person string) bool {
	c, r := s.Desired.Channels[a.Channel], s.Desired.Releases[a.Release]
	return c != nil && r != nil && slices.ContainsFunc(c.Approved, func(p plan.Approved) bool {
		return p.Person == person && p.Release == a.Release && p.Digest == r.Digest
	})
}

// asked refuses an approval that no gate of a channel would count.
func asked(c *plan.Channel, person string, m *channels.Member) error {
	var from []string
	none := true
	if c.Policy != nil {
		for _, g := range c.Policy.Gates {
			if g.Approval == nil {
				continue
			}
			if none = false; hasRole(m, g.Approval.From) {
				return nil
			}
			from = append(from, g.Approval.From...)
		}
	}
	if none {
		return Fail(fmt.Errorf("%s asks for no approval", c.Name), "sluice why %s tells what it waits for", c.Name)
	}
	return notAsked(c.Name, person, from)
}

// ApproveAnnouncement approves an announcement and its flags, as they are now. It counts if the commit is proven to be the
// person's (R22, R42).
type ApproveAnnouncement struct {
	ID      string
	As      string // as in Approve
	Comment string
}

func (a ApproveAnnouncement) Message() (subject, body string) {
	return "approve the announcement " + a.ID, a.Comment
}

// Edit writes the approval. What would not count is refused (R22, R42).
func (a ApproveAnnouncement) Edit(s *Flags, by Person, _ time.Time) (Edit, error) {
	subject, _ := a.Message()
	person, err := s.People().Who(a.As, by)
	if err != nil {
		return Edit{}, err
	}
	announcement, err := s.Announcement(a.ID)
	if err != nil {
		return Edit{}, err
	}
	if s.Tree.Invalid {
		return Edit{}, Fail(fmt.Errorf("the repository has faults, and nothing of it is taken until they are mended: %s", Fatal(s.Tree.Faults)[0]), "sluice flag lint tells all of them")
	}
	if err := over(announcement); err != nil {
		return Edit{}, err
	}
	member, rule := s.People()[person], s.Tree.Settings.Approvals
	if announcement.Approvals != nil {
		rule = *announcement.Approvals
	}
	if !hasRole(member, rule.From) {
		return Edit{}, notAsked("it", person, rule.From)
	}
	known, err := s.Approvals()
	if err != nil {
		return Edit{}, err
	}
	if slices.ContainsFunc(known.Authors[a.ID], func(email string) bool { return sameAddress(member.Email, email) }) {
		return Edit{}, Fail(fmt.Errorf("%s wrote it, and authors don't approve their own announcements", person), "ask somebody else")
	}
	hash, _ := s.Tree.Hash(announcement)
	if slices.ContainsFunc(known.Proven, func(p announce.Proven) bool { return p.Announcement == a.ID && p.Person == person && p.Hash == hash }) {
		return Edit{}, nil
	}
	if err := s.People().provable(person, by, s.Tree.Settings.TrustAuthors); err != nil {
		return Edit{}, err
	}
	approved := edit.Fields{{Key: "hash", Value: hash}}
	if a.Comment != "" {
		approved = append(approved, edit.Field{Key: "comment", Value: a.Comment})
	}
	data, err := edit.New(approved)
	return Edit{
		Files: approval(s.Files, path.Join(repository.ApprovalsDir, a.ID, person+".yaml"), data),
		Did:   subject + " as " + person,
		Next:  "the engine counts it; sluice announce show " + a.ID + " tells what else it waits for",
	}, err
}

// Confirm reports as an error that the approval landed and does not count.
func (a ApproveAnnouncement) Confirm(after *Flags, by Person) error {
	person, err := after.People().Who(a.As, by)
	if err != nil {
		return nil //nolint:nilerr // it landed: whether it counts, announce show tells
	}
	known, err := after.Approvals()
	if err != nil || slices.ContainsFunc(known.Proven, func(p announce.Proven) bool { return p.Announcement == a.ID && p.Person == person }) {
		return nil //nolint:nilerr // as above
	}
	return notCounted(person)
}

// over refuses a change of an announcement that is cancelled or archived.
func over(a *repository.Announcement) error {
	switch {
	case a.Cancelled != "":
		return Fail(fmt.Errorf("it is cancelled: %s", a.Cancelled), "write another: sluice announce new")
	case a.Archived:
		return Fail(errors.New("it is archived"), "write another: sluice announce new")
	}
	return nil
}

// People are those whom sluice.yaml of either repository names.
type People map[string]*channels.Member

// Who finds the person as whom somebody approves: the named one or, without a name, the one with the address.
func (p People) Who(name string, by Person) (string, error) {
	var known []string
	for n, m := range p {
		if m != nil {
			known = append(known, n)
		}
	}
	slices.Sort(known)
	switch {
	case len(known) == 0:
		return "", Fail(errors.New("sluice.yaml names no people, so that no approval would count"), "add yourself there, under people: with your email and keys (docs/formats.md)")
	case name != "" && p[name] == nil:
		return "", Fail(fmt.Errorf("sluice.yaml has no person %q", name), "it has %s", strings.Join(known, ", "))
	case name != "":
		return name, nil
	}
	i := slices.IndexFunc(known, func(n string) bool { return sameAddress(p[n].Email, by.Email) })
	if i < 0 {
		return "", Fail(fmt.Errorf("sluice.yaml has no person with the address %s", by.Email), "say who you are: --as %s", strings.Join(known, " or "))
	}
	return known[i], nil
}

func sameAddress(theirs, other string) bool { return theirs != "" && strings.EqualFold(theirs, other) }

// Listed reports whether a key is one of lines, which are as in authorized_keys.
func Listed(key ssh.PublicKey, lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		return err == nil && bytes.Equal(key.Marshal(), public.Marshal())
	})
}

// provable refuses an approval that would not be proven to be the person's, before it is committed (R22).
func (p People) provable(person string, by Person, trustAuthors bool) error {
	switch {
	case trustAuthors:
		return nil
	case by.Key == nil:
		return Fail(errors.New("an approval is signed, and there is no SSH key to sign with"), "name one that sluice.yaml lists for %s: --key FILE, or load it into your SSH agent", person)
	case !Listed(by.Key, p[person].Keys):
		return Fail(fmt.Errorf("it would not count: sluice.yaml does not list the key %s for %s", ssh.FingerprintSHA256(by.Key), person),
			"name one that it lists: --key FILE; or have this one added to people.%s.keys", person)
	}
	return nil
}

// hasRole reports whether somebody has one of the roles from which approvals are asked for; none: everybody has.
func hasRole(m *channels.Member, from []string) bool {
	return len(from) == 0 || slices.ContainsFunc(m.Roles, func(role string) bool { return slices.Contains(from, role) })
}

// notAsked says that an approval is asked for, and not of this person.
func notAsked(who, person string, from []string) error {
	return Fail(fmt.Errorf("%s asks for approvals of %s, and %s is none", who, strings.Join(from, " or "), person),
		"ask somebody who is, or have people.%s.roles changed in sluice.yaml", person)
}

// notCounted says that an approval landed in vain.
func notCounted(person string) error {
	return Fail(fmt.Errorf("it is committed, and does not count: the key that signed it is none that sluice.yaml lists for %s", person),
		"have the key added to people.%s.keys in sluice.yaml, then approve again", person)
}

// approval gives the file of an approval, in other words if it says the same already: what proves an approval is the commit
// that changed its file.
func approval(files fs.FS, file string, data []byte) map[string][]byte {
	if before, err := fs.ReadFile(files, file); err == nil && bytes.Equal(before, data) {
		data = append(data, "# once more\n"...)
	}
	return one(file, data)
}
