package channels

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// Approver is a person whose approval of the judged release is proven (R22): by a signature, or by the commit's author
// where the pipeline trusts authors.
type Approver struct {
	Person string // the key in people
	Email  string
	Keys   []string // the SSH keys of theirs that sluice.yaml lists
	Roles  []string
}

// Judge reports whether enough people with the required roles approved. A person counts once, and never as an author of
// the release.
func (a *Approval) Judge(approvers []Approver, authors Authorship) Verdict {
	var counted, notes []string
	seen := map[string]bool{}
	sorted := slices.Clone(approvers)
	slices.SortStableFunc(sorted, func(a, b Approver) int { return strings.Compare(a.Person, b.Person) })
	for _, p := range sorted {
		if seen[p.Person] {
			continue
		}
		seen[p.Person] = true
		switch {
		case authors.Includes(p):
			notes = append(notes, p.Person+" wrote the release")
		case !a.acceptsRoles(p.Roles):
			notes = append(notes, p.Person+" has no such role")
		default:
			counted = append(counted, p.Person)
		}
	}
	need := max(a.Count, 1)
	if len(counted) >= need {
		return Held("", reason.ApprovalHeld, len(counted), need, strings.Join(counted, ", "))
	}
	from, why := "", ""
	if len(a.From) > 0 {
		from = " from " + strings.Join(a.From, " or ")
	}
	if len(counted) > 0 {
		notes = slices.Insert(notes, 0, strings.Join(counted, ", "))
	}
	if len(notes) > 0 {
		why = " (" + strings.Join(notes, "; ") + ")"
	}
	return Blocked("", reason.ApprovalMissing, len(counted), need, from, why)
}

// acceptsRoles reports whether the gate accepts a person with these roles.
func (a *Approval) acceptsRoles(roles []string) bool {
	return len(a.From) == 0 ||
		slices.ContainsFunc(a.From, func(role string) bool { return slices.Contains(roles, role) })
}

// Authorship says who wrote a release (R52).
type Authorship struct {
	People []releases.Person // who wrote, committed or co-authored its folder's commits
	Keys   []string          // keys with valid signatures of the folder's commits
	Names  []string          // of release.yaml: names or e-mail addresses
}

// Includes reports whether p is among the authors, by key, address or name. Nothing proves the names in commits, so any
// match counts.
func (a Authorship) Includes(p Approver) bool {
	is := func(name string) bool {
		return name != "" && (strings.EqualFold(name, p.Person) || strings.EqualFold(name, p.Email))
	}
	return slices.ContainsFunc(a.Names, is) ||
		slices.ContainsFunc(a.People, func(author releases.Person) bool {
			return is(author.Email) || is(author.Name)
		}) ||
		slices.ContainsFunc(a.Keys, func(key string) bool {
			return slices.ContainsFunc(p.Keys, func(own string) bool { return SameKey(key, own) })
		})
}

// SameKey compares SSH public keys in authorized_keys form by type and key, whatever the comment.
func SameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) >= 2 && len(y) >= 2 && x[0] == y[0] && x[1] == y[1]
}

// VerifyAssertion verifies that a passkey of the person whom the approval, of a channel, names made its assertion.
func (a *ApprovalFile) VerifyAssertion(people map[string]*Member, channel string) (v passkey.Verified, err error) {
	s := passkey.Statement{Channel: channel, Version: a.Release, Digest: string(a.Digest), Nonce: a.Passkey.Nonce}
	err = passkey.ErrOther
	if own := people[a.Person]; own != nil {
		for _, k := range own.Passkeys {
			if v, err = k.Verify(*a.Passkey, s); !errors.Is(err, passkey.ErrOther) {
				break
			}
		}
	}
	if errors.Is(err, passkey.ErrOther) {
		err = fmt.Errorf("it was made with a passkey that sluice.yaml does not list for %s", a.Person)
	}
	return v, err
}
