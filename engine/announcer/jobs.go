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

// jobResult is the result of a job: an exchange with git, and what was read after it.
type jobResult struct {
	kind       jobKind
	snapshot   *snapshot        // nil: see err
	mark       plan.FlagsMark   // when the job began
	knownKills map[string]bool  // IDs of kills known when the job began
	writes     []announce.Write // what to push
	err        error            // of the exchange, or of reading
}

type jobKind int

const (
	// jobResume reads the commit that was acted upon before this process started, from the mirror, for the host may not
	// answer.
	jobResume jobKind = iota
	jobFetch          // fetches the branch, and reads its tip
	jobCommit         // pushes a commit
)

// exchange is a job that goes on.
type exchange struct {
	kind  jobKind
	began time.Time // monotonic
	since time.Time // the same, for people
}

// isSlow reports whether the git host takes so long that people should know.
func (x *exchange) isSlow() bool {
	return x != nil && x.kind != jobResume && time.Since(x.began) >= engine.SlowHost
}

// fault says why the repository can't be read, or that it was not answered for long; empty: neither.
func (a *Announcer) fault() string {
	if a.repoFault != "" || !a.exchange.isSlow() {
		return a.repoFault
	}
	what := "a fetch of the flags repository"
	if a.exchange.kind == jobCommit {
		what = "a push to the flags repository"
	}
	return what + " has been under way since " + words.FormatTime(a.exchange.since) + ", and is not answered yet"
}

// nextJob returns the next exchange with git; nil: none is due.
func (a *Announcer) nextJob(fetch bool) (kind jobKind, do func(context.Context) jobResult) {
	r := jobResult{kind: jobFetch, mark: a.mark, knownKills: map[string]bool{}}
	for _, k := range a.kills {
		r.knownKills[k.ID] = true
	}
	if !a.started {
		a.started = true
		if a.mark.Commit != "" {
			r.kind = jobResume
			return r.kind, func(ctx context.Context) jobResult { return a.readAt(ctx, r, r.mark.Commit) }
		}
	}
	if fetch {
		return r.kind, func(ctx context.Context) jobResult { return a.fetch(ctx, r) }
	}
	if !a.hasWrites() || time.Now().Before(a.pushes.notBefore) {
		return r.kind, nil
	}
	r.kind, r.writes = jobCommit, a.plan.Writes
	draft, err := a.draftCommit(a.opts.Engine.Now())
	tip := a.snapshot.tip
	return r.kind, func(ctx context.Context) jobResult {
		if r.err = err; err != nil {
			return r
		}
		return a.pushDraft(ctx, r, tip, draft)
	}
}

func (a *Announcer) hasWrites() bool {
	return a.leads && a.snapshot != nil && a.diverged == nil && len(a.plan.Writes) > 0
}

func (a *Announcer) fetch(ctx context.Context, r jobResult) jobResult {
	tip, err := a.opts.Repo.Fetch(ctx)
	if err != nil {
		r.err = fmt.Errorf("look at the flags repository: %w", err)
		return r
	}
	return a.readAt(ctx, r, tip)
}

func (a *Announcer) readAt(ctx context.Context, r jobResult, tip string) jobResult {
	r.snapshot, r.err = a.reader.readSnapshot(ctx, tip)
	return r
}

// pushDraft pushes a draft onto tip, and reads the new tip.
func (a *Announcer) pushDraft(ctx context.Context, r jobResult, tip string, draft releases.Draft) jobResult {
	commits, err := a.opts.Repo.Push(ctx, tip, []releases.Draft{draft})
	if err != nil {
		r.err = fmt.Errorf("commit to the flags repository: %w", err)
		return r
	}
	a.opts.Log.Info().Strs("commits", commits).Str("base", tip).
		Str("subject", firstLine(draft.Message)).Msg("committed to the flags repository")
	return a.readAt(ctx, r, commits[len(commits)-1])
}

// accepts reports whether the branch contains the marked commit, or accepts its loss and is higher (R39).
func (r *snapshot) accepts(mark plan.FlagsMark) bool {
	return mark.Commit == "" || r.contains(mark.Commit) || r.acknowledged[mark.Commit] && r.height > mark.Height
}

// handleResult handles a job's result. fetchNow asks for another fetch at once; else the next one is due after wait.
func (a *Announcer) handleResult(ctx context.Context, r jobResult) (fetchNow bool, wait time.Duration) {
	wait = backoff.Spread(a.opts.Poll)
	switch {
	case ctx.Err() != nil:
		return false, wait
	case r.kind == jobResume:
		a.diverged = r.mark.Diverged // until the next fetch
		if a.snapshot = r.snapshot; r.err != nil {
			a.opts.Log.Warn().Err(r.err).Msg("the state in force before the start can't be read from the mirror")
		}
		return true, wait
	case r.err != nil:
		return a.handleFailure(r, wait)
	case r.kind == jobCommit:
		a.recordPushed(r.writes)
	}
	a.pushes.fetchFailures, a.repoFault = 0, ""
	if !r.snapshot.accepts(r.mark) {
		a.recordDivergence(r)
		return false, wait
	}
	if a.diverged != nil {
		a.opts.Log.Info().Str("tip", r.snapshot.tip).Msg("the flags repository is followed again")
	}
	a.snapshot, a.knownKills, a.diverged = r.snapshot, r.knownKills, nil
	return false, wait
}

