package plan

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	IdentityFile = "identity.yaml"
	cellFile     = "cell.yaml"
	// Key of refused pushes of identities in Observed.Refused; no channel can have this name
	IdentityPushes = "cells/"
	maxIdentified  = 1000   // cells in one commit
	cellTrailer    = "Cell" // in the commit's message: a cell, and how its identity changes

	identifyDelay = time.Second // cells that register within this time of the first share a commit
)

// identifyCells writes registrations that git lacks into the cells' files, one commit for all (R25). It adds no action
// to a plan with other commits: a host that refuses a head must not hold up identities, nor the other way round.
func (p *planner) identifyCells() {
	if p.observed.Diverged != nil {
		return
	}
	var due []Registration
	var oldest time.Time
	for name, r := range p.observed.Registered {
		if cell := p.desired.Cells[name]; cell != nil && r.Identity.Serial > cell.Identity.Serial {
			due = append(due, r)
			if oldest.IsZero() || r.At.Before(oldest) {
				oldest = r.At
			}
		}
	}
	if len(due) == 0 || p.hasCommits() {
		return
	}
	if p.isUnlisted("", "") {
		return
	}
	if p.isRefused(IdentityPushes, reason.IdentitiesRefused, "", "") {
		return
	}
	if commitAt := oldest.Add(identifyDelay); !oldest.After(p.now) && commitAt.After(p.now) {
		p.replanAt(commitAt)
		return
	}
	slices.SortFunc(due, func(a, b Registration) int { return strings.Compare(a.Cell, b.Cell) })
	due = due[:min(len(due), maxIdentified)]
	a := Action{Kind: Identify, registrations: due}
	for _, r := range due {
		a.Cells = append(a.Cells, r.Cell)
	}
	p.addAction(a)
}

func draftIdentities(d *Desired, p Plan, a Action) (releases.Draft, error) {
	out := releases.Draft{When: p.Now, Files: map[string][]byte{}}
	var text strings.Builder
	if len(a.registrations) == 1 {
		fmt.Fprintf(&text, "identify %s\n\n", a.registrations[0].Cell)
	} else {
		fmt.Fprintf(&text, "identify %s\n\n", words.Count(len(a.registrations), "cell"))
	}
	for _, r := range a.registrations {
		data, err := yaml.Marshal(r.Identity)
		if err != nil {
			return out, err
		}
		out.Files[path.Join(cells.Dir, r.Cell, IdentityFile)] = data
		fmt.Fprintf(&text, cellTrailer+": %s %s\n", r.Cell,
			words.OneLine(describeChange(d.Cells[r.Cell].Identity, r.Identity)+", by "+r.By))
	}
	fmt.Fprintf(&text, "%s: %s\n", releases.BaseTrailer, p.Commit)
	out.Message = text.String()
	return out, nil
}

func describeChange(a, b cells.Identity) string {
	var what []string
	say := func(yes bool, text string) {
		if yes {
			what = append(what, text)
		}
	}
	say(b.Quarantined != "" && a.Quarantined != b.Quarantined, "quarantined: "+b.Quarantined)
	say(b.Revoked && !a.Revoked, "revoked")
	say(a.Revoked && !b.Revoked, "not revoked any more")
	say(a.Quarantined != "" && b.Quarantined == "", "not quarantined any more")
	say(a.PublicKey == "" && b.PublicKey != "", "registered")
	say(a.PublicKey != "" && a.PublicKey != b.PublicKey, "has a new key")
	say(a.Previous != "" && b.Previous == "", "uses its new key only")
	say(b.Rotate && !a.Rotate, "is asked for a new key")
	if len(what) == 0 {
		return fmt.Sprintf("at serial %d", b.Serial)
	}
	return strings.Join(what, ", ")
}

