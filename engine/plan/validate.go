package plan

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// BuildFiles makes a Desired from a folder of files, without any history.
func BuildFiles(files fs.FS) (*Desired, error) {
	none := func(string) (fs.FS, error) { return nil, fs.ErrNotExist }
	return Build(files, NewHistory(), none, new(manifest.Cache), true, nil)
}

// AllFaults returns every fault of d: those of single files, and contradictions between files.
func (d *Desired) AllFaults() []releases.Fault {
	all := append(slices.Clone(d.Faults), d.checkVersionNames()...)
	for _, r := range d.Versions {
		if why := d.CheckSteps(r.Version, r.Requires.From); why != "" {
			all = append(all, releases.Fault{File: path.Join(releases.Dir, r.Version.String(), "release.yaml"), Line: 1,
				Code: manifest.Conflict, Message: why})
		}
	}
	for _, name := range d.Order {
		c := d.Channels[name]
		all = append(all, d.checkHead(c)...)
		for _, h := range c.Hotfixes {
			if r := d.Releases[h.Release]; r == nil || r.Loaded && r.Digest != h.Digest {
				all = append(all, releases.Fault{File: h.File, Code: manifest.UnknownReference,
					Message: fmt.Sprintf("names release %s with digest %s, which is not in the repository", h.Release,
						h.Digest)})
			}
		}
		for _, cell := range c.Cells {
			all = append(all, d.checkCell(c, cell)...)
		}
		all = append(all, d.checkRollout(c)...)
	}
	all = append(all, d.checkCopies()...)
	all = append(all, d.checkSigners()...)
	for _, q := range d.Quarantine {
		r := d.Releases[q.Release]
		if q.Digest != "" && r != nil && r.Loaded && r.Tombstone == nil && r.Digest != q.Digest {
			all = append(all, releases.Fault{File: q.File, Code: manifest.Conflict,
				Message: fmt.Sprintf("release %s has digest %s, not %s", q.Release, r.Digest, q.Digest)})
		}
	}
	return manifest.Sort(all)
}

// checkCopies returns a fault for each identity.yaml whose key another cell has too: one is a copy, by hand.
func (d *Desired) checkCopies() (faults []releases.Fault) {
	holder := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.Cells)) {
		found := d.Cells[name].Found
		if found == nil || found.Identity.PublicKey == "" {
			continue
		}
		other, copied := holder[found.Identity.PublicKey]
		if !copied {
			holder[found.Identity.PublicKey] = name
			continue
		}
		for _, c := range [2][2]string{{name, other}, {other, name}} {
			faults = append(faults, releases.Fault{
				File: path.Join(cells.Dir, c[0], IdentityFile), Code: manifest.Conflict,
				Message: fmt.Sprintf("has the key of cell %s: remove the copy, for a key is one cell's; sluice cell "+
					"rename moves a cell with its key, and sluice cell add makes a token for another", c[1]),
			})
		}
	}
	return faults
}

// checkSigners returns contradictions between what signers signed and what is there. A signed digest of other bytes
// lets nothing run, so that is a fault; the rest are warnings.
func (d *Desired) checkSigners() (faults []releases.Fault) {
	l := d.Trust
	if l == nil || l.Targets == nil {
		return nil
	}
	add := func(file string, code manifest.FaultCode, warning bool, format string, args ...any) {
		faults = append(faults, releases.Fault{File: file, Code: code, Warning: warning,
			Message: fmt.Sprintf(format, args...)})
	}
	for _, name := range l.Channels() {
		if d.Channels[name] == nil {
			add(l.Targets.Path, manifest.UnknownReference, true, "signs channel %s, which does not exist", name)
		}
	}
	for _, version := range slices.Sorted(maps.Keys(l.Listed)) {
		r, signed := d.Releases[version], l.Listed[version]
		if r != nil && r.Loaded && r.Tombstone == nil && r.Digest != signed.Digest {
			add(l.Releases.Path, manifest.Conflict, false, "release %s has digest %s, and %s is signed", version,
				r.Digest, signed.Digest)
		}
	}
	for _, key := range d.Pipeline.Engine.Keys {
		if !slices.ContainsFunc(l.Online(), func(k trust.Key) bool { return channels.SameKey(k.Line(), key) }) {
			add(l.Root().Path, manifest.Conflict, true,
				"does not have the engine's key %s, which sluice.yaml lists: sluice trust rotate --engine", key)
		}
	}
	return faults
}

