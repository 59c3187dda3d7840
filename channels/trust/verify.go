package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// State is what a cell believed last, and has to keep: the bytes of files that were verified.
type State struct {
	Root      []byte            `json:"root"` // the newest; at first, the one that the cell was given out of band
	Timestamp []byte            `json:"timestamp,omitempty"`
	Snapshot  []byte            `json:"snapshot,omitempty"`
	Roles     map[string][]byte `json:"roles,omitempty"` // targets, releases and channels' heads, by role
}

// Bundle is what a cell is told. What it lacks is taken from the State.
type Bundle struct {
	Roots     [][]byte          `json:"roots,omitempty"` // by version; those that the cell has already are passed over
	Timestamp []byte            `json:"timestamp,omitempty"`
	Snapshot  []byte            `json:"snapshot,omitempty"`
	Roles     map[string][]byte `json:"roles,omitempty"`
}

// MaxBundle bounds a Bundle as JSON, in bytes.
const MaxBundle = 8 << 20

// Trusted is what a verification proved.
type Trusted struct {
	Channel string
	Head    releases.Digest // what the engine picked
	Release string          // its version, as the engine says
	Policy  Policy
	Listed  map[string]Release // by version
	Until   time.Time          // the first of the files expires then

	FlagsSigned bool   // the policy says so
	Parts       []Part // of flags, as signed
	FlagsFault  error  // why no flags may be taken though they are signed; nil: those of Parts may
}

// Check returns why the channel's cells may not run a release with a digest; nil: they may (T1).
func (t *Trusted) Check(v releases.Version, digest releases.Digest) error {
	if why := t.Policy.Refuses(v); why != "" {
		return errors.New(why)
	}
	r, listed := t.Listed[v.String()]
	if !listed {
		return fmt.Errorf("the signers did not sign %s", v)
	}
	if why := r.Refuses(t.Channel, digest); why != "" {
		return errors.New(why)
	}
	return nil
}

// LeadsTo reports whether the channel's head leads a cell that runs one release (zero: none) to another: to the head's
// own bytes, further with what it runs, or up to a release on the way to the head. Going down is the head's to decide.
func (t *Trusted) LeadsTo(v releases.Version, digest releases.Digest, running releases.Version) bool {
	head, err := releases.ParseVersion(t.Release)
	return digest == t.Head || v == running && !running.IsZero() || err == nil && v.Less(head) && running.Less(v)
}

// RootVersion returns the number of the root; 0: there is none.
func (s State) RootVersion() int64 {
	root, fault := parse[metadata.RootType](RoleRoot, RoleRoot, s.Root)
	if fault != nil {
		return 0
	}
	return root.Signed.Version
}

// Policy returns what the policy of a state says, whatever the time; ok is false if there is none.
func (s State) Policy() (p Policy, ok bool) {
	m, fault := parse[metadata.TargetsType](RoleTargets, RoleTargets, s.Roles[RoleTargets])
	if fault != nil {
		return p, false
	}
	p, err := readPolicy(m.Signed.UnrecognizedFields)
	return p, err == nil
}

// Equal reports whether two states have the same files.
func (s State) Equal(other State) bool {
	return bytes.Equal(s.Root, other.Root) && bytes.Equal(s.Timestamp, other.Timestamp) &&
		bytes.Equal(s.Snapshot, other.Snapshot) && maps.EqualFunc(s.Roles, other.Roles, bytes.Equal)
}

// Files returns the files of a state with who signed them: the root, the policy, the releases, the flags and a
// channel's head, as far as they are there. Nothing is said of the time.
func (s State) Files(channel string) (files []*File, err error) {
	root, fault := parse[metadata.RootType](RoleRoot, RoleRoot, s.Root)
	if fault != nil {
		return nil, fmt.Errorf("the root: %w", faulty(fault))
	}
	files = append(files, &File{Path: RoleRoot, Role: RoleRoot, Version: root.Signed.Version, Data: s.Root,
		Digest: releases.DigestBytes(s.Root), Expires: root.Signed.Expires, root: root,
		Quorums: []Quorum{countSignatures(rootRole(root, RoleRoot), root)}})
	by := rootRole(root, RoleTargets)
	var policy *metadata.Metadata[metadata.TargetsType]
	for _, name := range []string{RoleTargets, RoleReleases, RoleFlags, ChannelRole(channel)} {
		data := s.Roles[name]
		if data == nil {
			continue
		}
		m, fault := parse[metadata.TargetsType](name, name, data)
		if fault != nil {
			return files, fmt.Errorf("the %s file: %w", name, faulty(fault))
		}
		switch {
		case name == RoleTargets:
			policy = m
		case policy == nil:
			return files, fmt.Errorf("the %s file: there is no policy that says who signs it", name)
		default:
			var signs bool
			if by, signs = delegatedRole(policy, name); !signs && name == RoleFlags {
				continue // flags are signed no more
			} // nobody: then no signature counts
		}
		files = append(files, &File{Path: name, Role: name, Version: m.Signed.Version, Data: data,
			Digest: releases.DigestBytes(data), Expires: m.Signed.Expires, targets: m,
			Quorums: []Quorum{countSignatures(by, m)}})
	}
	return files, nil
}

