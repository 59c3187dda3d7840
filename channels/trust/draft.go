package trust

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/sluice-cd/sluice/releases"
)

// Lifetime is how long what people sign is good for.
const Lifetime = 365 * 24 * time.Hour

// isTooLong reports whether something counts for longer than people sign for: a file that never expires can be withheld
// and shown again for ever. Clocks may differ by days.
func isTooLong(expires, now time.Time) bool { return expires.Sub(now) > Lifetime+7*24*time.Hour }

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
