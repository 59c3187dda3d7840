package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/releases"
)

// change is one commit of the caller's, to be made.
type change struct {
	what   string // the commit's subject, and how errors begin: "promote 2026.11.3 to dedicated"
	body   string // the rest of the message; may be empty
	key    string // private SSH key that signs it; empty: see app.signer
	signed bool   // it has to be signed by one of keys, or with key
	keys   []string
}

// maxAttempts is how often a change is made again because the branch moved.
const maxAttempts = 8

// written is a change as it was pushed.
type written struct {
	Commit string `json:"commit"`
	Did    string `json:"did"`
	Next   string `json:"next,omitempty"`
}

// push makes one commit as the caller and pushes it onto the branch. edit gets the newest snapshot and gives the files
// to change (nil removes); it is asked again when the branch moves meanwhile. errUnchanged: there is nothing to do.
func (a *app) push(ctx context.Context, repo *opened, c change, edit func(*snapshot) (map[string][]byte, error)) (string, error) {
	return a.land(ctx, repo, c, func() (string, map[string][]byte, error) {
		s, err := repo.snapshot(ctx)
		if err != nil {
			return "", nil, err
		}
		files, err := edit(s)
		return s.desired.Commit, files, err
	})
}

// land is push of any repository: edit reads it and gives the commit that it read, and the files to change.
func (a *app) land(ctx context.Context, repo *opened, c change, edit func() (base string, files map[string][]byte, err error)) (string, error) {
	for range maxAttempts {
		base, files, err := edit()
		if err != nil {
			return "", wrapFailure(c.what, err)
		}
		draft := releases.Draft{Message: strings.TrimSpace(c.what+"\n\n"+c.body) + "\n", When: time.Now().Truncate(time.Second), Files: files}
		commits, err := repo.Push(ctx, base, []releases.Draft{draft})
		if err == nil {
			return commits[0], nil
		}
		if !errors.Is(err, releases.ErrMoved) {
			return "", a.pushFailure(c.what, repo, err)
		}
	}
	return "", fail(fmt.Errorf("%s: the branch moved %d times meanwhile", c.what, maxAttempts), "try again")
}

func (a *app) pushFailure(what string, repo *opened, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	refused := new(releases.RefusedError)
	switch {
	case !errors.As(err, &refused):
		return fail(err, "whether it landed is not known: look with git log, then try again")
	case strings.Contains(refused.Reason, "checked out"):
		return fail(err, "git -C %s config receive.denyCurrentBranch updateInstead", repo.address)
	case strings.Contains(refused.Reason, "unstaged changes") || strings.Contains(refused.Reason, "staged changes"):
		return fail(err, "commit or put aside the changes in %s, then try again", repo.address)
	}
	return fail(err, "the git host's own words are above: ask whoever runs it")
}

// wrapFailure says what was tried, and keeps the next step and the exit code.
func wrapFailure(what string, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return &failure{err: fmt.Errorf("%s: %w", what, f.err), next: f.next, code: f.code}
	}
	if errors.Is(err, errUnchanged) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// commit is what people's verbs do: one commit as the caller, and a word on what happens next.
func (a *app) commit(cmd *cobra.Command, c change, edit func(*snapshot) (map[string][]byte, error), next func() string) error {
	ctx := cmd.Context()
	repo, err := a.openAs(cmd, c)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	defer repo.Close()
	commit, err := a.push(ctx, repo, c, edit)
	return a.landed(c, commit, err, next)
}

// landed tells how a change fared.
func (a *app) landed(c change, commit string, err error, next func() string) error {
	if errors.Is(err, errUnchanged) {
		return a.wrote(written{Did: c.what + ": it is so already"})
	}
	if err != nil {
		return err
	}
	return a.wrote(written{Commit: commit, Did: c.what, Next: next()})
}

// openAs opens the release repository for a change in the caller's name.
func (a *app) openAs(cmd *cobra.Command, c change) (*opened, error) {
	as, err := a.committer(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	return a.open(cmd.Context(), cmd, as)
}

// committer is the caller, with a key if the change wants one.
func (a *app) committer(ctx context.Context, c change) (as committer, err error) {
	if as.person, err = a.author(ctx); err != nil {
		return as, err
	}
	if c.signed || c.key != "" {
		as.signer, err = a.signer(ctx, c.key, c.keys)
	}
	return as, err
}

func (a *app) wrote(w written) error {
	if done, err := a.encode(w); done {
		return err
	}
	if w.Commit == "" {
		a.stdout.line("%s", w.Did)
		return nil
	}
	a.stdout.line("%s: commit %s", w.Did, short(w.Commit))
	if w.Next != "" {
		a.stdout.line("next: %s", w.Next)
	}
	return nil
}
