package transport

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

const (
	firstByteTimeout = 5 * time.Second // from a connection until its first byte: a busy or distant peer has its time
	// registrationTimeout is how long nobody's key has to send its registration, counted from its handshake;
	// answerTimeout is how long the answer may take from there: the engine may have to fetch the cell first.
	registrationTimeout = 5 * time.Second
	answerTimeout       = 20 * time.Second

	maxStrangers     = 4096     // whatever the descriptors allow: a stranger costs some 50 KiB
	maxStrangerBytes = 16 << 10 // sent by nobody's key after its handshake: a registration has some 3 KiB

	// maxOfKey is how many connections one cell's key may have. An agent has some 20: a stream, requests, downloads, 8
	// for debug sessions, 4 for images. Others are left by an agent that crashed.
	maxOfKey = 64
)

// descriptorShares splits the process's limit of descriptors (R57): connections in all, and of them strangers. The rest
// is kept for the store, git, and what is read from disk.
func descriptorShares(limit int) (connections, strangers int) {
	reserve := min(max(limit/4, 64), 1024)
	connections = max(limit-reserve, 1)
	return connections, max(min(connections/2, maxStrangers), 1)
}

// admission bounds the connections of all listeners in number. A peer is a stranger until a request of its is
// identified. Where room is needed, strangers are evicted that keep the server waiting, the oldest connection first:
// who is at once served is in nobody's way. Connections that wait for the server are not evicted. A cell's key that has
// too many connections loses its oldest, and takes no place from other cells.
//
// Its methods may be called by any goroutine.
type admission struct {
	maxStrangers int // zero: by the descriptors
	metrics      *metrics.Metrics

	mu      sync.Mutex          // guards what follows, and the visit of each connection
	open    int                 // connections
	waiting visits              // strangers that the server waits for
	ofKey   map[string][]*visit // of known peers, by the key that each proved, the oldest first
}

// visit is what admission knows of a connection. The mutex of admission guards it.
type visit struct {
	conn       *asyncConn
	key        string // in admission.ofKey; empty: not in it
	acceptedAt time.Time
	index      int // in admission.waiting; -1: not in it
	left       bool
	stay       *time.Timer // ends nobody's visit; nil: none
}

// enter counts a connection in, and begins to wait for its peer. It reports whether there is room.
func (a *admission) enter(c *asyncConn, now time.Time) bool {
	connections, strangers := descriptorShares(descriptorLimit())
	if a.maxStrangers > 0 {
		strangers = a.maxStrangers
	}
	a.mu.Lock()
	var evicted []*asyncConn
	for len(a.waiting) > 0 && (a.open >= connections || len(a.waiting) >= strangers) {
		evicted = append(evicted, a.evictOldest())
	}
	ok := a.open < connections
	if ok {
		a.open++
		c.admission, c.visit = a, visit{conn: c, acceptedAt: now}
		heap.Push(&a.waiting, &c.visit)
		a.metrics.Connections.Inc()
	}
	a.mu.Unlock()
	for _, e := range evicted {
		_ = e.Conn.Close()
		a.metrics.CountShed("stranger")
	}
	return ok
}

// evictOldest takes the oldest waiting stranger out. The caller holds a.mu, and closes the connection later.
func (a *admission) evictOldest() *asyncConn {
	v := a.waiting[0]
	a.takeOut(v)
	return v.conn
}

// makeRoom evicts a share of the waiting strangers, after descriptors ran out nevertheless.
func (a *admission) makeRoom() {
	a.mu.Lock()
	var evicted []*asyncConn
	for n := (len(a.waiting) + 3) / 4; n > 0; n-- {
		evicted = append(evicted, a.evictOldest())
	}
	a.mu.Unlock()
	for _, e := range evicted {
		_ = e.Conn.Close()
		a.metrics.CountShed("stranger")
	}
}

// takeOut ends a visit, once. The caller holds a.mu.
func (a *admission) takeOut(v *visit) {
	if v.left {
		return
	}
	v.left = true
	a.open--
	a.metrics.Connections.Dec()
	a.endWait(v)
	if v.stay != nil {
		v.stay.Stop()
	}
	if v.key == "" {
		return
	}
	if rest := slices.DeleteFunc(a.ofKey[v.key], func(o *visit) bool { return o == v }); len(rest) > 0 {
		a.ofKey[v.key] = rest
	} else {
		delete(a.ofKey, v.key)
	}
}

func (a *admission) endWait(v *visit) {
	if v.index >= 0 {
		heap.Remove(&a.waiting, v.index)
	}
}

// awaitPeer notes that the server waits for the peer.
func (a *admission) awaitPeer(v *visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !v.left && v.index < 0 {
		heap.Push(&a.waiting, v)
	}
}

// heardPeer notes that the peer waits for the server.
func (a *admission) heardPeer(v *visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endWait(v)
}

// welcome notes that the peer is known: its connection is kept, and its key's oldest one is closed if there are too
// many.
func (a *admission) welcome(v *visit, key string) {
	if extra := a.admit(v, key); extra != nil {
		_ = extra.Conn.Close()
		a.metrics.CountShed("cell_connections")
	}
}

// admit returns the connection that is one too many; nil: none.
func (a *admission) admit(v *visit, key string) (extra *asyncConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endWait(v)
	if v.stay != nil {
		v.stay.Stop()
	}
	if key == "" || v.left {
		return nil
	}
	if a.ofKey == nil {
		a.ofKey = map[string][]*visit{}
	}
	v.key = key
	a.ofKey[key] = append(a.ofKey[key], v)
	if all := a.ofKey[key]; len(all) > maxOfKey {
		extra = all[0].conn
		a.takeOut(all[0])
	}
	return extra
}

// limitStay ends a stranger's visit after a time. A later call replaces the time.
func (a *admission) limitStay(v *visit, within time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case v.left || v.conn.known.Load():
	case v.stay == nil:
		v.stay = time.AfterFunc(within, func() { _ = v.conn.Close() })
	case v.stay.Stop(): // otherwise it has ended
		v.stay.Reset(within)
	}
}

// leave counts a connection out.
func (a *admission) leave(v *visit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.takeOut(v)
}

// visits is a heap of visits, the oldest first.
type visits []*visit

func (v visits) Len() int           { return len(v) }
func (v visits) Less(i, j int) bool { return v[i].acceptedAt.Before(v[j].acceptedAt) }

func (v visits) Swap(i, j int) {
	v[i], v[j] = v[j], v[i]
	v[i].index, v[j].index = i, j
}

// Push implements heap.Interface.
func (v *visits) Push(x any) {
	one := x.(*visit)
	one.index = len(*v)
	*v = append(*v, one)
}

// Pop implements heap.Interface.
func (v *visits) Pop() any {
	last := len(*v) - 1
	one := (*v)[last]
	(*v)[last] = nil
	*v = (*v)[:last]
	one.index = -1
	return one
}
