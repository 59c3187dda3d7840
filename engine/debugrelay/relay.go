// Package debugrelay passes the bytes of debug sessions between a cell's agent and the person who asked for the
// session. Both come to the control plane by a connection that they made; the relay joins the two.
//
// What passes is SSH, encrypted from end to end: the relay reads, keeps and understands nothing of it. It can delay or
// cut a session, and the ends notice everything else (D4). At most one pair of ends is joined for a request at a time.
// A pair is cut, both ends at once, when one of them ends, when one is no longer allowed in, when nothing passes for
// some time, and at limits of bytes and time.
//
// Ends meet in one process. Where several processes serve, the agent waits at each for a short time only, and asks
// again by a new connection, until it comes to the one where the person waits.
//
// All methods may be called from any goroutine.
package debugrelay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Side is one of both ends of a session.
type Side int

// The sides.
const (
	Agent Side = iota
	Person
)

func (s Side) other() Side { return 1 - s }

// Limits bounds sessions. Zero fields have a default.
type Limits struct {
	Sessions  int           // joined, and ends that wait; default 256
	AgentWait time.Duration // how long an agent waits for the person; default 2 s
	Wait      time.Duration // how long a person waits for the agent; default 20 s
	Idle      time.Duration // after which a pair through which nothing passes is cut; default 90 s
	Lifetime  time.Duration // of a pair; default 9 h
	Bytes     int64         // from one end to the other; default 8 GiB
	Rate      int           // bytes a second from one end to the other; default 64 MiB
	Recheck   time.Duration // how often it is asked whether the ends are still allowed in; default 250 ms
}

func (l Limits) withDefaults() Limits {
	l.Sessions = cmp.Or(l.Sessions, 256)
	l.AgentWait = cmp.Or(l.AgentWait, 2*time.Second)
	l.Wait = cmp.Or(l.Wait, 20*time.Second)
	l.Idle = cmp.Or(l.Idle, 90*time.Second)
	l.Lifetime = cmp.Or(l.Lifetime, 9*time.Hour)
	l.Bytes = cmp.Or(l.Bytes, 8<<30)
	l.Rate = cmp.Or(l.Rate, 64<<20)
	l.Recheck = cmp.Or(l.Recheck, 250*time.Millisecond)
	return l
}

var (
	// ErrAlone means that the other end did not come. It may have come to another process.
	ErrAlone = errors.New("the other end is not here")
	// ErrLive means that a session for the request is live already.
	ErrLive = errors.New("a session for this request is live")
	// ErrFull means that as many ends are here as may be.
	ErrFull = errors.New("too many debug sessions at once")
	// ErrReplaced means that another connection of the same side came meanwhile.
	ErrReplaced = errors.New("another connection of this side came")
	// ErrStopped means that the relay ends.
	ErrStopped = errors.New("the relay stops")
)

// bufferSize is how much is read at once, in bytes.
const bufferSize = 32 << 10

// Relay joins ends.
type Relay struct {
	limits Limits
	stop   <-chan struct{}

	mu    sync.Mutex
	pairs map[string]*pair // by key
	ends  int              // in pairs
}

// New returns a relay that ends its sessions once stop is closed.
func New(l Limits, stop <-chan struct{}) *Relay {
	return &Relay{limits: l.withDefaults(), stop: stop, pairs: map[string]*pair{}}
}

// Sessions returns how many pairs are joined.
func (r *Relay) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, p := range r.pairs {
		if p.isJoined() {
			n++
		}
	}
	return n
}

// IsJoined reports whether the pair that key names is joined.
func (r *Relay) IsJoined(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pairs[key]
	return p != nil && p.isJoined()
}

// pair is a session, or one end that waits for the other. The relay's mutex guards seats; the rest is set once.
type pair struct {
	seats  [2]*Seat
	joined chan struct{} // closed once both seats are taken
	ended  chan struct{} // closed once the pair is cut
	end    sync.Once
}

func (p *pair) isJoined() bool { return p.seats[Agent] != nil && p.seats[Person] != nil }

// cut ends the pair.
func (p *pair) cut() { p.end.Do(func() { close(p.ended) }) }

// Seat is an end's place in a pair. The end calls Leave when it is done, in any case.
type Seat struct {
	relay    *Relay
	pair     *pair
	key      string
	side     Side
	hello    string
	allowed  func(context.Context) bool
	conn     chan net.Conn // buffer of one: the end's connection, for the other side
	replaced chan struct{}
	left     bool // the relay's mutex guards it
}

