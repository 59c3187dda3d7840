// Package proof reports to a person what stands in a repository, and by whose key: in a release repository heads,
// releases, approvals, the files that owners guard and the audit's head, in a flags repository approvals of
// announcements and the settings. What does not stand is named with the reason.
//
// It judges nothing anew: packages plan and announcer fold the history, and say what counts (R46, R52). This package
// joins what they found with the keys of the commits, for who wants to see them without trusting a control plane. It is
// pure, and everything in it may be called at once.
package proof

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Kind says what a claim is about.
type Kind string

const (
	Head     Kind = "head"
	Release  Kind = "release"
	Approval Kind = "approval"
	Guarded  Kind = "guarded" // a file that owners guard
	Audit    Kind = "audit"
	Other    Kind = "other"
)

// Claim is something that a repository says, with whether it stands.
type Claim struct {
	Kind    Kind   `json:"kind"`
	File    string `json:"file"`
	Channel string `json:"channel,omitempty"`
	Release string `json:"release,omitempty"`
	// Announcement is the id of the one that an approval is of.
	Announcement string `json:"announcement,omitempty"`

	Stands bool   `json:"stands"`
	By     string `json:"by,omitempty"`     // whose key; where it stands without one, why
	Why    string `json:"why,omitempty"`    // it does not stand
	Commit string `json:"commit,omitempty"` // made it
}

// Report is what a repository says as of a commit.
type Report struct {
	Commit string  `json:"commit"`
	Claims []Claim `json:"claims"`
}

// Of reports on d, whose main line has the changes, oldest first.
func Of(d *plan.Desired, changes []releases.Change) Report {
	r := &reporter{d: d, people: map[string][]string{}, engine: d.Authority.Keys}
	for name, m := range d.Pipeline.People {
		if m != nil {
			r.people[name] = m.Keys
		}
	}
	r.readChanges(changes, plan.IsGuarded)
	for _, name := range d.Order {
		r.reportHead(d.Channels[name])
	}
	for _, version := range slices.Sorted(maps.Keys(d.Releases)) {
		r.reportRelease(version, d.Releases[version])
	}
	for _, name := range d.Order {
		for _, a := range d.Channels[name].Judged {
			r.reportApproval(name, a)
		}
	}
	r.reportGuarded()
	if a := d.LastAuditHead(); a.Commit != "" {
		r.add(Claim{Kind: Audit, File: audithead.File, Stands: true, By: r.engineKey(a.Commit), Commit: a.Commit})
	}
	r.reportFaults()
	return Report{Commit: d.Commit, Claims: r.claims}
}

// About returns the claims about a channel, with its head's release, about a release, or about an announcement; and
// what does not stand of what all else rests on.
func (r Report) About(name string) Report {
	head := ""
	for _, c := range r.Claims {
		if c.Kind == Head && c.Channel == name && c.Stands {
			head = c.Release
		}
	}
	some := Report{Commit: r.Commit, Claims: []Claim{}}
	for _, c := range r.Claims {
		if c.Channel == name || c.Release == name || c.Announcement == name || c.Kind == Release && c.Release == head ||
			!c.Stands && c.Channel == "" && c.Release == "" && c.Announcement == "" {
			some.Claims = append(some.Claims, c)
		}
	}
	return some
}

// Fallen returns how many claims do not stand.
func (r Report) Fallen() (n int) {
	for _, c := range r.Claims {
		if !c.Stands {
			n++
		}
	}
	return n
}

type reporter struct {
	d      *plan.Desired              // nil: of a flags repository
	people map[string][]string        // keys by name
	engine []string                   // the engine's keys
	keys   map[string]string          // by commit: whose signature holds
	newest map[string]releases.Change // by guarded path: the newest change that left the file
	claims []Claim
}

func (r *reporter) readChanges(changes []releases.Change, isGuarded func(path string) bool) {
	r.keys, r.newest = make(map[string]string, len(changes)), map[string]releases.Change{}
	for _, c := range changes {
		r.keys[c.Commit] = c.Key
		for _, f := range c.Files {
			if !isGuarded(f.Path) {
				continue
			}
			if r.newest[f.Path] = c; f.New == "" {
				delete(r.newest, f.Path)
			}
		}
	}
}

