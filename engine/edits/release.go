package edits

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/releases"
)

// Cut adds a release. Use NewCut.
type Cut struct {
	version releases.Version
	files   map[string][]byte
	release releases.StoredRelease
	tree    fs.FS // a repository with nothing but the release
	comment string
}

// NewCut makes a release of files, by their path in the release's folder, and returns its faults. A Cut with faults
// other than warnings must not be pushed.
func NewCut(version releases.Version, files map[string][]byte, comment string) (Cut, []releases.Fault) {
	c := Cut{version: version, files: map[string][]byte{}, comment: comment}
	for name, data := range files {
		c.files[path.Join(releases.Dir, version.String(), name)] = data
	}
	var nothing embed.FS
	c.tree = overlay.New(nothing).With(c.files)
	entry := releases.ReadRelease(nil, c.tree, version)
	c.release = entry.StoredRelease
	return c, entry.Faults
}

// Release returns the release, and a repository that has it.
func (c Cut) Release() (*releases.StoredRelease, fs.FS) { return &c.release, c.tree }

func (c Cut) Message() (subject, body string) { return "cut " + c.version.String(), c.comment }

// Edit writes the release's files, unless the version exists with the same bytes. It refuses other bytes for a version
// (R24).
func (c Cut) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	subject, _ := c.Message()
	if r := s.Desired.Releases[c.version.String()]; r != nil {
		switch r = s.Whole(r); {
		case r.Tombstone != nil:
			return Edit{}, Fail(fmt.Errorf("%s was used before, and pruned", c.version), "use another version")
		case r.Loaded && r.Digest == c.release.Digest:
			did := fmt.Sprintf("%s: it exists already, with the same bytes (%s)", subject, c.release.Digest.Short())
			return Edit{Summary: did}, nil
		}
		return Edit{}, Fail(fmt.Errorf("%s exists already, with other bytes", c.version),
			"releases never change: use another version")
	}
	for _, r := range s.Desired.Releases {
		switch {
		case r.Version.Compare(c.version) == 0:
			return Edit{}, Fail(fmt.Errorf("%s is the same version as %s", c.version, r.Version), "use another version")
		case strings.EqualFold(r.Version.String(), c.version.String()):
			return Edit{}, Fail(fmt.Errorf("%s differs from %s only by case: some file systems take the two for one",
				c.version, r.Version), "use another version")
		}
	}
	if why := s.Desired.CheckSteps(c.version, c.release.Requires.From); why != "" {
		return Edit{}, Fail(fmt.Errorf("%s: %s", c.version, why), "name a release that exists, or leave it out")
	}
	return Edit{Files: c.files, Summary: fmt.Sprintf("%s (%d files, %.17s)", subject, len(c.files), c.release.Digest),
		Next: nextAfterCut(s.Desired, c.version)}, nil
}

// nextAfterCut returns which channels take a new release.
func nextAfterCut(d *plan.Desired, version releases.Version) string {
	if version.IsPrerelease() && !d.TakesPrereleases() {
		return "no channel takes pre-releases: `prereleases: true` in a channel.yaml lets its channel take them"
	}
	var auto, held, manual, passed, faulty []string
	for _, name := range d.Order {
		c := d.Channels[name]
		if c.Policy == nil && (c.Valid == nil || len(c.Valid.After) == 0) {
			faulty = append(faulty, name)
		}
		if p := c.Policy; p != nil && len(p.After) == 0 {
			switch {
			case version.IsPrerelease() && !p.Prereleases:
			case isPassed(c, version):
				passed = append(passed, name+" runs "+c.Effective.Release)
			case p.Promote == "manual":
				manual = append(manual, name)
			case len(c.Holds) > 0:
				held = append(held, name)
			default:
				auto = append(auto, name)
			}
		}
	}
	switch {
	case len(auto) > 0:
		return fmt.Sprintf("the engine promotes it to %s; sluice why %s shows its progress",
			strings.Join(auto, " and "), auto[0])
	case len(held) > 0:
		return fmt.Sprintf("the engine promotes it to %s once that is no longer held; sluice why %s shows by whom",
			strings.Join(held, " and "), held[0])
	case len(manual) > 0:
		return fmt.Sprintf("sluice promote %s --to %s", version, manual[0])
	case len(faulty) > 0:
		return fmt.Sprintf("%s takes nothing, for its policy has faults: sluice validate shows them",
			strings.Join(faulty, " and "))
	case len(passed) > 0:
		return fmt.Sprintf("no channel takes it by itself, for %s: cut it again under a greater version, or take it "+
			"into a channel that runs less: sluice hotfix %s --to CHANNEL --reason WHY", strings.Join(passed, " and "), version)
	}
	return "no channel takes new releases: a channel without `after` would"
}

// isPassed reports whether a channel runs a greater version, so that it does not take this one by itself.
func isPassed(c *plan.Channel, version releases.Version) bool {
	if c.Effective == nil {
		return false
	}
	head, err := releases.ParseVersion(c.Effective.Release)
	return err == nil && version.Less(head)
}

// Prune removes old releases, and leaves a tombstone for each. Its snapshot must have every release loaded.
type Prune struct {
	Keep int // how many of the newest releases always stay
}

func (p Prune) Message() (subject, body string) { return "prune releases", "" }

// Edit removes what obsolete returns.
func (p Prune) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	obsolete := p.obsolete(s.Desired)
	if len(obsolete) == 0 {
		return Edit{Summary: "nothing to prune"}, nil
	}
	out := map[string][]byte{}
	for _, version := range obsolete {
		files, err := ReleaseFiles(s.Files, version)
		if err != nil {
			return Edit{}, fmt.Errorf("read release %s: %w", version, err)
		}
		for name := range files {
			out[path.Join(releases.Dir, version, name)] = nil
		}
		data, err := yaml.Marshal(map[string]any{
			"apiVersion": releases.APIVersion, "kind": "Tombstone", "version": version,
			"digest": string(s.Desired.Releases[version].Digest), "reason": "pruned",
		})
		if err != nil {
			return Edit{}, err
		}
		out[path.Join(releases.Dir, version, "tombstone.yaml")] = data
	}
	return Edit{Files: out, Summary: "prune " + strings.Join(obsolete, ", ")}, nil
}

// obsolete returns the releases that nothing needs any more, oldest first.
func (p Prune) obsolete(d *plan.Desired) (obsolete []string) {
	needed := map[string]bool{}
	var oldest *releases.Version
	for _, name := range d.Order {
		c := d.Channels[name]
		for _, h := range c.History[max(0, len(c.History)-plan.RollbackReach):] {
			needed[h.Release] = true
		}
		if c.Request != nil {
			needed[c.Request.Release] = true
		}
		for _, h := range c.Hotfixes {
			needed[h.Release] = true
		}
		if c.Effective == nil {
			continue
		}
		if r := d.Releases[c.Effective.Release]; r != nil && (oldest == nil || r.Version.Less(*oldest)) {
			oldest = &r.Version
		}
	}
	for _, cell := range d.Cells {
		needed[cell.Pin] = true
	}
	for _, q := range d.Quarantine {
		needed[q.Release] = true
	}
	if oldest == nil {
		return nil // nothing runs yet: every release may be a candidate
	}
	for _, r := range d.Versions[:max(0, len(d.Versions)-p.Keep)] {
		if !needed[r.Version.String()] && r.Version.Less(*oldest) && r.Loaded {
			obsolete = append(obsolete, r.Version.String())
		}
	}
	return obsolete
}
