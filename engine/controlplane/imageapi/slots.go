package imageapi

import (
	"context"
	"runtime"
	"time"
)

// longestHold ends the hold of a client that takes its bytes slowly: then its pull waits for the network, and takes no
// processor.
const longestHold = time.Millisecond

// sendSlots has few pulls at once encrypt and send. Go looks for requests that arrived when a processor has nothing
// else to do, and otherwise every 10 ms: so pulls must leave some processors idle, or else reports wait that long again
// and again. Pulls get slots in the order in which they asked.
type sendSlots chan struct{}

// newSendSlots returns slots for half of the processors.
func newSendSlots() sendSlots { return make(sendSlots, max(1, runtime.GOMAXPROCS(0)/2)) }

// acquire waits for a slot. Its release must be called.
func (s sendSlots) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	timer := time.AfterFunc(longestHold, s.pass)
	return func() {
		if timer.Stop() {
			s.pass()
		}
	}, nil
}

// pass passes a slot on.
func (s sendSlots) pass() { <-s }
