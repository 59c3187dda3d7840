package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/swarm"
)

// load is the other side: cells, or as much of them as a figure needs.
type load struct {
	who    who
	dialer *swarm.Dialer
	names  []string
	links  []*swarm.Link

	etags  []string // by cell, what it was told last
	bodies [][]byte // by cell, a report without its instant

	mu       sync.Mutex // guards what follows
	arrivals []arrival
	broken   int // streams that ended
	lit      []lit
	trouble  error // why the newest of them ended; nil: unknown
	compiled map[releases.Digest]func() (*flags.Compiled, error)

	swarm *swarm.Swarm // whole cells; nil: none
	end   context.CancelFunc
	ended chan struct{}
}

// arrival is an event that came on a stream.
type arrival struct {
	cell int
	at   time.Time
	data []byte
}

// who is whom a load plays, and to whom.
type who struct {
	Plane swarm.Plane
	N     int
	Seed  uint64
}

// prefix is that of the cells' names.
const prefix = "cell"

func loadDuties() duties {
	l := &load{compiled: map[releases.Digest]func() (*flags.Compiled, error){}}
	return duties{
		"be":         duty(l.be),
		"connect":    duty(l.connect),
		"handshakes": duty(l.handshakes),
		"polls":      duty(l.polls),
		"reports":    duty(l.reports),
		"listen":     duty(l.listen),
		"mark":       duty(l.mark),
		"told":       duty(l.told),
		"head":       duty(l.head),

		"lamps":  duty(l.lamps),
		"shines": duty(l.shines),

		"live":   duty(l.live),
		"until":  duty(l.until),
		"counts": duty(func(struct{}) (any, error) { return l.swarm.Counts(), nil }),
		"words":  duty(l.words),
		"end":    duty(l.stopLiving),
		"drop":   duty(func(struct{}) (any, error) { swarm.Hangup(l.links); l.links = nil; return nil, nil }),
	}
}

func (l *load) be(w who) (any, error) {
	l.who = w
	members := swarm.Members(prefix, w.N, w.Seed)
	l.names = make([]string, w.N)
	for i, m := range members {
		l.names[i] = m.Name
	}
	var err error
	l.dialer, err = swarm.NewDialer(w.Plane, members)
	return nil, err
}

