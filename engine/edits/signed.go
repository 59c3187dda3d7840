package edits

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// SigningKeys returns people's keys if the repository asks for signed changes or releases (R52).
func (s *Releases) SigningKeys() (keys []string) {
	if len(s.Desired.Authority.Owners) == 0 && !s.Desired.Pipeline.SignedReleases {
		return nil
	}
	people := s.People()
	for _, name := range sortedKeys(people) {
		keys = append(keys, people[name].Keys...)
	}
	return keys
}

// SigningKeys returns none: in a flags repository only approvals are signed.
func (s *Flags) SigningKeys() []string { return nil }

// checkSigned refuses a change that would not count without another signature (R52).
func (s *Releases) checkSigned(files map[string][]byte, by Person) error {
	for _, name := range sortedKeys(files) {
		if !s.movesWithCell(files, name) {
			if err := s.checkGuarded(name, by); err != nil {
				return err
			}
		}
		cut := strings.HasPrefix(name, releases.Dir+"/") && files[name] != nil && path.Base(name) != "tombstone.yaml"
		if cut && s.Desired.Pipeline.SignedReleases &&
			(by.Key == nil || !isListedKey(by.Key, s.SigningKeys())) {
			return Fail(errors.New("no channel would take it: sluice.yaml asks for signed releases"),
				"sign with a key that sluice.yaml lists in people: sluice release cut V --from DIR --key FILE")
		}
	}
	return nil
}

// movesWithCell reports whether a change of a cell's infrastructure.yaml only follows the cell, which is removed or
// renamed. Such a change counts without an owner.
func (s *Releases) movesWithCell(files map[string][]byte, name string) bool {
	isRemoved := func(record string) bool {
		data, changed := files[path.Join(path.Dir(record), "cell.yaml")]
		return changed && data == nil && files[record] == nil
	}
	if path.Base(name) != cells.InfrastructureFile {
		return false
	}
	if files[name] == nil {
		return isRemoved(name)
	}
	for from := range files {
		if path.Base(from) == cells.InfrastructureFile && isRemoved(from) {
			if was, err := fs.ReadFile(s.Files, from); err == nil && bytes.Equal(was, files[name]) {
				return true
			}
		}
	}
	return false
}

// checkGuarded refuses a change of a guarded file by anybody but an owner, and on top of a change that does not count.
func (s *Releases) checkGuarded(name string, by Person) error {
	authority := s.Desired.Authority
	if len(authority.Owners) == 0 || !plan.IsGuarded(name) {
		return nil
	}
	key := ""
	if by.Key != nil {
		key = authorizedKey(by.Key)
	}
	// The engine changes its list in sluice.yaml, and all else there stays as it is; and the record of deadlines.
	engines := slices.Contains(authority.Keys, key) &&
		(name == pipelineFile || path.Base(name) == cells.InfrastructureFile)
	if path.Dir(name) == trust.Dir && s.Desired.Trust.MayChange(name, key) {
		return nil
	}
	switch withheld, is := s.Desired.Withheld[name]; {
	case !engines && !authority.IsOwner(key):
		return Fail(fmt.Errorf("it would not count: only owners change %s, and no owner's key signs this", name),
			"ask %s; or name an owner's key: git config gpg.format ssh, git config user.signingKey FILE",
			strings.Join(authority.Owners, " or "))
	case !engines && is:
		return Fail(fmt.Errorf("%s has a change that no owner signed, of %s: this one would bring it into force", name,
			words.ShortCommit(withheld.By)), "look at that commit, and undo it or sign it first: sluice validate")
	}
	return nil
}
