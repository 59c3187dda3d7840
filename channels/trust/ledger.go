package trust

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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

// Read reads the signers' files of a repository; nil: it has none.
func Read(c *manifest.Cache, files fs.FS) *Ledger {
	entries, err := fs.ReadDir(files, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Ledger{Faults: []manifest.Fault{{File: Dir, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}}}
	}
	r := reader{byRole: map[string][]*File{}}
	id, cacheable := "", true
	for _, e := range entries {
		m := filePattern().FindStringSubmatch(e.Name())
		if m == nil {
			r.faults = append(r.faults, manifest.UnusedEntry(Dir, e, "only N.root.json, N.targets.json, N.releases.json and N.flags.json are"))
			continue
		}
		if len(r.byRole[m[2]]) >= maxVersions {
			r.fault(path.Join(Dir, e.Name()), manifest.TooLarge, "is not read: %s has more than %d versions here", m[2],
				maxVersions)
			continue
		}
		info, err := e.Info()
		loaded, fault := loadFile(c, files, m[2], m[1])
		if err != nil || fault != nil {
			cacheable = false
		} else {
			blob := manifest.ID(info)
			id, cacheable = id+e.Name()+"="+blob+" ", cacheable && blob != ""
		}
		if fault == nil {
			fault = loaded.fault
		}
		if fault != nil {
			r.faults = append(r.faults, *fault)
			r.rootUnread = r.rootUnread || m[2] == RoleRoot
			continue
		}
		r.byRole[m[2]] = append(r.byRole[m[2]], loaded.file)
	}
	if !cacheable {
		id = ""
	}
	return manifest.Cached(c, Dir, id, r.judge)
}

// maxVersions bounds the files of one role.
const maxVersions = 1024

// loadedFile is a file as a cache keeps it: nobody has counted its signatures.
type loadedFile struct {
	file  *File
	fault *manifest.Fault
}

func loadFile(c *manifest.Cache, files fs.FS, role, version string) (loadedFile, *manifest.Fault) {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return loadedFile{}, &manifest.Fault{File: Dir, Code: manifest.WrongName, Message: err.Error()}
	}
	name := FileName(role, n)
	return manifest.LoadBytes(c, files, name, func(data []byte) loadedFile {
		f := &File{Path: name, Role: role, Version: n, Digest: releases.DigestBytes(data), Data: data}
		var fault *manifest.Fault
		var is int64
		if role == RoleRoot {
			if f.root, fault = parse[metadata.RootType](name, role, data); fault == nil {
				is, f.Expires = f.root.Signed.Version, f.root.Signed.Expires
			}
		} else if f.targets, fault = parse[metadata.TargetsType](name, role, data); fault == nil {
			is, f.Expires = f.targets.Signed.Version, f.targets.Signed.Expires
		}
		if fault == nil && is != n {
			fault = &manifest.Fault{File: name, Code: manifest.Conflict,
				Message: fmt.Sprintf("has version %d inside: it is not what its name says", is)}
		}
		return loadedFile{f, fault}
	})
}

// reader makes a Ledger of files that were read one by one.
type reader struct {
	byRole     map[string][]*File
	faults     []manifest.Fault
	rootUnread bool // a root can't be read: nobody knows what leads to the others
}

