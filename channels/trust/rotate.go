package trust

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/releases"
)

// Foundation is what a repository's first signers decide.
type Foundation struct {
	Signers   []Key
	Threshold int
	Online    []Key // the engine's
	Channels  []string
	Floor     releases.Version
}

// Found makes the first files.
func (d *Draft) Found(f Foundation) error {
	if d.root != nil {
		return errors.New("the repository has signers already")
	}
	if len(f.Online) == 0 || len(f.Channels) == 0 {
		return errors.New("it takes a key of the engine's, and a channel")
	}
	d.root = metadata.Root(d.now)
	d.targets, d.list = metadata.Targets(d.now), metadata.Targets(d.now)
	d.root.Signed.Version, d.targets.Signed.Version, d.list.Signed.Version = 0, 0, 0
	d.targets.Signed.Delegations = &metadata.Delegations{}
	for _, role := range []string{RoleRoot, RoleTargets, RoleReleases} {
		d.edit(role)
	}
	if err := d.assign(assignment{f.Signers, f.Threshold, f.Online, f.Channels, nil, 0}); err != nil {
		return err
	}
	return d.setPolicy(Policy{Floor: f.Floor})
}

// assignment is who signs what.
type assignment struct {
	signers   []Key
	threshold int
	online    []Key
	channels  []string

	flagSigners   []Key // none: flags are unsigned
	flagThreshold int
}

// assign says who signs what, in root and targets.
func (d *Draft) assign(a assignment) error {
	people, engines := map[string]*metadata.Key{}, map[string]*metadata.Key{}
	if err := addPeople(people, a.signers, a.threshold); err != nil {
		return err
	}
	others := map[string]*metadata.Key{}
	if len(a.flagSigners) > 0 {
		if err := addPeople(others, a.flagSigners, a.flagThreshold); err != nil {
			return fmt.Errorf("flags: %w", err)
		}
	}
	for _, k := range a.online {
		if person := cmp.Or(people[k.id()], others[k.id()]); person != nil {
			return fmt.Errorf("the key of %s can't be the engine's too: whoever takes the engine over would sign in that name",
				person.UnrecognizedFields[nameField])
		}
		engines[k.id()] = k.tuf()
	}
	offlineIDs, onlineIDs := slices.Sorted(maps.Keys(people)), slices.Sorted(maps.Keys(engines))
	all := maps.Clone(people)
	maps.Copy(all, engines)
	d.root.Signed.Keys = all
	for role, ids := range map[string][]string{RoleRoot: offlineIDs, RoleTargets: offlineIDs, RoleSnapshot: onlineIDs,
		RoleTimestamp: onlineIDs} {
		need := a.threshold
		if !isOffline(role) {
			need = 1
		}
		d.root.Signed.Roles[role] = &metadata.Role{KeyIDs: ids, Threshold: need}
	}
	roles := []metadata.DelegatedRole{{Name: RoleReleases, KeyIDs: offlineIDs, Threshold: a.threshold,
		Terminating: true, Paths: []string{releasePrefix + "*"}}}
	if len(others) > 0 {
		roles = append(roles, metadata.DelegatedRole{Name: RoleFlags, KeyIDs: slices.Sorted(maps.Keys(others)),
			Threshold: a.flagThreshold, Terminating: true, Paths: flagPaths()})
	}
	for _, name := range slices.Sorted(slices.Values(a.channels)) {
		roles = append(roles, metadata.DelegatedRole{Name: ChannelRole(name), KeyIDs: onlineIDs, Threshold: 1,
			Terminating: true, Paths: []string{HeadTarget(name)}})
	}
	delegated := maps.Clone(all)
	maps.Copy(delegated, others)
	d.targets.Signed.Delegations.Keys, d.targets.Signed.Delegations.Roles = delegated, roles
	return nil
}

// addPeople adds the keys of people who sign something.
func addPeople(to map[string]*metadata.Key, signers []Key, threshold int) error {
	owners := map[string]bool{}
	for _, k := range signers {
		if owners[k.Name] || to[k.id()] != nil {
			return fmt.Errorf("%s is there twice: each signer has one key", k.Name)
		}
		owners[k.Name], to[k.id()] = true, k.tuf()
	}
	if threshold < LeastThreshold || threshold > len(to) {
		return fmt.Errorf("%d of %d signers can't be asked for: it takes at least %d, and not more than there are",
			threshold, len(to), LeastThreshold)
	}
	return nil
}

// Rotation is a change of who signs, or of which channels are signed. The zero value changes nothing but the time at
// which the files expire.
type Rotation struct {
	Add       []Key
	Remove    []string // names
	Threshold int      // 0: as it is
	Online    []Key    // empty: as they are
	Channels  []string // signed from now on, beside those that are
	Unsigned  []string // channels that need no signatures any more

	FlagSigners   []Key // who signs flags from now on; empty: who did, if anybody
	FlagThreshold int   // 0: as it is, or LeastThreshold
	UnsignedFlags bool  // nobody signs flags any more
}

// Rotate makes the next version of every file.
func (d *Draft) Rotate(r Rotation) error {
	if d.root == nil || d.targets == nil || d.list == nil {
		return errNoSigners
	}
	was := rootRole(d.root, RoleRoot)
	signers, err := was.members()
	if err != nil {
		return err
	}
	for _, name := range r.Remove {
		n := len(signers)
		if signers = slices.DeleteFunc(signers, func(k Key) bool { return k.Name == name }); len(signers) == n {
			return fmt.Errorf("%s is no signer", name)
		}
	}
	online := r.Online
	if len(online) == 0 {
		if online, err = rootRole(d.root, RoleTimestamp).members(); err != nil {
			return err
		}
	}
	threshold := r.Threshold
	if threshold == 0 {
		threshold = was.threshold
	}
	channels := append(channelsOf(d.targets), r.Channels...)
	for _, name := range r.Unsigned {
		n := len(channels)
		if channels = slices.DeleteFunc(channels, func(c string) bool { return c == name }); len(channels) == n {
			return fmt.Errorf("channel %s needs no signatures", name)
		}
	}
	slices.Sort(channels)
	flagSigners, flagThreshold, err := d.flagSigners(r)
	if err != nil {
		return err
	}
	if len(flagSigners) == 0 {
		d.dropFlags()
	}
	d.edit(RoleRoot)
	for _, f := range d.lists() {
		d.edit(f.role)
	}
	return d.assign(assignment{append(signers, r.Add...), threshold, online, slices.Compact(channels), flagSigners,
		flagThreshold})
}

// flagSigners returns who signs flags after a rotation; none: nobody.
func (d *Draft) flagSigners(r Rotation) (keys []Key, threshold int, err error) {
	if r.UnsignedFlags {
		return nil, 0, nil
	}
	if is, ok := delegatedRole(d.targets, RoleFlags); ok {
		if keys, err = is.members(); err != nil {
			return nil, 0, err
		}
		threshold = is.threshold
	}
	if len(r.FlagSigners) > 0 {
		keys = r.FlagSigners
	}
	return keys, cmp.Or(r.FlagThreshold, threshold, LeastThreshold), nil
}
