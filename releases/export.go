package releases

import (
	"fmt"
	"path"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/releases/export"
)

// checkExport returns what is wrong with the release's export.yaml, if it has one.
func (t *releaseTree) checkExport() []Fault {
	return t.checkFile(export.File, export.MaxFile, func(name string, text []byte) []Fault {
		_, faults := export.Parse(name, text)
		return faults
	})
}

// checkDiagnostics returns what is wrong with the release's diagnostics.yaml, if it has one.
func (t *releaseTree) checkDiagnostics() []Fault {
	return t.checkFile(diagnostics.File, diagnostics.MaxFile, func(name string, text []byte) []Fault {
		_, faults := diagnostics.Parse(name, text)
		return faults
	})
}

// checkFile returns what check finds in a file of the release, if it is there.
func (t *releaseTree) checkFile(file string, limit int64, check func(name string, text []byte) []Fault) []Fault {
	for _, f := range t.files {
		if f.path != file {
			continue
		}
		name := path.Join(t.dir, f.path)
		if f.size > limit {
			return []Fault{{File: name, Code: manifest.TooLarge,
				Message: fmt.Sprintf("is larger than %d bytes", limit)}}
		}
		text, err := t.readFile(f)
		if err != nil {
			return []Fault{{File: name, Code: manifest.Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}}
		}
		return check(name, text)
	}
	return nil
}
