package auth

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	refusalWindow   = 10 * time.Minute
	maxRefused      = 32  // callers that have rows of their own at once
	maxRefusedKinds = 8   // different requests that a row names
	maxRefusedWhat  = 300 // bytes of the words for one of them
	refusalTimeout  = 5 * time.Second
)

// Who the rows are of that many refused callers share.
const (
	whoWrongToken = "unknown: a token that is not valid"
	whoNoRole     = "anyone without a role"
	whoOthers     = "others who were refused"
)

// refusals keeps rows of refused requests in the audit, beside the requests: a caller's first refusal at once, and
// what follows within ten minutes as one row with a count. Many strangers have few rows together, so that nobody can
// fill the audit, or push older rows out of it.
type refusals struct {
	tokens Tokens // nil: nothing is kept
	log    zerolog.Logger

	mu     sync.Mutex // guards the fields below
	tally  refusalTally
	rows   []access.Entry // to be stored
	timer  *time.Timer    // for the end of the next window; nil: none is open
	stores bool           // a goroutine stores rows
	closed bool
	done   sync.WaitGroup
}

// note notes a refused request. It does not wait for the store.
func (r *refusals) note(who, what, from string) {
	if r.tokens == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	now := time.Now()
	if row, first := r.tally.add(who, what, from, now); first {
		r.storeLocked(row)
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(refusalWindow, r.endWindows)
	}
}

// endWindows stores what was gathered in the windows that have ended.
func (r *refusals) endWindows() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	now := time.Now()
	rows, next := r.tally.end(now)
	r.storeLocked(rows...)
	if r.timer = nil; !next.IsZero() {
		r.timer = time.AfterFunc(next.Sub(now), r.endWindows)
	}
}

// close stores what was gathered so far. Later refusals are not kept.
func (r *refusals) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		if r.timer != nil {
			r.timer.Stop()
		}
		rows, _ := r.tally.end(time.Now().Add(refusalWindow))
		r.storeLocked(rows...)
	}
	r.mu.Unlock()
	r.done.Wait()
}

// storeLocked has rows stored; the caller holds mu. The windows bound how many rows can wait.
func (r *refusals) storeLocked(rows ...access.Entry) {
	r.rows = append(r.rows, rows...)
	if len(r.rows) > 0 && !r.stores {
		r.stores = true
		r.done.Go(r.store)
	}
}

func (r *refusals) store() {
	for {
		r.mu.Lock()
		if len(r.rows) == 0 {
			r.stores = false
			r.mu.Unlock()
			return
		}
		row := r.rows[0]
		r.rows = r.rows[1:]
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), refusalTimeout)
		err := r.tokens.RecordAudit(ctx, row)
		cancel()
		if err != nil {
			r.log.Warn().Err(err).Str("by", row.Who).Str("from", row.From).Str("what", row.What).
				Msg("a refused request is not in the audit")
		}
	}
}

// refusalTally gathers refusals by caller. The zero tally is empty.
type refusalTally struct{ open map[string]*refusalCount }

// refusalCount is what a caller was refused since its last row.
type refusalCount struct {
	since time.Time // of the last row
	count int
	kinds []refusalKind
	other int    // refusals of further kinds
	from  string // of the last refusal
}

type refusalKind struct {
	what  string
	count int
}

// add adds a refusal. It returns the caller's row if it is the first one in a window.
func (t *refusalTally) add(who, what, from string, now time.Time) (row access.Entry, first bool) {
	what = words.Clip(what, maxRefusedWhat)
	c := t.open[who]
	if c == nil && len(t.open) >= maxRefused && who != whoWrongToken && who != whoNoRole {
		what = who + ": " + what
		who = whoOthers
		c = t.open[who]
	}
	if c == nil {
		if t.open == nil {
			t.open = map[string]*refusalCount{}
		}
		t.open[who] = &refusalCount{since: now}
		return access.Entry{At: now, Who: who, What: "was refused: " + what, From: from}, true
	}
	c.add(what, from)
	return access.Entry{}, false
}

func (c *refusalCount) add(what, from string) {
	c.count++
	c.from = from
	for i := range c.kinds {
		if c.kinds[i].what == what {
			c.kinds[i].count++
			return
		}
	}
	if len(c.kinds) == maxRefusedKinds {
		c.other++
		return
	}
	c.kinds = append(c.kinds, refusalKind{what, 1})
}

// end ends the windows that are over at now. A window in which something was gathered makes a row, and is followed by
// another. next is when the next window ends; zero: none is open.
func (t *refusalTally) end(now time.Time) (rows []access.Entry, next time.Time) {
	for who, c := range t.open {
		if end := c.since.Add(refusalWindow); end.After(now) {
			if next.IsZero() || end.Before(next) {
				next = end
			}
			continue
		}
		if c.count == 0 {
			delete(t.open, who)
			continue
		}
		rows = append(rows, access.Entry{At: now, Who: who, What: c.describe(), From: c.from})
		t.open[who] = &refusalCount{since: now}
		if end := now.Add(refusalWindow); next.IsZero() || end.Before(next) {
			next = end
		}
	}
	return rows, next
}

func (c *refusalCount) describe() string {
	var all []string
	for _, k := range c.kinds {
		all = append(all, fmt.Sprintf("%s (%d)", k.what, k.count))
	}
	if c.other > 0 {
		all = append(all, fmt.Sprintf("others (%d)", c.other))
	}
	return fmt.Sprintf("was refused %s more since %s: %s", words.Count(c.count, "time"), words.FormatTime(c.since),
		strings.Join(all, "; "))
}
