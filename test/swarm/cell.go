package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/releases"
)

const (
	longPollWait    = 30 * time.Second // the server answers a long-poll after this time at the latest
	requestTimeout  = 60 * time.Second // of other requests: an overloaded server answers late
	firstRetryPause = 100 * time.Millisecond
	streamTimeout   = 60 * time.Second // until the first bytes of a stream: ten thousand may start at once
)

// cell is one cell: followDesired tracks what is desired, runReporter applies it and reports.
type cell struct {
	swarm   *Swarm
	index   int
	changed wake.Signal // desired has changed

	mu           sync.Mutex // guards what follows
	agent        agentState
	desired      *cells.Desired
	etag         string
	acknowledged *cells.Report
}

func newCell(s *Swarm, i int, m Member) *cell {
	return &cell{swarm: s, index: i, changed: wake.New(), agent: newAgentState(m.Name, &s.opts)}
}

func (c *cell) snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.agent
	return Snapshot{
		Name: p.name, Boot: p.bootID, Desired: c.desired, ETag: c.etag, State: p.currentState(), Running: p.running,
		Failures: p.failures,
		Began:    p.began, Confirmed: p.confirmedNumber, Last: p.lastNumber, Pending: p.events,
		Acknowledged: c.acknowledged,
	}
}

func (c *cell) followDesired(ctx context.Context) {
	for failures, replica := 0, c.index; ctx.Err() == nil; {
		progress, after, status := c.runSession(ctx, replica)
		if ctx.Err() != nil {
			return
		}
		if progress {
			failures = 0
		}
		replica++
		_ = backoff.Sleep(ctx, c.retryPause(failures, after, status))
		failures++
	}
}

// retryPause returns the pause after failures in a row: with full jitter, capped (R33).
func (c *cell) retryPause(failures int, after time.Duration, status int) time.Duration {
	switch {
	case after > 0:
		return backoff.Lengthen(after)
	case status == 401:
		return backoff.Shorten(c.swarm.opts.DeniedCap)
	default:
		return backoff.FullJitter(backoff.Exponential(firstRetryPause, c.swarm.opts.RetryCap, failures))
	}
}

// runSession receives responses on one connection until it fails. progress reports whether at least one came.
func (c *cell) runSession(ctx context.Context, replica int) (progress bool, after time.Duration, status int) {
	counts := &c.swarm.counts
	link, err := c.swarm.dialer.Dial(ctx, c.index, replica)
	if err != nil {
		c.swarm.countFailure(err)
		return false, 0, 0
	}
	counts.connects.Add(1)
	counts.streams.Add(1)
	defer link.Close()
	defer context.AfterFunc(ctx, link.Close)()
	connected := func() {
		if !progress {
			progress = true
			counts.connected.Add(1)
		}
	}
	defer func() {
		if progress {
			counts.connected.Add(-1)
		}
	}()
	var a ResponseHead
	if c.swarm.opts.Mode == Stream {
		a, err = c.readStream(link, connected)
	} else {
		a, err = c.pollDesired(ctx, link, connected)
	}
	switch {
	case a.Status >= 400:
		c.swarm.countRefusal(a.Status, nil)
	case err != nil && ctx.Err() == nil:
		c.swarm.countFailure(err)
	}
	return progress, a.RetryAfter, a.Status
}

func (c *cell) readStream(link *Conn, connected func()) (ResponseHead, error) {
	c.mu.Lock()
	header := ifNoneMatch(c.etag)
	c.mu.Unlock()
	a, events, err := link.OpenStream(streamTimeout, "/v1/desired", header)
	if err != nil || events == nil {
		return a, err
	}
	for {
		e, err := events.ReadEvent()
		if err != nil {
			return a, err
		}
		connected()
		if e.Retry > 0 {
			a.RetryAfter = e.Retry
		}
		if len(e.Data) == 0 {
			continue
		}
		if err := c.storeDesired(e.Data, e.ID); err != nil {
			return a, err
		}
	}
}

// pollDesired asks repeatedly on one connection.
func (c *cell) pollDesired(ctx context.Context, link *Conn, connected func()) (ResponseHead, error) {
	path, within := "/v1/desired", requestTimeout
	if c.swarm.opts.Mode == LongPoll {
		path, within = path+"?wait="+longPollWait.String(), within+longPollWait
	}
	for {
		c.mu.Lock()
		header := ifNoneMatch(c.etag)
		c.mu.Unlock()
		a, body, err := link.RoundTrip(within, "GET", path, header, nil)
		switch {
		case err != nil:
			return a, err
		case a.Status == 200:
			err = c.storeDesired(body, a.ETag)
		case a.Status == 304:
			c.swarm.counts.unchanged.Add(1)
		default:
			return a, nil
		}
		if err != nil {
			return a, err
		}
		connected()
		c.swarm.counts.polls.Add(1)
		if _ = backoff.Sleep(ctx, a.NextPoll); ctx.Err() != nil || a.Close {
			return a, nil
		}
	}
}

func ifNoneMatch(etag string) string {
	if etag == "" {
		return ""
	}
	return "If-None-Match: " + etag + "\r\n"
}

func (c *cell) storeDesired(body []byte, etag string) error {
	at := time.Now()
	d := new(cells.Desired)
	if err := json.Unmarshal(body, d); err != nil {
		return fmt.Errorf("what is desired: %w", err)
	}
	c.mu.Lock()
	if d.Cell != "" && d.Cell != c.agent.name {
		c.mu.Unlock()
		return fmt.Errorf("%s was sent what is desired of %.80q", c.agent.name, d.Cell)
	}
	c.desired, c.etag = d, etag
	c.mu.Unlock()
	c.swarm.counts.notified.Add(1)
	if c.swarm.opts.OnDesired != nil {
		c.swarm.opts.OnDesired(c.index, d, at)
	}
	c.changed.Notify()
	return nil
}

// fetchRelease fetches the bytes of a, and checks their digest.
func (c *cell) fetchRelease(link *Conn, a *cells.Assignment) error {
	head, body, err := link.RoundTrip(requestTimeout, "GET", "/v1/releases/"+string(a.Digest), "", nil)
	switch {
	case err != nil:
		return err
	case head.Status != 200:
		return fmt.Errorf("fetch %s: the answer is %d: %.200s", a.Digest, head.Status, body)
	case releases.DigestBytes(body) != a.Digest:
		return fmt.Errorf("fetch %s: the bytes are others", a.Digest)
	}
	return nil
}
