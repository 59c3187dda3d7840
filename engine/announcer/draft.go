package announcer

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// draftCommit returns the plan's writes as one commit on the snapshot.
func (a *Announcer) draftCommit(now time.Time) (releases.Draft, error) {
	writes := a.plan.Writes
	d := releases.Draft{When: now, Files: map[string][]byte{}}
	var b strings.Builder
	b.WriteString(words.OneLine(writes[0].Why))
	if n := len(writes) - 1; n > 0 {
		fmt.Fprintf(&b, ", and %d more", n)
	}
	b.WriteString("\n\n")
	ids := map[string]bool{}
	for _, w := range writes {
		if !isEngineFile(w.Path) {
			return d, fmt.Errorf("write %s: only %s are the engine's to write", w.Path,
				strings.Join(engineFolders(), ", "))
		}
		d.Files[w.Path] = w.Content
		if len(writes) > 1 {
			fmt.Fprintf(&b, "- %s\n", words.OneLine(w.Why))
		}
		if id := a.killID(w); id != "" {
			ids[id] = true
		}
	}
	if len(writes) > 1 {
		b.WriteString("\n")
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		fmt.Fprintf(&b, "%s: %s\n", killTrailer, id)
	}
	fmt.Fprintf(&b, "%s: %s\n", releases.BaseTrailer, a.snapshot.tip)
	d.Message = b.String()
	return d, nil
}

func engineFolders() []string {
	return []string{repository.RecordsDir, repository.HeadsDir, repository.OverridesDir}
}

func isEngineFile(name string) bool {
	dir, _, _ := strings.Cut(name, "/")
	return path.Clean(name) == name && dir != name && slices.Contains(engineFolders(), dir)
}

// killID returns the ID of the stored kill that a write commits; empty: none.
func (a *Announcer) killID(w announce.Write) string {
	if path.Dir(w.Path) != repository.OverridesDir || w.Content == nil {
		return ""
	}
	doc, _ := manifest.Decode[repository.Override](w.Path, w.Content)
	for _, k := range a.pendingKills() {
		if doc.Value.Kind == repository.Kill && doc.Value.Flag == k.Override.Flag {
			return k.ID
		}
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
