package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// Side is one of the two kinds of repository that people's decisions go to.
type Side[S edits.Snapshot] struct {
	open func(context.Context, *cobra.Command) (*Opened, error)
	read func(*Opened, context.Context) (S, error) // the branch's newest commit
}

// Releases is the release repository.
func (a *App) Releases() Side[*edits.Releases] {
	return Side[*edits.Releases]{a.Open, (*Opened).Snapshot}
}

// AllReleases is Releases with every release read, not only those that a decision could be about.
func (a *App) AllReleases() Side[*edits.Releases] {
	return Side[*edits.Releases]{a.Open, func(o *Opened, ctx context.Context) (*edits.Releases, error) {
		o.Loader.All = true
		return o.Snapshot(ctx)
	}}
}

// Flags is the flags repository.
func (a *App) Flags() Side[*edits.Flags] {
	return Side[*edits.Flags]{a.OpenFlags, (*Opened).Flags}
}

// Read reads the repository's newest commit. Its files can't be read any more afterwards.
func (s Side[S]) Read(ctx context.Context, a *App, cmd *cobra.Command) (v S, err error) {
	repo, err := s.open(ctx, cmd)
	if err != nil {
		return v, err
	}
	defer repo.Close()
	return s.read(repo, ctx)
}

// Pusher opens the repository for decisions of the caller's. Close what is opened.
func (s Side[S]) Pusher(a *App, cmd *cobra.Command) (repo *Opened, p edits.Pusher[S], err error) {
	ctx := cmd.Context()
	who, err := a.Author(ctx)
	if err != nil {
		return nil, p, err
	}
	if repo, err = s.open(ctx, cmd); err != nil {
		return nil, p, err
	}
	p = edits.Pusher[S]{Repo: repo.As(who, nil), By: edits.Person{Person: who}, Address: repo.Address}
	p.Read = func(ctx context.Context) (S, error) { return s.read(repo, ctx) }
	return repo, p, nil
}

// Signed has p sign what it commits; a nil signer signs nothing.
func Signed[S edits.Snapshot](p edits.Pusher[S], repo *Opened, signer *gitrepo.SSHSigner) edits.Pusher[S] {
	if signer != nil {
		p.Repo, p.By.Key = repo.As(p.By.Person, signer), signer.Key.PublicKey()
	}
	return p
}

// Commit is what most of people's verbs do: one commit as the caller, and a word on what happens next.
func Commit[S edits.Snapshot](a *App, cmd *cobra.Command, to Side[S], d edits.Decision[S]) error {
	repo, p, err := to.Pusher(a, cmd)
	if err != nil {
		return FailedTo(d, err)
	}
	defer repo.Close()
	done, err := p.Push(cmd.Context(), d)
	if err != nil {
		return err
	}
	return a.Wrote(done)
}

// FailedTo says of which decision an error is.
func FailedTo[S edits.Snapshot](d edits.Decision[S], err error) error {
	subject, _ := d.Message()
	return fmt.Errorf("%s: %w", subject, err)
}

// Approving is what the verbs that approve are told.
type Approving struct{ as, key, Comment string }

// Flags adds the flags of an approval.
func (w *Approving) Flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.as, "as", "", "approve as this `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	f.StringVar(&w.key, "key", "", "`FILE` with the private SSH key to sign with")
	f.StringVar(&w.Comment, "comment", "", "comment to store with the approval")
}

// Approve commits an approval, signed by a key that sluice.yaml lists for the person. d says what is approved as whom.
func Approve[S edits.Snapshot](a *App, cmd *cobra.Command, to Side[S], w Approving, d func(as string) edits.Decision[S]) error {
	ctx := cmd.Context()
	repo, p, err := to.Pusher(a, cmd)
	if err != nil {
		return FailedTo(d(w.as), err)
	}
	defer repo.Close()
	s, err := p.Read(ctx)
	if err != nil {
		return FailedTo(d(w.as), err)
	}
	person, err := s.People().Who(w.as, p.By)
	if err != nil {
		return FailedTo(d(w.as), err)
	}
	signer, err := a.Signer(ctx, w.key, s.People()[person].Keys)
	if err != nil {
		return FailedTo(d(person), err)
	}
	done, err := Signed(p, repo, signer).Push(ctx, d(person))
	if err != nil {
		return err
	}
	return a.Wrote(done)
}

// Wrote tells what was done.
func (a *App) Wrote(done edits.Done) error {
	a.SayFaults(done.Warnings)
	if encoded, err := a.Encode(done); encoded {
		return err
	}
	if done.Commit == "" {
		a.Stdout.Line("%s", done.Did)
		return nil
	}
	a.Stdout.Line("%s: commit %s", done.Did, Short(done.Commit))
	if done.Next != "" {
		a.Stdout.Line("next: %s", done.Next)
	}
	return nil
}
