package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/words"
)

// shownParts is how many parts of flags Changes names.
const shownParts = 8

// Changes says what a file would change of what counts, a line each, so that its signers know what they sign. The first
// line says for how long.
func (l *Ledger) Changes(f *File) (lines []string) {
	if l == nil {
		l = &Ledger{}
	}
	was := map[string]*File{RoleRoot: l.Root(), RoleTargets: l.Targets, RoleReleases: l.Releases,
		RoleFlags: l.Flags}[f.Role]
	if was == nil || was.Digest != f.Digest {
		lines = append(lines, "it counts until "+words.FormatTime(f.Expires))
	}
	switch f.Role {
	case RoleRoot:
		return append(lines, changesOfRoot(was, f)...)
	case RoleTargets:
		return append(lines, changesOfPolicy(was, f)...)
	case RoleReleases:
		return append(lines, changesOfReleases(was, f)...)
	}
	return append(lines, changesOfParts(was, f)...)
}

func changesOfRoot(was, is *File) (lines []string) {
	for _, name := range []string{RoleRoot, RoleTargets, RoleTimestamp, RoleSnapshot} {
		var before role
		if was != nil {
			before = rootRole(was.root, name)
		}
		lines = append(lines, changesOfRole(map[string]string{RoleRoot: "trust itself", RoleTargets: "the policy",
			RoleTimestamp: "the engine's timestamp", RoleSnapshot: "the engine's snapshot"}[name], before,
			rootRole(is.root, name))...)
	}
	return lines
}

// changesOfRole compares who may sign something.
func changesOfRole(what string, was, is role) (lines []string) {
	before, now := was.people(), is.people()
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if before[key] != now[key] {
			lines = append(lines, fmt.Sprintf("%s signs %s: %s", now[key], what, key))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if now[key] != before[key] {
			lines = append(lines, fmt.Sprintf("%s no longer signs %s: %s", before[key], what, key))
		}
	}
	if was.threshold != is.threshold && (isOffline(is.name) || is.threshold != 1) {
		lines = append(lines, fmt.Sprintf("%s takes %s, not %d", what, words.Count(is.threshold, "signature"),
			was.threshold))
	}
	return lines
}

// people returns the names of a role's members, by the fingerprints of their keys.
func (r role) people() map[string]string {
	all := make(map[string]string, len(r.ids))
	for _, id := range r.ids {
		all[fingerprint(r.keys[id])] = ownerOf(id, r.keys[id])
	}
	return all
}

// fingerprint returns a key's fingerprint, as ssh-keygen -l prints it.
func fingerprint(k *metadata.Key) string {
	public, err := hex.DecodeString(k.Value.PublicKey)
	if err != nil {
		return "unreadable"
	}
	key, err := ssh.NewPublicKey(Key{Public: public}.Public)
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(key)
}

func changesOfPolicy(was, is *File) (lines []string) {
	before, now := &metadata.Metadata[metadata.TargetsType]{}, is.targets
	if was != nil {
		before = was.targets
	}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	old, err1 := readPolicy(before.Signed.UnrecognizedFields)
	p, err2 := readPolicy(now.Signed.UnrecognizedFields)
	if err := errors.Join(err1, err2); err != nil {
		add("its policy can't be read: %v", err)
	}
	if old.Floor != p.Floor {
		add("the floor is %s, not %s", orNone(p.Floor.String(), p.Floor.IsZero()),
			orNone(old.Floor.String(), old.Floor.IsZero()))
	}
	for _, v := range slices.Sorted(maps.Keys(p.Revoked)) {
		if why, there := old.Revoked[v]; !there || why != p.Revoked[v] {
			add("%s is revoked: %s", v, p.Revoked[v])
		}
	}
	for _, v := range slices.Sorted(maps.Keys(old.Revoked)) {
		if _, there := p.Revoked[v]; !there {
			add("%s is no longer revoked by name", v)
		}
	}
	for _, k := range p.Support {
		if !slices.ContainsFunc(old.Support, k.Equal) {
			add("%s may ask for debug access%s: %s", k.Name, k.times(), k.Fingerprint())
		}
	}
	for _, k := range old.Support {
		if !slices.ContainsFunc(p.Support, k.Equal) {
			add("%s may no longer ask for debug access%s: %s", k.Name, k.times(), k.Fingerprint())
		}
	}
	return append(lines, changesOfDelegations(before, now)...)
}

func changesOfDelegations(was, is *metadata.Metadata[metadata.TargetsType]) (lines []string) {
	signed, before := channelsOf(is), channelsOf(was)
	for _, name := range signed {
		if !slices.Contains(before, name) {
			lines = append(lines, fmt.Sprintf("channel %s takes only signed releases", name))
		}
		old, _ := delegatedRole(was, ChannelRole(name))
		now, _ := delegatedRole(is, ChannelRole(name))
		lines = append(lines, changesOfRole("heads of "+name, old, now)...)
	}
	for _, name := range before {
		if !slices.Contains(signed, name) {
			lines = append(lines, fmt.Sprintf("channel %s needs no signatures any more", name))
		}
	}
	for _, name := range []string{RoleReleases, RoleFlags} {
		old, _ := delegatedRole(was, name)
		now, _ := delegatedRole(is, name)
		now.name = name
		lines = append(lines, changesOfRole(name, old, now)...)
	}
	return lines
}

func changesOfReleases(was, is *File) (lines []string) {
	var before map[string]Release
	if was != nil {
		before, _ = readReleases(was.targets.Signed.Targets) // what can't be read lists nothing
	}
	now, err := readReleases(is.targets.Signed.Targets)
	if err != nil {
		lines = append(lines, fmt.Sprintf("it can't be read: %v", err))
	}
	for _, v := range slices.Sorted(maps.Keys(now)) {
		old, there := before[v]
		switch r := now[v]; {
		case !there || old.Digest != r.Digest || !slices.Equal(old.Channels, r.Channels):
			lines = append(lines, fmt.Sprintf("%s may run in %s: %s", v, words.Some(r.Channels, 8), r.Digest))
		case old.From != r.From || old.Infrastructure != r.Infrastructure:
			lines = append(lines, fmt.Sprintf("%s requires something else", v))
		}
	}
	for _, v := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[v]; !there {
			lines = append(lines, v+" is no longer listed")
		}
	}
	return lines
}

func changesOfParts(was, is *File) (lines []string) {
	names := func(f *File, other *File) (only []string) {
		if f == nil {
			return nil
		}
		for at, t := range f.targets.Signed.Targets {
			if other == nil || !sameTarget(t, other.targets.Signed.Targets[at]) {
				only = append(only, at)
			}
		}
		slices.Sort(only)
		return only
	}
	if added := names(is, was); len(added) > 0 {
		lines = append(lines, fmt.Sprintf("%s may be served: %s", words.Count(len(added), "part"),
			words.Some(added, shownParts)))
	}
	if gone := names(was, is); len(gone) > 0 {
		lines = append(lines, fmt.Sprintf("%s may no longer be served: %s", words.Count(len(gone), "part"),
			words.Some(gone, shownParts)))
	}
	return lines
}

// sameTarget reports whether two targets of one name say the same; b may be nil.
func sameTarget(a, b *metadata.TargetFiles) bool {
	if b == nil || (a.Custom == nil) != (b.Custom == nil) {
		return false
	}
	return a.Custom == nil || sameJSON(*a.Custom, *b.Custom)
}

func orNone(text string, none bool) string {
	if none {
		return "none"
	}
	return text
}
