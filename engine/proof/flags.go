package proof

import (
	"fmt"
	"path"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

const settingsFile = "sluice.yaml"

// Flags is a flags repository at a commit, with what its history says.
type Flags struct {
	Commit    string
	Tree      *repository.Tree         // with the settings in force
	Approvals map[string]plan.Approval // by file
	Authors   map[string][]string      // by announcement: addresses and keys of its authors
	Withheld  plan.WithheldFiles       // what no owner signed
	Owners    []string
}

// OfFlags reports on f, whose main line has the changes, oldest first.
func OfFlags(f Flags, changes []releases.Change) Report {
	r := &reporter{people: map[string][]string{}}
	for name, p := range f.Tree.Settings.People {
		if p != nil {
			r.people[name] = p.Keys
		}
	}
	r.readChanges(changes, func(file string) bool { return file == settingsFile })
	for _, a := range f.Tree.Approvals {
		file := path.Join(repository.ApprovalsDir, a.Announcement, a.Person+".yaml")
		fact := f.Approvals[file]
		claim := Claim{Kind: Approval, File: file, Announcement: a.Announcement, Commit: fact.Commit}
		if claim.Why = f.refuse(a, fact); claim.Why == "" {
			claim.Stands, claim.By = true, provenBy(a.Person, fact)
		}
		r.add(claim)
	}
	if len(f.Owners) > 0 {
		r.addGuarded(Claim{Kind: Guarded, File: settingsFile}, f.Withheld)
	}
	if r.claims == nil {
		r.claims = []Claim{}
	}
	return Report{Commit: f.Commit, Claims: r.claims}
}

// refuse returns why an approval of an announcement does not count; empty: it does.
func (f *Flags) refuse(a repository.Approval, fact plan.Approval) string {
	person, of := f.Tree.Settings.People[a.Person], f.Tree.Announcements[a.Announcement]
	switch {
	case person == nil:
		return "sluice.yaml lists nobody of that name"
	case !fact.ProvenFor(a.Person, person.Email, f.Tree.Settings.TrustAuthors):
		return unproven(a.Person, fact)
	case of == nil:
		return "the repository has no such announcement"
	case announce.IsAuthor(f.Authors[a.Announcement], person):
		return a.Person + " wrote the announcement"
	}
	if hash, _ := f.Tree.Hash(of); hash != a.Hash {
		return fmt.Sprintf("it approves %s, and the announcement and its flags are %s", a.Hash, hash)
	}
	return ""
}
