package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// PastIdentity is what the history proves of a cell's identity.yaml (R46).
type PastIdentity struct {
	Blob    string // the file's object id as the engine last wrote it
	Commit  string // which did
	Revoked string // the commit in which a person revoked it since; empty: nobody did
	Ignored string // the newest commit that changed anything else, which the engine did not sign; empty: none since
}

// foldIdentity folds a change of an identity.yaml: all of it if the engine made it, else only that it is revoked.
func (h *History) foldIdentity(c releases.Change, f releases.FileChange, cell string, trusted bool, open func(string) (fs.FS, error)) error {
	past := h.Identities[cell]
	switch {
	case f.New == past.Blob: // put back
		past.Ignored = ""
	case trusted && f.New == "":
		delete(h.Identities, cell)
		return nil
	case trusted && (f.Old == "" || h.Authority.Enforced()):
		past = PastIdentity{Blob: f.New, Commit: c.Commit}
	default:
		files, err := open(c.Commit)
		if err != nil {
			return err
		}
		if _, err := fs.Stat(files, path.Join(cells.Dir, cell, cellFile)); errors.Is(err, fs.ErrNotExist) {
			delete(h.Identities, cell) // the whole cell is gone
			return nil
		}
		was := past.read(cell, open)
		now, faults := cells.LoadIdentity(files, cell)
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

// read returns the identity that the engine wrote; zero: it wrote none, or none that can be read.
func (p PastIdentity) read(cell string, open func(string) (fs.FS, error)) cells.Identity {
	if p.Commit == "" {
		return cells.Identity{}
	}
	files, err := open(p.Commit)
	if err != nil {
		return cells.Identity{}
	}
	id, _ := cells.LoadIdentity(files, cell)
	return id
}

// identity returns what counts of a cell's identity.yaml, and what of it does not.
func (b *builder) identity(cell string, found *cells.LoadedCell) (cells.Identity, *releases.Fault) {
	past, known := b.history.Identities[cell]
	asWritten := past.Blob == found.IdentityBlob && past.Revoked == ""
	if past.Ignored == "" && asWritten && !manifest.Fatal(found.IdentityFaults) || !known && found.IdentityBlob == "" {
		return found.Identity, nil
	}
	id := past.read(cell, b.open)
	if past.Revoked != "" {
		id.Revoked = true
	}
	if past.Ignored == "" {
		return id, nil
	}
	return id, &releases.Fault{
		File: path.Join(cells.Dir, cell, IdentityFile), Code: manifest.Forbidden,
		Message: fmt.Sprintf("was changed in %s, which the engine did not sign: of that only revoked: true counts; put the file back, and give the cell a new token if it needs a new key",
			words.ShortCommit(past.Ignored)),
	}
}
