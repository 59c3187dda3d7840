package releases

import (
	"fmt"
	"path"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/export"
)

// checkExport returns what is wrong with the release's export.yaml, if it has one.
func (t *releaseTree) checkExport() []Fault {
	for _, f := range t.files {
		if f.path != export.File {
			continue
		}
		name := path.Join(t.dir, f.path)
		if f.size > export.MaxFile {
			return []Fault{{File: name, Code: manifest.TooLarge,
				Message: fmt.Sprintf("is larger than %d bytes", export.MaxFile)}}
		}
		text, err := t.readFile(f)
		if err != nil {
			return []Fault{{File: name, Code: manifest.Unreadable, Message: fmt.Sprintf("can't be read: %v", err)}}
		}
		_, faults := export.Parse(name, text)
		return faults
	}
	return nil
}