// ErrExpired is the cause where all signatures are right, and too old. What runs may go on.
var ErrExpired = errors.New("expired")

// ErrMissing is the cause where a file is not there. It may come.
var ErrMissing = errors.New("is missing")

// verification is one verification: of a bundle against a state, at an instant.
type verification struct {
	known  *Verifier
	state  State
	bundle Bundle
	now    time.Time
	set    *trustedmetadata.TrustedMetadata
}

func (v *verification) run(channel string) (*Trusted, error) {
	if err := v.updatePolicy(channel); err != nil {
		return nil, err
	}
	for _, role := range []string{RoleReleases, ChannelRole(channel)} {
		if err := v.updateRole(role); err != nil {
			return nil, err
		}
	}
	t, err := v.conclude(channel)
	if err == nil {
		v.verifyFlags(t)
	}
	return t, err
}

// updatePolicy verifies all that the policy depends on, and the policy.
func (v *verification) updatePolicy(channel string) error {
	if err := v.followRoots(); err != nil {
		return err
	}
	if err := v.updateTimestamp(); err != nil {
		return err
	}
	if err := v.updateSnapshot(channel); err != nil {
		return err
	}
	return v.updateRole(RoleTargets)
}

// refused says which role's file an error is about.
func refused(role string, err error) error {
	var expired *metadata.ErrExpiredMetadata
	if errors.As(err, &expired) {
		err = ErrExpired
	}
	return fmt.Errorf("the %s file: %w", role, err)
}

func faulty(f *manifest.Fault) error { return errors.New(strings.TrimPrefix(f.String(), f.File+": ")) }

// followRoots begins with the newest root that was kept (T2), and follows the ones after it.
func (v *verification) followRoots() error {
	before, err := v.openRoot()
	if err != nil {
		return fmt.Errorf("the root that this cell has: %w", err)
	}
	followed := 0
	for _, data := range v.bundle.Roots {
		root, fault := parse[metadata.RootType](RoleRoot, RoleRoot, data)
		if fault != nil {
			return refused(RoleRoot, faulty(fault))
		}
		switch version := root.Signed.Version; {
		case version < before.Signed.Version:
			continue // it has that already
		case version == before.Signed.Version:
			if err := sameContent(before, root); err != nil {
				return refused(RoleRoot, err)
			}
			continue
		case followed == MaxRotations:
			return nil
		}
		if _, err := v.set.UpdateRoot(data); err != nil {
			return refused(RoleRoot, err)
		}
		before, v.state.Root, followed = root, data, followed+1
	}
	return nil
}

// sameContent refuses two files of one version that say different things.
func sameContent[T metadata.Roles](a, b *metadata.Metadata[T]) error {
	x, err1 := cjson.EncodeCanonical(a.Signed)
	y, err2 := cjson.EncodeCanonical(b.Signed)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return errors.New("says something else than before, under the same version")
	}
	return nil
}

func (v *verification) updateTimestamp() error {
	if v.set.Root.Signed.IsExpired(v.now) {
		return refused(RoleRoot, ErrExpired)
	}
	if v.state.Timestamp != nil {
		// An error is no reason to stop: it may be too old now, or from a key that a root replaced.
		_, _ = v.set.UpdateTimestamp(v.state.Timestamp)
	}
	before, data := v.set.Timestamp, v.bundle.Timestamp
	if data == nil && before == nil {
		return refused(RoleTimestamp, ErrMissing)
	}
	if data == nil || before != nil && bytes.Equal(data, v.state.Timestamp) {
		if before.Signed.IsExpired(v.now) {
			return refused(RoleTimestamp, ErrExpired)
		}
		return nil
	}
	next, fault := parse[metadata.TimestampType](RoleTimestamp, RoleTimestamp, data)
	if fault != nil {
		return refused(RoleTimestamp, faulty(fault))
	}
	_, err := v.set.UpdateTimestamp(data)
	var equal *metadata.ErrEqualVersionNumber
	switch {
	case errors.As(err, &equal):
		if err := sameContent(before, next); err != nil {
			return refused(RoleTimestamp, err)
		}
	case err != nil:
		return refused(RoleTimestamp, err)
	default:
		v.state.Timestamp = data
	}
	if v.set.Timestamp.Signed.IsExpired(v.now) {
		return refused(RoleTimestamp, ErrExpired)
	}
	return nil
}

