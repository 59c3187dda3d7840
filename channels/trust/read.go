package trust

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

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
	r := reader{byRole: map[string][]*File{}, unread: map[string]bool{}}
	var found []named
	id := "" // changes with what is said of the folder
	for _, e := range entries {
		m := filePattern().FindStringSubmatch(e.Name())
		if m == nil {
			r.faults = append(r.faults, manifest.UnusedEntry(Dir, e, "only N.root.json, N.targets.json, N.releases.json and N.flags.json are"))
			id += e.Name() + " "
			continue
		}
		n, _ := strconv.ParseInt(m[1], 10, 64) // the pattern has no number that is too large
		found = append(found, named{m[2], n, e})
	}
	slices.SortFunc(found, func(a, b named) int {
		return cmp.Or(cmp.Compare(roleOrder(a.role), roleOrder(b.role)), cmp.Compare(a.version, b.version))
	})
	read, cacheable := r.load(c, files, found)
	if id += read; !cacheable {
		id = ""
	}
	return manifest.Cached(c, Dir, id, r.judge)
}

// What is read of each role, from the lowest version on. Numbers above the one that counts are anybody's to use: they
// must neither hide it nor cost much. Roots stay, each leading to the next; of the others, what newer ones replaced
// goes.
const (
	maxRoots = 1024
	maxLists = 16
	maxBytes = 4 << 20 // of all files of a role
)

// named is a file of the folder by its name.
type named struct {
	role    string
	version int64
	entry   fs.DirEntry
}

// load reads the files of the folder, sorted by role and version. id changes with them.
func (r *reader) load(c *manifest.Cache, files fs.FS, found []named) (id string, cacheable bool) {
	cacheable = true
	number, size := map[string]int{}, map[string]int64{}
	for _, f := range found {
		name, blob, most := FileName(f.role, f.version), "", maxLists
		if f.role == RoleRoot {
			most = maxRoots
		}
		if info, err := f.entry.Info(); err == nil {
			blob, size[f.role] = manifest.ID(info), size[f.role]+info.Size()
		}
		if number[f.role]++; number[f.role] > most || size[f.role] > maxBytes {
			if id += name + " "; !r.unread[f.role] {
				r.unread[f.role] = true
				r.fault(name, manifest.TooLarge, "is not read, nor is any above it: the lowest %d versions of %s are, of %d "+
					"bytes in all: remove what newer ones replaced, and what too few signed", most, f.role, maxBytes)
			}
			continue
		}
		loaded, fault := loadFile(c, files, f.role, f.version)
		id, cacheable = id+name+"="+blob+" ", cacheable && fault == nil && blob != ""
		if fault == nil {
			fault = loaded.fault
		}
		if fault != nil {
			r.faults = append(r.faults, *fault)
			if f.role == RoleRoot {
				r.unreadRoot = cmp.Or(r.unreadRoot, f.version)
			}
			continue
		}
		r.byRole[f.role] = append(r.byRole[f.role], loaded.file)
	}
	return id, cacheable
}

// loadedFile is a file as a cache keeps it: nobody has counted its signatures.
type loadedFile struct {
	file  *File
	fault *manifest.Fault
}

func loadFile(c *manifest.Cache, files fs.FS, role string, n int64) (loadedFile, *manifest.Fault) {
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
	unread     map[string]bool // roles of which there are more files than are read
	unreadRoot int64           // lowest version of a root that can't be read: from there on none counts; 0: all can
}

