package announcer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// result is what came of a job: an exchange with the git host, and what was read after it.
type result struct {
	kind   task
	read   *reading         // nil: see err
	mark   plan.FlagsMark   // as it was when the job began
	asked  map[string]bool  // IDs of the kills that were known then
	pushed []announce.Write // what was to be pushed
	err    error            // of the exchange, or of reading
}

// task is what a job is for.
type task int

const (
	resume task = iota // read what was acted upon before this process began, from the mirror: the host may not answer
	look               // fetch the branch, and read its tip
	commit             // push
)

// job gives what git is to be asked for now; nil: nothing.
func (a *Announcer) job(fetch bool) func(context.Context) result {
	r := result{kind: look, mark: a.mark, asked: map[string]bool{}}
	for _, k := range a.kills {
		r.asked[k.ID] = true
	}
	if !a.began {
		a.began = true
		if a.mark.Commit != "" {
			r.kind = resume
			return func(ctx context.Context) result { return a.readAt(ctx, r, r.mark.Commit) }
		}
	}
	if fetch {
		return func(ctx context.Context) result { return a.look(ctx, r) }
	}
	if !a.owes() || time.Now().Before(a.push.after) {
		return nil
	}
	r.kind, r.pushed = commit, a.plan.Writes
	draft, err := a.draft(a.o.Engine.Now())
	tip := a.read.tip
	return func(ctx context.Context) result {
		if r.err = err; err != nil {
			return r
		}
		return a.commit(ctx, r, tip, draft)
	}
}

// owes tells whether this process has something to commit.
func (a *Announcer) owes() bool {
	return a.leads && a.read != nil && a.split == nil && len(a.plan.Writes) > 0
}

// look fetches the branch and reads its tip.
func (a *Announcer) look(ctx context.Context, r result) result {
	tip, err := a.o.Repo.Fetch(ctx)
	if err != nil {
		r.err = fmt.Errorf("look at the flags repository: %w", err)
		return r
	}
	return a.readAt(ctx, r, tip)
}

func (a *Announcer) readAt(ctx context.Context, r result, tip string) result {
	r.read, r.err = a.reader.read(ctx, tip)
	return r
}

// commit pushes a draft onto tip, and reads what the branch is then.
func (a *Announcer) commit(ctx context.Context, r result, tip string, draft releases.Draft) result {
	commits, err := a.o.Repo.Push(ctx, tip, []releases.Draft{draft})
	if err != nil {
		r.err = fmt.Errorf("commit to the flags repository: %w", err)
		return r
	}
	a.o.Log.Info().Strs("commits", commits).Str("base", tip).Str("subject", firstLine(draft.Message)).Msg("committed to the flags repository")
	return a.readAt(ctx, r, commits[len(commits)-1])
}

// accepts tells whether the branch contains what was acted upon, or says that its loss is accepted, and stands higher (R39).
func (r *reading) accepts(mark plan.FlagsMark) bool {
	return mark.Commit == "" || r.has(mark.Commit) || r.acknowledged[mark.Commit] && r.height > mark.Height
}

// took takes what came of a job. again: the branch is to be looked at at once; else it is after wait.
func (a *Announcer) took(ctx context.Context, r result) (again bool, wait time.Duration) {
	wait = backoff.Spread(a.o.Poll)
	switch {
	case ctx.Err() != nil:
		return false, wait
	case r.kind == resume:
		a.split = r.mark.Diverged // until the next look
		if a.read = r.read; r.err != nil {
			a.o.Log.Warn().Err(r.err).Msg("what was in force before can't be read from the mirror")
		}
		return true, wait
	case r.err != nil:
		return a.failed(r, wait)
	case r.kind == commit:
		a.landed(r.pushed)
	}
	a.push.looks, a.fault = 0, ""
	if !r.read.accepts(r.mark) {
		a.diverge(r)
		return false, wait
	}
	if a.split != nil {
		a.o.Log.Info().Str("tip", r.read.tip).Msg("the flags repository is followed again")
	}
	a.read, a.asked, a.split = r.read, r.asked, nil
	return false, wait
}

