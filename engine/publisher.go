package engine

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-cd/sluice/engine/view"
)

// publisher holds what was decided last, for everyone who serves or shows it.
type publisher struct {
	hasView atomic.Bool // there is a view

	mu       sync.Mutex // guards what follows
	view     *view.View
	flags    *view.Flags   // as last announced; nil: nothing was
	changed  chan struct{} // closed when view is replaced
	fetchErr error         // of the last look at the repository; nil: reachable
}

func newPublisher() *publisher { return &publisher{changed: make(chan struct{})} }

// View is what was last decided; nil before the first tick.
func (p *publisher) View() *view.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// Changed is closed when there is another view than the one that View gave before.
func (p *publisher) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Reachable is the error of the last look at the release repository; nil: it was read.
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

// announcedFlags is what was announced last.
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

// publishLocked is publish, under mu.
func (p *publisher) publishLocked(v *view.View) {
	v.Flags = p.flags
	p.view = v
	p.hasView.Store(true)
	close(p.changed)
	p.changed = make(chan struct{})
}

// announceFlags shows f from now on, by another view of the same plan. It reports whether gates see something else than before.
func (p *publisher) announceFlags(f *view.Flags) (gates bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.flags
	p.flags = f
	if v := p.view; v != nil {
		p.publishLocked(&view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan, Took: v.Took})
	}
	return !before.ForGates().Equal(f.ForGates())
}
