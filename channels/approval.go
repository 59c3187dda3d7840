package channels

import (
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// Approver is a person whose approval of the judged release is proven (R22): by a signature, or by the commit's author
// where the pipeline trusts authors.
type Approver struct {
	Person string // the key in people
	Email  string
	Roles  []string
}

// Judge reports whether enough people with the required roles approved. A person counts once, and never as an author of
// the release: one of authors, by e-mail address or name, or one of authorNames, which hold either.
func (a *Approval) Judge(approvers []Approver, authors []releases.Person, authorNames []string) Verdict {
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
		case isAuthor(p, authors, authorNames):
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

// isAuthor reports whether p is an author of the release. Nothing proves the names in commits, so any match counts.
func isAuthor(p Approver, authors []releases.Person, authorNames []string) bool {
	is := func(name string) bool {
		return name != "" && (strings.EqualFold(name, p.Person) || strings.EqualFold(name, p.Email))
	}
	return slices.ContainsFunc(authorNames, is) ||
		slices.ContainsFunc(authors, func(author releases.Person) bool { return is(author.Email) || is(author.Name) })
}