// updateSnapshot binds the next snapshot to what the kept one says of the files that the channel's cell reads. Another
// channel may end, and its head is no concern of this cell; so may the signing of flags.
func (v *verification) updateSnapshot(channel string) error {
	kept := ErrMissing
	if v.state.Snapshot != nil { // an error is no reason to stop: a newer one may be there
		_, kept = v.set.UpdateSnapshot(v.state.Snapshot, true)
	}
	before, data := v.set.Snapshot, v.bundle.Snapshot
	if data == nil || kept == nil && bytes.Equal(data, v.state.Snapshot) {
		if kept != nil {
			return refused(RoleSnapshot, kept)
		}
		return nil
	}
	next, fault := parse[metadata.SnapshotType](RoleSnapshot, RoleSnapshot, data)
	if fault != nil {
		return refused(RoleSnapshot, faulty(fault))
	}
	if before != nil && before.Signed.Version == next.Signed.Version {
		if err := sameContent(before, next); err != nil {
			return refused(RoleSnapshot, err)
		}
	}
	if before != nil {
		own := ChannelRole(channel) + ".json"
		maps.DeleteFunc(before.Signed.Meta, func(name string, _ *metadata.MetaFiles) bool {
			return strings.HasPrefix(name, channelPrefix) && name != own || name == RoleFlags+".json"
		})
	}
	if _, err := v.set.UpdateSnapshot(data, false); err != nil {
		return refused(RoleSnapshot, err)
	}
	v.state.Snapshot = data
	return nil
}

// updateRole verifies a file of targets: what the bundle has or, if it has none, what was kept.
func (v *verification) updateRole(role string) error {
	kept, data := v.state.Roles[role], v.bundle.Roles[role]
	if data == nil {
		data = kept
	}
	if data == nil {
		return refused(role, ErrMissing)
	}
	if v.reuse(role, data) {
		return nil
	}
	next, fault := parse[metadata.TargetsType](role, role, data)
	if fault != nil {
		return refused(role, faulty(fault))
	}
	if bytes.Equal(kept, data) {
		kept = nil // it is the same
	}
	delegator, _ := v.delegatorOf(role)
	if before, fault := parse[metadata.TargetsType](role, role, kept); fault == nil &&
		v.mayStillSign(role, delegator, before) {
		switch {
		case next.Signed.Version < before.Signed.Version:
			return refused(role, fmt.Errorf("has version %d, and the cell knows %d", next.Signed.Version,
				before.Signed.Version))
		case next.Signed.Version == before.Signed.Version:
			if err := sameContent(before, next); err != nil {
				return refused(role, err)
			}
		}
	}
	if _, err := v.set.UpdateDelegatedTargets(data, role, delegator); err != nil {
		return refused(role, err)
	}
	if v.state.Roles == nil {
		v.state.Roles = map[string][]byte{}
	}
	v.state.Roles[role] = data
	v.remember(role, data)
	return nil
}

// mayStillSign reports whether those who signed a kept file may sign it now. If not, its version binds nobody: whoever
// had a key that was rotated away could have signed the greatest number, and the cell would take nothing for ever.
func (v *verification) mayStillSign(role, delegator string, kept *metadata.Metadata[metadata.TargetsType]) bool {
	if delegator == RoleRoot {
		return countSignatures(rootRole(v.set.Root, role), kept).Held()
	}
	signers, ok := delegatedRole(v.set.Targets[delegator], role)
	return ok && countSignatures(signers, kept).Held()
}

// conclude reads what the verified files say.
func (v *verification) conclude(channel string) (*Trusted, error) {
	targets, list, head := v.set.Targets[RoleTargets].Signed, v.set.Targets[RoleReleases].Signed,
		v.set.Targets[ChannelRole(channel)].Signed
	t := &Trusted{Channel: channel, Until: v.set.Root.Signed.Expires}
	var err error
	if t.Policy, err = readPolicy(targets.UnrecognizedFields); err != nil {
		return nil, refused(RoleTargets, err)
	}
	if t.Listed, err = v.releases(); err != nil {
		return nil, refused(RoleReleases, err)
	}
	target := head.Targets[HeadTarget(channel)]
	if target == nil || len(head.Targets) != 1 {
		return nil, refused(ChannelRole(channel), fmt.Errorf("does not name one release as %s", HeadTarget(channel)))
	}
	if t.Head, err = digestOf(target); err != nil {
		return nil, refused(ChannelRole(channel), err)
	}
	var custom customHead
	if target.Custom != nil && json.Unmarshal(*target.Custom, &custom) == nil {
		t.Release = custom.Release
	}
	for _, expires := range []time.Time{v.set.Timestamp.Signed.Expires, v.set.Snapshot.Signed.Expires, targets.Expires,
		list.Expires, head.Expires} {
		if expires.Before(t.Until) {
			t.Until = expires
		}
	}
	return t, nil
}
