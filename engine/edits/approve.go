package edits

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// Approve approves the current digest of a release for a channel. It counts if the commit is proven to be the person's
// (R22).
type Approve struct {
	Release, Channel string
	As               string // a person of sluice.yaml; empty: the person with the committer's address
	Comment          string
	// Passkey proves the approval in place of the commit's signature; nil: the commit is signed. The person's browser
	// made it: nobody else can.
	Passkey *passkey.Assertion
}

func (a Approve) Message() (subject, body string) {
	return fmt.Sprintf("approve %s for %s", a.Release, a.Channel), a.Comment
}

// judge returns who approves which release, or why that person's approval would not count, whatever proves it (R22).
func (a Approve) judge(s *Releases, by Person) (person string, r *plan.Release, err error) {
	if person, err = s.People().FindApprover(a.As, by); err != nil {
		return "", nil, err
	}
	member := s.People()[person]
	c, err := s.Channel(a.Channel)
	if err != nil {
		return "", nil, err
	}
	if r, err = s.Release(a.Release); err != nil {
		return "", nil, err
	}
	if r.Authorship().Includes(member.Approver(person)) {
		return "", nil, Fail(fmt.Errorf("%s is an author of %s, and authors don't approve their own releases",
			person, a.Release), "ask somebody else")
	}
	return person, r, checkApprovalNeeded(c, person, member)
}

// Edit writes the approval, and refuses one that would not count (R22).
func (a Approve) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	subject, _ := a.Message()
	person, r, err := a.judge(s, by)
	if err != nil || a.isProven(s, person) {
		return Edit{}, err
	}
	file := channels.ApprovalFile{Digest: r.Digest, Comment: a.Comment, Passkey: a.Passkey, Release: a.Release,
		Person: person}
	if a.Passkey != nil {
		verified, err := file.VerifyAssertion(s.People(), a.Channel)
		if err == nil {
			err = s.Desired.Passkeys.Check(verified)
		}
		if err != nil {
			return Edit{}, Fail(fmt.Errorf("the passkey's assertion does not count: %w", err),
				"approve it anew, here or by sluice approve %s %s --as %s --challenge", a.Channel, a.Release, person)
		}
	} else if err := s.People().checkProvable(person, by, s.Desired.Pipeline.TrustAuthors); err != nil {
		return Edit{}, err
	}
	data, err := yaml.Marshal(file)
	return Edit{
		Files: approvalFiles(s.Files, path.Join(channels.Dir, a.Channel, "approvals", a.Release, person+".yaml"),
			data),
		Summary: subject + " as " + person,
		Next:    "the engine counts it; sluice why " + a.Channel + " shows what else it waits for",
	}, err
}

// Confirm returns an error if the approval landed and does not count.
func (a Approve) Confirm(after *Releases, by Person) error {
	person, err := after.People().FindApprover(a.As, by)
	switch {
	case err != nil || a.isProven(after, person):
		return nil //nolint:nilerr // it landed
	case a.Passkey != nil:
		return Fail(errors.New("it is committed but does not count"), "sluice validate says why")
	}
	return errNotCounted(person)
}

// Challenge is what a browser's navigator.credentials.get needs to make an Approve's Passkey.
type Challenge struct {
	Person           string   `json:"person"`
	Digest           string   `json:"digest"` // of the release, which the challenge is over
	Nonce            string   `json:"nonce"`
	Challenge        string   `json:"challenge"` // base64url
	Origin           string   `json:"origin"`    // of the page that asks
	RPID             string   `json:"rpId"`
	Credentials      []string `json:"credentials"` // ids for allowCredentials, base64url
	UserVerification string   `json:"userVerification"`
}

