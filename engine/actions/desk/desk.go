// Package desk makes the commits of actions: it proposes a commit, makes it if it is still the one that its person saw,
// and reads commits back. Each is made by the same functions as the command line's (package edits), with the person as
// the author and the control plane as the committer, unsigned: it never counts as a decision of the engine, nor as a
// change of what owners guard, nor as an approval, unless a passkey of the person's signed that (R52).
//
// A Desk asks no permission: whoever serves it does. Two replicas need not know of each other: the git host compares
// and swaps, and a proposal that another commit made untrue is proposed anew. All methods may be called at once.
package desk

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

// Request is an action that a person asked for.
type Request struct {
	Action *actions.Action
	Values actions.Values
	Shown  time.Time          // when the person saw it first
	Author releases.Person    // for whom the commit is made
	Origin string             // of the page, for which the person's passkeys are
	Signed *passkey.Assertion // of an approval: what a passkey of the person's made of the proposal; nil: nothing
	By     string             // who asked, and how that is known, for the commit's trailers
	From   string             // the address of their machine
}

// Branch is a repository to which actions commit.
type Branch[S edits.Snapshot] struct {
	Read      func(context.Context) (S, error)              // returns the newest snapshot
	Committer func(author releases.Person) edits.Repository // commits for the author
	History   History
	Address   string // for advice
	Pushed    func() // called after each commit
}

// History reads commits.
type History interface {
	Change(commit string) (releases.Change, error)
	Contains(ctx context.Context, commit, tip string) (bool, error)
	FS(commit string) (fs.FS, error)
	LastTip() string
}

// Desk makes the commits of actions.
type Desk struct {
	Releases *Branch[*edits.Releases] // required
	Flags    *Branch[*edits.Flags]    // nil: there is no flags repository
}

// The names of the repositories.
const (
	ReleasesRepository = "releases"
	FlagsRepository    = "flags"
)

// RepositoryOf returns the repository that a request's commit is one of.
func RepositoryOf(r Request) string {
	if r.Action.InFlags() || r.Action.Undo && r.Values["repository"] == FlagsRepository {
		return FlagsRepository
	}
	return ReleasesRepository
}

// Propose returns the commit that the request would make now.
func (d *Desk) Propose(ctx context.Context, r Request) (edits.Proposal, error) {
	if r.Action.Approve != nil {
		return d.proposeApproval(ctx, r)
	}
	if RepositoryOf(r) == FlagsRepository {
		return propose(ctx, d.Flags, r, r.Action.Flags, nil)
	}
	return propose(ctx, d.Releases, r, r.Action.Releases, seenOf(r))
}

// proposeApproval returns an approval that lacks nothing but what a passkey makes of its challenge.
func (d *Desk) proposeApproval(ctx context.Context, r Request) (edits.Proposal, error) {
	s, err := d.Releases.Read(ctx)
	if err != nil {
		return edits.Proposal{}, err
	}
	approve := r.Action.Approve(r.Values)
	challenge, err := approve.Challenge(s, edits.Person{Person: r.Author}, rand.Text(), r.Origin)
	if err != nil {
		return edits.Proposal{}, err
	}
	subject, body := asked[*edits.Releases](r, approve).Message()
	return edits.Proposal{Base: s.Base(), Sign: &challenge, Seen: challenge.Digest,
		Edit: edits.Edit{Message: subject + "\n\n" + body + "\n"}}, nil
}

// approvalOf makes the decision of an approval that a passkey signed. The control plane makes no other (R52).
func approvalOf(r Request) maker[*edits.Releases] {
	return func(v actions.Values, _ time.Time) (edits.Decision[*edits.Releases], error) {
		approve := r.Action.Approve(v)
		if approve.Passkey = r.Signed; r.Signed == nil {
			return nil, edits.Fail(errors.New("no passkey of yours signed it"), "approve it by a browser that runs "+
				"scripts, or by the command: %s", r.Action.Command(v))
		}
		return approve, nil
	}
}

// Commit makes the commit whose digest the person saw. If it would be another one now, it returns edits.ErrChanged and
// that one. An approval is the one that the person's passkey signed, whatever digest says.
func (d *Desk) Commit(ctx context.Context, r Request, digest string) (edits.Result, edits.Proposal, error) {
	if RepositoryOf(r) == FlagsRepository {
		return commit(ctx, d.Flags, r, r.Action.Flags, nil, digest)
	}
	if r.Action.Approve != nil {
		return commit(ctx, d.Releases, r, approvalOf(r), nil, "")
	}
	return commit(ctx, d.Releases, r, r.Action.Releases, seenOf(r), digest)
}

func seenOf(r Request) func(*edits.Releases) string {
	return func(s *edits.Releases) string { return r.Action.Seen(s, r.Values) }
}

// maker makes an action's decision.
type maker[S edits.Snapshot] func(v actions.Values, now time.Time) (edits.Decision[S], error)

func propose[S edits.Snapshot](ctx context.Context, b *Branch[S], r Request, make maker[S],
	see func(S) string) (edits.Proposal, error) {
	d, p, err := prepare(ctx, b, r, make, see)
	if err != nil {
		return edits.Proposal{}, err
	}
	return p.Propose(ctx, d)
}

func commit[S edits.Snapshot](ctx context.Context, b *Branch[S], r Request, make maker[S],
	see func(S) string, digest string) (edits.Result, edits.Proposal, error) {
	d, p, err := prepare(ctx, b, r, make, see)
	if err != nil {
		return edits.Result{}, edits.Proposal{}, err
	}
	var done edits.Result
	var now edits.Proposal
	if r.Action.Approve != nil {
		done, err = p.Push(ctx, d)
		now.Summary, now.Next = done.Summary, done.Next
	} else {
		done, now, err = p.PushProposed(ctx, d, digest)
	}
	if done.Commit != "" && b.Pushed != nil {
		b.Pushed()
	}
	return done, now, err
}