// failed says what went wrong, and when it is tried again.
func (a *Announcer) failed(r result, poll time.Duration) (again bool, wait time.Duration) {
	if r.kind == look {
		a.fault = "the flags repository can't be read: " + r.err.Error()
		a.o.Log.Warn().Err(r.err).Msg("the flags repository can't be read: what is in force stays")
		a.push.looks++
		return false, min(poll, pause(a.push.looks))
	}
	if errors.Is(r.err, engine.ErrMoved) && a.push.tries < maxTries {
		a.push.tries++
		a.o.Log.Info().Msg("the flags repository's branch moved: deciding again")
		return true, poll
	}
	// Refused, or not known whether it landed: the next look tells.
	a.push.tries = 0
	a.push.failures++
	a.push.after = time.Now().Add(pause(a.push.failures))
	a.o.Log.Warn().Err(r.err).Msg("the flags repository could not be written: trying again")
	return true, poll
}

// diverge keeps what is in force (R39).
func (a *Announcer) diverge(r result) {
	a.fault = fmt.Sprintf("the flags repository was force-pushed, or merged the wrong way round: %s was acted upon and is not among the first parents of %s. "+
		"Cells keep what they have. Look at it, then accept the branch as it is: git commit --allow-empty -m 'accept the branch' -m '%s: %s %d'",
		words.Short(r.mark.Commit), words.Short(r.read.tip), acknowledgeTrailer, r.mark.Commit, r.mark.Height)
	if a.split != nil && a.split.Seen == r.mark.Commit && a.split.Tip == r.read.tip {
		return
	}
	a.split = &plan.Divergence{Seen: r.mark.Commit, Tip: r.read.tip, At: a.o.Engine.Now().UTC().Truncate(time.Millisecond)}
	a.o.Log.Error().Str("seen", r.mark.Commit).Str("tip", r.read.tip).Msg("the flags repository was force-pushed: cells keep what they have until that is acknowledged")
}

// keepMark says what is acted upon, or that it can't be. What can't be stored is known here all the same, and stored later.
func (a *Announcer) keepMark(ctx context.Context) {
	m := a.mark
	switch {
	case a.read == nil:
		return
	case a.split != nil:
		m.Diverged = a.split
	case a.read.accepts(m): // else another process is ahead
		m = plan.FlagsMark{Commit: a.read.tip, Height: a.read.height}
	}
	if m.Commit == a.mark.Commit && sameSplit(m.Diverged, a.mark.Diverged) {
		return
	}
	a.mark = m
	if err := a.o.Store.SetFlagsMark(ctx, m); err != nil && ctx.Err() == nil && !errors.Is(err, plan.ErrDeposed) {
		a.o.Log.Error().Err(err).Msg("which commit of the flags repository was acted upon could not be stored")
	}
}

func sameSplit(a, b *plan.Divergence) bool {
	return a == b || a != nil && b != nil && a.Seen == b.Seen && a.Tip == b.Tip
}

// pushing is how commits go.
type pushing struct {
	tries    int // rejected pushes in a row, decided again at once
	failures int // other failed ones in a row
	looks    int // failed looks in a row
	after    time.Time
	last     []announce.Write
}

// maxTries is how often in a row it is decided again at once because the branch moved.
const maxTries = 10

// landed notes that writes were pushed. What is asked for again though it was just done would be done for ever.
func (a *Announcer) landed(writes []announce.Write) {
	same := slices.EqualFunc(writes, a.push.last, func(x, y announce.Write) bool { return x.Path == y.Path && string(x.Content) == string(y.Content) })
	a.push = pushing{last: writes}
	if same {
		a.push.after = time.Now().Add(time.Minute)
		a.o.Log.Error().Str("path", writes[0].Path).Msg("what was committed is not recognised: it is not committed again for a minute")
	}
}

// pause grows from a second to a minute, with jitter.
func pause(failures int) time.Duration {
	return backoff.Spread(backoff.Exponential(time.Second, time.Minute, max(failures-1, 0)))
}
