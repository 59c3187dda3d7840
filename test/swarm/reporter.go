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

// reporter applies what is desired and reports, on a connection of its own that is closed when idle.
type reporter struct {
	*cell
	ctx         context.Context // of runReporter
	conn        *Conn           // nil: not connected
	replica     int
	failures    int
	applyTimer  *time.Timer // runs during an apply
	reportTimer *time.Timer // the next report
	idleTimer   *time.Timer
}

func (c *cell) runReporter(ctx context.Context) {
	stopped := func() *time.Timer { t := time.NewTimer(time.Hour); t.Stop(); return t }
	a := &reporter{cell: c, ctx: ctx, replica: c.index, applyTimer: stopped(), idleTimer: stopped()}
	a.reportTimer = time.NewTimer(rand.N(min(time.Second, c.swarm.opts.ReportEvery))) //nolint:gosec // jitter
	defer a.applyTimer.Stop()
	defer a.reportTimer.Stop()
	defer a.idleTimer.Stop()
	defer a.closeConn()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			c.mu.Lock()
			report := c.desired != nil && c.agent.handleAssignment(c.desired.Assignment, time.Now())
			c.mu.Unlock()
			if !report {
				continue
			}
		case <-a.applyTimer.C:
			a.finishApply()
		case <-a.reportTimer.C:
		case <-a.idleTimer.C:
			a.closeConn()
			continue
		}
		a.sendReports()
	}
}

func (a *reporter) finishApply() {
	a.mu.Lock()
	fetching := a.agent.applying
	a.mu.Unlock()
	var err error
	if a.swarm.opts.Fetch && fetching != nil {
		if err = a.connect(); err == nil {
			err = a.fetchRelease(a.conn, fetching)
		}
		if err != nil { // not a failure of the release: retry
			a.closeConn()
			a.failures++
			a.applyTimer.Reset(a.retryPause(a.failures, 0, 0))
			return
		}
	}
	a.mu.Lock()
	a.agent.finishApply(nil, time.Now())
	a.mu.Unlock()
}

// sendReports reports until all events are acknowledged, or until a report fails; the next try then follows after a
// pause.
func (a *reporter) sendReports() {
	for {
		a.mu.Lock()
		r := a.agent.makeReport(time.Now())
		a.mu.Unlock()
		a.swarm.counts.reports.Add(1)
		receipt, pause, err := a.postReport(r)
		if err != nil {
			a.closeConn()
			a.replica++
			a.reportTimer.Reset(pause)
			a.failures++
			return
		}
		a.failures = 0
		if !a.handleReceipt(r, receipt) {
			break
		}
	}
	every := a.swarm.opts.ReportEvery
	a.reportTimer.Reset(backoff.Shorten(every))
	a.idleTimer.Reset(a.swarm.idleTimeout())
}

// handleReceipt counts what a receipt acknowledges, starts an apply that it confirms, and reports whether another
// report is due.
func (a *reporter) handleReceipt(r cells.Report, receipt cells.Receipt) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swarm.counts.acknowledged.Add(1)
	n, last := a.agent.dropAcknowledged(receipt.Acknowledged), a.agent.lastNumber
	a.swarm.counts.events.Add(n)
	r.Events = nil
	a.acknowledged = &r
	if takes, begun := a.agent.startConfirmed(r.Acknowledged, time.Now()); begun {
		a.applyTimer.Reset(takes)
	}
	return a.agent.lastNumber > last || n > 0 && len(a.agent.events) > 0
}

// postReport delivers one report. pause is the time until the next try.
func (a *reporter) postReport(r cells.Report) (receipt cells.Receipt, pause time.Duration, err error) {
	if err := a.connect(); err != nil {
		return receipt, a.retryPause(a.failures, 0, 0), err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return receipt, a.retryPause(a.failures, 0, 0), err
	}
	head, text, err := a.conn.RoundTrip(requestTimeout, "POST", "/v1/reports", "", body)
	if err == nil && head.Status != 200 {
		a.swarm.countRefusal(head.Status, text)
		return receipt, a.retryPause(a.failures, head.RetryAfter,
			head.Status), fmt.Errorf("report of %s: %d: %.200s", r.Cell, head.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &receipt)
	}
	if err != nil {
		a.swarm.countFailure(err)
	}
	if head.Close {
		a.closeConn()
	}
	return receipt, a.retryPause(a.failures, 0, 0), err
}

func (a *reporter) connect() (err error) {
	if a.conn != nil {
		return nil
	}
	select {
	case a.swarm.reportSlots <- struct{}{}:
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
	if a.conn, err = a.swarm.dialer.Dial(a.ctx, a.index, a.replica); err != nil {
		<-a.swarm.reportSlots
		a.swarm.countFailure(err)
		a.conn = nil
		return err
	}
	a.swarm.counts.connects.Add(1)
	return nil
}

func (a *reporter) closeConn() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
		<-a.swarm.reportSlots
	}
}

// idleTimeout returns how long an unused connection for reports stays open: shorter while other cells need slots.
func (s *Swarm) idleTimeout() time.Duration {
	if len(s.reportSlots) > cap(s.reportSlots)/2 {
		return min(s.opts.Idle, 10*time.Millisecond)
	}
	return s.opts.Idle
}
