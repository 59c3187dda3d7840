package agent

import (
	"bytes"
	"context"
	"crypto/rand"
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
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	maxReport = 64 << 10 // bytes of a report's body, as the control plane takes it
	// settling is how long the first report waits at the most for health to be known, so that a restart of
	// the agent does not look like an unhealthy cell.
	settling = 5 * time.Second
)

// desk is where reports are written: the loop publishes the current state, and the desk sends it on every
// change and as a heartbeat, with history from the outbox. One report is in flight at a time.
type desk struct {
	cell           string
	boot           string // random for each start (R27)
	version        string
	infrastructure int
	every          time.Duration
	agent          *Agent
	box            *outbox
	flags          func() *cells.FlagsReport
	wake           wake.Signal // there is something to say

	mu    sync.Mutex
	state cells.Report // the current state
	text  []byte       // the same as JSON, to tell changes
	ready bool

	// The reporter's goroutine alone uses these.
	most     int      // events in a batch
	notTaken []string // pins that it complained of
}

func newDesk(a *Agent, box *outbox) *desk {
	return &desk{
		cell: a.options.Cell, boot: rand.Text(), version: a.options.Version, infrastructure: a.options.Infrastructure,
		every: a.options.ReportEvery, agent: a, box: box, wake: wake.New(), most: cells.MaxEvents,
	}
}

// publish makes r the current state, and has it sent if it or the history is news.
func (d *desk) publish(r cells.Report, ready, news bool) {
	text, err := json.Marshal(r)
	d.mu.Lock()
	news = news || err != nil || !bytes.Equal(text, d.text) || ready && !d.ready
	d.state, d.text, d.ready = r, text, d.ready || ready
	d.mu.Unlock()
	if news {
		d.ring()
	}
}

// trouble says that the agent can't go on, in the state as it was published last.
func (d *desk) trouble(err error) {
	d.mu.Lock()
	d.state.Message = words.Clip(err.Error(), maxReason)
	d.text, d.ready = nil, true
	d.mu.Unlock()
	d.ring()
}

func (d *desk) ring() { d.wake.Notify() }

// run sends reports until ctx ends.
func (d *desk) run(ctx context.Context, confirmed chan<- string) {
	d.settle(ctx)
	failures := 0
	for ctx.Err() == nil {
		more, known, err := d.send(ctx)
		if err != nil {
			if failures == 0 && ctx.Err() == nil {
				d.agent.options.Log.Warn().Err(err).Msg("the report is kept for later")
			}
			backoff.Sleep(ctx, d.agent.client.pause(err, failures))
			failures++
			continue
		}
		failures = 0
		if known != "" {
			select {
			case confirmed <- known:
			case <-ctx.Done():
			}
		}
		if !more {
			d.await(ctx)
		}
	}
}

// settle waits until there is a state worth telling.
func (d *desk) settle(ctx context.Context) {
	limit := time.NewTimer(settling)
	defer limit.Stop()
	for {
		d.mu.Lock()
		ready := d.ready
		d.mu.Unlock()
		if ready {
			return
		}
		select {
		case <-d.wake:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// await waits until there is something to say, or it is time to say the same again.
func (d *desk) await(ctx context.Context) {
	heartbeat := time.NewTimer(backoff.Shorten(d.every))
	defer heartbeat.Stop()
	select {
	case <-d.wake:
	case <-heartbeat.C:
	case <-ctx.Done():
	}
}

// send sends one report. more: there is history left; known: the key of the accepted assignment that it told.
func (d *desk) send(ctx context.Context) (more bool, known string, err error) {
	select {
	case <-d.wake: // what it is about is told now
	default:
	}
	d.mu.Lock()
	r := d.state
	d.mu.Unlock()
	body, events, err := d.compose(r)
	if err != nil {
		return false, "", err
	}
	receipt, over, err := d.agent.client.report(ctx, body)
	if err != nil {
		if d.tooMuch(err, events) {
			return true, "", nil
		}
		return false, "", err
	}
	d.agent.at("reported")
	d.learn(receipt.Pins, over)
	if events == 0 && d.most == 0 { // what was refused must be the oldest event
		d.most = cells.MaxEvents
		return true, key(r.Acknowledged), d.box.stub("the control plane did not take it")
	}
	d.most = cells.MaxEvents
	more, err = d.box.acknowledge(receipt.Acknowledged)
	return more, key(r.Acknowledged), err
}

// learn takes the control plane's pins. That it can't is no reason to keep a report.
func (d *desk) learn(pins []string, over *tls.ConnectionState) {
	err := d.agent.client.learn(pins, over)
	if err != nil && !slices.Equal(pins, d.notTaken) {
		d.agent.options.Log.Error().Err(err).Msg("pins")
		d.notTaken = pins
	}
	if err == nil {
		d.notTaken = nil
	}
}

// tooMuch answers a refusal of the body itself: fewer events next time, in the end none.
func (d *desk) tooMuch(err error, events int) bool {
	var s *statusError
	if events == 0 || !errors.As(err, &s) {
		return false
	}
	switch s.status {
	case http.StatusRequestEntityTooLarge, http.StatusBadRequest, http.StatusUnprocessableEntity:
		d.most = events / 2
		return true
	}
	return false
}

// compose writes a report that fits: all of the state but, if it must be, the oldest failures; then as much
// history as there is room for.
func (d *desk) compose(r cells.Report) (body []byte, events int, err error) {
	r.Cell, r.Boot, r.Agent, r.Infrastructure, r.Sent = d.cell, d.boot, d.version, d.infrastructure, time.Now()
	r.Flags, r.Confirmed = d.flags(), d.box.confirmed()
	for {
		body, err = json.Marshal(r)
		if err != nil {
			return nil, 0, err
		}
		if len(body) <= maxReport*3/4 || len(r.Failures) == 0 {
			break
		}
		r.Failures = r.Failures[1:]
	}
	r.Events = d.box.batch(maxReport-len(body)-1<<10, d.most)
	if len(r.Events) == 0 {
		return body, 0, nil
	}
	body, err = json.Marshal(r)
	return body, len(r.Events), err
}
