package plan

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/overlay"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Withheld is a file whose newest changes count for nothing, because no owner signed them (R52): it stays in force as
// it was before.
type Withheld struct {
	Blob   string // object id of the file in force; empty: there is no such file
	Commit string // has the file in force
	By     string // the newest commit that changed the file without an owner
}

// WithheldFiles are the withheld files of a repository, by path.
type WithheldFiles map[string]Withheld

// IsGuarded reports whether only owners may change a path of a release repository, where the repository lists owners.
func IsGuarded(file string) bool {
	parts := strings.Split(file, "/")
	switch parts[0] {
	case pipelineFile, channels.QuarantineDir, trust.Dir, infrastructure.Dir:
		return true
	case channels.Dir:
		return len(parts) == 3 && parts[2] == "channel.yaml" || len(parts) > 2 && parts[2] == "hotfixes"
	case cells.Dir:
		return isDeadlines(file)
	}
	return false
}

// isDeadlines reports whether a path is that of a cell's infrastructure.yaml.
func isDeadlines(file string) bool {
	parts := strings.Split(file, "/")
	return len(parts) == 3 && parts[0] == cells.Dir && parts[2] == cells.InfrastructureFile
}

// movesWithCell reports whether a change of a cell's infrastructure.yaml only follows the cell: the cell is removed, or
// comes from a folder that is removed with the same file. Whoever may remove or rename a cell may make it.
func movesWithCell(c releases.Change, f releases.FileChange) bool {
	if !isDeadlines(f.Path) {
		return false
	}
	if f.New == "" {
		return removesCell(c, path.Base(path.Dir(f.Path)))
	}
	return f.Old == "" && slices.ContainsFunc(c.Files, func(from releases.FileChange) bool {
		return isDeadlines(from.Path) && from.New == "" && from.Old == f.New &&
			removesCell(c, path.Base(path.Dir(from.Path)))
	})
}

// foldGuarded folds c's changes of guarded files. byEngine: the engine made c.
func (h *History) foldGuarded(
	c releases.Change, byEngine bool, open func(string) (fs.FS, error), cache *manifest.Cache,
) error {
	authority := h.Authority // a commit that changes the owners is judged by those before
	for _, f := range c.Files {
		counts := authority.IsOwner(c.Key) || movesWithCell(c, f) || h.bySigner(c, f, open, cache) ||
			byEngine && (strings.HasPrefix(f.Path, channels.QuarantineDir+"/") || isDeadlines(f.Path))
		switch {
		case !IsGuarded(f.Path):
			continue
		case f.Path == pipelineFile:
			same, err := h.foldPipeline(c, counts, open, cache)
			if err != nil {
				return err
			}
			counts = counts || same
		}
		if !h.Withheld.Fold(c, f, counts) {
			continue
		}
		if parts := strings.Split(f.Path, "/"); parts[len(parts)-1] == "channel.yaml" {
			past := h.pastChannel(parts[1])
			past.Policies = append(past.Policies, c.Commit)
			if n := len(past.Policies); n > keepPolicies {
				past.Policies = slices.Clone(past.Policies[n-keepPolicies:])
			}
		}
	}
	if len(h.Authority.Owners) == 0 {
		clear(h.Withheld)
	}
	return nil
}

// bySigner reports whether a release signer made a change that signers make without an owner: they add trust files, and
// sign or replace those that wait for signatures. What counts already is changed by owners alone.
func (h *History) bySigner(
	c releases.Change, f releases.FileChange, open func(string) (fs.FS, error), cache *manifest.Cache,
) bool {
	if path.Dir(f.Path) != trust.Dir || c.Key == "" || c.Parent == "" || len(h.Authority.Owners) == 0 {
		return false
	}
	before, err := open(c.Parent)
	if err == nil {
		before, err = h.Withheld.InForce(before, open)
	}
	if err != nil {
		return false // an owner can still make the change
	}
	ledger := trust.Read(cache, before)
	return ledger.MayChange(f.Path, c.Key)
}

// Fold notes whether a change of a guarded file counts, and reports whether the file at c is in force.
func (w WithheldFiles) Fold(c releases.Change, f releases.FileChange, counts bool) bool {
	was, withheld := w[f.Path]
	if counts || withheld && f.New == was.Blob { // put back
		delete(w, f.Path)
		return true
	}
	if !withheld {
		was = Withheld{Blob: f.Old, Commit: cmp.Or(f.OldIn, c.Parent)}
	}
	was.By = c.Commit
	w[f.Path] = was
	return false
}

// foldPipeline folds a change of sluice.yaml. same: it says nothing new but, perhaps, about the engine, whose keys have
// their own rule.
func (h *History) foldPipeline(
	c releases.Change, byOwner bool, open func(string) (fs.FS, error), cache *manifest.Cache,
) (same bool, err error) {
	files, err := open(c.Commit)
	if err != nil {
		return false, err
	}
	now, _ := channels.ParsePipeline(cache, files)
	if now == nil {
		return false, nil
	}
	if !byOwner {
		before, err := h.pipelineInForce(c.Parent, open, cache)
		if err != nil {
			return false, err
		}
		same = before != nil && reflect.DeepEqual(withoutEngine(*before), withoutEngine(*now))
	}
	h.Authority.amend(c, now.Engine)
	if byOwner {
		h.Authority.Owners, h.Authority.OwnerKeys = now.Owners, nil
		for _, name := range now.Owners {
			h.Authority.OwnerKeys = append(h.Authority.OwnerKeys, now.People[name].Keys...)
		}
	}
	return same, nil
}

