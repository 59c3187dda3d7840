package engine

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-cd/sluice/engine/view"
)

// publisher holds the newest view, for all who serve or show it.
type publisher struct {
	hasView atomic.Bool // view is not nil; read without mu

	mu       sync.Mutex // guards the fields below
	view     *view.View
	flags    *view.Flags   // as announced last; nil: never
	changed  chan struct{} // closed when view is replaced
	fetchErr error         // of the last fetch of the repository; nil: it succeeded
}

func newPublisher() *publisher { return &publisher{changed: make(chan struct{})} }

// View returns the newest view; nil before the first tick.
func (p *publisher) View() *view.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// Changed returns a channel that is closed when the view that View returned is replaced.
func (p *publisher) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Reachable returns the error of the last fetch of the release repository; nil: it succeeded.
func (p *publisher) Reachable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetchErr
}

func (p *publisher) recordFetch(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetchErr = err
}

func (p *publisher) announcedFlags() *view.Flags {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flags
}

// publish makes v the view, with the flags that were announced last.
func (p *publisher) publish(v *view.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publishLocked(v)
}

// publishLocked is publish for callers that hold mu.
func (p *publisher) publishLocked(v *view.View) {
	v.Flags = p.flags
	p.view = v
	p.hasView.Store(true)
	close(p.changed)
	p.changed = make(chan struct{})
}

// announceFlags publishes f in another view of the same plan, and reports whether gates see something else than before.
func (p *publisher) announceFlags(f *view.Flags) (gates bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.flags
	p.flags = f
	if v := p.view; v != nil {
		p.publishLocked(&view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan,
			PlanDuration: v.PlanDuration})
	}
	return !before.ForGates().Equal(f.ForGates())
}
