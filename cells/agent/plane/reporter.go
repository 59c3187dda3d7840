package plane

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
)

const (
	shownBoot = 16       // bytes of the boot id, as why shows it
	maxReport = 64 << 10 // bytes of a report's body, the control plane's limit
	// maxFirstReportDelay bounds how long the first report waits for health to be known, so that a restarted agent does
	// not look like an unhealthy cell.
	maxFirstReportDelay = 5 * time.Second
)

// ReporterOptions are the parts of reports that the loop does not publish, and how often one is sent.
type ReporterOptions struct {
	Version        string                            // of the agent
	Infrastructure func() cells.ActualInfrastructure // what is known of it now
	Debug          func() []cells.DebugState         // what is known of requests for debug access; nil: nothing
	Signatures     func() *cells.SignaturesReport    // what is verified; nil: nothing
	Every          time.Duration
}

// Reporter sends reports. The loop publishes the current state, and the reporter sends it on every change and as a
// heartbeat, with history from the outbox. One report is in flight at a time. Methods are safe for concurrent use.
type Reporter struct {
	options ReporterOptions
	client  *Client
	outbox  *Outbox
	news    wake.Signal // wakes run: there is something to send

	mu        sync.Mutex
	state     cells.Report
	stateJSON []byte // state as JSON, to notice changes
	ready     bool

	// Only the goroutine of run uses these.
	maxBatch    int      // events in a batch
	withheld    withheld // fields that the control plane refused
	refusedPins []string // pins whose refusal was logged last
	counted     int      // the newest update of the infrastructure that counts as executed
}

// NewReporter returns a reporter for one start of the agent. It sends nothing before Client.Run.
func NewReporter(c *Client, box *Outbox, o ReporterOptions) *Reporter {
	return &Reporter{options: o, client: c, outbox: box, news: wake.New(), maxBatch: cells.MaxEvents,
		withheld: withheld{}}
}

// Boot returns the part of the boot id that may be shown: who knows all of it could pass for this agent.
func (r *Reporter) Boot() string { return r.client.boot[:shownBoot] }

// Publish makes report the current state, and has it sent if it changed or history was added. ready says that the state
// is worth reporting; the first report waits for that, to a limit.
func (r *Reporter) Publish(report cells.Report, ready, news bool) {
	text, err := json.Marshal(report)
	r.mu.Lock()
	news = news || err != nil || !bytes.Equal(text, r.stateJSON) || ready && !r.ready
	r.state, r.stateJSON, r.ready = report, text, r.ready || ready
	r.mu.Unlock()
	if news {
		r.Notify()
	}
}

// PublishProblem adds to the current state why the agent can't continue, and has it sent.
func (r *Reporter) PublishProblem(why string) {
	r.mu.Lock()
	r.state.Message = why
	r.stateJSON, r.ready = nil, true
	r.mu.Unlock()
	r.Notify()
}

// Notify has a report sent because of something outside the published state.
func (r *Reporter) Notify() { r.news.Notify() }

func (r *Reporter) run(ctx context.Context, h Handler) {
	r.waitUntilReady(ctx)
	failures, lastStatus := 0, 0
	for ctx.Err() == nil {
		more, reported, err := r.sendReport(ctx, h)
		if err != nil {
			before := lastStatus
			if lastStatus = statusOf(err); (failures == 0 || lastStatus != before) && ctx.Err() == nil {
				r.client.log.Warn().Err(err).Msg("the report could not be sent; the agent retries")
			}
			r.client.pauseForRetry(ctx, err, failures)
			failures++
			continue
		}
		failures = 0
		if reported != nil {
			h.HandleConfirmed(ctx, reported.Key())
		}
		if !more {
			r.waitForNews(ctx)
		}
	}
}

