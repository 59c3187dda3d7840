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

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/swarm"
)

// load simulates cells, as far as a figure needs.
type load struct {
	options loadOptions
	dialer  *swarm.Dialer
	names   []string
	conns   []*swarm.Conn

	etags  []string // by cell, of the newest response
	bodies [][]byte // by cell, a report without its instant

	mu       sync.Mutex // guards what follows
	arrivals []arrival
	broken   int // streams that ended

	// of flags, for awaitVariant alone
	flagCells                 []flagCell
	evaluations               []evaluation // of arrivals, in their order
	eventSize, bundlesFetched int          // bytes of the newest event; bundles that were fetched by a request
	compiled                  map[releases.Digest]*flags.Compiled

	unpacker *zstd.Decoder // its DecodeAll may be called at once

	swarm   *swarm.Swarm // whole cells; nil: none
	stop    context.CancelFunc
	stopped chan struct{}
}

type arrival struct {
	cell int
	at   time.Time
	data []byte
}

// loadOptions say which cells a load simulates, and where they connect.
type loadOptions struct {
	Plane swarm.ControlPlane
	N     int
	Seed  uint64
}

// cellPrefix begins the names of cells.
const cellPrefix = "cell"

func loadCommands() (commands, error) {
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	l := &load{compiled: map[releases.Digest]*flags.Compiled{}, unpacker: unpacker}
	return commands{
		"configure":      commandOf(l.configure),
		"connect":        commandOf(l.connect),
		"timeHandshakes": commandOf(l.timeHandshakes),
		"hammerPolls":    commandOf(l.hammerPolls),
		"hammerReports":  commandOf(l.hammerReports),
		"followHeads":    commandOf(l.followHeads),
		"forgetArrivals": commandOf(l.forgetArrivals),
		"awaitHead":      commandOf(l.awaitHead),
		"requestDesired": commandOf(l.requestDesired),

		"openFlagStreams": commandOf(l.openFlagStreams),
		"awaitVariant":    commandOf(l.awaitVariant),

		"startSwarm": commandOf(l.startSwarm),
		"awaitCells": commandOf(l.awaitCells),
		"counts":     commandOf(func(struct{}) (any, error) { return l.swarm.Counts(), nil }),
		"snapshots":  commandOf(l.snapshots),
		"stopSwarm":  commandOf(l.stopSwarm),
	}, nil
}

func (l *load) configure(w loadOptions) (any, error) {
	l.options = w
	members := swarm.Members(cellPrefix, w.N, w.Seed)
	l.names = make([]string, w.N)
	for i, m := range members {
		l.names[i] = m.Name
	}
	var err error
	l.dialer, err = swarm.NewDialer(w.Plane, members)
	return nil, err
}

