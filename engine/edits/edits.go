// Package edits is people's decisions as commits: what a promotion that somebody asks for, an approval, a hold, a new cell, a
// flag's new value or an announcement write into git. The command line and the web UI call the same functions, so that they
// write the same commits.
//
// A Decision is a plain value that says what somebody wants. Decide gives the commit for it at a snapshot, or an Error that says
// why not and what to do next; it is pure, and so is every decision. A Pusher commits a decision by compare-and-swap: when the
// branch moved meanwhile it reads again, decides again and pushes again. It alone reads a clock, and it meets git only by its
// Repository. Approving, for instance, is pusher.Push(ctx, edits.Approve{Release: "2026.11.3", Channel: "dedicated"}).
//
// What always holds: a decision that would not count, such as an approval by an author, is refused before it is written; text
// that a decision doesn't concern stays as it is, comments included; no change of a flags repository brings a fault in.
//
// The package never prints, never asks who somebody is, and judges no rights: By is taken at its word. All of it may be called
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
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/releases"
)

// Decision is what somebody wants of the repository that S is a snapshot of. Its Edit may be asked again, with a newer snapshot.
type Decision[S Snapshot] interface {
	// Message is the subject of the commit, with which errors begin too, and the rest of its message; that may be empty.
	Message() (subject, body string)
	// Edit gives what the commit changes. Without files, there is nothing to do: already done.
	Edit(s S, by Person, now time.Time) (Edit, error)
}

// Snapshot is what a repository says at one commit: Releases or Flags.
type Snapshot interface {
	Base() string // the commit; empty: there is none yet
	People() People
	// Check refuses a change that would bring a fault in, and gives the warnings that it brings.
	Check(files map[string][]byte) (warnings []releases.Fault, err error)
}

// Person is in whose name something is committed.
type Person struct {
	releases.Person
	Key ssh.PublicKey // by which the commit is signed; nil: it is not
}

// Edit is one commit, to be made.
type Edit struct {
	Files    map[string][]byte // by path; nil removes the file; none: nothing changes
	Message  string            // set by Decide
	Did      string            // what is done then, in a line; default: the message's subject
	Next     string            // what happens next, or what to do; may be empty
	Warnings []releases.Fault  // set by Decide: what its author should see
}

// Done is a decision that was carried out.
type Done struct {
	Commit   string           `json:"commit"` // empty: it was so already
	Did      string           `json:"did"`
	Next     string           `json:"next,omitempty"`
	Warnings []releases.Fault `json:"-"`
}

// Error is a no that people can do something about. Its text and the next step are fit to be shown to whoever asked; errors of
// other types are the machine's.
type Error struct {
	Err    error
	Next   string           // the next step; empty: nothing useful to say
	Faults []releases.Fault // what to show with it
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Fail is an Error with the next step.
func Fail(err error, next string, args ...any) error {
	return &Error{Err: err, Next: fmt.Sprintf(next, args...)}
}

// Decide gives the commit that a decision comes to at a snapshot. Pure.
func Decide[S Snapshot](d Decision[S], s S, by Person, now time.Time) (Edit, error) {
	subject, body := d.Message()
	e, err := d.Edit(s, by, now)
	switch {
	case err != nil:
		return Edit{}, err
	case len(e.Files) == 0:
		e.Did = cmp.Or(e.Did, subject+": already done")
		return e, nil
	}
	e.Did = cmp.Or(e.Did, subject)
	e.Message = strings.TrimSpace(subject+"\n\n"+body) + "\n"
	e.Warnings, err = s.Check(e.Files)
	return e, err
}

// fileName are the names that every file system takes, so that a checkout of the repository works everywhere.
var fileName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

// ValidName reports whether a name that somebody chose does as a file's name everywhere.
func ValidName(name string) bool { return fileName.MatchString(name) }

func badName(name, whose string) error {
	return Fail(fmt.Errorf("%q can't be %s name", name, whose), "use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first")
}

// one is the change of a single file. nil removes it.
func one(file string, data []byte) map[string][]byte { return map[string][]byte{file: data} }

// exists reports whether the repository has a file.
func exists(files fs.FS, name string) bool {
	_, err := fs.Stat(files, name)
	return err == nil
}

// below reads all regular files of a folder, by their path in it.
func below(files fs.FS, dir string) (map[string][]byte, error) {
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

// Fatal gives the faults that are no warnings.
func Fatal(faults []releases.Fault) (fatal []releases.Fault) {
	for _, f := range faults {
		if !f.Warning {
			fatal = append(fatal, f)
		}
	}
	return fatal
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
