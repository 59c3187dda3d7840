package trust

import (
	"bytes"
	"maps"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Verifier is Verify for one who asks again and again. What has the same bytes as at its last verification, by the word
// of the same bytes, is not read again; versions, hashes and the time are compared in any case. The zero value
// remembers nothing. One goroutine at a time may use it.
type Verifier struct {
	root  provenRoot
	lists map[string]provenList // by role
}

type provenRoot struct {
	data []byte
	root *metadata.Metadata[metadata.RootType]
}

type provenList struct {
	data      []byte
	delegator []byte // the bytes of the file that says who signs this one
	targets   *metadata.Metadata[metadata.TargetsType]
	releases  map[string]Release // nil: not read yet
	parts     []Part             // nil: not read yet
}

// Verify verifies what a channel's cell is told against what it believed last, at one instant (T6). The returned State
// is to be kept even with an error: it is as far as the verification came, and never older than s (T3).
func Verify(s State, b Bundle, channel string, now time.Time) (*Trusted, State, error) {
	return new(Verifier).Verify(s, b, channel, now)
}

// Verify is the function Verify. What it returns is never changed, and shares memory with what the Verifier remembers.
func (m *Verifier) Verify(s State, b Bundle, channel string, now time.Time) (*Trusted, State, error) {
	v := verification{known: m, state: s, bundle: b, now: now}
	v.state.Roles = maps.Clone(s.Roles)
	t, err := v.run(channel)
	return t, v.state, err
}

// VerifyPolicy is Verify for the policy alone: what became of releases, or of the channel's head, does not matter. The
// returned State is to be kept even with an error. channel is the one that the cell follows; empty: none yet.
func (m *Verifier) VerifyPolicy(s State, b Bundle, channel string, now time.Time) (Policy, State, error) {
	v := verification{known: m, state: s, bundle: b, now: now}
	v.state.Roles = maps.Clone(s.Roles)
	if err := v.updatePolicy(channel); err != nil {
		return Policy{}, v.state, err
	}
	p, err := readPolicy(v.set.Targets[RoleTargets].Signed.UnrecognizedFields)
	if err != nil {
		return Policy{}, v.state, refused(RoleTargets, err)
	}
	return p, v.state, nil
}

// openRoot begins with the newest root that was kept (T2).
func (v *verification) openRoot() (*metadata.Metadata[metadata.RootType], error) {
	known := &v.known.root
	if known.root == nil || !bytes.Equal(known.data, v.state.Root) {
		root, fault := parse[metadata.RootType](RoleRoot, RoleRoot, v.state.Root)
		if fault != nil {
			return nil, faulty(fault)
		}
		if _, err := trustedmetadata.New(v.state.Root); err != nil {
			return nil, err
		}
		*known = provenRoot{v.state.Root, root}
	}
	v.set = &trustedmetadata.TrustedMetadata{Root: known.root, RefTime: v.now,
		Targets: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	return known.root, nil
}

// delegatorOf returns the role that says who signs a role, and the bytes of its file.
func (v *verification) delegatorOf(role string) (string, []byte) {
	if role == RoleTargets {
		return RoleRoot, v.state.Root
	}
	return RoleTargets, v.state.Roles[RoleTargets]
}

// reuse takes a file that was verified before, has the same bytes, and is still what the snapshot says. false: it has
// to be read.
func (v *verification) reuse(role string, data []byte) bool {
	is, known := v.known.lists[role]
	_, delegator := v.delegatorOf(role)
	if !known || !bytes.Equal(is.data, data) || !bytes.Equal(is.delegator, delegator) ||
		!bytes.Equal(v.state.Roles[role], data) {
		return false
	}
	snapshot := v.set.Snapshot.Signed
	meta := snapshot.Meta[role+".json"]
	if snapshot.IsExpired(v.now) || snapshot.Version != v.set.Timestamp.Signed.Meta[RoleSnapshot+".json"].Version ||
		meta == nil || meta.Version != is.targets.Signed.Version || meta.VerifyLengthHashes(data) != nil ||
		is.targets.Signed.IsExpired(v.now) {
		return false // what reads it anew says why
	}
	v.set.Targets[role] = is.targets
	return true
}

// remember keeps a file that was verified just now.
func (v *verification) remember(role string, data []byte) {
	if v.known.lists == nil {
		v.known.lists = map[string]provenList{}
	}
	_, delegator := v.delegatorOf(role)
	v.known.lists[role] = provenList{data: data, delegator: delegator, targets: v.set.Targets[role]}
}

// releases returns what the verified list of releases says.
func (v *verification) releases() (map[string]Release, error) {
	is := v.known.lists[RoleReleases]
	if is.releases == nil {
		var err error
		if is.releases, err = readReleases(is.targets.Signed.Targets); err != nil {
			return nil, err
		}
		v.known.lists[RoleReleases] = is
	}
	return is.releases, nil
}

// verifyFlags verifies the list of flags' parts, where the policy says that flags are signed. A fault of it concerns
// flags alone: releases go on.
func (v *verification) verifyFlags(t *Trusted) {
	if _, t.FlagsSigned = delegatedRole(v.set.Targets[RoleTargets], RoleFlags); !t.FlagsSigned {
		return
	}
	if t.FlagsFault = v.updateRole(RoleFlags); t.FlagsFault != nil {
		return
	}
	is := v.known.lists[RoleFlags]
	if is.parts == nil {
		if is.parts, t.FlagsFault = readParts(is.targets.Signed.Targets); t.FlagsFault != nil {
			t.FlagsFault = refused(RoleFlags, t.FlagsFault)
			return
		}
		v.known.lists[RoleFlags] = is
	}
	t.Parts = is.parts
}
