package wake

import "sync"

// Gate is open or shut, and any number of goroutines wait for it to open. The zero Gate is shut. Its methods may be
// called at once.
type Gate struct {
	mu     sync.Mutex    // guards what follows
	opened chan struct{} // closed while the gate is open; nil: shut, and nobody waits
}

// Open opens the gate.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.channel():
	default:
		close(g.opened)
	}
}

// Shut shuts the gate. Who waits goes on waiting.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.channel():
		g.opened = nil
	default:
	}
}

// Opened returns a channel that is closed once the gate is open.
func (g *Gate) Opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.channel()
}

// IsOpen reports whether the gate is open.
func (g *Gate) IsOpen() bool {
	select {
	case <-g.Opened():
		return true
	default:
		return false
	}
}

// channel returns opened. The caller holds g.mu.
func (g *Gate) channel() chan struct{} {
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened
}
