package edits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/releases"
)

// Repository is a branch that accepts commits for one person.
type Repository interface {
	// Push makes commits on base and pushes them if the branch is at base; else releases.ErrMoved.
	// releases.RefusedError means that the host refused. After other errors the commits may have landed.
	Push(ctx context.Context, base string, drafts []releases.Draft) (commits []string, err error)
}

// Pusher commits decisions. All fields but Sign are required.
type Pusher[S Snapshot] struct {
	Repo         Repository
	ReadSnapshot func(context.Context) (S, error) // returns the newest snapshot
	By           Person                           // the person whom Repo commits for
	Address      string                           // of the repository, for advice
	// Sign returns Repo signing with the key of By's that git names, or with one of keys (authorized_keys lines), and
	// that key; nil: there is none. Sign itself may be nil, and is not called if By has a key.
	Sign func(ctx context.Context, keys []string) (Repository, ssh.PublicKey, error)
}

// maxAttempts limits how often a decision is made again because the branch moved.
const maxAttempts = 8

// confirmer is a decision that counts only if its commit is proven to be the person's own. Confirm checks that after
// the push.
type confirmer[S Snapshot] interface {
	Confirm(after S, by Person) error
}

// Push commits a decision. Errors begin with the decision's subject.
func (p Pusher[S]) Push(ctx context.Context, d Decision[S]) (Result, error) {
	subject, _ := d.Message()
	for range maxAttempts {
		done, err := p.pushOnce(ctx, d)
		switch {
		case err == nil:
			return done, nil
		case !errors.Is(err, releases.ErrMoved):
			return done, fmt.Errorf("%s: %w", subject, err)
		}
	}
	return Result{}, Fail(fmt.Errorf("%s: the branch moved %d times meanwhile", subject, maxAttempts), "try again")
}

// pushOnce decides on the newest snapshot and pushes. releases.ErrMoved: the branch moved meanwhile.
func (p Pusher[S]) pushOnce(ctx context.Context, d Decision[S]) (Result, error) {
	s, err := p.ReadSnapshot(ctx)
	if err != nil {
		return Result{}, err
	}
	var unsigned error // why there is no signature
	if keys := s.SigningKeys(); len(keys) > 0 && p.By.Key == nil && p.Sign != nil {
		repo, key, err := p.Sign(ctx, keys)
		if unsigned = err; key != nil {
			p.Repo, p.By.Key = repo, key
		}
	}
	now := time.Now()
	e, err := Decide(d, s, p.By, now)
	switch {
	case err != nil && unsigned != nil:
		return Result{}, fmt.Errorf("%w (%w)", err, unsigned)
	case err != nil:
		return Result{}, err
	}
	result := Result{Summary: e.Summary, Next: e.Next, Short: e.Short, Warnings: e.Warnings}
	if len(e.Files) == 0 {
		return result, nil
	}
	commits, err := p.Repo.Push(ctx, s.Base(), []releases.Draft{{Message: e.Message, When: now.Truncate(time.Second),
		Files: e.Files}})
	switch {
	case errors.Is(err, releases.ErrMoved):
		return Result{}, err
	case err != nil:
		return Result{}, PushError(err, p.Address)
	}
	result.Commit = commits[0]
	if c, ok := d.(confirmer[S]); ok {
		if after, err := p.ReadSnapshot(ctx); err == nil { // an error here hides no failure: the commit landed
			return result, c.Confirm(after, p.By)
		}
	}
	return result, nil
}

// PushError adds the next step to the error of a push to the repository at address.
func PushError(err error, address string) error {
	no := new(releases.RefusedError)
	switch {
	case !errors.As(err, &no):
		return Fail(err, "it is not known whether the push landed: check git log, then try again")
	case strings.Contains(no.Reason, "checked out"): // git's own words, here and below
		return Fail(err, "git -C %s config receive.denyCurrentBranch updateInstead", address)
	case strings.Contains(no.Reason, "unstaged changes") || strings.Contains(no.Reason, "staged changes"):
		return Fail(err, "commit or stash the changes in %s, then try again", address)
	}
	return Fail(err, "the git host's own message is above: ask whoever runs the host")
}
