// Package proxy is a TCP proxy whose connections can be made bad while they are in use: slow, short-lived, half open,
// or with altered bytes. It is for tests only, and never fails by itself. All of it may be called at once.
//
// Toxiproxy can neither alter bytes, nor limit how long a connection lives, nor count connections.
package proxy

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards connections to one server.
type Proxy struct {
	listener net.Listener
	server   string // host and port

	mu         sync.Mutex // guards what follows
	changed    *sync.Cond
	impairment Impairment
	accepted   int // connections
	altered    int // bytes
	rand       *rand.Rand
	conns      map[net.Conn]bool
	closed     bool
	forwarders sync.WaitGroup
}

// Impairment is what is wrong with a proxy's connections, in both directions unless a field names one. The zero value
// is none.
type Impairment struct {
	Latency     time.Duration
	Rate        int              // bytes a second, of each connection; 0: unlimited
	Lifetime    [2]time.Duration // a connection is reset at an age between the two; zero: never
	ResetAfter  int              // bytes to the client, after which a connection is reset; 0: never
	BlockUp     bool             // bytes to the server wait, without an error on either side
	BlockDown   bool             // bytes to the client wait
	AlterWithin int              // one byte is altered in the first so many of each direction of a connection; 0: none
}

const (
	chunk        = 4 << 10
	pollInterval = 50 * time.Millisecond // at which a delay checks whether the proxy has closed
)

// New starts a proxy to a server, which closes with the test.
func New(t testing.TB, server string, f Impairment) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		listener: listener, server: server, impairment: f, conns: map[net.Conn]bool{},
		rand: rand.New(rand.NewPCG(1, 2)), //nolint:gosec // repeatable
	}
	p.changed = sync.NewCond(&p.mu)
	p.forwarders.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.changed.Broadcast()
		p.mu.Unlock()
		_ = listener.Close()
		p.ResetConns()
		p.forwarders.Wait()
	})
	return p
}

func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Impair replaces the impairment, also for existing connections.
func (p *Proxy) Impair(f Impairment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.impairment = f
	p.changed.Broadcast()
}

// ResetConns resets every existing connection, on both sides.
func (p *Proxy) ResetConns() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		resetConn(c)
	}
}

// Counts returns how many connections were accepted, and how many bytes were altered.
func (p *Proxy) Counts() (accepted, altered int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted, p.altered
}

func resetConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.server)
		if err != nil {
			resetConn(near)
			continue
		}
		p.mu.Lock()
		p.accepted++
		p.conns[near], p.conns[far] = true, true
		up, down := p.chooseAlteredByte(), p.chooseAlteredByte()
		f, closed := p.impairment, p.closed
		lifetime := f.Lifetime[0]
		if more := f.Lifetime[1] - lifetime; more > 0 {
			lifetime += rand.N(more)
		}
		p.mu.Unlock()
		reset := func() { resetConn(near); resetConn(far) }
		if closed {
			reset()
		}
		stop := func() bool { return true }
		if lifetime > 0 { // a timer of no time may fire before it is stopped
			stop = time.AfterFunc(lifetime, reset).Stop
		}
		p.forwarders.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { p.forward(far, near, true, up) })
			both.Go(func() { p.forward(near, far, false, down) })
			both.Wait()
			stop()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, near)
			delete(p.conns, far)
		})
	}
}

// chooseAlteredByte returns the offset of the byte of a direction that is altered; -1: none. mu is held.
func (p *Proxy) chooseAlteredByte() int {
	if p.impairment.AlterWithin == 0 {
		return -1
	}
	return p.rand.IntN(p.impairment.AlterWithin)
}

// forward copies bytes one way until either end is closed.
func (p *Proxy) forward(to, from net.Conn, up bool, altered int) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, chunk)
	for passed := 0; ; {
		n, err := from.Read(buffer)
		f, ok := p.waitToForward(up, n)
		if !ok {
			return
		}
		if at := altered - passed; f.AlterWithin > 0 && at >= 0 && at < n {
			buffer[at] ^= 0x55
			p.mu.Lock()
			p.altered++
			p.mu.Unlock()
		}
		if f.ResetAfter > 0 && !up && passed+n > f.ResetAfter {
			n = max(0, f.ResetAfter-passed)
			_, _ = to.Write(buffer[:n])
			resetConn(to)
			resetConn(from)
			return
		}
		passed += n
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			return
		}
	}
}

// waitToForward waits as long as n bytes take, and while the direction is blocked. ok is false once the proxy has
// closed.
func (p *Proxy) waitToForward(up bool, n int) (f Impairment, ok bool) {
	p.mu.Lock()
	for !p.closed && (up && p.impairment.BlockUp || !up && p.impairment.BlockDown) {
		p.changed.Wait()
	}
	f, ok = p.impairment, !p.closed
	p.mu.Unlock()
	delay := f.Latency
	if f.Rate > 0 {
		delay += time.Second * time.Duration(n) / time.Duration(f.Rate)
	}
	for begun := time.Now(); ok && time.Since(begun) < delay; {
		time.Sleep(min(pollInterval, delay-time.Since(begun)))
		p.mu.Lock()
		ok = !p.closed
		p.mu.Unlock()
	}
	return f, ok
}
