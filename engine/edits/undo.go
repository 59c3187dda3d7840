package edits

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

// Undo takes back a commit: each file that it changed becomes what it was before, unless somebody changed it since.
type Undo[S Snapshot] struct {
	Commit, Subject string            // of what is taken back
	Before, After   map[string][]byte // the files that it changed; those that were not there are missing
	Reason          string
}

func (u Undo[S]) Message() (subject, body string) {
	body = "This reverts commit " + u.Commit + "."
	if u.Reason != "" {
		body = u.Reason + "\n\n" + body
	}
	return fmt.Sprintf("undo %q", u.Subject), body
}

// undoable are the files that an undo may change: what people decide in forms, and no key, approval or release.
func undoable() []string {
	return []string{"channels/*/channel.yaml", "channels/*/head.yaml", "channels/*/holds/*", "channels/*/hotfixes/*",
		"channels/*/skips/*", "quarantine/*", "cells/*/cell.yaml", "overrides/*", "announcements/*", "heads/*"}
}

// CanUndo reports whether an undo may change a file.
func CanUndo(file string) bool {
	for _, pattern := range undoable() {
		if ok, err := path.Match(pattern, file); ok && err == nil {
			return true
		}
	}
	return false
}

// Edit restores the files as they were before the commit.
func (u Undo[S]) Edit(s S, _ Person, _ time.Time) (Edit, error) {
	all := map[string][]byte{}
	for _, side := range []map[string][]byte{u.Before, u.After} {
		for name := range side {
			all[name] = nil
		}
	}
	e := Edit{Files: map[string][]byte{}, Next: "git show " + words.ShortCommit(u.Commit) + " shows what was undone"}
	for _, name := range sortedKeys(all) {
		if !CanUndo(name) {
			return Edit{}, Fail(fmt.Errorf("a change of %s is not undone here", name), "git revert %s, in a clone, "+
				"by somebody who may", words.ShortCommit(u.Commit))
		}
		now, err := fs.ReadFile(s.Content(), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Edit{}, fmt.Errorf("read %s: %w", name, err)
		}
		is := err == nil
		before, was := u.Before[name]
		after, became := u.After[name]
		switch {
		case is == was && bytes.Equal(now, before): // undone already
		case is != became || !bytes.Equal(now, after):
			return Edit{}, Fail(fmt.Errorf("%s was changed again since", name),
				"see what changed: git log -p -- %s; then decide anew", name)
		case was:
			e.Files[name] = append([]byte{}, before...) // not nil, which would remove it
		default:
			e.Files[name] = nil
		}
	}
	return e, nil
}
