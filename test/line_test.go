package test

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// line is a TCP line to a server that can be made bad while it is in use. Of what is held with it Toxiproxy has
// neither bytes that are changed, nor connections that live for a moment, nor counts.
type line struct {
	listener net.Listener
	server   string

	mu    sync.Mutex // guards what follows
	news  *sync.Cond
	fault fault
	taken int // connections that were accepted
	bent  int // bytes that were changed
	rand  *rand.Rand
	conns map[net.Conn]bool
	ended bool
	pumps sync.WaitGroup
}

// fault is what is wrong with a line, in both directions where none is named. The zero fault is none.
type fault struct {
	latency time.Duration
	rate    int              // bytes a second, of each connection; 0: any
	lives   [2]time.Duration // a connection is reset between the first and the second after its begin; zero: it is not
	after   int              // and after so many bytes to the cell; 0: any
	deafUp  bool             // nothing comes through to the server, and nobody is told
	deafDn  bool             // nothing comes through to the cell
	bend    int              // a byte is changed somewhere in the first so many of each direction of a connection; 0: none
}

const (
	lineChunk = 4 << 10
	lineSlice = 50 * time.Millisecond // at which a wait looks whether the line has ended
)

// newLine lays a line to a server. It ends with the test.
func newLine(t testing.TB, server string, f fault) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, server: server, fault: f, rand: rand.New(rand.NewPCG(1, 2)), conns: map[net.Conn]bool{}} //nolint:gosec // repeatable
	l.news = sync.NewCond(&l.mu)
	l.pumps.Go(l.accept)
	t.Cleanup(func() {
		l.mu.Lock()
		l.ended = true
		l.news.Broadcast()
		l.mu.Unlock()
		_ = listener.Close()
		l.reset()
		l.pumps.Wait()
	})
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

// set makes the line bad in another way, also for connections under way.
func (l *line) set(f fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	l.news.Broadcast()
}

// reset cuts every connection under way, so that both sides are told.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		cutOff(c)
	}
}

// counts are how many connections were taken, and bytes changed.
func (l *line) counts() (taken, bent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken, l.bent
}

// cutOff closes a connection by a reset.
func cutOff(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (l *line) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.server)
		if err != nil {
			cutOff(near)
			continue
		}
		l.mu.Lock()
		l.taken++
		l.conns[near], l.conns[far] = true, true
		up, down := l.bends(), l.bends()
		f, ended := l.fault, l.ended
		lives := f.lives[0]
		if more := f.lives[1] - lives; more > 0 {
			lives += rand.N(more)
		}
		l.mu.Unlock()
		cut := func() { cutOff(near); cutOff(far) }
		if ended {
			cut()
		}
		timer := time.AfterFunc(lives, cut)
		if lives == 0 {
			timer.Stop()
		}
		l.pumps.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { l.pump(far, near, true, up) })
			both.Go(func() { l.pump(near, far, false, down) })
			both.Wait()
			timer.Stop()
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.conns, near)
			delete(l.conns, far)
		})
	}
}

// bends chooses the byte of a direction that is changed, under mu; -1: none.
func (l *line) bends() int {
	if l.fault.bend == 0 {
		return -1
	}
	return l.rand.IntN(l.fault.bend)
}

// pump carries bytes one way until either end is closed.
func (l *line) pump(to, from net.Conn, up bool, bend int) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, lineChunk)
	for passed := 0; ; {
		n, err := from.Read(buffer)
		f, ok := l.pass(up, n)
		if !ok {
			return
		}
		if at := bend - passed; f.bend > 0 && at >= 0 && at < n {
			buffer[at] ^= 0x55
			l.mu.Lock()
			l.bent++
			l.mu.Unlock()
		}
		if f.after > 0 && !up && passed+n > f.after {
			n = max(0, f.after-passed)
			_, _ = to.Write(buffer[:n])
			cutOff(to)
			cutOff(from)
			return
		}
		passed += n
		if _, bad := to.Write(buffer[:n]); bad != nil || err != nil {
			return
		}
	}
}

// pass waits as long as so many bytes take, and for as long as the line is deaf. ok is false once it has ended.
func (l *line) pass(up bool, n int) (f fault, ok bool) {
	l.mu.Lock()
	for !l.ended && (up && l.fault.deafUp || !up && l.fault.deafDn) {
		l.news.Wait()
	}
	f, ok = l.fault, !l.ended
	l.mu.Unlock()
	takes := f.latency
	if f.rate > 0 {
		takes += time.Second * time.Duration(n) / time.Duration(f.rate)
	}
	for begun := time.Now(); ok && time.Since(begun) < takes; {
		time.Sleep(min(lineSlice, takes-time.Since(begun)))
		l.mu.Lock()
		ok = !l.ended
		l.mu.Unlock()
	}
	return f, ok
}
