package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// actor does what is desired and reports, on a connection of its own that is closed when it is idle.
type actor struct {
	*cell
	ctx      context.Context // of act
	link     *Link           // nil: not connected
	replica  int
	failures int
	applying *time.Timer // runs while something is applied
	due      *time.Timer // the next report
	idle     *time.Timer
}

// act lives until ctx ends.
func (c *cell) act(ctx context.Context) {
	stopped := func() *time.Timer { t := time.NewTimer(time.Hour); t.Stop(); return t }
	a := &actor{cell: c, ctx: ctx, replica: c.index, applying: stopped(), idle: stopped()}
	a.due = time.NewTimer(rand.N(min(time.Second, c.swarm.opts.ReportEvery))) //nolint:gosec // jitter
	defer a.applying.Stop()
	defer a.due.Stop()
	defer a.idle.Stop()
	defer a.hangUp()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
			c.mu.Lock()
			report := c.desired != nil && c.peer.offered(c.desired.Assignment, time.Now())
			c.mu.Unlock()
			if !report {
				continue
			}
		case <-a.applying.C:
			a.applied()
		case <-a.due.C:
		case <-a.idle.C:
			a.hangUp()
			continue
		}
		a.report()
	}
}

// applied ends an apply.
func (a *actor) applied() {
	a.mu.Lock()
	fetching := a.peer.applying
	a.mu.Unlock()
	var err error
	if a.swarm.opts.Fetch && fetching != nil {
		if err = a.connect(); err == nil {
			err = a.verify(a.link, fetching)
		}
		if err != nil { // not the release's fault: it is tried again
			a.hangUp()
			a.failures++
			a.applying.Reset(a.pause(a.failures, 0, 0))
			return
		}
	}
	a.mu.Lock()
	a.peer.applied(nil, time.Now())
	a.mu.Unlock()
}

// report sends what there is until all events are acknowledged, or it fails: then again after a pause.
func (a *actor) report() {
	for {
		a.mu.Lock()
		r := a.peer.report(time.Now())
		a.mu.Unlock()
		a.swarm.counts.reports.Add(1)
		receipt, pause, err := a.send(r)
		if err != nil {
			a.hangUp()
			a.replica++
			a.due.Reset(pause)
			a.failures++
			return
		}
		a.failures = 0
		if !a.acknowledged(r, receipt) {
			break
		}
	}
	every := a.swarm.opts.ReportEvery
	a.due.Reset(backoff.Shorten(every))
	a.idle.Reset(a.swarm.idle())
}

// acknowledged counts what a receipt says, begins what it lets begin, and tells whether there is more to say.
func (a *actor) acknowledged(r cells.Report, receipt cells.Receipt) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swarm.counts.acknowledged.Add(1)
	n, last := a.peer.acknowledged(receipt.Acknowledged), a.peer.last
	a.swarm.counts.events.Add(n)
	r.Events = nil
	a.acked = &r
	if takes, begun := a.peer.confirmed(r.Acknowledged, time.Now()); begun {
		a.applying.Reset(takes)
	}
	return a.peer.last > last || n > 0 && len(a.peer.events) > 0
}

// send delivers one report. pause says when to try again.
func (a *actor) send(r cells.Report) (receipt cells.Receipt, pause time.Duration, err error) {
	if err := a.connect(); err != nil {
		return receipt, a.pause(a.failures, 0, 0), err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return receipt, a.pause(a.failures, 0, 0), err
	}
	answer, text, err := a.link.Ask(askWithin, "POST", "/v1/reports", "", body)
	if err == nil && answer.Status != 200 {
		a.swarm.refused(answer.Status, text)
		return receipt, a.pause(a.failures, answer.After, answer.Status), fmt.Errorf("report of %s: %d: %.200s", r.Cell, answer.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &receipt)
	}
	if err != nil {
		a.swarm.failed(err)
	}
	if answer.Close {
		a.hangUp()
	}
	return receipt, a.pause(a.failures, 0, 0), err
}

func (a *actor) connect() (err error) {
	if a.link != nil {
		return nil
	}
	select {
	case a.swarm.places <- struct{}{}:
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
	if a.link, err = a.swarm.dialer.Dial(a.ctx, a.index, a.replica); err != nil {
		<-a.swarm.places
		a.swarm.failed(err)
		a.link = nil
		return err
	}
	a.swarm.counts.connects.Add(1)
	return nil
}

func (a *actor) hangUp() {
	if a.link != nil {
		a.link.Close()
		a.link = nil
		<-a.swarm.places
	}
}

// idle is how long a connection for reports is kept: no longer than anyone waits for its place.
func (s *Swarm) idle() time.Duration {
	if len(s.places) > cap(s.places)/2 {
		return min(s.opts.Idle, 10*time.Millisecond)
	}
	return s.opts.Idle
}
