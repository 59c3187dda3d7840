package edits

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Repository is a branch that accepts commits for one person.
type Repository interface {
	// Push makes commits on base and pushes them if the branch is at base; else releases.ErrMoved.
	// releases.RefusedError means that the host refused. After other errors the commits may have landed.
	Push(ctx context.Context, base string, drafts []releases.Draft) (commits []string, err error)
}

// Pusher commits decisions. All fields but See and Sign are required.
type Pusher[S Snapshot] struct {
	Repo         Repository
	ReadSnapshot func(context.Context) (S, error)           // returns the newest snapshot
	By           Person                                     // the person whom Repo commits for
	Address      string                                     // of the repository, for advice
	Pause        func(ctx context.Context, tries int) error // waits before the next try, after a number of lost races
	See          func(S) string                             // returns what else a Proposal shows; nil: nothing
	// Sign returns Repo signing with the key of By's that git names, or with one of keys (authorized_keys lines), and
	// that key; nil: there is none. Sign itself may be nil, and is not called if By has a key.
	Sign func(ctx context.Context, keys []string) (Repository, ssh.PublicKey, error)
}

// raceTime is how long a decision is made again because the branch moved: enough to win beside many others.
const raceTime = 2 * time.Minute

// confirmer is a decision that counts only if its commit is proven to be the person's own. Confirm checks that after
// the push.
type confirmer[S Snapshot] interface {
	Confirm(after S, by Person) error
}

// Push commits a decision. Errors begin with the decision's subject.
func (p Pusher[S]) Push(ctx context.Context, d Decision[S]) (Result, error) {
	return p.push(ctx, d, func(Edit, S) error { return nil })
}

// push commits a decision. Before each try, accept may refuse the commit that would be made.
func (p Pusher[S]) push(ctx context.Context, d Decision[S], accept func(Edit, S) error) (Result, error) {
	subject, _ := d.Message()
	began := time.Now()
	for tries := 1; ; tries++ {
		done, err := p.pushOnce(ctx, d, accept)
		switch {
		case err == nil:
			return done, nil
		case !errors.Is(err, releases.ErrMoved):
			return done, fmt.Errorf("%s: %w", subject, err)
		case time.Since(began) > raceTime:
			return Result{}, Fail(fmt.Errorf("%s: the branch moved %d times meanwhile", subject, tries), "try again")
		}
		if err := p.Pause(ctx, tries); err != nil {
			return Result{}, fmt.Errorf("%s: %w", subject, err)
		}
	}
}

// decide decides on the newest snapshot, signing as its repository asks for.
func (p *Pusher[S]) decide(ctx context.Context, d Decision[S], now time.Time) (e Edit, s S, err error) {
	if s, err = p.ReadSnapshot(ctx); err != nil {
		return e, s, err
	}
	var unsigned error // why there is no signature
	if keys := s.SigningKeys(); len(keys) > 0 && p.By.Key == nil && p.Sign != nil {
		repo, key, err := p.Sign(ctx, keys)
		if unsigned = err; key != nil {
			p.Repo, p.By.Key = repo, key
		}
	}
	if e, err = Decide(d, s, p.By, now); err != nil && unsigned != nil {
		err = fmt.Errorf("%w (%w)", err, unsigned)
	}
	return e, s, err
}

// pushOnce decides on the newest snapshot and pushes. releases.ErrMoved: the branch moved meanwhile.
func (p Pusher[S]) pushOnce(ctx context.Context, d Decision[S], accept func(Edit, S) error) (Result, error) {
	now := time.Now()
	e, s, err := p.decide(ctx, d, now)
	if err == nil {
		err = accept(e, s)
	}
	if err != nil {
		return Result{}, err
	}
	result := Result{Summary: e.Summary, Details: e.Details, Next: e.Next, Short: e.Short, Warnings: e.Warnings}
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
	if c, ok := Unasked(d).(confirmer[S]); ok {
		if after, err := p.ReadSnapshot(ctx); err == nil { // an error here hides no failure: the commit landed
			return result, c.Confirm(after, p.By)
		}
	}
	return result, nil
}

// PushError adds the next step to the error of a push to the repository at address.
func PushError(err error, address string) error {
	no, busy, credentials := new(releases.RefusedError), new(releases.BusyError), new(releases.CredentialsError)
	switch {
	case errors.As(err, &busy):
		return Fail(err, "try again then, and look at git log first")
	case errors.As(err, &credentials):
		return Fail(err, "nothing was pushed: check the token, then try again")
	case !errors.As(err, &no):
		return Fail(err, "it is not known whether the push landed: check git log, then try again")
	case strings.Contains(no.Reason, "checked out"): // git's own words, here and below
		return Fail(err, "git -C %s config receive.denyCurrentBranch updateInstead", words.Shell(address))
	case strings.Contains(no.Reason, "unstaged changes") || strings.Contains(no.Reason, "staged changes"):
		return Fail(err, "commit or stash the changes in %s, then try again", address)
	}
	return Fail(err, "the git host's own message is above: ask whoever runs the host")
}