// IdentityOf returns the identity in force of a cell: git's, or the newest registration if its serial is greater. A
// cell that the repository lacks has none.
func IdentityOf(d *Desired, registered map[string]Registration, name string) cells.Identity {
	cell := d.Cells[name]
	if cell == nil {
		return cells.Identity{}
	}
	if r, ok := registered[name]; ok && r.Identity.Serial > cell.Identity.Serial {
		return r.Identity
	}
	return cell.Identity
}

// keepCellFiles bounds the commits that are remembered of one cell's file.
const keepCellFiles = 8

// foldCellFile notes that c changed a cell.yaml, so that its last valid text can be found.
func (h *History) foldCellFile(c releases.Change, f releases.FileChange, cell string,
	open func(string) (fs.FS, error)) {
	if f.New == "" {
		delete(h.CellFiles, cell)
		return
	}
	past := append(h.CellFiles[cell], c.Commit)
	if len(past) > keepCellFiles {
		if _, valid := findValidCell(cell, past, open); valid != "" {
			past = slices.Clone(past[slices.Index(past, valid):])
		} else {
			past = slices.Clone(past[1:])
		}
	}
	if len(past) > keepCellFiles { // the valid one, and the newest
		past = slices.Concat(past[:1], past[len(past)-keepCellFiles/2:])
	}
	h.CellFiles[cell] = past
}

// findValidCell returns a cell as the newest of the commits has it in which its file has no faults, and that commit.
func findValidCell(name string, commits []string, open func(string) (fs.FS, error)) (*cells.LoadedCell, string) {
	for _, commit := range slices.Backward(commits) {
		files, err := open(commit)
		if err != nil {
			return nil, ""
		}
		if f := cells.LoadCell(files, name); !manifest.Fatal(f.Faults) {
			return f, commit
		}
	}
	return nil, ""
}

// PastIdentity is what the history proves of a cell's identity.yaml (R46).
type PastIdentity struct {
	Blob    string // the file's object id as the engine last wrote it
	Commit  string // which did
	Revoked string // the commit in which a person revoked it since; empty: nobody did
	Ignored string // the newest commit that changed anything else, which the engine did not sign; empty: none since

	Name     string // of the cell when the engine wrote it; empty: as now
	Former   string // keys that it had before, newest last, separated by spaces; at most maxFormerKeys
	Removal  bool   // the engine revoked it only because the cell had been removed
	Restored string // the commit that put it back after a removal; empty: none did
}

// ByRemoval says who ended the identity of a cell that was removed: in Registration.By, and in the commit.
const ByRemoval = "its removal"

// endsByRemoval reports whether a commit of the engine says that it ended a cell's identity because of its removal.
func endsByRemoval(message, cell string) bool {
	return strings.HasSuffix(describedChange(message, cell), ", by "+ByRemoval)
}

// describedChange returns what a commit of the engine says of a cell's identity, see draftIdentities; empty: nothing.
func describedChange(message, cell string) string {
	for _, value := range releases.Trailers(message, cellTrailer) {
		if what, ok := strings.CutPrefix(value, cell+" "); ok {
			return what
		}
	}
	return ""
}

// KeyChange is a change of a cell's key, or of whether the key is accepted.
type KeyChange struct {
	What   string    // with who asked for it: "registered, by a token"
	At     time.Time // as the commit says, or as the store does
	Commit string    // empty: it is not committed yet
}

const keepKeyChanges = 8

// noteKeyChange notes that c changed what counts of a cell's identity.yaml.
func (h *History) noteKeyChange(c releases.Change, cell string, before, after PastIdentity,
	open func(string) (fs.FS, error)) {
	what := ""
	switch {
	case after == before:
	case after.Commit == c.Commit:
		if what = describedChange(c.Message, cell); what == "" {
			what = describeChange(before.read(cell, open), after.read(cell, open)) + ", by " + c.Author.Name
		}
	case after.Revoked == c.Commit:
		what = "revoked, by " + c.Author.Name
	case after.Restored == c.Commit:
		what = "put back after the cell's removal, by " + c.Author.Name
	case after.Commit == "":
		what = "removed, by " + c.Author.Name
	}
	if what == "" {
		return
	}
	past := h.KeyChanges[cell]
	past = past[max(0, len(past)+1-keepKeyChanges):]
	h.KeyChanges[cell] = append(slices.Clip(past), KeyChange{What: words.OneLine(what), At: c.When, Commit: c.Commit})
}