// Meet waits until both ends of a session are here. key names the session, hello is passed to the other side, and
// allowed reports whether the end may stay; it is called again and again.
func (r *Relay) Meet(
	ctx context.Context, key string, side Side, hello string, allowed func(context.Context) bool,
) (*Seat, error) {
	s, err := r.take(key, side, hello, allowed)
	if err != nil {
		return nil, err
	}
	patience := r.limits.Wait
	if side == Agent {
		patience = r.limits.AgentWait
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.pair.joined:
		return s, nil
	case <-timer.C:
		err = ErrAlone
	case <-s.replaced:
		err = ErrReplaced
	case <-r.stop:
		err = ErrStopped
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Leave()
	return nil, err
}

func (r *Relay) take(key string, side Side, hello string, allowed func(context.Context) bool) (*Seat, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pairs[key]
	switch {
	case p != nil && p.isJoined():
		return nil, ErrLive
	case p != nil && p.seats[side] != nil: // the end came again: its connection may be long dead
		r.vacate(p.seats[side])
		close(p.seats[side].replaced)
		p = nil
	case r.ends >= r.limits.Sessions*2:
		return nil, ErrFull
	}
	if p == nil {
		p = &pair{joined: make(chan struct{}), ended: make(chan struct{})}
		r.pairs[key] = p
	}
	s := &Seat{relay: r, pair: p, key: key, side: side, hello: hello, allowed: allowed, conn: make(chan net.Conn, 1),
		replaced: make(chan struct{})}
	p.seats[side] = s
	r.ends++
	if p.isJoined() {
		close(p.joined)
	}
	return s, nil
}

// vacate counts a seat out. The caller holds r.mu.
func (r *Relay) vacate(s *Seat) {
	if s.left {
		return
	}
	s.left = true
	r.ends--
	if r.pairs[s.key] == s.pair {
		delete(r.pairs, s.key)
	}
}

// Leave ends the session, or the wait for it.
func (s *Seat) Leave() {
	s.relay.mu.Lock()
	s.relay.vacate(s)
	s.relay.mu.Unlock()
	s.pair.cut()
}

// Hello returns what the other side said at first.
func (s *Seat) Hello() string { return s.pair.seats[s.side.other()].hello }

// Run passes what comes from the end's connection to the other end, until the session is over, and closes the
// connection. early is what the end sent before its connection was taken over.
func (s *Seat) Run(conn net.Conn, early []byte) {
	defer s.Leave()
	defer func() { _ = conn.Close() }()
	s.conn <- conn
	other := s.pair.seats[s.side.other()]
	var peer net.Conn
	select {
	case peer = <-other.conn:
	case <-s.pair.ended:
		return
	case <-time.After(s.relay.limits.AgentWait): // its request ended between the answer and here
		return
	}
	go s.watch(conn)
	s.copy(peer, conn, early)
}

// watch closes the end's connection when the session is over, or when the end may not stay. It ends with the session.
func (s *Seat) watch(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer s.pair.cut()
	ctx, cancel := context.WithTimeout(context.Background(), s.relay.limits.Lifetime)
	defer cancel()
	ticker := time.NewTicker(s.relay.limits.Recheck)
	defer ticker.Stop()
	for {
		select {
		case <-s.pair.ended:
			return
		case <-s.relay.stop:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
			if !s.allowed(ctx) {
				return
			}
		}
	}
}

// copy passes bytes on until either side fails or a limit is reached.
func (s *Seat) copy(to, from net.Conn, early []byte) {
	l := s.relay.limits
	limiter := rate.NewLimiter(rate.Limit(l.Rate), max(l.Rate/4, bufferSize))
	buffer := make([]byte, bufferSize)
	n, err := copy(buffer, early), error(nil)
	for total := int64(0); ; {
		if total += int64(n); total > l.Bytes {
			return
		}
		if n > 0 {
			if pause := limiter.ReserveN(time.Now(), n).Delay(); pause > 0 && !s.sleep(pause) {
				return
			}
			_ = to.SetWriteDeadline(time.Now().Add(l.Idle)) // an error means a closed connection, which Write reports
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		_ = from.SetReadDeadline(time.Now().Add(l.Idle))
		n, err = from.Read(buffer)
	}
}

// sleep waits, and reports whether the session still goes on.
func (s *Seat) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.pair.ended:
		return false
	}
}
