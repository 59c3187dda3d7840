// Package edits turns people's decisions into commits: what a requested promotion, an approval, a hold, a new cell, a
// flag's new value or an announcement write into git. The command line and the web UI call the same functions, and so
// write the same commits.
//
// A Decision is a plain value that says what somebody wants. Decide returns the commit for a decision at a snapshot, or
// an Error with the reason and the next step; Decide and all decisions are pure. A Pusher commits a decision by
// compare-and-swap: if the branch moved meanwhile, the Pusher reads, decides and pushes again. Only the Pusher reads a
// clock, and it uses git only by its Repository. To approve, for instance: pusher.Push(ctx, edits.Approve{Release:
// "2026.11.3", Channel: "dedicated"}).
//
// What always holds: a decision that would not count, such as an approval by an author, is refused before it is
// written; a decision keeps all text that it doesn't concern, comments included; no change of a flags repository
// introduces a fault.
//
// The package never prints, never identifies anybody, and checks no permissions: it trusts By. All of it may be called
// at once.
// at once.
package edits

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/releases"
)

// Decision is what somebody wants to change in the repository that S is a snapshot of. Edit may be called again with a
// newer snapshot.
type Decision[S Snapshot] interface {
	// Message returns the subject of the commit, with which errors begin too, and the rest of the message, which may be
	// empty.
	Message() (subject, body string)
	// Edit returns what the commit changes; no files if there is nothing to change.
	Edit(s S, by Person, now time.Time) (Edit, error)
}

// Snapshot is the content of a repository at one commit: Releases or Flags.
type Snapshot interface {
	Base() string   // the commit; empty: there are no commits
	Content() fs.FS // the files that decisions are made on
	People() People
	// Check refuses a change that would introduce a fault or, made by that person, not count. It returns the warnings
	// that the change introduces.
	Check(files map[string][]byte, by Person) (warnings []releases.Fault, err error)
	// SigningKeys returns keys of which a commit should be signed with the author's own; none: it need not be signed.
	SigningKeys() []string
}

// Person is who a commit is made for.
type Person struct {
	releases.Person
	Key ssh.PublicKey // signs the commit; nil: the commit is not signed
}

// Edit is a commit to be made.
type Edit struct {
	Files    map[string][]byte // by path; nil removes the file; empty: nothing changes
	Message  string            // set by Decide
	Summary  string            // the outcome in one line; default: the message's subject
	Details  []string          // what the person should know of it, a line each
	Next     string            // what happens next, or what to do next; may be empty
	Short    string            // what the decision does not achieve although it is committed; empty: nothing
	Warnings []releases.Fault  // for the author; Decide adds those that the change introduces
}

// Result is the outcome of a decision.
type Result struct {
	Commit   string           `json:"commit"` // empty: nothing changed
	Summary  string           `json:"did"`
	Details  []string         `json:"details,omitempty"` // what the person should know of it, a line each
	Next     string           `json:"next,omitempty"`
	Short    string           `json:"short,omitempty"` // what the decision does not achieve; empty: nothing
	Warnings []releases.Fault `json:"-"`
}

// Error is a refusal that the person can act on. Its text and next step may be shown to that person; errors of other
// types are failures of the machine.
type Error struct {
	Err    error
	Next   string           // the next step; empty: none
	Faults []releases.Fault // shown with the error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// NextStep returns the next step, and the faults that are shown with the error.
func (e *Error) NextStep() (next string, faults []releases.Fault) { return e.Next, e.Faults }

// Fail returns an Error with the next step.
func Fail(err error, next string, args ...any) error {
	return &Error{Err: err, Next: fmt.Sprintf(next, args...)}
}

// Decide returns the commit of a decision at a snapshot. Pure.
func Decide[S Snapshot](d Decision[S], s S, by Person, now time.Time) (Edit, error) {
	subject, body := d.Message()
	e, err := d.Edit(s, by, now)
	switch {
	case err != nil:
		return Edit{}, err
	case len(e.Files) == 0:
		e.Summary = cmp.Or(e.Summary, subject+": already done")
		return e, nil
	}
	e.Summary = cmp.Or(e.Summary, subject)
	e.Message = strings.TrimSpace(subject+"\n\n"+body) + "\n"
	warnings, err := s.Check(e.Files, by)
	e.Warnings = append(e.Warnings, warnings...)
	return e, err
}

// fileNamePattern matches names that every file system accepts, so that every checkout of the repository works.
var fileNamePattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)
})

// ValidName reports whether a name is a portable file name.
func ValidName(name string) bool { return fileNamePattern().MatchString(name) }

func errInvalidName(name, whose string) error {
	return Fail(fmt.Errorf("%q can't be %s name", name, whose),
		"use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first")
}

// singleFile returns the change of one file; nil data removes the file.
func singleFile(file string, data []byte) map[string][]byte { return map[string][]byte{file: data} }

func exists(files fs.FS, name string) bool {
	_, err := fs.Stat(files, name)
	return err == nil
}

// readFolder reads all regular files of a folder, by their path in the folder.
func readFolder(files fs.FS, dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(files, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		out[strings.TrimPrefix(name, dir+"/")] = data
		return err
	})
	return out, err
}

// Fatal returns the faults that are not warnings.
func Fatal(faults []releases.Fault) (fatal []releases.Fault) {
	for _, f := range faults {
		if !f.Warning {
			fatal = append(fatal, f)
		}
	}
	return fatal
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