// KeyChangesOf returns the newest changes of a cell's key, oldest first: those of its commits, and the registration
// that git does not have yet.
func KeyChangesOf(d *Desired, registered map[string]Registration, name string) []KeyChange {
	cell := d.Cells[name]
	if cell == nil {
		return nil
	}
	r, ok := registered[name]
	if !ok || r.Identity.Serial <= cell.Identity.Serial {
		return cell.KeyChanges
	}
	what := describeChange(cell.Identity, r.Identity) + ", by " + r.By
	return append(slices.Clip(cell.KeyChanges), KeyChange{What: words.OneLine(what), At: r.At})
}

// foldIdentity folds a change of an identity.yaml: all of it if the engine made it, else only that it is revoked.
func (h *History) foldIdentity(c releases.Change, f releases.FileChange, cell string, trusted bool,
	open func(string) (fs.FS, error)) error {
	past := h.Identities[cell]
	removed, wasRemoved := h.Removed[cell]
	switch {
	case wasRemoved && f.New == removed.Blob: // put back with the whole cell
		past = removed
		past.Restored = c.Commit
		delete(h.Removed, cell)
	case f.New == past.Blob: // put back
		past.Ignored = ""
	case trusted && f.New == "":
		h.forgetIdentity(cell)
		return nil
	case trusted && (f.Old == "" || h.Authority.Enforced()):
		next := PastIdentity{Blob: f.New, Commit: c.Commit, Removal: endsByRemoval(c.Message, cell)}
		next.Former = past.replacedBy(next, cell, open)
		past = next
		delete(h.Removed, cell)
	default:
		files, err := open(c.Commit)
		if err != nil {
			return err
		}
		if _, err := fs.Stat(files, path.Join(cells.Dir, cell, cellFile)); errors.Is(err, fs.ErrNotExist) {
			h.forgetIdentity(cell) // the whole cell is gone
			return nil
		}
		was := past.read(cell, open)
		now, faults := cells.LoadIdentity(files, cell)
		if past.Removal && past.Revoked == "" && !manifest.Fatal(faults) && isRestored(was, now) {
			past.Restored, past.Ignored = c.Commit, ""
			break
		}
		if trusted && !manifest.Fatal(faults) {
			past = PastIdentity{Blob: f.New, Commit: c.Commit}
			break
		}
		if now.Revoked && past.Revoked == "" {
			past.Revoked = c.Commit
		}
		if was.Revoked = now.Revoked; was != now {
			past.Ignored = c.Commit
		}
	}
	h.Identities[cell] = past
	return nil
}

// forgetIdentity lets a cell have no identity any more. Until the cell gets another one, the same file may be put back.
func (h *History) forgetIdentity(cell string) {
	if past := h.Identities[cell]; past.Blob != "" && past.Revoked == "" && past.Ignored == "" {
		h.Removed[cell] = past
	}
	delete(h.Identities, cell)
}

// isRestored reports whether now is what was before the cell's removal ended it: the same key, not revoked.
func isRestored(was, now cells.Identity) bool {
	if !was.Revoked || now.Revoked || now.PublicKey == "" {
		return false
	}
	now.Revoked, now.Serial, now.Rotate = was.Revoked, was.Serial, was.Rotate
	return now == was
}

// read returns the identity that the engine wrote; zero: it wrote none, or none that can be read.
func (p PastIdentity) read(cell string, open func(string) (fs.FS, error)) cells.Identity {
	if p.Commit == "" {
		return cells.Identity{}
	}
	files, err := open(p.Commit)
	if err != nil {
		return cells.Identity{}
	}
	id, _ := cells.LoadIdentity(files, cmp.Or(p.Name, cell))
	return id
}

