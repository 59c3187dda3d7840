package controlplane

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
)

// fanout tells those who listen of what changed for them: a few goroutines, each with its share of the listeners. Each
// holds the answers of its cells against the new view, and writes to those whose answer is another, one after the
// other; a write never waits for the other side. A goroutine runs while it has listeners.
type fanout struct {
	server *Server
	shards []*shard
}

// listener is a cell's stream, or a poll that waits. Its methods are called by one goroutine at a time, and don't block.
type listener interface {
	tell(at *posted)           // what changed, if anything did
	beat(now time.Duration)    // a sign of life, if it is time for one; now as time.Since(Server.begun)
	recheck()                  // who may listen changed
	letGo(again time.Duration) // the server stops: the cell should come back after so long
}

type shard struct {
	fanout *fanout
	poke   chan struct{} // capacity 1: look at once

	mu        sync.Mutex // guards what follows
	listeners map[listener]struct{}
	running   bool
}

// beatEvery is how often it is looked at who is due for a heartbeat.
const beatEvery = time.Second

func newFanout(s *Server) *fanout {
	f := &fanout{server: s, shards: make([]*shard, max(2, min(runtime.GOMAXPROCS(0), 16)))}
	for i := range f.shards {
		f.shards[i] = &shard{fanout: f, poke: make(chan struct{}, 1), listeners: map[listener]struct{}{}}
	}
	return f
}

func (f *fanout) shard(p *place) *shard { return f.shards[int(p.hash>>8)%len(f.shards)] }

// add makes l be told. What changed just before is for the caller to tell.
func (f *fanout) add(p *place, l listener) {
	h := f.shard(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[l] = struct{}{}
	if !h.running {
		h.running = true
		go h.run()
	}
}

func (f *fanout) remove(p *place, l listener) {
	h := f.shard(p)
	h.mu.Lock()
	delete(h.listeners, l)
	empty := len(h.listeners) == 0
	h.mu.Unlock()
	if empty {
		signal(h.poke) // it ends
	}
}

// len is how many listen.
func (f *fanout) len() int {
	n := 0
	for _, h := range f.shards {
		h.mu.Lock()
		n += len(h.listeners)
		h.mu.Unlock()
	}
	return n
}

// idle tells whether nobody listens, and the goroutine has ended.
func (h *shard) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners) == 0 && !h.running
}

// those gives who listens now, to the goroutine. Where there is nobody, and it asks as its last question, it has ended.
func (h *shard) those(into []listener, last bool) []listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(into)
	into = into[:0]
	for l := range h.listeners {
		into = append(into, l)
	}
	h.running = !last || len(into) > 0
	return into
}

func (h *shard) run() {
	s := h.fanout.server
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	roster := s.rosterChanged()
	told, silent, going := uint64(0), 0, false
	for all := h.those(nil, true); len(all) > 0; all = h.those(all, true) {
		at := s.board.now()
		switch {
		case s.stopping():
			h.letGo(all, !going)
			going = true
		case s.fresh() != nil: // who was shut out can't be known: nothing is told (R29)
		case at.number != told:
			h.tell(all, at)
			told = at.number
			continue // a newer view may be there
		}
		select {
		case <-at.over:
		case <-h.poke:
		case <-roster:
			roster = s.rosterChanged()
			all = h.those(all, false)
			for _, l := range all {
				l.recheck()
			}
		case <-tick.C:
			all = h.those(all, false)
			h.beat(all)
			if silent++; s.fresh() == nil {
				silent = 0
			} else if silent > int(silentFor/beatEvery) { // another replica may know more
				h.letGo(all, true)
				silent = 0
			}
		}
	}
}

// cut ends all at once.
func (h *shard) cut() {
	h.mu.Lock()
	all := slices.Collect(maps.Keys(h.listeners))
	h.mu.Unlock()
	for _, l := range all {
		l.letGo(beatEvery)
		if c, ok := l.(cutter); ok {
			c.cut("stopping")
		}
	}
}

// tell tells what changed for anyone. Those who came meanwhile were told by whoever added them.
func (h *shard) tell(all []listener, at *posted) {
	for _, l := range all {
		l.tell(at)
	}
}

func (h *shard) beat(all []listener) {
	now := time.Since(h.fanout.server.begun)
	for _, l := range all {
		l.beat(now)
		l.recheck() // in case nobody said that the roster changed
	}
}

// letGo lets listeners go, spread over a time that grows with their number, or at once; so does the time after which
// they come back.
func (h *shard) letGo(all []listener, spread bool) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	over, back := goingTimes(h.fanout.len())
	steps := max(1, min(len(all), 50))
	pause := time.NewTicker(over / time.Duration(steps))
	defer pause.Stop()
	for step := range steps {
		if spread {
			<-pause.C
		}
		for _, l := range all[len(all)*step/steps : len(all)*(step+1)/steps] {
			l.letGo(time.Second + rand.N(back))
		}
	}
}

// rosterChanged is closed when other keys speak for cells; nil: nobody says so, and it is found out within a second.
func (s *Server) rosterChanged() <-chan struct{} {
	if m, ok := s.opts.Members.(interface{ RosterChanged() <-chan struct{} }); ok {
		return m.RosterChanged()
	}
	return nil
}

// still tells whether who asked once may still speak as that cell.
func (s *Server) still(c *caller) bool {
	if s.opts.Members == nil {
		return true
	}
	if c.door != doorCells {
		return !s.opts.Members.Roster().Keyed(c.cell)
	}
	name, ok := s.opts.Members.Roster().Cell(c.key)
	return ok && name == c.cell
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
