package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// IncompleteError says that a repository is not whole: decisions rest on its history, so all of it is needed.
type IncompleteError struct {
	Reason string
	Remedy string // the next step, for people
}

func (e *IncompleteError) Error() string { return e.Reason }

// errShallow is about the repository that is read.
func errShallow() *IncompleteError {
	return &IncompleteError{
		"it is a shallow clone, which lacks the history that decisions rest on",
		"git fetch --unshallow there, or name the repository that it was cloned from",
	}
}

// maxLackTime bounds the search for what a repository lacks.
const maxLackTime = 30 * time.Second

// FindLack says what the repository at dir, a folder on disk, lacks of a revision: an *IncompleteError; nil: nothing,
// or nothing that can be told. It reads all of the history, so it is for repositories that could not be read.
func FindLack(ctx context.Context, dir, rev string) error {
	ctx, cancel := context.WithTimeout(ctx, maxLackTime)
	defer cancel()
	git, err := findGit()
	if err != nil {
		return nil //nolint:nilerr // the failure that is to be explained says more
	}
	ask := func(args ...string) (string, error) {
		env := append(hostGitEnv(), "GIT_NO_LAZY_FETCH=1", "GIT_DIR="+dir)
		return runGit(ctx, git, env, nil, args...)
	}
	if dir, err = findGitDir(dir); err != nil {
		return nil //nolint:nilerr // as above
	}
	if _, err := ask("rev-parse", "--verify", "--quiet", rev); err != nil {
		return nil //nolint:nilerr // it has no such revision, or git does not read it at all
	}
	if shallow, err := ask("rev-parse", "--is-shallow-repository"); err == nil && shallow == "true" {
		return errShallow()
	}
	missing, err := findMissing(ask, rev)
	switch {
	case ctx.Err() != nil || err == nil && missing == "":
		return nil
	case isPartial(ask):
		return &IncompleteError{
			"it is a partial clone (git clone --filter): it lacks objects, which only git gets from its promisor",
			"name the repository that it was cloned from, or clone it without --filter",
		}
	}
	if gone := findLostAlternate(dir); gone != "" {
		return &IncompleteError{
			"it borrows objects from " + cleantext.Line(gone) + ", which is not there (objects/info/alternates)",
			"put that folder back, or name the repository that it was cloned from",
		}
	}
	what := "it lacks objects of its own history"
	if missing != "" {
		what += ", such as " + missing
	}
	return &IncompleteError{what,
		"git fsck there names all of them: fetch them again, or clone it anew from where it came from"}
}

// findMissing returns an object that a revision needs and that is not there. err: a commit is missing, or damaged.
func findMissing(ask func(args ...string) (string, error), rev string) (id string, err error) {
	list, err := ask("rev-list", "--objects", "--missing=print", rev)
	for line := range strings.Lines(list) { // of which ask keeps the end, where git prints what is missing
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "?"); ok {
			return id, nil
		}
	}
	return "", err
}

// isPartial reports whether git may fetch missing objects later.
func isPartial(ask func(args ...string) (string, error)) bool {
	found, err := ask("config", "--get-regexp", `^(extensions\.partialclone|remote\..*\.promisor)$`)
	return err == nil && found != ""
}

// findLostAlternate returns a folder from which a repository borrows objects, and which is gone; empty: there is none.
func findLostAlternate(dir string) string {
	f, err := os.Open(filepath.Join(dir, "objects", "info", "alternates")) //nolint:gosec // of a repository
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		folder := lines.Text()
		if folder == "" || folder[0] == '#' {
			continue
		}
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, "objects", folder)
		}
		if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
			return folder
		}
	}
	return ""
}

// explainFetch returns what the repository on disk lacks, if that is why a fetch failed, else err.
func (r *Repo) explainFetch(ctx context.Context, err error) error {
	d, ok := r.host.(*diskHost)
	if known := new(IncompleteError); !ok || errors.As(err, &known) {
		return err
	}
	rev := "HEAD"
	if branch := r.branch(); branch != "" {
		rev = "refs/heads/" + branch
	}
	if lack := FindLack(ctx, d.dir, rev); lack != nil {
		return lack
	}
	return err
}
