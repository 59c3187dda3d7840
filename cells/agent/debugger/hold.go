package debugger

import (
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
)

// keptFor is how long what a session changed is kept at most, if the owner had it kept.
const keptFor = 24 * time.Hour

// hold is a session whose changes are kept.
type hold struct {
	request string
	until   time.Time
}

// HealingWaits returns why the agent must not put right what differs from the release; empty: it may (D7).
func (d *Debugger) HealingWaits(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.live {
		return "a debug session is live (" + id + "): what it changes is drift, which is looked for when it ends"
	}
	if d.kept.request != "" && now.Before(d.kept.until) {
		return "what debug session " + d.kept.request + " changed is kept, as the owner approved it, until another " +
			"release begins or for a day"
	}
	return ""
}

// ReleaseBegan ends the keeping of what earlier sessions changed.
func (d *Debugger) ReleaseBegan() {
	d.mu.Lock()
	d.kept = hold{}
	d.mu.Unlock()
}

// keepChanges has what a session changed kept, if the owner permitted it so.
func (d *Debugger) keepChanges(id string, p *debug.Permission, ended time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.KeepChanges && ended.Add(keptFor).After(d.kept.until) {
		d.kept = hold{id, ended.Add(keptFor)}
	}
}
