package kept

import (
	"fmt"
	"io/fs"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// Unconfirmed is one commit's removals that wait to be confirmed.
type Unconfirmed struct {
	Commit string
	Dir    string // cells, channels or releases
	Count  int    // folders that it removed there
	Of     int    // folders there before
}

// Words are the arguments of reason.RemovalUnconfirmed.
func (u Unconfirmed) Words() []any {
	return []any{words.ShortCommit(u.Commit), u.Count, u.Of, u.Dir, Bound(u.Of), ConfirmTrailer, u.Commit}
}

// Faults returns a fault for each path that can't be read in tip, and for each commit whose removals wait.
func (s *State) Faults(tip fs.FS) (faults []manifest.Fault) {
	for _, name := range s.Unreadable() {
		k := s.Paths[name]
		why := "it is not a folder"
		if _, err := fs.ReadDir(tip, name); err != nil {
			why = err.Error()
		}
		faults = append(faults, manifest.Fault{File: name, Code: manifest.Unreadable, Message: fmt.Sprintf(
			"can't be read since %s (%.300s): what %s says stays in force; revert that commit, or correct the folder",
			words.ShortCommit(k.Since), why, words.ShortCommit(k.From))})
	}
	for _, u := range s.Unconfirmed() {
		faults = append(faults, manifest.Fault{File: u.Dir, Code: manifest.Unconfirmed,
			Message: reason.RemovalUnconfirmed.Words(u.Words()...)})
	}
	return faults
}
