package repository

import (
	"path"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

var (
	hashPattern   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })
	commitPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`) })
	// personPattern is for keys in people: they name the files of a person's approvals.
	personPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	})
)

const labelRule = "use small letters, digits and hyphens, at most 63"

// ValidID reports whether id can be an announcement's ID: a DNS label, as for cells and channels.
func ValidID(id string) bool { return manifest.IsLabel(id) }

func validateApproval(doc *manifest.Doc[Approval]) (faults []manifest.Fault) {
	a := &doc.Value
	a.Announcement, a.Person = path.Base(path.Dir(doc.File)), stem(doc.File)
	if !personPattern().MatchString(a.Person) {
		faults = append(faults, doc.Fault(manifest.WrongName, "",
			"%.70q is not the name of a person in %s", a.Person, settingsFile))
	}
	return append(faults,
		checkPattern(doc, "hash", a.Hash, hashPattern(), "sha256:… as `sluice announce show` prints it")...)
}

func validateHead(doc *manifest.Doc[Head]) []manifest.Fault {
	return append(checkChannelFile(doc),
		checkPattern(doc, "commit", doc.Value.Commit, commitPattern(), "a commit of the flags repository")...)
}

func validateRecord(doc *manifest.Doc[Record]) []manifest.Fault {
	r := &doc.Value
	faults := checkChannelFile(doc)
	if id := path.Base(path.Dir(doc.File)); !ValidID(id) {
		faults = append(faults, doc.Fault(manifest.WrongName, "",
			"%.70q can't name an announcement: %s", id, labelRule))
	}
	faults = append(faults, checkPattern(doc, "hash", r.Hash, hashPattern(), "sha256:… of what was decided on")...)
	faults = append(faults, checkPattern(doc, "text", r.Text, hashPattern(), "sha256:… of the announcement")...)
	faults = append(faults,
		checkPattern(doc, "commit", r.Commit, commitPattern(), "a commit of the flags repository")...)
	switch at := flags.Instant(r.At); {
	case r.At.Truncate(time.Second) != r.At:
		faults = append(faults, doc.Fault(manifest.WrongValue, "at", "at must be a whole second"))
	case doc.HasField("at") && (at <= 0 || at > flags.MaxInstant):
		faults = append(faults, doc.Fault(manifest.WrongValue, "at", "at must be after 1970 and before 10000"))
	}
	return slices.Concat(faults, checkLabels(doc, "cells", r.Cells, "a cell"),
		checkLabels(doc, "without", r.Without, "a cell"))
}

// checkChannelFile checks a file that must be named after a channel.
func checkChannelFile[T any](doc *manifest.Doc[T]) []manifest.Fault {
	if manifest.IsLabel(stem(doc.File)) {
		return nil
	}
	return []manifest.Fault{doc.Fault(manifest.WrongName, "",
		"%.70q can't name a channel: %s", stem(doc.File), labelRule)}
}

func checkPattern[T any](doc *manifest.Doc[T], field, text string, form *regexp.Regexp, is string) []manifest.Fault {
	if text == "" || form.MatchString(text) { // an empty field is already a fault
		return nil
	}
	return []manifest.Fault{doc.Fault(manifest.WrongValue, field, "%s must be %s, not %.80q", field, is, text)}
}

// checkLabels checks names that must be labels without duplicates.
func checkLabels[T any](doc *manifest.Doc[T], field string, names []string, what string) (faults []manifest.Fault) {
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		switch at := indexPath(field, i); {
		case !manifest.IsLabel(name):
			faults = append(faults, doc.Fault(manifest.WrongName, at, "%.70q can't name %s: %s", name, what, labelRule))
		case seen[name]:
			faults = append(faults, doc.Fault(manifest.Duplicate, at, "%s is there twice", name))
		}
		seen[name] = true
	}
	return faults
}
