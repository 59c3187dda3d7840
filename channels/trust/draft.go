package trust

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/releases"
)

// Lifetime is how long what people sign is good for.
const Lifetime = 365 * 24 * time.Hour

// Draft is the next versions of the signers' files. A file that waits for signatures is replaced when it is changed:
// the signatures that it has were for something else.
type Draft struct {
	from    *Ledger
	now     time.Time
	root    *metadata.Metadata[metadata.RootType]
	targets *metadata.Metadata[metadata.TargetsType]
	list    *metadata.Metadata[metadata.TargetsType] // of releases
	parts   *metadata.Metadata[metadata.TargetsType] // of flags; nil: nobody listed any
	changed map[string]bool                          // by role
	dropped []string                                 // who signed what is changed
	removed []string                                 // paths of files that are needed no more
}

// NewDraft begins a change of what a ledger says; nil: there is none yet.
func NewDraft(l *Ledger, now time.Time) (*Draft, error) {
	if l == nil {
		l = &Ledger{}
	}
	d := &Draft{from: l, now: now.UTC().Truncate(time.Second), changed: map[string]bool{}}
	for _, f := range l.Counting() {
		if err := d.take(f); err != nil {
			return nil, err
		}
	}
	for _, f := range l.Waiting {
		if err := d.take(f); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// take copies a file; a later one of the same role replaces it.
func (d *Draft) take(f *File) error {
	var err error
	switch f.Role {
	case RoleRoot:
		d.root, err = clone(f.root)
	case RoleTargets:
		d.targets, err = clone(f.targets)
	case RoleReleases:
		d.list, err = clone(f.targets)
	case RoleFlags:
		d.parts, err = clone(f.targets)
	}
	return err
}

// lists are the files that the policy and what it delegates to are in, by role; without those that are not there.
func (d *Draft) lists() (all []draftFile) {
	for _, f := range []draftFile{{RoleTargets, d.targets}, {RoleReleases, d.list}, {RoleFlags, d.parts}} {
		if f.m != nil {
			all = append(all, f)
		}
	}
	return all
}

type draftFile struct {
	role string
	m    *metadata.Metadata[metadata.TargetsType]
}

func clone[T metadata.Roles](m *metadata.Metadata[T]) (*metadata.Metadata[T], error) {
	data, err := m.ToBytes(false)
	if err != nil {
		return nil, err
	}
	return new(metadata.Metadata[T]).FromBytes(data)
}

// edit begins to change a role's file, once: the next version, or the one that waits.
func (d *Draft) edit(role string) {
	if d.changed[role] {
		return
	}
	d.changed[role] = true
	expires, w := d.now.Add(Lifetime), d.from.waiting(role)
	if w != nil {
		for _, q := range w.Quorums {
			d.dropped = append(d.dropped, q.Signed...)
		}
	}
	if role == RoleRoot {
		if d.root.Signed.Expires = expires; w == nil { // no root may be left out, and one that waits never counted
			d.root.Signed.Version++
		}
		d.root.ClearSignatures()
	}
	for _, f := range d.lists() {
		if f.role == role {
			f.m.Signed.Version, f.m.Signed.Expires = f.m.Signed.Version+1, expires
			f.m.ClearSignatures()
		}
	}
}

// Dropped returns who has to sign again, because what they signed is changed.
func (d *Draft) Dropped() []string {
	slices.Sort(d.dropped)
	return slices.Compact(d.dropped)
}

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

func (d *Draft) policy() (Policy, error) { return readPolicy(d.targets.Signed.UnrecognizedFields) }

func (d *Draft) setPolicy(p Policy) error {
	field, err := p.field()
	if err != nil {
		return err
	}
	if d.targets.Signed.UnrecognizedFields == nil {
		d.targets.Signed.UnrecognizedFields = map[string]any{}
	}
	d.targets.Signed.UnrecognizedFields[policyField] = field
	return nil
}

// errNoSigners is a change of files that are not there.
var errNoSigners = errors.New("the repository has no signers yet")

// List lists a release for channels. It reports whether that is news.
func (d *Draft) List(r Release) (changes bool, err error) {
	if d.list == nil || d.targets == nil {
		return false, errNoSigners
	}
	policy, err := d.policy()
	if err != nil {
		return false, err
	}
	if why := policy.Refuses(r.Version); why != "" {
		return false, errors.New(why)
	}
	signed := channelsOf(d.targets)
	for _, name := range r.Channels {
		if !slices.Contains(signed, name) {
			return false, fmt.Errorf("channel %s needs no signatures: those that do are %s", name,
				strings.Join(signed, ", "))
		}
	}
	is, err := readReleases(d.list.Signed.Targets)
	if err != nil {
		return false, err
	}
	if before, there := is[r.Version.String()]; there {
		if before.Digest != r.Digest {
			return false, fmt.Errorf("%s is listed with digest %s, and the repository has %s", r.Version, before.Digest,
				r.Digest)
		}
		r.Channels = append(slices.Clone(before.Channels), r.Channels...)
		slices.Sort(r.Channels)
		if r.Channels = slices.Compact(r.Channels); slices.Equal(r.Channels, before.Channels) {
			return false, nil
		}
	}
	if len(is) >= MaxReleases && is[r.Version.String()].Version.IsZero() {
		return false, fmt.Errorf("%d releases are listed, and no more can be: raise the floor first", len(is))
	}
	target, err := r.target()
	if err != nil {
		return false, err
	}
	d.edit(RoleReleases)
	d.list.Signed.Targets[ReleaseTarget(r.Version)] = target
	return true, nil
}

// Revoke revokes a release for ever.
func (d *Draft) Revoke(v releases.Version, why string) (changes bool, err error) {
	if d.targets == nil {
		return false, errNoSigners
	}
	p, err := d.policy()
	if err != nil {
		return false, err
	}
	if _, done := p.Revoked[v.String()]; done {
		return false, nil
	}
	if p.Revoked = maps.Clone(p.Revoked); p.Revoked == nil {
		p.Revoked = map[string]string{}
	}
	p.Revoked[v.String()] = why
	return true, d.applyPolicy(p)
}

// RaiseFloor keeps all releases below a version from running. What was revoked below it needs no mention any more.
func (d *Draft) RaiseFloor(v releases.Version) (changes bool, err error) {
	if d.targets == nil {
		return false, errNoSigners
	}
	p, err := d.policy()
	if err != nil || p.Floor == v {
		return false, err
	}
	if v.Less(p.Floor) {
		return false, fmt.Errorf("the floor is %s, and it only rises", p.Floor)
	}
	p.Floor, p.Revoked = v, maps.Clone(p.Revoked)
	maps.DeleteFunc(p.Revoked, func(text string, _ string) bool {
		revoked, err := releases.ParseVersion(text)
		return err == nil && revoked.Less(v)
	})
	return true, d.applyPolicy(p)
}

// applyPolicy changes the policy, and takes what it refuses off the list.
func (d *Draft) applyPolicy(p Policy) error {
	d.edit(RoleTargets)
	if err := d.setPolicy(p); err != nil {
		return err
	}
	if d.list == nil {
		return nil
	}
	listed, err := readReleases(d.list.Signed.Targets)
	if err != nil {
		return err
	}
	for _, r := range listed {
		if p.Refuses(r.Version) != "" {
			d.edit(RoleReleases)
			delete(d.list.Signed.Targets, ReleaseTarget(r.Version))
		}
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

// members returns the keys of a role.
func (r role) members() (all []Key, err error) {
	for _, id := range r.ids {
		k, err := readKey(id, r.keys[id])
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

func readKey(id string, k *metadata.Key) (Key, error) {
	public, err := hex.DecodeString(k.Value.PublicKey)
	if err != nil {
		return Key{}, fmt.Errorf("key %.8s: %w", id, err)
	}
	name, _ := k.UnrecognizedFields[nameField].(string)
	return Key{name, public}, nil
}

// Sign signs everything that the signer may sign, lacks signatures, and has none of theirs. It returns which files.
func (d *Draft) Sign(by Signer) (signed []string, err error) {
	key := Key{Public: by.Public}
	add := func(role string, version int64, payload any, all *[]metadata.Signature, id string) error {
		if id == "" || slices.ContainsFunc(*all, func(s metadata.Signature) bool { return s.KeyID == id }) {
			return nil
		}
		data, err := cjson.EncodeCanonical(payload)
		if err != nil {
			return fmt.Errorf("sign %s: %w", FileName(role, version), err)
		}
		signature, err := by.Sign(data)
		if err != nil {
			return fmt.Errorf("sign %s: %w", FileName(role, version), err)
		}
		*all = append(*all, metadata.Signature{KeyID: id, Signature: signature})
		slices.SortFunc(*all, func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
		d.changed[role], signed = true, append(signed, FileName(role, version))
		return nil
	}
	if d.root == nil {
		return nil, errNoSigners
	}
	if d.isOpen(RoleRoot) {
		v := d.root.Signed
		if err := add(RoleRoot, v.Version, v, &d.root.Signatures, d.idOf(RoleRoot, key)); err != nil {
			return nil, err
		}
	}
	for _, f := range d.lists() {
		if !d.isOpen(f.role) {
			continue
		}
		v := f.m.Signed
		if err := add(f.role, v.Version, v, &f.m.Signatures, d.idOf(f.role, key)); err != nil {
			return nil, err
		}
	}
	return signed, nil
}

// isOpen reports whether a role's file takes signatures: what has enough of them stays as it is.
func (d *Draft) isOpen(role string) bool { return d.changed[role] || d.from.waiting(role) != nil }

// idOf returns the id under which a key signs a role's file, by what counts now or by what is being changed; empty: it
// may not.
func (d *Draft) idOf(name string, k Key) string {
	var roles []role
	if name == RoleReleases || name == RoleFlags {
		if r, ok := delegatedRole(d.targets, name); ok {
			roles = append(roles, r)
		}
		if is := d.from.Targets; is != nil {
			if r, ok := delegatedRole(is.targets, name); ok {
				roles = append(roles, r)
			}
		}
	} else {
		roles = append(roles, rootRole(d.root, name))
		if is := d.from.Root(); is != nil {
			roles = append(roles, rootRole(is.root, name))
		}
	}
	for _, r := range roles {
		if id := r.has(k); id != "" {
			return id
		}
	}
	return ""
}

// MaySign reports whether a key may sign anything here.
func (d *Draft) MaySign(key Key) bool {
	return d.root != nil && (d.idOf(RoleRoot, key) != "" || d.idOf(RoleTargets, key) != "" ||
		d.targets != nil && (d.idOf(RoleReleases, key) != "" || d.idOf(RoleFlags, key) != ""))
}

// Files returns the files to write, nil to remove one: what is changed, without what that or a newer file replaces.
func (d *Draft) Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(role string, version int64, m interface{ ToBytes(bool) ([]byte, error) }) error {
		if !d.changed[role] {
			return nil
		}
		data, err := m.ToBytes(true)
		if err != nil {
			return fmt.Errorf("write %s: %w", FileName(role, version), err)
		}
		if w := d.from.waiting(role); w != nil {
			files[w.Path] = nil
		}
		if len(data) >= maxSize(role) {
			return fmt.Errorf("write %s: it would be larger than %d bytes", FileName(role, version), maxSize(role))
		}
		files[FileName(role, version)] = append(bytes.TrimSpace(data), '\n')
		return nil
	}
	if d.root == nil {
		return nil, errNoSigners
	}
	err := put(RoleRoot, d.root.Signed.Version, d.root)
	for _, f := range d.lists() {
		err = errors.Join(err, put(f.role, f.m.Signed.Version, f.m))
	}
	if len(files) > 0 {
		for _, name := range append(d.removed, d.from.Replaced...) {
			if files[name] == nil { // else it is made anew
				files[name] = nil
			}
		}
	}
	return files, err
}