// handleFailure records a job's failure, and returns when to retry.
func (a *Announcer) handleFailure(r jobResult, poll time.Duration) (fetchNow bool, wait time.Duration) {
	if r.kind == jobFetch {
		a.repoFault = "the flags repository can't be read: " + r.err.Error()
		a.opts.Log.Warn().Err(r.err).Msg("the flags repository can't be read: the current state stays in force")
		a.pushes.fetchFailures++
		return false, min(poll, retryDelay(a.pushes.fetchFailures))
	}
	if errors.Is(r.err, engine.ErrMoved) && a.pushes.moves < maxMoves {
		a.pushes.moves++
		a.opts.Log.Info().Msg("the flags repository's branch moved: deciding again")
		return true, poll
	}
	// The push was refused, or may have landed: the next fetch shows which.
	a.pushes.moves = 0
	a.pushes.failures++
	a.pushes.notBefore = time.Now().Add(retryDelay(a.pushes.failures))
	a.opts.Log.Warn().Err(r.err).Msg("the flags repository could not be written: trying again")
	return true, poll
}

// recordDivergence keeps what is in force (R39).
func (a *Announcer) recordDivergence(r jobResult) {
	a.repoFault = fmt.Sprintf("the flags repository was force-pushed, or merged the wrong way round: "+
		"%s was acted upon and is not among the first parents of %s. "+
		"Cells keep what they have. Look at it, then accept the branch as it is: "+
		"git commit --allow-empty -m 'accept the branch' -m '%s: %s %d'",
		words.ShortCommit(r.mark.Commit), words.ShortCommit(r.snapshot.tip), acknowledgeTrailer, r.mark.Commit,
		r.mark.Height)
	if a.diverged != nil && a.diverged.Seen == r.mark.Commit && a.diverged.Tip == r.snapshot.tip {
		return
	}
	a.diverged = &plan.Divergence{Seen: r.mark.Commit, Tip: r.snapshot.tip,
		At: a.opts.Engine.Now().UTC().Truncate(time.Millisecond)}
	a.opts.Log.Error().Str("seen", r.mark.Commit).Str("tip", r.snapshot.tip).
		Msg("the flags repository was force-pushed: cells keep what they have until that is acknowledged")
}

// storeMark records which commit is acted upon, or that the branch diverged. A mark that can't be stored counts here
// all the same, and is stored later.
func (a *Announcer) storeMark(ctx context.Context) {
	m := a.mark
	switch {
	case a.snapshot == nil:
		return
	case a.diverged != nil:
		m.Diverged = a.diverged
	case a.snapshot.accepts(m): // else another process is ahead
		m = plan.FlagsMark{Commit: a.snapshot.tip, Height: a.snapshot.height}
	}
	if m.Commit == a.mark.Commit && sameDivergence(m.Diverged, a.mark.Diverged) {
		return
	}
	a.mark = m
	if err := a.opts.Store.SetFlagsMark(ctx, m); err != nil && ctx.Err() == nil && !errors.Is(err, plan.ErrDeposed) {
		a.opts.Log.Error().Err(err).Msg("which commit of the flags repository was acted upon could not be stored")
	}
}

func sameDivergence(a, b *plan.Divergence) bool {
	return a == b || a != nil && b != nil && a.Seen == b.Seen && a.Tip == b.Tip
}

type pushState struct {
	moves         int // consecutive pushes that found the branch moved
	failures      int // consecutive other failed pushes
	fetchFailures int // consecutive failed fetches
	notBefore     time.Time
	lastWrites    []announce.Write
}

// maxMoves limits how often in a row the announcer decides again at once because the branch moved.
const maxMoves = 10

// recordPushed records pushed writes. Writes that a plan requests again at once are delayed, since they would be
// repeated for ever.
func (a *Announcer) recordPushed(writes []announce.Write) {
	same := slices.EqualFunc(writes, a.pushes.lastWrites,
		func(x, y announce.Write) bool { return x.Path == y.Path && string(x.Content) == string(y.Content) })
	a.pushes = pushState{lastWrites: writes}
	if same {
		a.pushes.notBefore = time.Now().Add(time.Minute)
		a.opts.Log.Error().Str("path", writes[0].Path).
			Msg("what was committed is not recognised: it is not committed again for a minute")
	}
}

// retryDelay grows from a second to a minute, with jitter.
func retryDelay(failures int) time.Duration {
	return backoff.Spread(backoff.Exponential(time.Second, time.Minute, max(failures-1, 0)))
}