// Challenge returns the challenge for a person's passkeys of an origin, over the release's current digest. Without an
// origin, it is that of the person's first passkey. An approval that would not count is refused before anything is
// signed.
func (a Approve) Challenge(s *Releases, by Person, nonce, origin string) (c Challenge, err error) {
	person, r, err := a.judge(s, by)
	switch {
	case err != nil:
		return c, err
	case a.isProven(s, person):
		return c, Fail(fmt.Errorf("%s has approved it already", person), "sluice why %s shows what else it waits for",
			a.Channel)
	}
	c.Person, c.Digest, c.Origin = person, string(r.Digest), origin
	for _, k := range s.People()[c.Person].Passkeys {
		if c.Origin == "" {
			c.Origin = k.Origin
		}
		if k.Origin == c.Origin {
			c.Credentials = append(c.Credentials, k.ID)
		}
	}
	at, err := url.Parse(c.Origin)
	if err != nil || len(c.Credentials) == 0 {
		err := fmt.Errorf("sluice.yaml lists no passkey for %s", person)
		if origin != "" {
			err = fmt.Errorf("sluice.yaml lists no passkey for %s at %s", person, origin)
		}
		return Challenge{}, Fail(err, "add one under people.%s.passkeys: the console's page Add a passkey does it "+
			"(docs/signin.md)", person)
	}
	statement := passkey.Statement{Channel: a.Channel, Version: a.Release, Digest: string(r.Digest), Nonce: nonce}
	c.Nonce, c.RPID, c.UserVerification = nonce, at.Hostname(), "required"
	c.Challenge = base64.RawURLEncoding.EncodeToString(statement.Challenge())
	return c, nil
}

// isProven reports whether a person's approval of the release's current digest is proven.
func (a Approve) isProven(s *Releases, person string) bool {
	c, r := s.Desired.Channels[a.Channel], s.Desired.Releases[a.Release]
	return c != nil && r != nil && slices.ContainsFunc(c.Approved, func(p plan.Approved) bool {
		return p.Person == person && p.Release == a.Release && p.Digest == r.Digest
	})
}

// checkApprovalNeeded refuses an approval that no gate of a channel would count.
func checkApprovalNeeded(c *plan.Channel, person string, m *channels.Member) error {
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
		return Fail(fmt.Errorf("%s needs no approval", c.Name), "sluice why %s shows what it waits for", c.Name)
	}
	return errMissingRole(c.Name, person, from)
}

// ApproveAnnouncement approves the current text of an announcement and its flags. It counts if the commit is proven to
// be the person's (R22, R42).
type ApproveAnnouncement struct {
	ID      string
	As      string // as in Approve
	Comment string
}

func (a ApproveAnnouncement) Message() (subject, body string) {
	return "approve the announcement " + a.ID, a.Comment
}

// Edit writes the approval, and refuses one that would not count (R22, R42).
func (a ApproveAnnouncement) Edit(s *Flags, by Person, _ time.Time) (Edit, error) {
	subject, _ := a.Message()
	person, err := s.People().FindApprover(a.As, by)
	if err != nil {
		return Edit{}, err
	}
	announcement, err := s.Announcement(a.ID)
	if err != nil {
		return Edit{}, err
	}
	if s.Tree.Invalid {
		return Edit{}, Fail(fmt.Errorf("the repository has faults, and is not used until they are mended: %s",
			Fatal(s.Tree.Faults)[0]), "sluice flag lint lists all of them")
	}
	if err := refuseEnded(announcement); err != nil {
		return Edit{}, err
	}
	member, rule := s.People()[person], s.Tree.Settings.Approvals
	if announcement.Approvals != nil {
		rule = *announcement.Approvals
	}
	if !hasRole(member, rule.From) {
		return Edit{}, errMissingRole("it", person, rule.From)
	}
	known, err := s.Approvals()
	if err != nil {
		return Edit{}, err
	}
	if announce.IsAuthor(known.Authors[a.ID], s.Tree.Settings.People[person]) {
		return Edit{}, Fail(fmt.Errorf("%s wrote it, and authors don't approve their own announcements", person),
			"ask somebody else")
	}
	hash, _ := s.Tree.Hash(announcement)
	if slices.ContainsFunc(known.Proven, func(p announce.ProvenApproval) bool {
		return p.Announcement == a.ID && p.Person == person && p.Hash == hash
	}) {
		return Edit{}, nil
	}
	if err := s.People().checkProvable(person, by, s.Tree.Settings.TrustAuthors); err != nil {
		return Edit{}, err
	}
	approved := edit.Fields{{Key: "hash", Value: hash}}
	if a.Comment != "" {
		approved = append(approved, edit.Field{Key: "comment", Value: a.Comment})
	}
	data, err := edit.Format(approved)
	return Edit{
		Files:   approvalFiles(s.Files, path.Join(repository.ApprovalsDir, a.ID, person+".yaml"), data),
		Summary: subject + " as " + person,
		Next:    "the engine counts it; sluice announce show " + a.ID + " shows what else it waits for",
	}, err
}