func (r *Reporter) waitUntilReady(ctx context.Context) {
	limit := time.NewTimer(maxFirstReportDelay)
	defer limit.Stop()
	for {
		r.mu.Lock()
		ready := r.ready
		r.mu.Unlock()
		if ready {
			return
		}
		select {
		case <-r.news:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// waitForNews waits until there is something to send or the next heartbeat is due.
func (r *Reporter) waitForNews(ctx context.Context) {
	heartbeat := time.NewTimer(backoff.Shorten(r.options.Every))
	defer heartbeat.Stop()
	select {
	case <-r.news:
	case <-heartbeat.C:
	case <-ctx.Done():
	}
}

// sendReport sends one report. more reports whether history is left. reported is the accepted assignment in the report;
// nil: none.
func (r *Reporter) sendReport(ctx context.Context, h Handler) (more bool, reported *cells.Assignment, err error) {
	select {
	case <-r.news: // this report covers it
	default:
	}
	r.mu.Lock()
	report := r.state
	r.mu.Unlock()
	body, events, err := r.composeReport(report, h.FlagsReport())
	if err != nil {
		return false, nil, err
	}
	receipt, connection, err := r.client.postReport(ctx, body)
	if err != nil {
		if r.withhold(err, body, false) || r.shrinkBatch(err, events) || r.withhold(err, body, true) {
			return true, nil, nil
		}
		return false, nil, err
	}
	r.client.onTestPoint("reported")
	r.updatePins(receipt, connection)
	if events == 0 && r.maxBatch == 0 { // the refused event must be the oldest
		r.maxBatch = cells.MaxEvents
		return true, report.Acknowledged, r.outbox.stubOldest("the control plane refused the event")
	}
	r.maxBatch = cells.MaxEvents
	more, err = r.outbox.acknowledge(receipt.Acknowledged)
	return more, report.Acknowledged, err
}

// updatePins passes the control plane's pins on. A failure does not hold back reports.
func (r *Reporter) updatePins(receipt cells.Receipt, connection *tls.ConnectionState) {
	err, pins := r.client.updatePins(receipt, connection), receipt.Pins
	if err != nil && !slices.Equal(pins, r.refusedPins) {
		r.client.log.Error().Err(err).Msg("the pins of the control plane's keys were not changed")
		r.refusedPins = pins
	}
	if err == nil {
		r.refusedPins = nil
	}
}

// shrinkBatch handles a refusal of the body: the next batch has fewer events, in the end none.
func (r *Reporter) shrinkBatch(err error, events int) bool {
	var s *statusError
	if events == 0 || !errors.As(err, &s) {
		return false
	}
	switch s.status {
	case http.StatusRequestEntityTooLarge, http.StatusBadRequest, http.StatusUnprocessableEntity:
		r.maxBatch = events / 2
		return true
	}
	return false
}

// withhold handles a refusal of fields, which an older control plane may not know: the next reports go without them.
func (r *Reporter) withhold(refusal error, body []byte, unnamed bool) bool {
	fields := r.withheld.take(refusal, body, unnamed, time.Now())
	if len(fields) == 0 {
		return false
	}
	r.maxBatch = cells.MaxEvents // no event was at fault
	r.client.log.Warn().Err(refusal).Strs("fields", fields).Msg("the control plane does not take all of a report: " +
		"these fields are left out for an hour; upgrade the control plane if it is older than the agent")
	return true
}

// composeReport encodes a report that fits: the whole state except, if necessary, the oldest failures, and then as much
// history as there is room for.
func (r *Reporter) composeReport(report cells.Report, flags *cells.FlagsReport) (body []byte, events int, err error) {
	if r.options.Signatures != nil {
		report.Signatures = r.options.Signatures()
	}
	report.Cell, report.Boot, report.Agent, report.Infrastructure, report.Sent = r.client.cell, r.client.boot,
		r.options.Version, r.options.Infrastructure(), time.Now()
	report.Flags, report.Confirmed = flags, r.outbox.lastAcknowledged()
	if r.options.Debug != nil {
		report.Debug = r.options.Debug()
	}
	r.counted = report.Infrastructure.Counted(r.counted)
	if r.withheld.leavesOut(infrastructureField, report.Sent) {
		report.Infrastructure = cells.ActualInfrastructure{Number: r.counted}
	}
	for {
		body, err = json.Marshal(report)
		if err != nil {
			return nil, 0, err
		}
		if !shortenReport(&report, len(body)) {
			break
		}
	}
	report.Events = r.outbox.nextBatch(maxReport-len(body)-1<<10, r.maxBatch)
	if len(report.Events) > 0 {
		if body, err = json.Marshal(report); err != nil {
			return nil, 0, err
		}
	}
	body, err = r.withheld.without(body, report.Sent)
	return body, len(report.Events), err
}

// shortenReport leaves out what a report of this size can spare: the unhealthy objects, the oldest failure, and in the
// end the states of announcements, since a report that is refused says nothing at all. It reports whether it left
// anything out.
func shortenReport(r *cells.Report, size int) bool {
	switch {
	case size <= maxReport*3/4:
		return false
	case r.Unhealthy != nil: // the message has the first of them
		r.Unhealthy = nil
		return true
	case len(r.Failures) > 0:
		r.Failures = r.Failures[1:]
		return true
	case size > maxReport-1<<10 && r.Flags != nil && len(r.Flags.States) > 0:
		shortened := *r.Flags
		shortened.States = nil
		r.Flags = &shortened
		return true
	}
	return false
}