// maxFormerKeys bounds the keys that are remembered of a cell, to recognise a machine that has an old one.
const maxFormerKeys = 8

// replacedBy returns the former keys of a cell whose identity was p, once it is next.
func (p PastIdentity) replacedBy(next PastIdentity, cell string, open func(string) (fs.FS, error)) string {
	was, now := p.read(cell, open), next.read(cell, open)
	former := strings.Fields(p.Former)
	for _, key := range []string{was.Previous, was.PublicKey} {
		if key != "" && !strings.Contains(key, " ") && !slices.Contains(former, key) {
			former = append(former, key)
		}
	}
	former = slices.DeleteFunc(former, func(key string) bool { return key == now.PublicKey || key == now.Previous })
	return strings.Join(former[max(0, len(former)-maxFormerKeys):], " ")
}

// foldRenames moves the identities of cells that c renames: a whole folder goes, and one of a name without an identity
// comes with the same identity.yaml. Anybody may rename a cell, for nothing counts then that did not count before: the
// same key speaks for one cell (R46). A copy, beside which the folder stays, moves nothing. moved has the paths that
// are done with.
func (h *History) foldRenames(c releases.Change) (moved map[string]bool) {
	gone, come := map[string]string{}, map[string]string{} // cell by blob
	for _, f := range c.Files {
		cell := path.Base(path.Dir(f.Path))
		if path.Join(cells.Dir, cell, IdentityFile) != f.Path {
			continue
		}
		switch past := h.Identities[cell]; {
		case f.New == "" && past.Blob == f.Old && past.Revoked == "" && past.Ignored == "" &&
			removesCell(c, cell):
			gone[f.Old] = cell
		case f.Old == "" && past == PastIdentity{} && h.Removed[cell] == PastIdentity{}:
			come[f.New] = cell
		}
	}
	moved = map[string]bool{}
	for blob, from := range gone {
		to := come[blob]
		if to == "" {
			continue
		}
		past := h.Identities[from]
		past.Name = cmp.Or(past.Name, from)
		h.Identities[to] = past
		delete(h.Identities, from)
		moved[path.Join(cells.Dir, from, IdentityFile)], moved[path.Join(cells.Dir, to, IdentityFile)] = true, true
	}
	return moved
}

// removesCell reports whether c removes a cell's cell.yaml.
func removesCell(c releases.Change, cell string) bool {
	file := path.Join(cells.Dir, cell, cellFile)
	return slices.ContainsFunc(c.Files, func(f releases.FileChange) bool { return f.Path == file && f.New == "" })
}

// identity returns what counts of a cell's identity.yaml, and what of it does not.
func (b *builder) identity(cell string, found *cells.LoadedCell) (cells.Identity, *releases.Fault) {
	past, known := b.history.Identities[cell]
	asWritten := past.Blob == found.IdentityBlob && past.Revoked == "" && past.Restored == ""
	if past.Ignored == "" && asWritten && !manifest.Fatal(found.IdentityFaults) || !known && found.IdentityBlob == "" {
		return found.Identity, nil
	}
	id := past.read(cell, b.open)
	if past.Restored != "" { // it outranks the registration that ended it, which is one above what git had
		id.Revoked = id.Revoked && !past.Removal
		id.Serial++
	}
	if past.Revoked != "" {
		id.Revoked = true
	}
	if past.Ignored == "" {
		return id, nil
	}
	return id, &releases.Fault{
		File: path.Join(cells.Dir, cell, IdentityFile), Code: manifest.Forbidden,
		Message: fmt.Sprintf(
			"was changed in %s, which the engine did not sign: of that only revoked: true counts; put the file back, and give the cell a new token if it needs a new key",
			words.ShortCommit(past.Ignored)),
	}
}
