package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// Approval says who last changed an approval file.
type Approval struct {
	Commit string
	Author releases.Person
	Person string // member of people whose key signed the commit, as of its first parent; empty: none
}

// ApprovalOf returns what change f in commit c says about an approval file that exists afterwards (R22). keys returns
// people's keys by name at a commit; ApprovalOf calls keys for c's first parent if the change is signed.
func ApprovalOf(
	c releases.Change, f releases.FileChange, keys func(commit string) (map[string][]string, error),
) (Approval, error) {
	a := Approval{Commit: c.Commit, Author: c.Author}
	if slices.ContainsFunc(f.Authors, func(p releases.Person) bool { return !sameAddress(p.Email, c.Author.Email) }) {
		a.Author = releases.Person{} // a merge of another author's file proves neither author's approval
	}
	if f.Key == "" || c.Parent == "" {
		return a, nil
	}
	people, err := keys(c.Parent)
	if err != nil {
		return a, err
	}
	for _, name := range slices.Sorted(maps.Keys(people)) {
		if slices.ContainsFunc(people[name], func(k string) bool { return channels.SameKey(k, f.Key) }) {
			a.Person = name
			break
		}
	}
	return a, nil
}

// ProvenFor reports whether the approval is proven to be a person's: by the signature or, where authors are trusted and
// no member of people signed, by the commit's author.
func (a Approval) ProvenFor(person, email string, trustAuthors bool) bool {
	return a.Person == person || trustAuthors && a.Person == "" && email != "" && sameAddress(a.Author.Email, email)
}

// sameAddress reports whether two e-mail addresses are equal, ignoring case as git hosts do.
func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}