// checkVersionNames returns a fault for each release whose folder differs from another's only by case: a clone on a
// file system that ignores case would have one of them. Such a release is a candidate nevertheless.
func (d *Desired) checkVersionNames() (faults []releases.Fault) {
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(d.Releases)) {
		folded := strings.ToLower(name)
		if other := names[folded]; other != "" {
			faults = append(faults, releases.Fault{File: path.Join(releases.Dir, name), Code: manifest.WrongName,
				Message: fmt.Sprintf("differs from %s only by case: some file systems take the two for one", other)})
		}
		names[folded] = name
	}
	return faults
}

// checkRollout returns warnings about holds on cells of other channels, and about skips of waves or heads that do not
// exist.
func (d *Desired) checkRollout(c *Channel) (faults []releases.Fault) {
	warn := func(code manifest.FaultCode, file, format string, args ...any) {
		faults = append(faults, releases.Fault{File: file, Line: 1, Code: code, Warning: true,
			Message: fmt.Sprintf(format, args...)})
	}
	for _, h := range c.CellHolds {
		for _, name := range h.Cells {
			if cell := d.Cells[name]; cell == nil || cell.Channel != c.Name {
				warn(manifest.UnknownReference, h.File, "holds %s, which is no cell of %s", name, c.Name)
			}
		}
	}
	for _, s := range c.Skips {
		switch {
		case c.Effective != nil && s.Sequence > c.Effective.Sequence:
			warn(manifest.UnknownReference, s.File, "%s has no head with sequence %d yet", c.Name, s.Sequence)
		case c.Effective != nil && s.Sequence == c.Effective.Sequence && c.Policy != nil &&
			s.Wave > max(len(c.Policy.Rollout.Waves), 1):
			warn(manifest.UnknownReference, s.File,
				"there is no wave %d: %s has %d", s.Wave, c.Name, len(c.Policy.Rollout.Waves))
		}
	}
	return faults
}

// checkHead compares a head.yaml that the engine did not write with the releases (fault 42).
func (d *Desired) checkHead(c *Channel) []releases.Fault {
	if c.Head == nil || c.Effective != nil && c.Request == nil {
		return nil
	}
	file := path.Join(channels.Dir, c.Name, "head.yaml")
	r := d.Releases[c.Head.Release]
	switch {
	case r == nil:
		return []releases.Fault{{File: file, Line: 1, Code: manifest.UnknownReference,
			Message: fmt.Sprintf("names release %s, which is not in the repository", c.Head.Release)}}
	case c.Effective == nil && c.Head.Digest != "" && r.Loaded && r.Tombstone == nil && c.Head.Digest != r.Digest:
		return []releases.Fault{{File: file, Code: manifest.Conflict,
			Message: fmt.Sprintf("release %s has digest %s, not %s", c.Head.Release, r.Digest, c.Head.Digest)}}
	}
	return nil
}

// checkCell compares a cell's profile and values with the release that its channel runs or, before the first head, with
// the newest release.
func (d *Desired) checkCell(c *Channel, cell *Cell) []releases.Fault {
	var r *Release
	if c.Effective != nil {
		r = d.Releases[c.Effective.Release]
	} else if n := len(d.Versions); n > 0 {
		r = d.Versions[n-1]
	}
	if r == nil || !r.Loaded || r.Tombstone != nil || len(r.Faults) > 0 {
		return nil
	}
	file := path.Join(cells.Dir, cell.Name, "cell.yaml")
	var faults []releases.Fault
	if _, ok := r.Profile(cell.Profile); !ok {
		faults = append(faults, releases.Fault{File: file, Code: manifest.UnknownReference,
			Message: fmt.Sprintf("release %s has no profile %q", r.Version, cell.Profile)})
	}
	for _, wrong := range releases.CheckValues(&r.Release, cell.Values) {
		faults = append(faults, releases.Fault{File: file, Code: manifest.WrongValue,
			Message: fmt.Sprintf("values do not fit release %s: %s", r.Version, wrong)})
	}
	return faults
}

// CheckSteps returns why no cell that runs an earlier release could ever install one: nothing that is here lies between
// what it installs over and itself; empty: a cell could, or it is the first release.
func (d *Desired) CheckSteps(version, from releases.Version) string {
	if from.IsZero() || !slices.ContainsFunc(d.Versions, func(r *Release) bool { return r.Version.Less(version) }) {
		return ""
	}
	if slices.ContainsFunc(d.Versions, func(r *Release) bool {
		return !r.Version.Less(from) && r.Version.Less(version)
	}) {
		return ""
	}
	return "requires.from is " + from.String() + ", and no release between that and " + version.String() +
		" exists: no cell could get there"
}