func (r *reader) fault(file string, code manifest.FaultCode, format string, args ...any) {
	r.faults = append(r.faults, manifest.Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) warn(file string, code manifest.FaultCode, format string, args ...any) {
	r.fault(file, code, format, args...)
	r.faults[len(r.faults)-1].Warning = true
}

func (r *reader) judge() *Ledger {
	for role, list := range r.byRole {
		files := make([]*File, len(list))
		for i, f := range list { // what the cache has stays as it is
			clone := *f
			files[i] = &clone
		}
		slices.SortFunc(files, func(a, b *File) int { return cmp.Compare(a.Version, b.Version) })
		r.byRole[role] = files
	}
	l := &Ledger{}
	r.judgeRoots(l)
	root := l.Root()
	if root == nil { // a repository where the first root waits: the others are shown as they will count
		root = l.waiting(RoleRoot)
	}
	if root != nil {
		l.Targets = r.judgeTargets(l, RoleTargets, rootRole(root.root, RoleTargets))
		l.Releases = r.judgeDelegated(l, RoleReleases)
		l.Flags = r.judgeDelegated(l, RoleFlags)
	}
	if len(l.Roots) == 0 { // nothing that an incomplete root says counts
		for _, f := range []*File{l.Targets, l.Releases, l.Flags} {
			if f != nil {
				l.Waiting = append(l.Waiting, f)
			}
		}
		l.Targets, l.Releases, l.Flags = nil, nil, nil
	}
	r.readContents(l)
	l.Faults = manifest.Sort(r.faults)
	return l
}

// judgeRoots follows the chain of roots from the oldest.
func (r *reader) judgeRoots(l *Ledger) {
	if r.rootUnread {
		return
	}
	for i, f := range r.byRole[RoleRoot] {
		if before := l.Root(); before != nil {
			f.Quorums = append(f.Quorums, rootRole(before.root, RoleRoot).count(f.root))
		}
		f.Quorums = append(f.Quorums, rootRole(f.root, RoleRoot).count(f.root))
		switch before := l.Root(); {
		case i > 0 && f.Version != r.byRole[RoleRoot][i-1].Version+1:
			r.fault(f.Path, manifest.UnknownReference, "counts for nothing: %s is missing, which has to sign it",
				FileName(RoleRoot, f.Version-1))
			return
		case i > 0 && before != r.byRole[RoleRoot][i-1]:
			r.fault(f.Path, manifest.Unsigned, "counts for nothing: %s, before it, lacks signatures",
				FileName(RoleRoot, f.Version-1))
			return
		case !f.Complete():
			l.Waiting = append(l.Waiting, f)
		default:
			l.Roots = append(l.Roots, f)
			r.checkRoot(f)
		}
	}
}

// checkRoot finds what TUF allows and nobody should want.
func (r *reader) checkRoot(f *File) {
	root := f.root.Signed
	for _, name := range []string{RoleRoot, RoleTargets} {
		r.checkSigners(f.Path, rootRole(f.root, name))
		for _, online := range []string{RoleSnapshot, RoleTimestamp} {
			r.checkOffline(f.Path, name, root.Roles[name].KeyIDs, root.Roles[online].KeyIDs, root.Keys)
		}
	}
}

// checkSigners finds roles of people where one person suffices.
func (r *reader) checkSigners(file string, of role) {
	if of.threshold < LeastThreshold {
		r.warn(file, manifest.Unprotected, "one signature suffices for %s: have at least %d people sign it", of.name,
			LeastThreshold)
	}
	owners := map[string]bool{}
	for _, id := range of.ids {
		name := ownerOf(id, of.keys[id])
		if owners[name] {
			r.warn(file, manifest.Duplicate, "%s has two keys of %s: one person would count twice", of.name, name)
		}
		owners[name] = true
	}
}

// checkOffline finds a key of the engine's that may sign for people.
func (r *reader) checkOffline(file, role string, people, online []string, keys map[string]*metadata.Key) {
	for _, id := range people {
		if slices.Contains(online, id) {
			r.warn(file, manifest.Unprotected, "the key of %s signs %s, and is online too: whoever takes the engine over would sign in its name",
				ownerOf(id, keys[id]), role)
			return
		}
	}
}

// judgeTargets counts the signatures of a role's files, and returns the newest that has enough of them. Of those above
// it, only the newest can get them yet.
func (r *reader) judgeTargets(l *Ledger, name string, signers role) (counts *File) {
	newest := true
	for _, f := range slices.Backward(r.byRole[name]) {
		if counts != nil {
			l.Replaced = append(l.Replaced, f.Path)
			continue
		}
		switch f.Quorums = []Quorum{signers.count(f.targets)}; {
		case f.Complete():
			counts = f
		case newest:
			l.Waiting = append(l.Waiting, f)
		default:
			l.Replaced = append(l.Replaced, f.Path) // by the one that waits
		}
		newest = false
	}
	return counts
}

// judgeDelegated counts the signatures of a role that the policy delegates to.
func (r *reader) judgeDelegated(l *Ledger, name string) *File {
	targets := l.Targets
	if targets == nil {
		if targets = l.waiting(RoleTargets); targets == nil {
			for _, f := range r.byRole[name] {
				r.fault(f.Path, manifest.UnknownReference, "counts for nothing: there is no N.targets.json that says who signs it")
			}
			return nil
		}
	}
	signers, ok := delegatedRole(targets.targets, name)
	switch {
	case !ok && name == RoleReleases:
		r.fault(targets.Path, manifest.Missing, "does not say who signs releases")
		return nil
	case !ok: // nobody does any more
		for _, f := range r.byRole[name] {
			l.Replaced = append(l.Replaced, f.Path)
		}
		return nil
	}
	r.checkSigners(targets.Path, signers)
	for _, d := range targets.targets.Signed.Delegations.Roles {
		if strings.HasPrefix(d.Name, channelPrefix) {
			r.checkOffline(targets.Path, name, signers.ids, d.KeyIDs, signers.keys)
		}
	}
	counts := r.judgeTargets(l, name, signers)
	if l.Targets == nil && counts != nil {
		l.Waiting = append(l.Waiting, counts)
		return nil
	}
	return counts
}

// readContents reads what the files say of releases.
func (r *reader) readContents(l *Ledger) {
	if f := l.Targets; f != nil {
		var err error
		if l.Policy, err = readPolicy(f.targets.Signed.UnrecognizedFields); err != nil {
			r.fault(f.Path, manifest.WrongValue, "counts for nothing: %v", err)
			l.Targets, l.Releases, l.Flags = nil, nil, nil
		}
	}
	if f := l.Flags; f != nil {
		var err error
		if l.Parts, err = readParts(f.targets.Signed.Targets); err != nil {
			r.fault(f.Path, manifest.WrongValue, "counts for nothing: %v", err)
			l.Flags = nil
		}
	}
	list := func(f *File) map[string]Release {
		if f == nil {
			return nil
		}
		all, err := readReleases(f.targets.Signed.Targets)
		if err != nil {
			r.fault(f.Path, manifest.WrongValue, "%v", err)
		}
		return all
	}
	l.Listed, l.proposed = list(l.Releases), list(l.waiting(RoleReleases))
	slices.SortFunc(l.Waiting, func(a, b *File) int {
		return cmp.Or(cmp.Compare(roleOrder(a.Role), roleOrder(b.Role)), cmp.Compare(a.Version, b.Version))
	})
}

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

// Counting returns the files that count, in the order in which they are verified.
func (l *Ledger) Counting() []*File {
	all := slices.Clone(l.Roots)
	for _, f := range []*File{l.Targets, l.Releases, l.Flags} {
		if f != nil {
			all = append(all, f)
		}
	}
	return all
}

// Counts reports whether a path is that of a file that counts.
func (l *Ledger) Counts(file string) bool {
	return slices.ContainsFunc(l.Counting(), func(f *File) bool { return f.Path == file })
}

// MayChange reports whether the owner of an SSH key (authorized_keys form) may change a file as a signer: one that does
// not count, and a key that may sign any.
func (l *Ledger) MayChange(file, key string) bool {
	by, err := ParseKey("", key)
	return err == nil && l != nil && !l.Counts(file) &&
		slices.ContainsFunc(l.Signers(), func(k Key) bool { return k.Public.Equal(by.Public) })
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

// Binds reports whether a channel takes only what signers signed. Where the root, or what it leads to, can't be read,
// every channel is bound: a damaged file must not mean "unsigned" (R6).
func (l *Ledger) Binds(channel string) bool {
	switch {
	case l == nil:
		return false
	case l.Root() == nil:
		return manifest.Fatal(l.Faults)
	case l.Targets == nil:
		return true
	}
	return slices.Contains(l.Channels(), channel)
}

// InForce returns the newest root, the policy, the list of releases and that of flags, as far as they count.
func (l *Ledger) InForce() (files []*File) {
	if l == nil {
		return nil
	}
	for _, f := range []*File{l.Root(), l.Targets, l.Releases, l.Flags} {
		if f != nil {
			files = append(files, f)
		}
	}
	return files
}

// Expiring says which of the files in force expire within a few weeks, or did, and what to do.
func (l *Ledger) Expiring(now time.Time) (notes []string) {
	for _, f := range l.InForce() {
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
	if !listed {
		return "the signers did not sign " + v.String()
	}
	return r.Refuses(channel, digest)
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
	needs := signers.count(emptyTargets()).needs()
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

func isOffline(role string) bool {
	return role == RoleRoot || role == RoleTargets || role == RoleReleases || role == RoleFlags
}

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
