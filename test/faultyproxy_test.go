package test

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// faultyProxy is a TCP line to a server that can be made bad while it is in use. Of what is held with it Toxiproxy has
// neither bytes that are changed, nor connections that live for a moment, nor counts.
type faultyProxy struct {
	listener net.Listener
	server   string

	mu       sync.Mutex // guards what follows
	changed  *sync.Cond
	fault    proxyFault
	accepted int // connections that were accepted
	altered  int // bytes that were changed
	rand     *rand.Rand
	conns    map[net.Conn]bool
	closed   bool
	pumps    sync.WaitGroup
}

// proxyFault is what is wrong with a line, in both directions where none is named. The zero fault is none.
type proxyFault struct {
	latency     time.Duration
	rate        int              // bytes a second, of each connection; 0: any
	lifetime    [2]time.Duration // a connection is reset between the first and the second after its begin; zero: it is not
	resetAfter  int              // and after so many bytes to the cell; 0: any
	blockUp     bool             // nothing comes through to the server, and nobody is told
	blockDown   bool             // nothing comes through to the cell
	alterWithin int              // a byte is changed somewhere in the first so many of each direction of a connection; 0: none
}

const (
	proxyChunk        = 4 << 10
	proxyPollInterval = 50 * time.Millisecond // at which a wait looks whether the line has ended
)

// newFaultyProxy lays a line to a server. It ends with the test.
func newFaultyProxy(t testing.TB, server string, f proxyFault) *faultyProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &faultyProxy{listener: listener, server: server, fault: f, rand: rand.New(rand.NewPCG(1, 2)), conns: map[net.Conn]bool{}} //nolint:gosec // repeatable
	l.changed = sync.NewCond(&l.mu)
	l.pumps.Go(l.accept)
	t.Cleanup(func() {
		l.mu.Lock()
		l.closed = true
		l.changed.Broadcast()
		l.mu.Unlock()
		_ = listener.Close()
		l.resetConns()
		l.pumps.Wait()
	})
	return l
}

func (l *faultyProxy) address() string { return l.listener.Addr().String() }

// setFault makes the line bad in another way, also for connections under way.
func (l *faultyProxy) setFault(f proxyFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	l.changed.Broadcast()
}

// resetConns cuts every connection under way, so that both sides are told.
func (l *faultyProxy) resetConns() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		resetConn(c)
	}
}

// counts are how many connections were taken, and bytes changed.
func (l *faultyProxy) counts() (taken, bent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted, l.altered
}

// resetConn closes a connection by a reset.
func resetConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (l *faultyProxy) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.server)
		if err != nil {
			resetConn(near)
			continue
		}
		l.mu.Lock()
		l.accepted++
		l.conns[near], l.conns[far] = true, true
		up, down := l.chooseAlteredByte(), l.chooseAlteredByte()
		f, ended := l.fault, l.closed
		lives := f.lifetime[0]
		if more := f.lifetime[1] - lives; more > 0 {
			lives += rand.N(more)
		}
		l.mu.Unlock()
		cut := func() { resetConn(near); resetConn(far) }
		if ended {
			cut()
		}
		timer := time.AfterFunc(lives, cut)
		if lives == 0 {
			timer.Stop()
		}
		l.pumps.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { l.forward(far, near, true, up) })
			both.Go(func() { l.forward(near, far, false, down) })
			both.Wait()
			timer.Stop()
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.conns, near)
			delete(l.conns, far)
		})
	}
}

// chooseAlteredByte chooses the byte of a direction that is changed, under mu; -1: none.
func (l *faultyProxy) chooseAlteredByte() int {
	if l.fault.alterWithin == 0 {
		return -1
	}
	return l.rand.IntN(l.fault.alterWithin)
}

// forward carries bytes one way until either end is closed.
func (l *faultyProxy) forward(to, from net.Conn, up bool, bend int) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, proxyChunk)
	for passed := 0; ; {
		n, err := from.Read(buffer)
		f, ok := l.waitToForward(up, n)
		if !ok {
			return
		}
		if at := bend - passed; f.alterWithin > 0 && at >= 0 && at < n {
			buffer[at] ^= 0x55
			l.mu.Lock()
			l.altered++
			l.mu.Unlock()
		}
		if f.resetAfter > 0 && !up && passed+n > f.resetAfter {
			n = max(0, f.resetAfter-passed)
			_, _ = to.Write(buffer[:n])
			resetConn(to)
			resetConn(from)
			return
		}
		passed += n
		if _, bad := to.Write(buffer[:n]); bad != nil || err != nil {
			return
		}
	}
}

// waitToForward waits as long as so many bytes take, and for as long as the line is deaf. ok is false once it has ended.
func (l *faultyProxy) waitToForward(up bool, n int) (f proxyFault, ok bool) {
	l.mu.Lock()
	for !l.closed && (up && l.fault.blockUp || !up && l.fault.blockDown) {
		l.changed.Wait()
	}
	f, ok = l.fault, !l.closed
	l.mu.Unlock()
	takes := f.latency
	if f.rate > 0 {
		takes += time.Second * time.Duration(n) / time.Duration(f.rate)
	}
	for begun := time.Now(); ok && time.Since(begun) < takes; {
		time.Sleep(min(proxyPollInterval, takes-time.Since(begun)))
		l.mu.Lock()
		ok = !l.closed
		l.mu.Unlock()
	}
	return f, ok
}
