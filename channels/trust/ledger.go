package trust

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// File is one of the signers' files.
type File struct {
	Path    string
	Role    string
	Version int64
	Expires time.Time
	Digest  releases.Digest // of the file's bytes
	Data    []byte
	// Who signed it, by each role that has to: of a root, those of the root before it, and its own.
	Quorums []Quorum

	root    *metadata.Metadata[metadata.RootType]
	targets *metadata.Metadata[metadata.TargetsType]
}

// Complete reports whether the file has all of its signatures.
func (f *File) Complete() bool {
	return len(f.Quorums) > 0 && !slices.ContainsFunc(f.Quorums, func(q Quorum) bool { return !q.Held() })
}

// expiryNotice is for how long before a file expires people are told.
const expiryNotice = 45 * 24 * time.Hour

// IsExpiring reports whether the file expires within a few weeks, or did.
func (f *File) IsExpiring(now time.Time) bool { return f.Expires.Sub(now) < expiryNotice }

// Signatures says who signed the file, and who has to yet.
func (f *File) Signatures() string {
	for _, q := range f.Quorums {
		if !q.Held() {
			return q.String()
		}
	}
	return f.Quorums[len(f.Quorums)-1].String()
}

// Ledger is what the signers' files of a repository say at one commit. Without any file that counts, nothing is signed,
// and no channel needs signatures.
type Ledger struct {
	Roots    []*File  // those that count, oldest first, each signed by the one before
	Targets  *File    // counts; nil: none does
	Releases *File    // counts; nil: none does
	Flags    *File    // counts; nil: none does
	Waiting  []*File  // lack signatures, by role and version
	Replaced []string // paths of files that newer ones replaced, or that nobody signs any more
	Faults   []manifest.Fault

	Policy   Policy             // of Targets
	Listed   map[string]Release // by Releases, by version
	Parts    []Part             // of flags, by Flags
	proposed map[string]Release // by the newest waiting releases file
}

// Root returns the newest root that counts; nil: none does.
func (l *Ledger) Root() *File {
	if len(l.Roots) == 0 {
		return nil
	}
	return l.Roots[len(l.Roots)-1]
}

// roleOrder returns the place of a role of people in the order in which files are verified; -1: it is none.
func roleOrder(role string) int {
	return slices.Index([]string{RoleRoot, RoleTargets, RoleReleases, RoleFlags}, role)
}

// waiting returns the newest file of a role that waits for signatures; nil: none does.
func (l *Ledger) waiting(role string) (newest *File) {
	for _, f := range l.Waiting {
		if f.Role == role && (newest == nil || f.Version > newest.Version) {
			newest = f
		}
	}
	return newest
}

// Proposed returns what the policy says that waits for signatures; ok is false if none does.
func (l *Ledger) Proposed() (p Policy, ok bool) {
	f := l.waiting(RoleTargets)
	if f == nil || f.targets == nil {
		return p, false
	}
	p, err := readPolicy(f.targets.Signed.UnrecognizedFields)
	return p, err == nil
}

// File returns the file with a path, if it counts or waits for signatures, else nil.
func (l *Ledger) File(path string) *File {
	for _, f := range append(l.Counting(), l.Waiting...) {
		if f.Path == path {
			return f
		}
	}
	return nil
}

// Counting returns the files that count, in the order in which they are verified.
func (l *Ledger) Counting() []*File {
	return append(slices.Clone(l.Roots), l.lists()...)
}

// lists returns the policy and what it delegates to people, as far as they count.
func (l *Ledger) lists() (files []*File) {
	for _, f := range []*File{l.Targets, l.Releases, l.Flags} {
		if f != nil {
			files = append(files, f)
		}
	}
	return files
}

// Counts reports whether a path is that of a file that counts.
func (l *Ledger) Counts(file string) bool {
	return slices.ContainsFunc(l.Counting(), func(f *File) bool { return f.Path == file })
}

// MayChange reports whether the owner of an SSH key (authorized_keys form) may change a file as a signer: one that does
// not count and is not a new one below what counts, which it could only hide; and a key that may sign any.
func (l *Ledger) MayChange(file, key string) bool {
	by, err := ParseKey("", key)
	return err == nil && l != nil && !l.Counts(file) && !l.wouldHide(file) &&
		slices.ContainsFunc(l.Signers(), func(k Key) bool { return k.Public.Equal(by.Public) })
}

