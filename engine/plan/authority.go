package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Authority says who counts as the engine (R46) and who as an owner (R52), as the history made it: a commit is judged
// by the keys in force at its first parent.
type Authority struct {
	channels.EngineKeys
	// The newest commit that changed the engine's list and may not; empty: the tip's list is in force.
	Ignored   string
	Owners    []string // names in people; empty: the repository lists none
	OwnerKeys []string // theirs
}

// IsOwner reports whether a commit with that signature's key, or none, counts as an owner's. Without owners, all do.
func (a Authority) IsOwner(key string) bool {
	return len(a.Owners) == 0 ||
		slices.ContainsFunc(a.OwnerKeys, func(k string) bool { return channels.SameKey(k, key) })
}

// MayList reports whether a commit with that signature's key may make listed the engine's keys.
func (a Authority) MayList(key string, listed channels.EngineKeys) bool {
	switch {
	case a.Enforced() && a.Trust(key):
		return true
	case len(a.Owners) > 0:
		return a.IsOwner(key) || !a.IsSet() && listed.Enforced() && listed.Trust(key)
	}
	return a.Trust(key)
}

// amend takes the engine's keys that c, a commit that touched sluice.yaml, has.
func (a *Authority) amend(c releases.Change, listed channels.EngineKeys) {
	switch {
	case listed.Equal(a.EngineKeys):
		a.Ignored = ""
	case a.MayList(c.Key, listed):
		a.EngineKeys, a.Ignored = listed, ""
	default:
		a.Ignored = c.Commit
	}
}

// fault returns what people should know about the engine's keys; nil: nothing.
func (a Authority) fault() *releases.Fault {
	switch {
	case a.Ignored != "":
		return &releases.Fault{
			File: pipelineFile, Code: manifest.Forbidden,
			Message: fmt.Sprintf(
				"engine was changed in %s, which no listed key signed: the keys listed before stay in force; put them back, or have the change signed by one of them",
				words.ShortCommit(a.Ignored)),
		}
	case a.Unsigned:
		return &releases.Fault{
			File: pipelineFile, Code: manifest.Unprotected, Warning: true,
			Message: "engine: unsigned: whoever may push to this branch may promote, and may replace a cell's key",
		}
	}
	return nil
}

// Approval says who last changed an approval file.
type Approval struct {
	Commit string
	Author releases.Person
	// member of people whose key signed the commit, or whose passkey the file, as of the first parent; empty: none
	Person  string
	Key     string // that signed the commit that wrote the file; empty: none, or the file has a passkey's assertion
	Refused string // why the file's passkey assertion does not count; empty: it does, or there is none
}

// ApprovalOf returns what change f in commit c says about an approval file that exists afterwards (R22). keys returns
// people's keys by name at a commit; ApprovalOf calls keys for c's first parent if the change is signed.
func ApprovalOf(
	c releases.Change, f releases.FileChange, keys func(commit string) (map[string][]string, error),
) (Approval, error) {
	a := Approval{Commit: c.Commit, Author: c.Author, Key: f.Key}
	if slices.ContainsFunc(f.Authors, func(p releases.Person) bool { return !sameAddress(p.Email, c.Author.Email) }) {
		a.Author = releases.Person{} // a merge of another author's file proves neither author's approval
	}
	var err error
	a.Person, err = signerIn(f.Key, c.Parent, keys)
	return a, err
}

// signerIn returns the name of the person who has a key at a commit; empty: nobody. keys returns people's keys by name
// there, and is called only if there is a key and a commit.
func signerIn(key, commit string, keys func(commit string) (map[string][]string, error)) (string, error) {
	if key == "" || commit == "" {
		return "", nil
	}
	people, err := keys(commit)
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(people)) {
		if slices.ContainsFunc(people[name], func(k string) bool { return channels.SameKey(k, key) }) {
			return name, nil
		}
	}
	return "", nil
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

// PipelinePushes is what refused pushes of sluice.yaml are kept under: no channel has such a name.
const PipelinePushes = "sluice/"

// adoptKey lists the engine's key in a repository that says nothing of keys yet, once and alone in its plan (R46). It
// reports whether it does. Once the host refused that, all other pushes come first, so that a host is asked once for
// each of its refusals.
func (p *planner) adoptKey() bool {
	if p.observed.Key == "" || p.desired.Authority.IsSet() || p.observed.Diverged != nil {
		return false
	}
	if p.desired.pipelineText == nil { // missing, or it can't be read
		p.block(channels.Blocked("push", reason.KeyUnlistable))
		return false
	}
	if p.isRefused(PipelinePushes, reason.KeyRefused, "", "") {
		return false
	}
	if _, before := p.observed.Refused[PipelinePushes]; before {
		for _, r := range p.observed.Refused {
			if r.Until.After(p.now) {
				p.replanAt(r.Until)
				return false
			}
		}
		if p.hasCommits() {
			return false
		}
	}
	p.addAction(Action{Kind: Adopt, key: p.observed.Key})
	return true
}

// isUnlisted reports whether what this engine would push counts for nothing, and says so about a channel; empty: about
// all.
func (p *planner) isUnlisted(channel, release string) bool {
	if p.observed.Key == "" || p.desired.Authority.Trust(p.observed.Key) {
		return false
	}
	p.block(channels.Blocked("push", reason.KeyUnlisted, p.observed.Key).WithSubject(channel, release))
	return true
}

// draftAdoption is the commit that lists the engine's key. It names the heads that were not signed: from here on they
// count because it says so.
func draftAdoption(d *Desired, p Plan, a Action) (releases.Draft, error) {
	text, err := channels.SetEngineKeys(d.pipelineText, []string{a.key})
	if err != nil {
		return releases.Draft{}, err
	}
	var b strings.Builder
	b.WriteString(
		"list the engine's key\n\nFrom here on, what the engine writes counts only if it is signed. The heads so far stay as they are.\n\n")
	fmt.Fprintf(&b, "Engine-Key: %s\n", words.OneLine(a.key))
	for _, name := range d.Order {
		if e := d.Channels[name].Effective; e != nil {
			fmt.Fprintf(&b, "Adopts: %s %s sequence %d\n", name, words.OneLine(e.Release), e.Sequence)
		}
	}
	fmt.Fprintf(&b, "%s: %s\n", releases.BaseTrailer, p.Commit)
	return releases.Draft{Message: b.String(), When: p.Now, Files: map[string][]byte{pipelineFile: text}}, nil
}
