package postgres

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// Link is a wire to a server that can be cut. While it is, nothing comes through in either direction and nobody is told:
// what was sent waits, and new connections are taken and not answered.
type Link struct {
	listener net.Listener
	server   string // host and port

	mu    sync.Mutex // guards what follows
	whole *sync.Cond
	cut   bool
	ended bool
	conns map[net.Conn]bool
	pumps sync.WaitGroup
}

// Through lays a link to the server of an address, and gives the address over it. It ends with the test.
func Through(t testing.TB, address string) (string, *Link) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the address of a database is no URL")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{listener: listener, server: u.Host, conns: map[net.Conn]bool{}}
	l.whole = sync.NewCond(&l.mu)
	l.pumps.Go(l.accept)
	t.Cleanup(l.end)
	u.Host = listener.Addr().String()
	return u.String(), l
}

// Cut is a partition.
func (l *Link) Cut() { l.set(func() { l.cut = true }) }

// Mend ends it: what waited goes on.
func (l *Link) Mend() { l.set(func() { l.cut = false }) }

// Break closes every connection under way.
func (l *Link) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close() // that is the point
	}
}

func (l *Link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.whole.Broadcast()
}

func (l *Link) end() {
	l.set(func() { l.ended = true })
	_ = l.listener.Close()
	l.Break()
	l.pumps.Wait()
}

// pass waits while the link is cut, and tells whether it still is there.
func (l *Link) pass() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.cut && !l.ended {
		l.whole.Wait()
	}
	return !l.ended
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.keep(near)
		l.pumps.Go(func() {
			defer l.drop(near)
			if !l.pass() {
				return
			}
			far, err := net.Dial("tcp", l.server)
			if err != nil {
				return
			}
			l.keep(far)
			defer l.drop(far)
			l.pumps.Go(func() { l.pump(near, far) })
			l.pump(far, near)
		})
	}
}

// pump carries bytes one way until either end is closed.
func (l *Link) pump(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !l.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *Link) keep(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	if l.ended {
		_ = c.Close()
	}
}

func (l *Link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}
