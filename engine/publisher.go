package engine

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
)

// publisher holds the newest view, for all who serve or show it.
type publisher struct {
	hasView atomic.Bool // view is not nil; read without mu

	mu      sync.Mutex // guards the fields below
	view    *view.View
	flags   *view.Flags       // as announced last; nil: never
	debug   map[string]string // of View.Debug, as announced last
	changed chan struct{}     // closed when view is replaced
	unread  *view.Unread      // nil: the last fetch of the repository succeeded
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

// Unread says since when the release repository can't be read; nil: it can.
func (p *publisher) Unread() *view.Unread {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unread
}

// recordFetch records the end of a fetch at an instant, and publishes it if it is news.
func (p *publisher) recordFetch(err error, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.unread
	switch {
	case err == nil:
		p.unread = nil
	case before == nil:
		p.unread = &view.Unread{Since: at, Reason: words.OneLine(err.Error())}
	default:
		p.unread = &view.Unread{Since: before.Since, Reason: words.OneLine(err.Error())}
	}
	if (before == nil) != (p.unread == nil) {
		p.republishLocked()
	}
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
	v.Flags, v.Unread, v.Debug = p.flags, p.unread, p.debug
	p.view = v
	p.hasView.Store(true)
	close(p.changed)
	p.changed = make(chan struct{})
}

// republishLocked publishes the same plan again; the caller holds mu.
func (p *publisher) republishLocked() {
	if v := p.view; v != nil {
		p.publishLocked(&view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan,
			PlanDuration: v.PlanDuration, HostNotes: v.HostNotes})
	}
}

// announceFlags publishes f in another view of the same plan, and reports whether gates see something else than before.
func (p *publisher) announceFlags(f *view.Flags) (gates bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.flags
	p.flags = f
	p.republishLocked()
	return !before.ForGates().Equal(f.ForGates())
}

// announceDebug publishes, in another view of the same plan, which requests for debug access there are.
func (p *publisher) announceDebug(byCell map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !maps.Equal(p.debug, byCell) {
		p.debug = byCell
		p.republishLocked()
	}
}