// Confirm returns an error if the approval landed and does not count.
func (a ApproveAnnouncement) Confirm(after *Flags, by Person) error {
	person, err := after.People().FindApprover(a.As, by)
	if err != nil {
		return nil //nolint:nilerr // it landed: whether it counts, announce show tells
	}
	known, err := after.Approvals()
	if err != nil || slices.ContainsFunc(known.Proven,
		func(p announce.ProvenApproval) bool { return p.Announcement == a.ID && p.Person == person }) {
		return nil //nolint:nilerr // as above
	}
	return errNotCounted(person)
}

// refuseEnded returns an error if an announcement is cancelled or archived.
func refuseEnded(a *repository.Announcement) error {
	switch {
	case a.Cancelled != "":
		return Fail(fmt.Errorf("it is cancelled: %s", a.Cancelled), "write another: sluice announce new")
	case a.Archived:
		return Fail(errors.New("it is archived"), "write another: sluice announce new")
	}
	return nil
}

// People are the people in sluice.yaml of either repository, by name.
type People map[string]*channels.Member

// FindApprover returns the name of the person who approves: the given name or, without one, the person with by's
// address.
func (p People) FindApprover(name string, by Person) (string, error) {
	var known []string
	for n, m := range p {
		if m != nil {
			known = append(known, n)
		}
	}
	slices.Sort(known)
	switch {
	case len(known) == 0:
		return "", Fail(errors.New("sluice.yaml names no people, so no approval would count"),
			"add yourself there, under people: with your email and keys (docs/formats.md)")
	case name != "" && p[name] == nil:
		return "", Fail(fmt.Errorf("sluice.yaml has no person %q", name), "it has %s", strings.Join(known, ", "))
	case name != "":
		return name, nil
	}
	i := slices.IndexFunc(known, func(n string) bool { return sameAddress(p[n].Email, by.Email) })
	if i < 0 {
		return "", Fail(fmt.Errorf("sluice.yaml has no person with the address %s", by.Email),
			"say who you are: --as %s", strings.Join(known, " or "))
	}
	return known[i], nil
}

func sameAddress(theirs, other string) bool { return theirs != "" && strings.EqualFold(theirs, other) }

// isListedKey reports whether a key is one of lines in the format of authorized_keys.
func isListedKey(key ssh.PublicKey, lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		return err == nil && bytes.Equal(key.Marshal(), public.Marshal())
	})
}

// checkProvable refuses an approval that could not be proven to be the person's, before it is committed (R22).
func (p People) checkProvable(person string, by Person, trustAuthors bool) error {
	switch {
	case trustAuthors:
		return nil
	case by.Key == nil:
		return Fail(errors.New("approvals are signed, and there is no SSH key to sign with"),
			"name one that sluice.yaml lists for %s: --key FILE, or load it into your SSH agent", person)
	case !isListedKey(by.Key, p[person].Keys):
		return Fail(fmt.Errorf("it would not count: sluice.yaml does not list the key %s for %s",
			ssh.FingerprintSHA256(by.Key), person),
			"name one that it lists: --key FILE; or have this one added to people.%s.keys", person)
	}
	return nil
}

// hasRole reports whether somebody has one of the roles that may approve; without roles, everybody may.
func hasRole(m *channels.Member, from []string) bool {
	return len(from) == 0 || slices.ContainsFunc(m.Roles, func(role string) bool { return slices.Contains(from, role) })
}

// errMissingRole is the error for an approval by a person without any of the needed roles.
func errMissingRole(who, person string, from []string) error {
	roles := strings.Join(from, " or ")
	return Fail(fmt.Errorf("%s needs approvals from %s, and %s has no such role", who, roles, person),
		"ask somebody who has it, or have people.%s.roles changed in sluice.yaml", person)
}

// errNotCounted is the error for an approval that was committed and does not count.
func errNotCounted(person string) error {
	const message = "it is committed but does not count: sluice.yaml does not list its signing key for %s"
	return Fail(fmt.Errorf(message, person),
		"have the key added to people.%s.keys in sluice.yaml, then approve again", person)
}

// approvalFiles returns the file of an approval. If the file has the same bytes already, they are changed, for only a
// commit that changes the file proves the approval.
func approvalFiles(files fs.FS, file string, data []byte) map[string][]byte {
	if before, err := fs.ReadFile(files, file); err == nil && bytes.Equal(before, data) {
		data = append(data, "# once more\n"...)
	}
	return singleFile(file, data)
}
