package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// Approval is who last touched an approval file.
type Approval struct {
	Commit string
	Author releases.Person
	Person string // the member of people, at the commit's first parent, whose key signed it; empty: none
}

// ApprovalOf is what c's change f says of an approval file that is there afterwards (R22). keys gives people's keys, by name, as
// a commit has them: it is asked for c's first parent, if the change is signed.
func ApprovalOf(c releases.Change, f releases.FileChange, keys func(commit string) (map[string][]string, error)) (Approval, error) {
	a := Approval{Commit: c.Commit, Author: c.Author}
	if slices.ContainsFunc(f.Authors, func(p releases.Person) bool { return !sameAddress(p.Email, c.Author.Email) }) {
		a.Author = releases.Person{} // a merge of what another wrote: nobody's word alone
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

// Of tells whether the approval is proven to be a person's: by the signature or, where authors are trusted and nobody of people
// signed it, by the commit's author.
func (a Approval) Of(person, email string, trustAuthors bool) bool {
	return a.Person == person || trustAuthors && a.Person == "" && email != "" && sameAddress(a.Author.Email, email)
}

// sameAddress compares e-mail addresses as git hosts do: without regard to case.
func sameAddress(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}