// wouldHide reports whether a file that is not there would be read before the one of its role that counts.
func (l *Ledger) wouldHide(file string) bool {
	m := filePattern().FindStringSubmatch(path.Base(file))
	if m == nil || slices.Contains(l.Replaced, file) {
		return false
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // the pattern has no number that is too large
	return slices.ContainsFunc(l.Counting(), func(f *File) bool { return f.Role == m[2] && n < f.Version })
}

// Channels returns the channels that need signatures, sorted.
func (l *Ledger) Channels() []string {
	if l == nil || l.Targets == nil {
		return nil
	}
	return channelsOf(l.Targets.targets)
}

func channelsOf(targets *metadata.Metadata[metadata.TargetsType]) (names []string) {
	if targets.Signed.Delegations == nil {
		return nil
	}
	for _, r := range targets.Signed.Delegations.Roles {
		if name, ok := strings.CutPrefix(r.Name, channelPrefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Damaged reports whether a root that counted, or the policy that it leads to, is gone or can't be read: nobody knows
// then which channels need signatures.
func (l *Ledger) Damaged() bool {
	switch {
	case l == nil:
		return false
	case l.Root() == nil:
		return manifest.Fatal(l.Faults)
	}
	return l.Targets == nil
}

// Binds reports whether a channel takes only what signers signed. Where the files are damaged, every channel is bound:
// that must not mean "unsigned" (R6).
func (l *Ledger) Binds(channel string) bool {
	return l.Damaged() || slices.Contains(l.Channels(), channel)
}

// InForce returns the newest root, the policy, the list of releases and that of flags, as far as they count.
func (l *Ledger) InForce() (files []*File) {
	if l == nil {
		return nil
	}
	if root := l.Root(); root != nil {
		files = append(files, root)
	}
	return append(files, l.lists()...)
}

// Expiring says which of the files in force expire within a few weeks, or did, or hardly ever will, and what to do.
func (l *Ledger) Expiring(now time.Time) (notes []string) {
	for _, f := range l.InForce() {
		if isTooLong(f.Expires, now) {
			notes = append(notes, fmt.Sprintf("trust: %s counts until %s, which is longer than people sign for: sluice trust rotate",
				f.Path, words.FormatTime(f.Expires)))
		}
		if f.IsExpiring(now) {
			stops := "nothing new runs"
			if f == l.Flags {
				stops = "cells take no new flags"
			}
			notes = append(notes, fmt.Sprintf("trust: %s expires at %s, and then %s: sluice trust rotate", f.Path,
				words.FormatTime(f.Expires), stops))
		}
	}
	return notes
}

// Expires returns the file that expires first, of those that a release depends on; nil: none counts.
func (l *Ledger) Expires() (first *File) {
	for _, f := range l.InForce() {
		if f == l.Flags {
			continue
		}
		if first == nil || f.Expires.Before(first.Expires) {
			first = f
		}
	}
	return first
}

// Obstacle returns why a channel that the ledger binds may not go back to a release; empty: it may. What expired
// meanwhile is none: going back must not wait for signers.
func (l *Ledger) Obstacle(channel string, v releases.Version, digest releases.Digest) string {
	if why := l.Policy.Refuses(v); why != "" {
		return why
	}
	r, listed := l.Listed[v.String()]
	switch {
	case listed:
		return r.Refuses(channel, digest)
	case l.Targets == nil || l.Releases == nil:
		return "the signers' files can't be read: run sluice trust status"
	}
	return "the signers did not sign " + v.String()
}

// Answer is what the signers say about a release in a channel.
type Answer struct {
	Held    bool
	Refused bool // more signatures of what is there would change nothing
	Words   string
	Until   time.Time // when what holds expires
}

// Judge says whether a channel that the ledger binds may run a release, at an instant.
func (l *Ledger) Judge(channel string, v releases.Version, digest releases.Digest, now time.Time) Answer {
	refuse := func(format string, args ...any) Answer {
		return Answer{Refused: true, Words: fmt.Sprintf(format, args...)}
	}
	if l.Targets == nil {
		return refuse("no N.targets.json in trust counts; run sluice trust status")
	}
	if why := l.Policy.Refuses(v); why != "" {
		return refuse("%s", why)
	}
	first := l.Expires()
	if !now.Before(first.Expires) {
		return refuse("%s expired at %s: sluice trust rotate makes the next one", first.Path,
			words.FormatTime(first.Expires))
	}
	r, listed := l.Listed[v.String()]
	why := ""
	if listed {
		if why = r.Refuses(channel, digest); why == "" {
			text := l.Releases.Signatures()
			if first.IsExpiring(now) {
				text += fmt.Sprintf("; %s expires at %s: sluice trust rotate", first.Path,
					words.FormatTime(first.Expires))
			}
			return Answer{Held: true, Words: text, Until: first.Expires}
		}
	}
	p, proposed := l.proposed[v.String()]
	switch {
	case proposed && p.Refuses(channel, digest) == "":
		return Answer{Words: l.waiting(RoleReleases).Signatures()}
	case listed:
		return refuse("%s", why)
	case proposed:
		return refuse("%s", p.Refuses(channel, digest))
	}
	signers, ok := delegatedRole(l.Targets.targets, RoleReleases)
	if !ok {
		return refuse("%s does not say who signs releases", l.Targets.Path)
	}
	needs := countSignatures(signers, emptyTargets()).needs()
	return Answer{Words: fmt.Sprintf("no signature; %s: sluice trust sign %s", needs, v)}
}

// emptyTargets is a file that nobody signed.
func emptyTargets() *metadata.Metadata[metadata.TargetsType] {
	return &metadata.Metadata[metadata.TargetsType]{Signed: metadata.TargetsType{Type: RoleTargets}}
}

// Signers returns the keys that may sign any of the signers' files, those that wait included, by name.
func (l *Ledger) Signers() []Key { return l.keys(isOffline) }

// Online returns the engine's keys, as the newest root that counts or waits names them.
func (l *Ledger) Online() []Key {
	return l.keys(func(role string) bool { return role == RoleTimestamp })
}

func isOffline(role string) bool { return roleOrder(role) >= 0 }

// keys returns the keys of roles, by name.
func (l *Ledger) keys(of func(role string) bool) []Key {
	found := map[string]Key{}
	add := func(r role) {
		for _, id := range r.ids {
			if k, err := readKey(id, r.keys[id]); err == nil {
				found[r.keys[id].Value.PublicKey] = k
			}
		}
	}
	for _, f := range append(l.Counting(), l.Waiting...) {
		switch {
		case f.root != nil:
			if f != l.Root() && !slices.Contains(l.Waiting, f) {
				continue // replaced
			}
			for _, name := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
				if of(name) {
					add(rootRole(f.root, name))
				}
			}
		case f.Role == RoleTargets:
			for _, name := range []string{RoleReleases, RoleFlags} {
				if r, ok := delegatedRole(f.targets, name); ok && of(name) {
					add(r)
				}
			}
		}
	}
	all := slices.Collect(maps.Values(found))
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Public, b.Public))
	})
	return all
}
