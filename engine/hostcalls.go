package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/internal/words"
)

// hostCalls talks to the git host beside the loop: a host that is slow, or hangs, delays no decision (R61). A call that
// has no answer within patience goes on by itself, and its answer wakes the loop. The caller holds tickMu.
type hostCalls struct {
	repo     Repository
	answered wake.Signal
	patience time.Duration // 0: as long as it takes
	fetching *hostCall[string]
	again    bool // fetching began before the newest request for a fetch, and may not see what was pushed since
	pushing  *hostCall[pushAnswer]
	about    []string  // what the push is about
	since    time.Time // when it began, for people
}

// pushAnswer is the end of a push.
type pushAnswer struct {
	base    string
	commits []string
}

// hostCall is one call to the host.
type hostCall[T any] struct {
	began  time.Time
	done   chan struct{} // closed once the fields below are set
	answer T
	err    error
}

// errNoAnswer means that a call to the host goes on.
var errNoAnswer = errors.New("the git host has not answered yet")

// hostPatience is how long the loop waits for the host, which usually answers within milliseconds.
const hostPatience = time.Second

// SlowHost is how long a fetch or a push may take before people are told.
const SlowHost = 10 * time.Second

func beginCall[T any](answered wake.Signal, call func() (T, error)) *hostCall[T] {
	c := &hostCall[T]{began: time.Now(), done: make(chan struct{})}
	go func() {
		c.answer, c.err = call()
		close(c.done)
		answered.Notify()
	}()
	return c
}

// wait returns the call's end, or errNoAnswer if the host takes longer than patience.
func (c *hostCall[T]) wait(ctx context.Context, patience time.Duration) (answer T, err error) {
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(max(patience-time.Since(c.began), 0)) // no call is waited for twice
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return answer, ctx.Err()
	case <-late:
		if c.isAnswered() {
			return c.answer, c.err
		}
		return answer, fmt.Errorf("%w, since %s", errNoAnswer, time.Since(c.began).Round(time.Second))
	}
}

func (c *hostCall[T]) isAnswered() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// isSlow reports whether a fetch goes on for so long that people should know.
func (h *hostCalls) isSlow() bool {
	return h.fetching != nil && time.Since(h.fetching.began) > SlowHost
}

// tellSlowPush returns what people should know of the host. A push that goes on for long is among it, and is added to
// o, which belongs to the caller, as a refusal of what it is about.
func (h *hostCalls) tellSlowPush(o *plan.Observed) (notes []string) {
	notes = h.repo.HostNotes()
	if h.pushing == nil || h.pushing.isAnswered() || time.Since(h.pushing.began) < SlowHost {
		return notes
	}
	what := "a push has been under way since " + words.FormatTime(h.since) +
		", and the git host has not answered yet"
	for _, about := range h.about {
		o.Refused[about] = plan.Refusal{Reason: what}
	}
	return append(notes, what+": nothing else is pushed before it ends")
}

// requestFetch demands that the next fetch sees what is pushed by now.
func (h *hostCalls) requestFetch() { h.again = h.fetching != nil }

// fetch returns the branch's tip, or errNoAnswer.
func (h *hostCalls) fetch(ctx context.Context) (tip string, err error) {
	for {
		if h.fetching == nil {
			h.again = false
			h.fetching = beginCall(h.answered, func() (string, error) { return h.repo.Fetch(ctx) })
		}
		if tip, err = h.fetching.wait(ctx, h.patience); errors.Is(err, errNoAnswer) {
			return "", err
		}
		h.fetching = nil
		if !h.again || err != nil {
			return tip, err
		}
	}
}
