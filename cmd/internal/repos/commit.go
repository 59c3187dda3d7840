package repos

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/gitrepo"
)

// Repository opens and reads one of the two kinds of repository that decisions are committed to.
type Repository[S edits.Snapshot] struct {
	open     func(context.Context, *cli.App, *cobra.Command) (*OpenRepository, error)
	snapshot func(*OpenRepository, context.Context) (S, error) // of the branch's tip
}

// ReleaseRepository is the release repository, of which only the releases that a decision can concern are read.
func ReleaseRepository() Repository[*edits.Releases] {
	return Repository[*edits.Releases]{OpenReleases, (*OpenRepository).ReadReleases}
}

// FullReleaseRepository is the release repository with every release read.
func FullReleaseRepository() Repository[*edits.Releases] {
	return Repository[*edits.Releases]{OpenReleases,
		func(o *OpenRepository, ctx context.Context) (*edits.Releases, error) {
			o.Loader.AllReleases = true
			return o.ReadReleases(ctx)
		}}
}

func FlagsRepository() Repository[*edits.Flags] {
	return Repository[*edits.Flags]{OpenFlags, (*OpenRepository).ReadFlags}
}

// ReadSnapshot reads the branch's tip. The snapshot's files can't be read after the return: the repository is
// closed.
func (s Repository[S]) ReadSnapshot(ctx context.Context, a *cli.App, cmd *cobra.Command) (v S, err error) {
	repo, err := s.open(ctx, a, cmd)
	if err != nil {
		return v, err
	}
	defer repo.Close()
	return s.snapshot(repo, ctx)
}

// pauseAfterRace waits before a decision is made again. The wait is short, since a slower try loses more races.
func pauseAfterRace(ctx context.Context, tries int) error {
	const shortest, longest = 20 * time.Millisecond, 500 * time.Millisecond
	return backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(shortest, longest, tries)))
}

// OpenPusher opens the repository for decisions in the caller's name. The caller closes repo.
func (s Repository[S]) OpenPusher(a *cli.App, cmd *cobra.Command) (repo *OpenRepository, p edits.Pusher[S], err error) {
	ctx := cmd.Context()
	if cmd.Flags().Lookup("dry-run") == nil {
		return nil, p, fmt.Errorf("%s may not commit: it lacks --dry-run", cmd.CommandPath())
	}
	who, err := FindAuthor(ctx, a)
	if err != nil {
		return nil, p, err
	}
	if repo, err = s.open(ctx, a, cmd); err != nil {
		return nil, p, err
	}
	if repo.branchNote != "" {
		a.Stderr.PrintLine("note: %s", repo.branchNote)
	}
	p = edits.Pusher[S]{Repo: repo.CommitterAs(who, nil), By: edits.Person{Person: who}, Address: repo.Address,
		Pause: pauseAfterRace}
	p.Sign = func(ctx context.Context, keys []string) (edits.Repository, ssh.PublicKey, error) {
		signer, err := FindSigner(ctx, a, "", keys)
		if signer == nil || err != nil {
			return nil, nil, err
		}
		return repo.CommitterAs(who, signer), signer.Key.PublicKey(), nil
	}
	p.ReadSnapshot = func(ctx context.Context) (S, error) { return s.snapshot(repo, ctx) }
	return repo, p, nil
}

// WithSigner returns p signing its commits; a nil signer signs nothing.
func WithSigner[S edits.Snapshot](p edits.Pusher[S], repo *OpenRepository, signer *gitrepo.SSHSigner) edits.Pusher[S] {
	if signer != nil {
		p.Repo, p.By.Key = repo.CommitterAs(p.By.Person, signer), signer.Key.PublicKey()
	}
	return p
}

// CommitDecision commits a decision in the caller's name and prints the outcome.
func CommitDecision[S edits.Snapshot](a *cli.App, cmd *cobra.Command, to Repository[S], d edits.Decision[S]) error {
	repo, p, err := to.OpenPusher(a, cmd)
	if err != nil {
		return DecisionError(d, err)
	}
	defer repo.Close()
	return PushOrShow(cmd.Context(), a, repo, p, d)
}

// RunDecision makes cmd commit a decision of the caller.
func RunDecision[S edits.Snapshot](a *cli.App, cmd *cobra.Command, to Repository[S],
	decision func(args []string) edits.Decision[S]) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return CommitDecision(a, cmd, to, decision(args)) }
	return cmd
}

// DecisionError adds to err which decision failed.
func DecisionError[S edits.Snapshot](d edits.Decision[S], err error) error {
	subject, _ := d.Message()
	return fmt.Errorf("%s: %w", subject, err)
}

// ApprovalOptions are the flags of the verbs that approve.
type ApprovalOptions struct{ person, key, Comment string }

func (w *ApprovalOptions) AddFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.person, "as", "",
		"approve as this `PERSON` of sluice.yaml (default: the one with your e-mail address)")
	f.StringVar(&w.key, "key", "", "`FILE` with the private SSH key to sign with")
	f.StringVar(&w.Comment, "comment", "", "comment to store with the approval")
}

// As returns the person who approves; empty: the one with the committer's address.
func (w *ApprovalOptions) As() string { return w.person }

// CommitApproval commits an approval, signed with a key that sluice.yaml lists for the person. d returns the
// decision of that person.
func CommitApproval[S edits.Snapshot](a *cli.App, cmd *cobra.Command, to Repository[S], w ApprovalOptions,
	d func(as string) edits.Decision[S]) error {
	ctx := cmd.Context()
	repo, p, err := to.OpenPusher(a, cmd)
	if err != nil {
		return DecisionError(d(w.person), err)
	}
	defer repo.Close()
	s, err := p.ReadSnapshot(ctx)
	if err != nil {
		return DecisionError(d(w.person), err)
	}
	person, err := s.People().FindApprover(w.person, p.By)
	if err != nil {
		return DecisionError(d(w.person), err)
	}
	signer, err := FindSigner(ctx, a, w.key, s.People()[person].Keys)
	if err != nil {
		return DecisionError(d(person), err)
	}
	return PushOrShow(ctx, a, repo, WithSigner(p, repo, signer), d(person))
}

// PrintDone prints what a decision did.
func PrintDone(a *cli.App, done edits.Result) error {
	a.ReportFaults(done.Warnings)
	done.Next = cli.CompleteNext(a, done.Next)
	encoded, err := a.PrintEncoded(done)
	if err == nil && !encoded {
		printSentences(a, done)
	}
	if err == nil && done.Short != "" {
		return cli.Blocked(fmt.Errorf("%s: %s", done.Summary, done.Short), "%s", done.Next)
	}
	return err
}

func printDetails(a *cli.App, lines []string) {
	for _, line := range lines {
		a.Stdout.PrintLine("  %s", line)
	}
}

func printSentences(a *cli.App, done edits.Result) {
	if done.Commit == "" {
		a.Stdout.PrintLine("%s", done.Summary)
		printDetails(a, done.Details)
		return
	}
	a.Stdout.PrintLine("%s: commit %s", done.Summary, cli.ShortID(done.Commit))
	printDetails(a, done.Details)
	if done.Next != "" && done.Short == "" {
		a.Stdout.PrintLine("next: %s", done.Next)
	}
}