// connect opens a connection for each cell and asks once, so that the ETag is known.
func (l *load) connect(n int) (any, error) {
	l.etags = make([]string, n)
	return l.dial(n, func(i int, link *swarm.Link) error {
		a, _, err := link.Ask(time.Minute, "GET", "/v1/desired", "", nil)
		l.etags[i] = a.ETag
		if err == nil && a.Status != 200 && a.Status != 304 {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		return err
	})
}

// dial opens a connection for each of n cells, and gives when the last of them was through with begin.
func (l *load) dial(n int, begin func(i int, link *swarm.Link) error) (any, error) {
	links, took, err := l.dialer.DialAll(context.Background(), n, 64, begin)
	if err != nil {
		return nil, err
	}
	l.links = links
	return took[len(took)-1], nil
}

// handshakes shakes hands for n cells at once, in full, and gives when the last was through.
func (l *load) handshakes(n int) (any, error) {
	l.dialer.Forget()
	links, took, err := l.dialer.DialAll(context.Background(), n, n, func(_ int, link *swarm.Link) error { return link.Byte(time.Minute) })
	if err != nil {
		return nil, err
	}
	swarm.Hangup(links)
	return took[len(took)-1], nil
}

// hammering is how many at once, for how long.
type hammering struct {
	AtOnce int
	Lasts  time.Duration
	Status int              // that each answer must have
	Like   cells.Assignment // reports: what all run
	Events int64            // reports: how many events of each were acknowledged
}

// polls asks whether anything is new, as each cell's ETag has it.
func (l *load) polls(h hammering) (any, error) {
	headers := make([]string, len(l.links))
	for i := range headers {
		headers[i] = "If-None-Match: " + l.etags[i] + "\r\n"
	}
	return swarm.Hammer(context.Background(), l.links, h.AtOnce, h.Lasts, func(i int, link *swarm.Link) error {
		a, _, err := link.Ask(time.Minute, "GET", "/v1/desired", headers[i], nil)
		if err == nil && a.Status != h.Status {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		return err
	})
}

// reports says that each cell is as well as before.
func (l *load) reports(h hammering) (any, error) {
	const sent = "2006-01-02T15:04:05.000000000Z07:00" // always as long
	mark := []byte(time.Unix(0, 0).UTC().Format(sent))
	if l.bodies == nil {
		for i := range l.links {
			a := h.Like
			body, err := json.Marshal(cells.Report{Cell: l.names[i], Boot: fmt.Sprintf("b%07d", i), Agent: "bench", State: cells.StateHealthy, Running: &a, Acknowledged: &a, Confirmed: h.Events})
			if err != nil {
				return nil, err
			}
			l.bodies = append(l.bodies, bytes.Replace(body, []byte(`"0001-01-01T00:00:00Z"`), []byte(`"`+string(mark)+`"`), 1))
		}
	}
	at := make([]int, len(l.bodies))
	for i, body := range l.bodies {
		at[i] = bytes.Index(body, []byte(`"sent":"`)) + len(`"sent":"`)
	}
	return swarm.Hammer(context.Background(), l.links, h.AtOnce, h.Lasts, func(i int, link *swarm.Link) error {
		copy(l.bodies[i][at[i]:], time.Now().UTC().Format(sent))
		a, text, err := link.Ask(time.Minute, "POST", "/v1/reports", "", l.bodies[i])
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("the answer is %d: %.300s", a.Status, text)
		}
		return err
	})
}

// listen opens a stream for each of n cells. Each event is noted with its instant, and looked at later: what a cell
// does with it is not the server's time.
func (l *load) listen(n int) (any, error) {
	return l.streams(n, func(i int, events *swarm.Events) error {
		_, err := events.Next()
		if err == nil {
			go l.follow(i, events)
		}
		return err
	})
}

// streams opens a stream for each of n cells, and hands each to opened.
func (l *load) streams(n int, opened func(i int, events *swarm.Events) error) (any, error) {
	return l.dial(n, func(i int, link *swarm.Link) error {
		a, events, err := link.Stream(time.Minute, "/v1/desired", "")
		if err == nil && events == nil {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		if err == nil {
			err = opened(i, events)
		}
		return err
	})
}

func (l *load) follow(i int, events *swarm.Events) {
	for {
		e, err := events.Next()
		at := time.Now()
		if err == nil && e.Data == nil {
			continue
		}
		l.mu.Lock()
		if err != nil {
			l.broken++
			l.mu.Unlock()
			return
		}
		l.arrivals = append(l.arrivals, arrival{i, at, e.Data})
		l.mu.Unlock()
	}
}

// mark forgets what came so far.
func (l *load) mark(struct{}) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(l.arrivals) < 4*len(l.links) {
		l.arrivals = make([]arrival, 0, 4*len(l.links))
	}
	l.arrivals = l.arrivals[:0]
	return nil, nil
}

// spread is how long after an instant cells were told.
type spread struct {
	Told                  int
	First, P50, P99, Last time.Duration
	Events                int // all that came, those that said something else included
	Broken                int // streams that ended, ever
	Size                  int // of the newest event, in bytes
}

// telling is what cells are to be told, and since when.
type telling struct {
	Since   time.Time
	Release string // of the head; empty: anything
	Wait    time.Duration
}

// told waits until every stream was told, and gives when. Instants of two processes on one machine compare.
func (l *load) told(t telling) (any, error) {
	deadline := time.Now().Add(t.Wait)
	for {
		s := l.look(t)
		if s.Told == len(l.links) {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d were told within %s, %d streams broke", s.Told, len(l.links), t.Wait, s.Broken)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) look(t telling) spread {
	l.mu.Lock()
	arrivals, broken := slices.Clone(l.arrivals), l.broken
	l.mu.Unlock()
	if len(arrivals) < len(l.links) {
		return spread{Told: len(arrivals), Broken: broken}
	}
	first := make(map[int]time.Duration, len(l.links))
	for _, a := range arrivals {
		if _, known := first[a.cell]; known {
			continue
		}
		if t.Release != "" && releaseOf(a.data) != t.Release {
			continue
		}
		first[a.cell] = a.at.Round(0).Sub(t.Since)
	}
	s := spread{}
	if len(first) > 0 {
		s = spreadOf(first, len(arrivals))
	}
	s.Events, s.Broken, s.Size = len(arrivals), broken, len(arrivals[len(arrivals)-1].data)
	return s
}

// releaseOf is the release of the head that an answer names.
func releaseOf(data []byte) string {
	var d cells.Desired
	var h cells.Head
	if json.Unmarshal(data, &d) != nil || json.Unmarshal(d.Head.Payload, &h) != nil {
		return ""
	}
	return h.Release
}

// head asks as the first cell what is desired of it.
func (l *load) head(struct{}) (any, error) {
	link, err := l.dialer.Dial(context.Background(), 0, 0)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	a, body, err := link.Ask(time.Minute, "GET", "/v1/desired", "", nil)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("the answer is %d: %.300s", a.Status, body)
	}
	if err != nil {
		return nil, err
	}
	var d cells.Desired
	return d, json.NewDecoder(io.LimitReader(bytes.NewReader(body), 1<<20)).Decode(&d)
}
