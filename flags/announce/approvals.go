package announce

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/words"
)

// countApprovals counts the approvals that name the current hash of the announcement and its definitions (R42), from
// different listed people with a required role, none of them an author of the file (R22).
func (a *announcement) countApprovals() {
	settings := &a.planner.input.Tip.Settings
	rule := settings.Approvals
	if a.tip.Approvals != nil {
		rule = *a.tip.Approvals
	}
	for _, proven := range a.planner.input.Proven {
		person := settings.People[proven.Person]
		if proven.Announcement != a.id || proven.Hash != a.hash || person == nil ||
			slices.Contains(a.approvers, proven.Person) {
			continue
		}
		if len(rule.From) > 0 &&
			!slices.ContainsFunc(person.Roles, func(r string) bool { return slices.Contains(rule.From, r) }) {
			continue
		}
		if IsAuthor(a.planner.input.Authors[a.id], person) {
			continue
		}
		a.approvers = append(a.approvers, proven.Person)
	}
	slices.Sort(a.approvers)
	if missing := rule.Count - len(a.approvers); missing > 0 {
		a.missingApprovals = fmt.Sprintf("%s %s missing", words.Count(missing, "approval"),
			choosePlural(missing, "is", "are"))
		if len(rule.From) > 0 {
			a.missingApprovals += ", from " + strings.Join(rule.From, " or ")
		}
	}
}

// IsAuthor reports whether a person is among authors, given by address or SSH key as Input.Authors has them (R52).
func IsAuthor(authors []string, p *repository.Person) bool {
	return slices.ContainsFunc(authors, func(author string) bool {
		return sameAddress(author, p.Email) ||
			slices.ContainsFunc(p.Keys, func(key string) bool { return sameKey(author, key) })
	})
}

// sameKey compares SSH public keys in authorized_keys form, whatever their comments.
func sameKey(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) >= 2 && len(y) >= 2 && x[0] == y[0] && x[1] == y[1]
}

func normaliseAddress(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

func sameAddress(a, b string) bool {
	return normaliseAddress(a) != "" && normaliseAddress(a) == normaliseAddress(b)
}