func (r *reader) fault(file string, code manifest.FaultCode, format string, args ...any) {
	r.faults = append(r.faults, manifest.Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) warn(file string, code manifest.FaultCode, format string, args ...any) {
	r.fault(file, code, format, args...)
	r.faults[len(r.faults)-1].Warning = true
}

func (r *reader) judge() *Ledger {
	for _, list := range r.byRole {
		for i, f := range list { // what the cache has stays as it is
			clone := *f
			list[i] = &clone
		}
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
		r.checkFounded(l, root)
		l.Waiting = append(l.Waiting, l.lists()...)
		l.Targets, l.Releases, l.Flags = nil, nil, nil
	}
	r.readContents(l)
	l.Faults = manifest.Sort(r.faults)
	return l
}

// checkFounded finds a repository whose first root counted before: whoever signs it signs the other files too, so these
// do not lack signatures alone, and it never lacks all.
func (r *reader) checkFounded(l *Ledger, root *File) {
	unsigned := func(q Quorum) bool { return len(q.Signed) == 0 }
	switch {
	case r.unreadRoot > 0: // that is a fault already
	case root == nil:
		for _, role := range []string{RoleTargets, RoleReleases, RoleFlags} {
			for _, f := range r.byRole[role] {
				r.fault(f.Path, manifest.UnknownReference, "counts for nothing: there is no N.root.json that leads to it")
			}
		}
	case slices.ContainsFunc(root.Quorums, unsigned):
		r.fault(root.Path, manifest.Unsigned, "has no signature of its signers, of whom the first one signs at once: it is "+
			"not as it was signed")
	case l.Targets != nil:
		r.fault(root.Path, manifest.Unsigned, "lacks signatures although %s, which it leads to, has them: it is not as "+
			"it was signed", l.Targets.Path)
	}
}

// judgeRoots follows the chain of roots from the oldest.
func (r *reader) judgeRoots(l *Ledger) {
	for i, f := range r.byRole[RoleRoot] {
		if r.unreadRoot > 0 && f.Version > r.unreadRoot {
			return
		}
		if before := l.Root(); before != nil {
			f.Quorums = append(f.Quorums, countSignatures(rootRole(before.root, RoleRoot), f.root))
		}
		f.Quorums = append(f.Quorums, countSignatures(rootRole(f.root, RoleRoot), f.root))
		switch before := l.Root(); {
		case i > 0 && f.Version != r.byRole[RoleRoot][i-1].Version+1:
			r.fault(f.Path, manifest.UnknownReference, "counts for nothing: %s is missing, which has to sign it",
				FileName(RoleRoot, f.Version-1))
			return
		case i > 0 && before != r.byRole[RoleRoot][i-1]:
			r.fault(f.Path, manifest.Unsigned, "counts for nothing: %s, before it, lacks signatures",
				FileName(RoleRoot, f.Version-1))
			return
		case !f.Complete() && before != nil && len(f.Quorums[0].Signed) == 0:
			r.ignore(l, f)
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
			r.checkOffline(f.Path, rootRole(f.root, name), root.Roles[online].KeyIDs)
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
func (r *reader) checkOffline(file string, people role, online []string) {
	for _, id := range people.ids {
		same := func(other string) bool { return people.keys[other].Value.PublicKey == people.keys[id].Value.PublicKey }
		if slices.ContainsFunc(online, same) {
			r.warn(file, manifest.Unprotected, "the key of %s signs %s, and is online too: whoever takes the engine over would sign in its name",
				ownerOf(id, people.keys[id]), people.name)
			return
		}
	}
}

// ignore leaves out a file that nobody who may sign it did: nobody proposed it.
func (r *reader) ignore(l *Ledger, f *File) {
	r.warn(f.Path, manifest.Unsigned, "counts for nothing: nobody who may sign it did; the next change of a signer's "+
		"removes it")
	l.Replaced = append(l.Replaced, f.Path)
}

// maxLead is how far a version may be above the one that counts. Numbers have an end: whoever made one up that is near
// it would leave signers none.
const maxLead = 1000

// judgeTargets counts the signatures of a role's files, and returns the newest that has enough of them. Of those above
// it, only the newest that somebody signed can get them yet.
func (r *reader) judgeTargets(l *Ledger, name string, signers role) (counts *File) {
	files := r.byRole[name]
	above := len(files)
	for counts == nil && above > 0 {
		above--
		f := files[above]
		if f.Quorums = []Quorum{countSignatures(signers, f.targets)}; f.Complete() {
			counts = f
		}
	}
	highest := int64(maxLead)
	switch {
	case counts != nil:
		highest += counts.Version
	case name == RoleFlags:
		highest = lastFlagsVersion
	}
	waits := false
	for _, f := range slices.Backward(files) {
		switch {
		case f == counts:
		case counts != nil && f.Version < counts.Version, waits:
			l.Replaced = append(l.Replaced, f.Path)
		case len(f.Quorums[0].Signed) == 0 && (counts != nil || name != RoleFlags): // new flag signers get a list
			r.ignore(l, f)
		case f.Version > highest:
			r.fault(f.Path, manifest.TooLarge, "counts for nothing: its version is more than %d above the one that "+
				"counts: remove it", maxLead)
		default:
			l.Waiting, waits = append(l.Waiting, f), true
		}
	}
	if r.unread[name] && counts != nil && counts == files[len(files)-1] {
		return nil // the newest of those that are not read may count
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
			r.checkOffline(targets.Path, signers, d.KeyIDs)
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
