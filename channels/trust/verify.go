package trust

import (
	"bytes"
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
	Root      []byte // the newest; at first, the one that the cell was given out of band
	Timestamp []byte
	Snapshot  []byte
	Roles     map[string][]byte // targets, releases and channels' heads, by role
}

// Bundle is what a cell is told. What it lacks is taken from the State.
type Bundle struct {
	Roots     [][]byte // by version; those that the cell has already are passed over
	Timestamp []byte
	Snapshot  []byte
	Roles     map[string][]byte
}

// Trusted is what a verification proved.
type Trusted struct {
	Channel string
	Head    releases.Digest // what the engine picked
	Policy  Policy
	Listed  map[string]Release // by version
	Until   time.Time          // the first of the files expires then
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

// ErrExpired is the cause where all signatures are right, and too old. What runs may go on.
var ErrExpired = errors.New("expired")

// Verify verifies what a channel's cell is told against what it believed last, at one instant (T6). The returned State
// is to be kept even with an error: it is as far as the verification came, and never older than s (T3).
func Verify(s State, b Bundle, channel string, now time.Time) (*Trusted, State, error) {
	v := verifier{state: s, bundle: b, now: now}
	v.state.Roles = maps.Clone(s.Roles)
	t, err := v.run(channel)
	return t, v.state, err
}

type verifier struct {
	state  State
	bundle Bundle
	now    time.Time
	set    *trustedmetadata.TrustedMetadata
}

func (v *verifier) run(channel string) (*Trusted, error) {
	if err := v.followRoots(); err != nil {
		return nil, err
	}
	if err := v.updateTimestamp(); err != nil {
		return nil, err
	}
	if err := v.updateSnapshot(); err != nil {
		return nil, err
	}
	for _, role := range []string{RoleTargets, RoleReleases, ChannelRole(channel)} {
		delegator := RoleTargets
		if role == RoleTargets {
			delegator = RoleRoot
		}
		if err := v.updateRole(role, delegator); err != nil {
			return nil, err
		}
	}
	return v.conclude(channel)
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
func (v *verifier) followRoots() error {
	before, fault := parse[metadata.RootType](RoleRoot, RoleRoot, v.state.Root)
	if fault != nil {
		return fmt.Errorf("the root that this cell has: %w", faulty(fault))
	}
	set, err := trustedmetadata.New(v.state.Root)
	if err != nil {
		return fmt.Errorf("the root that this cell has: %w", err)
	}
	set.RefTime, v.set = v.now, set
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
		if _, err := set.UpdateRoot(data); err != nil {
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

func (v *verifier) updateTimestamp() error {
	if v.set.Root.Signed.IsExpired(v.now) {
		return refused(RoleRoot, ErrExpired)
	}
	if v.state.Timestamp != nil {
		// An error is no reason to stop: it may be too old now, or from a key that a root replaced.
		_, _ = v.set.UpdateTimestamp(v.state.Timestamp)
	}
	before, data := v.set.Timestamp, v.bundle.Timestamp
	if data == nil && before == nil {
		return refused(RoleTimestamp, errors.New("is missing"))
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

func (v *verifier) updateSnapshot() error {
	kept := errors.New("is missing")
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
	if _, err := v.set.UpdateSnapshot(data, false); err != nil {
		return refused(RoleSnapshot, err)
	}
	v.state.Snapshot = data
	return nil
}

// updateRole verifies a file of targets: what the bundle has or, if it has none, what was kept.
func (v *verifier) updateRole(role, delegator string) error {
	kept, data := v.state.Roles[role], v.bundle.Roles[role]
	if data == nil {
		data = kept
	}
	if data == nil {
		return refused(role, errors.New("is missing"))
	}
	next, fault := parse[metadata.TargetsType](role, role, data)
	if fault != nil {
		return refused(role, faulty(fault))
	}
	if before, fault := parse[metadata.TargetsType](role, role, kept); fault == nil && !bytes.Equal(kept, data) {
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
	return nil
}

// conclude reads what the verified files say.
func (v *verifier) conclude(channel string) (*Trusted, error) {
	targets, list, head := v.set.Targets[RoleTargets].Signed, v.set.Targets[RoleReleases].Signed,
		v.set.Targets[ChannelRole(channel)].Signed
	t := &Trusted{Channel: channel, Until: v.set.Root.Signed.Expires}
	var err error
	if t.Policy, err = readPolicy(targets.UnrecognizedFields); err != nil {
		return nil, refused(RoleTargets, err)
	}
	if t.Listed, err = readReleases(list.Targets); err != nil {
		return nil, refused(RoleReleases, err)
	}
	target := head.Targets[HeadTarget(channel)]
	if target == nil || len(head.Targets) != 1 {
		return nil, refused(ChannelRole(channel), fmt.Errorf("does not name one release as %s", HeadTarget(channel)))
	}
	if t.Head, err = digestOf(target); err != nil {
		return nil, refused(ChannelRole(channel), err)
	}
	for _, expires := range []time.Time{v.set.Timestamp.Signed.Expires, v.set.Snapshot.Signed.Expires, targets.Expires,
		list.Expires, head.Expires} {
		if expires.Before(t.Until) {
			t.Until = expires
		}
	}
	return t, nil
}
