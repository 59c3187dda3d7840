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
	waitFor     = 30 * time.Second // of a long-poll
	askWithin   = 60 * time.Second // everything else: a server that is overwhelmed answers late
	firstPause  = 100 * time.Millisecond
	streamStart = 60 * time.Second // until a stream says something: ten thousand begin at once
)

// cell is one cell: listen keeps what is desired, act does it and reports.
type cell struct {
	swarm *Swarm
	index int
	news  wake.Signal // desired is another

	mu      sync.Mutex // guards what follows
	peer    peer
	desired *cells.Desired
	etag    string
	acked   *cells.Report
}

func newCell(s *Swarm, i int, m Member) *cell {
	return &cell{swarm: s, index: i, news: wake.New(), peer: newPeer(m.Name, &s.opts)}
}

func (c *cell) word() Word {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.peer
	return Word{
		Name: p.name, Boot: p.boot, Desired: c.desired, ETag: c.etag, State: p.state(), Running: p.running, Failures: p.failures,
		Began: p.began, Confirmed: p.known, Last: p.last, Pending: p.events, Acknowledged: c.acked,
	}
}

// listen keeps asking what is desired until ctx ends.
func (c *cell) listen(ctx context.Context) {
	for failures, replica := 0, c.index; ctx.Err() == nil; {
		progress, after, status := c.session(ctx, replica)
		if ctx.Err() != nil {
			return
		}
		if progress {
			failures = 0
		}
		replica++
		_ = backoff.Sleep(ctx, c.pause(failures, after, status))
		failures++
	}
}

// pause is how long to wait after failures in a row: with full jitter, capped (R33).
func (c *cell) pause(failures int, after time.Duration, status int) time.Duration {
	switch {
	case after > 0:
		return backoff.Lengthen(after)
	case status == 401:
		return backoff.Shorten(c.swarm.opts.DeniedCap)
	default:
		return backoff.FullJitter(backoff.Exponential(firstPause, c.swarm.opts.RetryCap, failures))
	}
}

// session is one connection on which answers come. progress: at least one came.
func (c *cell) session(ctx context.Context, replica int) (progress bool, after time.Duration, status int) {
	counts := &c.swarm.counts
	link, err := c.swarm.dialer.Dial(ctx, c.index, replica)
	if err != nil {
		c.swarm.failed(err)
		return false, 0, 0
	}
	counts.connects.Add(1)
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
	var a Answer
	if c.swarm.opts.Mode == Stream {
		a, err = c.follow(link, connected)
	} else {
		a, err = c.poll(ctx, link, connected)
	}
	switch {
	case a.Status >= 400:
		c.swarm.refused(a.Status, nil)
	case err != nil && ctx.Err() == nil:
		c.swarm.failed(err)
	}
	return progress, a.After, a.Status
}

// follow reads a stream to its end.
func (c *cell) follow(link *Link, connected func()) (Answer, error) {
	c.mu.Lock()
	header := ifNoneMatch(c.etag)
	c.mu.Unlock()
	a, events, err := link.Stream(streamStart, "/v1/desired", header)
	if err != nil || events == nil {
		return a, err
	}
	for {
		e, err := events.Next()
		if err != nil {
			return a, err
		}
		connected()
		if e.Retry > 0 {
			a.After = e.Retry
		}
		if len(e.Data) == 0 {
			continue
		}
		if err := c.told(e.Data, e.ID); err != nil {
			return a, err
		}
	}
}

// poll asks again and again on one connection.
func (c *cell) poll(ctx context.Context, link *Link, connected func()) (Answer, error) {
	path, within := "/v1/desired", askWithin
	if c.swarm.opts.Mode == LongPoll {
		path, within = path+"?wait="+waitFor.String(), within+waitFor
	}
	for {
		c.mu.Lock()
		header := ifNoneMatch(c.etag)
		c.mu.Unlock()
		a, body, err := link.Ask(within, "GET", path, header, nil)
		switch {
		case err != nil:
			return a, err
		case a.Status == 200:
			err = c.told(body, a.ETag)
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
		if _ = backoff.Sleep(ctx, a.Next); ctx.Err() != nil || a.Close {
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

// told takes an answer that says something new.
func (c *cell) told(body []byte, etag string) error {
	at := time.Now()
	d := new(cells.Desired)
	if err := json.Unmarshal(body, d); err != nil {
		return fmt.Errorf("what is desired: %w", err)
	}
	c.mu.Lock()
	if d.Cell != "" && d.Cell != c.peer.name {
		c.mu.Unlock()
		return fmt.Errorf("%s is told what %.80q should do", c.peer.name, d.Cell)
	}
	c.desired, c.etag = d, etag
	c.mu.Unlock()
	c.swarm.counts.told.Add(1)
	if c.swarm.opts.Told != nil {
		c.swarm.opts.Told(c.index, d, at)
	}
	c.news.Notify()
	return nil
}

// verify fetches the bytes of a and holds them against its digest.
func (c *cell) verify(link *Link, a *cells.Assignment) error {
	answer, body, err := link.Ask(askWithin, "GET", "/v1/releases/"+string(a.Digest), "", nil)
	switch {
	case err != nil:
		return err
	case answer.Status != 200:
		return fmt.Errorf("fetch %s: the answer is %d: %.200s", a.Digest, answer.Status, body)
	case releases.DigestBytes(body) != a.Digest:
		return fmt.Errorf("fetch %s: the bytes are others", a.Digest)
	}
	return nil
}