// connect opens a connection for each cell, and makes one request to learn the ETag.
func (l *load) connect(n int) (any, error) {
	l.etags = make([]string, n)
	return l.dialAll(n, func(i int, link *swarm.Conn) error {
		a, _, err := link.RoundTrip(time.Minute, "GET", "/v1/desired", "", nil)
		l.etags[i] = a.ETag
		if err == nil && a.Status != 200 && a.Status != 304 {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		return err
	})
}

// dialAll opens a connection for each of n cells, and returns when begin had returned for all.
func (l *load) dialAll(n int, begin func(i int, link *swarm.Conn) error) (any, error) {
	links, took, err := l.dialer.DialAll(context.Background(), n, 64, begin)
	if err != nil {
		return nil, err
	}
	l.conns = links
	return took[len(took)-1], nil
}

// timeHandshakes does full handshakes for n cells at once, and returns how long all took.
func (l *load) timeHandshakes(n int) (any, error) {
	l.dialer.ForgetSessions()
	links, took, err := l.dialer.DialAll(context.Background(), n, n, func(_ int, link *swarm.Conn) error {
		return link.AwaitByte(time.Minute)
	})
	if err != nil {
		return nil, err
	}
	swarm.CloseAll(links)
	return took[len(took)-1], nil
}

// hammerOptions are the options of one run of swarm.Hammer.
type hammerOptions struct {
	AtOnce int
	Lasts  time.Duration
	Status int              // required of each response
	Like   cells.Assignment // reports: what all cells run
	Events int64            // reports: number of each cell's last acknowledged event
}

// hammerPolls polls with each cell's ETag.
func (l *load) hammerPolls(h hammerOptions) (any, error) {
	headers := make([]string, len(l.conns))
	for i := range headers {
		headers[i] = "If-None-Match: " + l.etags[i] + "\r\n"
	}
	return swarm.Hammer(context.Background(), l.conns, h.AtOnce, h.Lasts, func(i int, link *swarm.Conn) error {
		a, _, err := link.RoundTrip(time.Minute, "GET", "/v1/desired", headers[i], nil)
		if err == nil && a.Status != h.Status {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		return err
	})
}

// hammerReports reports for each cell that it is still healthy.
func (l *load) hammerReports(h hammerOptions) (any, error) {
	const sent = "2006-01-02T15:04:05.000000000Z07:00" // of constant length
	mark := []byte(time.Unix(0, 0).UTC().Format(sent))
	if l.bodies == nil {
		for i := range l.conns {
			a := h.Like
			body, err := json.Marshal(cells.Report{Cell: l.names[i], Boot: fmt.Sprintf("b%07d", i), Agent: "bench",
				State: cells.StateHealthy, Running: &a, Acknowledged: &a, Confirmed: h.Events})
			if err != nil {
				return nil, err
			}
			l.bodies = append(l.bodies, bytes.Replace(body, []byte(`"0001-01-01T00:00:00Z"`),
				[]byte(`"`+string(mark)+`"`), 1))
		}
	}
	at := make([]int, len(l.bodies))
	for i, body := range l.bodies {
		at[i] = bytes.Index(body, []byte(`"sent":"`)) + len(`"sent":"`)
	}
	return swarm.Hammer(context.Background(), l.conns, h.AtOnce, h.Lasts, func(i int, link *swarm.Conn) error {
		copy(l.bodies[i][at[i]:], time.Now().UTC().Format(sent))
		a, text, err := link.RoundTrip(time.Minute, "POST", "/v1/reports", "", l.bodies[i])
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("the answer is %d: %.300s", a.Status, text)
		}
		return err
	})
}

// followHeads opens a stream for each of n cells, and records each event with its instant. Events are decoded later, so
// that the cells' work does not count as the server's time.
func (l *load) followHeads(n int) (any, error) {
	return l.openStreams(n, func(i int, events *swarm.EventStream) error {
		_, err := events.ReadEvent()
		if err == nil {
			go l.recordArrivals(i, events)
		}
		return err
	})
}

// openStreams opens a stream for each of n cells, and calls opened with each.
func (l *load) openStreams(n int, opened func(i int, events *swarm.EventStream) error) (any, error) {
	return l.dialAll(n, func(i int, link *swarm.Conn) error {
		a, events, err := link.OpenStream(time.Minute, "/v1/desired", "")
		if err == nil && events == nil {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		if err == nil {
			err = opened(i, events)
		}
		return err
	})
}

func (l *load) recordArrivals(i int, events *swarm.EventStream) {
	for {
		e, err := events.ReadEvent()
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

func (l *load) forgetArrivals(struct{}) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(l.arrivals) < 4*len(l.conns) {
		l.arrivals = make([]arrival, 0, 4*len(l.conns))
	}
	l.arrivals = l.arrivals[:0]
	return nil, nil
}

// spread is how long after an instant events reached cells.
type spread struct {
	Told                  int
	First, P50, P99, Last time.Duration
	Events                int // all that arrived, also with other contents
	Broken                int // streams that ended since the start
	Size                  int // of the newest event, in bytes
	Fetched               int // bundles of flags fetched since the start
}

// headQuery names the release that cells should learn of, and the start of the measurement.
type headQuery struct {
	Since   time.Time
	Release string // of the head; empty: any
	Wait    time.Duration
}

// awaitHead waits until an event with the release arrived on every stream, and returns the times. Clocks of two
// processes on one machine agree.
func (l *load) awaitHead(t headQuery) (any, error) {
	deadline := time.Now().Add(t.Wait)
	for {
		s := l.measureArrivals(t)
		if s.Told == len(l.conns) {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the event reached %d of %d cells within %s, %d streams broke", s.Told, len(l.conns),
				t.Wait,
				s.Broken)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) measureArrivals(t headQuery) spread {
	l.mu.Lock()
	arrivals, broken := slices.Clone(l.arrivals), l.broken
	l.mu.Unlock()
	if len(arrivals) < len(l.conns) {
		return spread{Told: len(arrivals), Broken: broken}
	}
	first := make(map[int]time.Duration, len(l.conns))
	for _, a := range arrivals {
		if _, known := first[a.cell]; known {
			continue
		}
		if t.Release != "" && headRelease(a.data) != t.Release {
			continue
		}
		first[a.cell] = a.at.Round(0).Sub(t.Since)
	}
	s := spread{}
	if len(first) > 0 {
		s = newSpread(first, len(arrivals))
	}
	s.Events, s.Broken, s.Size = len(arrivals), broken, len(arrivals[len(arrivals)-1].data)
	return s
}

// headRelease returns the release of the head that a response names.
func headRelease(data []byte) string {
	var d cells.Desired
	var h cells.Head
	if json.Unmarshal(data, &d) != nil || json.Unmarshal(d.Head.Payload, &h) != nil {
		return ""
	}
	return h.Release
}

func (l *load) requestDesired(struct{}) (any, error) {
	link, err := l.dialer.Dial(context.Background(), 0, 0)
	if err != nil {
		return nil, err
	}
	defer link.Close()
	a, body, err := link.RoundTrip(time.Minute, "GET", "/v1/desired", "", nil)
	if err == nil && a.Status != 200 {
		err = fmt.Errorf("the answer is %d: %.300s", a.Status, body)
	}
	if err != nil {
		return nil, err
	}
	var d cells.Desired
	return d, json.NewDecoder(io.LimitReader(bytes.NewReader(body), 1<<20)).Decode(&d)
}
