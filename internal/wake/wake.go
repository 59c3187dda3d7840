// Package wake lets goroutines wake another one. A Signal says that there is something to do, not what: many that come
// while nobody waits are one. It never blocks whoever sends.
package wake

// Signal is received from by one goroutine, and notified by any number at once.
type Signal chan struct{}

// New makes a signal.
func New() Signal { return make(Signal, 1) }

// Notify wakes whoever receives from s, now or the next time.
func (s Signal) Notify() {
	select {
	case s <- struct{}{}:
	default: // it is awake already
	}
}