func prepare[S edits.Snapshot](ctx context.Context, b *Branch[S], r Request, make maker[S],
	see func(S) string) (d edits.Decision[S], p edits.Pusher[S], err error) {
	switch {
	case b == nil:
		return nil, p, errNoFlags()
	case r.Action.CommandOnly():
		err = edits.Fail(errors.New("this is done by the command line alone"), "%s", r.Action.Command(r.Values))
	case r.Action.Undo:
		d, err = undoOf(ctx, b, r)
	default:
		d, err = make(r.Values, r.Shown)
	}
	if err != nil {
		return nil, p, err
	}
	return asked(r, d), edits.Pusher[S]{Repo: b.Committer(r.Author), ReadSnapshot: b.Read,
		By: edits.Person{Person: r.Author}, Address: b.Address, Pause: pause, See: see}, nil
}

// asked returns the decision with who asked for it.
func asked[S edits.Snapshot](r Request, d edits.Decision[S]) edits.Asked[S] {
	return edits.Asked[S]{Decision: d, At: r.Shown, By: r.By, From: r.From}
}

func errNoFlags() error {
	return edits.Fail(errors.New("this control plane has no flags repository"), "sluice serve --flags-repo names one")
}

// pause waits before a decision is made again.
func pause(ctx context.Context, tries int) error {
	const shortest, longest = 20 * time.Millisecond, 500 * time.Millisecond
	return backoff.Sleep(ctx, backoff.FullJitter(backoff.Exponential(shortest, longest, tries)))
}

// undoOf returns the decision that takes back a commit that was made here for somebody.
func undoOf[S edits.Snapshot](ctx context.Context, b *Branch[S], r Request) (edits.Decision[S], error) {
	c, err := show(ctx, b, r.Values["commit"])
	if err != nil {
		return nil, err
	}
	if !c.Undoable() {
		return nil, edits.Fail(errors.New("only a commit that was asked for in a form is undone in a form"),
			"git revert %s, in a clone, by somebody who may", c.Change.Commit)
	}
	subject, _, _ := strings.Cut(c.Change.Message, "\n")
	return edits.Undo[S]{Commit: c.Change.Commit, Subject: subject, Before: c.Before, After: c.After,
		Reason: r.Values["reason"]}, nil
}

// Commit is a commit with the files that it changed, as far as Sluice reads them; folders of releases are left out.
type Commit struct {
	Change        releases.Change
	Before, After map[string][]byte
	Left          []string // what it changed beside these files
}

// Undoable reports whether an action can take the commit back.
func (c *Commit) Undoable() bool {
	if len(releases.Trailers(c.Change.Message, edits.AskedByTrailer)) == 0 || len(c.Left) > 0 ||
		len(c.Change.Files) == 0 {
		return false
	}
	for _, f := range c.Change.Files {
		if !edits.CanUndo(f.Path) {
			return false
		}
	}
	return true
}

// ErrNoCommit means that the branch has no such commit.
var ErrNoCommit = errors.New("the branch has no such commit")

// Show returns a commit of a repository's branch.
func (d *Desk) Show(ctx context.Context, repository, commit string) (*Commit, error) {
	switch {
	case repository == ReleasesRepository:
		return show(ctx, d.Releases, commit)
	case repository == FlagsRepository && d.Flags != nil:
		return show(ctx, d.Flags, commit)
	case repository == FlagsRepository:
		return nil, errNoFlags()
	}
	return nil, ErrNoCommit
}

// Bounds of the files of one commit that are read.
const (
	maxFiles = 200
	maxBytes = 4 << 20
)

func show[S edits.Snapshot](ctx context.Context, b *Branch[S], id string) (*Commit, error) {
	if b == nil {
		return nil, errNoFlags()
	}
	if len(id) != 40 || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, ErrNoCommit
	}
	in, err := b.History.Contains(ctx, id, b.History.LastTip())
	if err != nil || !in { // another replica may have made it just now
		var s S
		if s, err = b.Read(ctx); err == nil {
			in, err = b.History.Contains(ctx, id, s.Base())
		}
	}
	switch {
	case err != nil:
		return nil, errors.Join(ErrNoCommit, err)
	case !in:
		return nil, ErrNoCommit
	}
	c := &Commit{Before: map[string][]byte{}, After: map[string][]byte{}}
	if c.Change, err = b.History.Change(id); err != nil {
		return nil, err
	}
	read := 0
	for i, f := range c.Change.Files {
		if i >= maxFiles || read > maxBytes {
			c.Left = append(c.Left, f.Path)
			continue
		}
		n, err := c.readFile(b.History, f)
		if err != nil {
			return nil, err
		}
		read += n
	}
	return c, nil
}

// readFile reads a file before and after the commit.
func (c *Commit) readFile(h History, f releases.FileChange) (read int, err error) {
	for _, side := range []struct {
		commit string
		there  bool
		files  map[string][]byte
	}{{c.Change.Parent, f.Old != "", c.Before}, {c.Change.Commit, f.New != "", c.After}} {
		if !side.there || side.commit == "" {
			continue
		}
		files, err := h.FS(side.commit)
		if err != nil {
			return read, err
		}
		info, err := fs.Stat(files, f.Path)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxBytes { // a release's folder
			c.Left = append(c.Left, f.Path)
			delete(c.Before, f.Path)
			return read, nil //nolint:nilerr // it is named
		}
		if side.files[f.Path], err = fs.ReadFile(files, f.Path); err != nil {
			return read, err
		}
		read += len(side.files[f.Path])
	}
	return read, nil
}
