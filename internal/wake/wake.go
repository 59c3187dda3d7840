// Package wake lets goroutines wake another goroutine. A Signal says that there is something to do, not what: signals
// that come before the receiver looks count as one. Sending never blocks.
package wake

// Signal is received from by one goroutine, and notified by any number at once.
type Signal chan struct{}

func New() Signal { return make(Signal, 1) }

// Notify wakes the goroutine that receives from s, now or at its next receive.
func (s Signal) Notify() {
	select {
	case s <- struct{}{}:
	default: // a signal is pending already
	}
}