func (r *reporter) add(c Claim) { r.claims = append(r.claims, c) }

// Fingerprint returns an SSH key's fingerprint, as ssh-keygen -l prints it.
func Fingerprint(key string) string {
	fields := strings.Fields(key)
	if len(fields) < 2 {
		return "?"
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return "?"
	}
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// owner names whose key it is, as sluice.yaml has it now; empty: nobody's.
func (r *reporter) owner(key string) string {
	same := func(k string) bool { return channels.SameKey(k, key) }
	for _, name := range slices.Sorted(maps.Keys(r.people)) {
		if slices.ContainsFunc(r.people[name], same) {
			return name
		}
	}
	if slices.ContainsFunc(r.engine, same) {
		return "the engine"
	}
	return ""
}

func (r *reporter) describe(key string) string {
	if who := r.owner(key); who != "" {
		return who + ", " + Fingerprint(key)
	}
	return Fingerprint(key) + ", which sluice.yaml does not list now"
}

// engineKey says by which key something of the engine's stands.
func (r *reporter) engineKey(commit string) string {
	switch key := r.keys[commit]; {
	case key != "":
		return r.describe(key)
	case r.d.Authority.Enforced():
		return "nobody's key: it was there before sluice.yaml listed the engine's"
	}
	return "nobody's key: sluice.yaml asks for none of the engine"
}

func (r *reporter) reportHead(c *plan.Channel) {
	claim := Claim{Kind: Head, File: path.Join(channels.Dir, c.Name, "head.yaml"), Channel: c.Name}
	stays := "there is no head"
	if e := c.Effective; e != nil {
		stands := claim
		stands.Stands, stands.Release, stands.Commit, stands.By = true, e.Release, e.Written, r.engineKey(e.Written)
		if e.Kind == plan.Adopted {
			stands.By = "nobody's key: the repository's first commit brought it"
		}
		r.add(stands)
		stays = "the head stays " + e.Release
	}
	q := c.Request
	if q == nil || q.Lapsed && q.Fault == "" {
		return
	}
	claim.Release, claim.Commit = q.Release, q.Commit
	claim.Why = fmt.Sprintf("the engine did not write it: it is a request by %s, and %s", words.OneLine(q.By), stays)
	if q.Fault != "" {
		claim.Why = words.OneLine(q.Fault) + "; " + stays
	}
	r.add(claim)
}

// isProofFault reports whether a fault says that something does not count, whatever it says.
func isProofFault(f releases.Fault) bool {
	return !f.Warning && (f.Code == manifest.Forbidden || f.Code == manifest.Immutable || f.Code == manifest.Unsigned)
}

func (r *reporter) reportRelease(version string, release *plan.Release) {
	if release.Tombstone != nil || release.Origin == "" {
		return
	}
	claim := Claim{Kind: Release, File: path.Join(releases.Dir, version), Release: version, Commit: release.Origin,
		Stands: true}
	var why []string
	for _, f := range release.Faults {
		if isProofFault(f) {
			why = append(why, f.Message)
		}
	}
	if len(why) > 0 {
		claim.Stands, claim.Why = false, strings.Join(why, "; ")
		r.add(claim)
		return
	}
	var by []string
	for _, key := range release.Keys {
		by = append(by, r.describe(key))
	}
	if claim.By = strings.Join(by, "; "); len(by) == 0 {
		claim.By = "nobody's key: sluice.yaml does not ask for signedReleases"
	}
	r.add(claim)
}

func (r *reporter) reportApproval(channel string, a plan.JudgedApproval) {
	claim := Claim{Kind: Approval, File: a.File, Channel: channel, Release: a.Release, Commit: a.Fact.Commit}
	if claim.Why = r.refuse(a); claim.Why == "" {
		claim.Stands = true
		claim.By = provenBy(a.Person, a.Fact)
		if a.Passkey != "" {
			claim.By = fmt.Sprintf("%s, passkey %s", a.Person, words.Clip(words.OneLine(a.Passkey), 20))
		}
	}
	r.add(claim)
}

// provenBy says by whose key an approval stands that no passkey signed.
func provenBy(person string, fact plan.Approval) string {
	if fact.Person == "" {
		return fmt.Sprintf("nobody's key: the commit names %s, and sluice.yaml trusts authors", person)
	}
	return person + ", " + Fingerprint(fact.Key)
}

// unproven says why an approval is not proven to be the person's.
func unproven(person string, fact plan.Approval) string {
	switch {
	case fact.Person != "":
		return "it is signed by " + fact.Person
	case fact.Key != "":
		return fmt.Sprintf("it is signed by %s, which was not a key of %s before that commit", Fingerprint(fact.Key), person)
	}
	return "no signed commit that touches approvals alone wrote it"
}

// refuse returns why an approval counts nowhere; empty: it counts where a gate wants the person's.
func (r *reporter) refuse(a plan.JudgedApproval) string {
	member, release := r.d.Pipeline.People[a.Person], r.d.Releases[a.Release]
	switch {
	case a.Fact.Refused != "":
		return "its passkey assertion: " + a.Fact.Refused
	case member == nil:
		return "sluice.yaml lists nobody of that name"
	case !a.Counts:
		return unproven(a.Person, a.Fact)
	case release == nil:
		return "the repository has no such release"
	case release.Loaded && release.Tombstone == nil && release.Digest != a.Digest:
		return fmt.Sprintf("it approves %s, and the release has %s", a.Digest, release.Digest)
	case release.Authorship().Includes(member.Approver(a.Person)):
		return a.Person + " wrote the release"
	}
	return ""
}

// reportGuarded reports the files that owners guard. Deadlines are as many as cells: only those that do not stand.
func (r *reporter) reportGuarded() {
	if len(r.d.Authority.Owners) == 0 {
		return
	}
	paths := map[string]bool{}
	for file := range r.newest {
		if !strings.HasPrefix(file, "cells/") {
			paths[file] = true
		}
	}
	for file := range r.d.Withheld {
		paths[file] = true
	}
	for _, file := range slices.Sorted(maps.Keys(paths)) {
		claim := Claim{Kind: Guarded, File: file}
		if parts := strings.Split(file, "/"); parts[0] == channels.Dir {
			claim.Channel = parts[1]
		} else if parts[0] == channels.QuarantineDir {
			claim.Release = strings.TrimSuffix(parts[1], ".yaml")
		}
		r.addGuarded(claim, r.d.Withheld)
	}
}

// addGuarded adds a claim about a file that owners guard.
func (r *reporter) addGuarded(claim Claim, withheld plan.WithheldFiles) {
	if held, ok := withheld[claim.File]; ok {
		claim.Commit = held.By
		claim.Why = "no owner signed it; what was there before stays in force: " +
			cmp.Or(words.ShortCommit(held.Commit), "nothing")
		if held.Blob == "" {
			claim.Why = "no owner signed it, and there was none before: it has no effect"
		}
		r.add(claim)
		return
	}
	c := r.newest[claim.File]
	claim.Stands, claim.Commit = true, c.Commit
	if claim.By = "nobody's key: it was there before sluice.yaml listed owners"; c.Key != "" {
		claim.By = r.describe(c.Key)
	}
	r.add(claim)
}

// reportFaults reports what else does not count, such as an identity that the engine did not sign.
func (r *reporter) reportFaults() {
	for _, f := range r.d.Faults {
		if !isProofFault(f) || slices.ContainsFunc(r.claims, func(c Claim) bool {
			return !c.Stands && (f.File == c.File || c.Kind == Release && strings.HasPrefix(f.File, c.File+"/"))
		}) {
			continue
		}
		claim := Claim{Kind: Other, File: f.File, Why: f.Message}
		if f.File == audithead.File {
			claim.Kind = Audit
		}
		r.add(claim)
	}
}