func withoutEngine(p channels.Pipeline) channels.Pipeline {
	p.Engine = channels.EngineKeys{}
	return p
}

// pipelineInForce returns the sluice.yaml that counts at the tip of what is folded so far, which is commit; nil: it
// can't be read.
func (h *History) pipelineInForce(
	commit string, open func(string) (fs.FS, error), cache *manifest.Cache,
) (*channels.Pipeline, error) {
	if was, withheld := h.Withheld[pipelineFile]; withheld {
		commit = was.Commit
	}
	if commit == "" {
		return nil, nil
	}
	files, err := open(commit)
	if err != nil {
		return nil, err
	}
	p, _ := channels.ParsePipeline(cache, files)
	return p, nil
}

// peopleKeys returns a function that returns the keys in force of people, by name, at the first parent of the commit
// that is folded next.
func (h *History) peopleKeys(open func(string) (fs.FS, error), cache *manifest.Cache,
) func(string) (map[string][]string, error) {
	return func(commit string) (map[string][]string, error) {
		pipeline, err := h.pipelineInForce(commit, open, cache)
		if pipeline == nil || err != nil {
			return nil, err
		}
		keys := map[string][]string{}
		for name, member := range pipeline.People {
			keys[name] = member.Keys
		}
		return keys, nil
	}
}

// InForce returns files, a commit's, with withheld files as they were before. What could not be read then can't be read
// now: it is a fault of the file, and no error (R48).
func (w WithheldFiles) InForce(files fs.FS, open func(string) (fs.FS, error)) (fs.FS, error) {
	if len(w) == 0 {
		return files, nil
	}
	before := map[string][]byte{}
	for name, was := range w {
		before[name] = nil
		if was.Blob == "" {
			continue
		}
		from, err := open(was.Commit)
		if err != nil {
			return nil, err
		}
		data, err := fs.ReadFile(from, name)
		if info, statErr := fs.Stat(from, name); err != nil || statErr != nil || !info.Mode().IsRegular() {
			data = []byte{0}
		}
		before[name] = data
	}
	return overlay.New(files).With(before), nil
}

// Faults returns a fault for each file whose newest change none of the owners signed.
func (w WithheldFiles) Faults(owners []string) (faults []releases.Fault) {
	for _, name := range slices.Sorted(maps.Keys(w)) {
		was := w[name]
		stays := "it stays as it was"
		if was.Blob == "" {
			stays = "it counts for nothing"
		}
		faults = append(faults, releases.Fault{
			File: name, Code: manifest.Forbidden,
			Message: fmt.Sprintf(
				"was changed in %s, which no owner signed: %s; undo the change, or have %s make it in a signed commit",
				words.ShortCommit(was.By), stays, strings.Join(owners, " or ")),
		})
	}
	return faults
}

// unsignedFault returns why a release that is not signed whole is no candidate where releases must be signed.
func (o *Origin) unsignedFault(version string) releases.Fault {
	return releases.Fault{
		File: path.Join(releases.Dir, version, "release.yaml"), Code: manifest.Unsigned,
		Message: fmt.Sprintf(
			"release %s has commit %s, which nobody in people signed (signedReleases): cut a new version in commits that are signed with a key in people.NAME.keys",
			version, words.ShortCommit(o.Unsigned)),
	}
}

// Notes say what the repository does not ask for, and so whose word it takes. They are no faults.
func (d *Desired) Notes() (notes []string) {
	if len(d.Authority.Owners) == 0 && len(d.Pipeline.Owners) == 0 { // without history, only the file says so
		notes = append(notes,
			"owners: not set: whoever may push may change people, policies, freezes, hotfixes, quarantines, deadlines and signers (docs/protect.md)")
	}
	unsigned := slices.DeleteFunc(slices.Clone(d.Order), d.Trust.Binds)
	switch {
	case d.Trust.Damaged():
		notes = append(notes,
			"trust: damaged: no channel takes anything new until its files are as they were (sluice trust status)")
	case len(d.Trust.Channels()) == 0:
		notes = append(notes,
			"trust: not set: releases are unsigned, so whoever runs the control plane decides what cells run (docs/trust.md)")
	case len(unsigned) > 0:
		notes = append(notes, "trust: unsigned channels: "+words.Some(unsigned, 8)+
			": whoever runs the control plane decides what their cells run")
	}
	if d.Pipeline.SignedReleases || d.Pipeline.TrustAuthors {
		return notes
	}
	for _, name := range d.Order {
		p := d.Channels[name].Policy
		if p != nil && slices.ContainsFunc(p.Gates, func(g channels.Gate) bool { return g.Approval != nil }) {
			return append(notes,
				"signedReleases: not set: an author may approve an unsigned release that names another as its author (docs/protect.md)")
		}
	}
	return notes
}
