package debugger

import (
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
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
	for id, scope := range d.live {
		if scope.ChangesNothing() {
			continue
		}
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
	was := d.kept
	d.kept = hold{}
	d.mu.Unlock()
	if was.request == "" {
		return
	}
	for _, e := range d.keptEntries() {
		if e.Seal == nil {
			continue
		}
		if err := d.folder.MarkReplaced(e.ID); err != nil {
			d.options.Log.Warn().Err(err).Str("request", e.ID).Msg("an agent that is started again keeps what a debug " +
				"session changed, though another release began")
		}
	}
}

// keptEntries returns the requests whose sessions' changes are kept, whatever their age.
func (d *Debugger) keptEntries() (kept []debugfolder.Entry) {
	all, err := d.folder.List()
	if err != nil {
		d.options.Log.Warn().Err(err).Msg("requests for debug access can't be read")
	}
	for _, e := range all {
		if e.Permission != nil && e.Permission.KeepChanges && e.Begun != nil && !e.Replaced {
			kept = append(kept, e)
		}
	}
	return kept
}

// recallKept has changes kept that an earlier agent kept.
func (d *Debugger) recallKept() {
	for _, e := range d.keptEntries() {
		ended := e.Begun.At.Add(e.Permission.For) // at the latest, if it was interrupted
		if e.Seal != nil {
			seal, err := e.Seal.Read()
			if err != nil {
				continue
			}
			ended = seal.Ended
		}
		d.keepChanges(e.ID, e.Permission, ended)
	}
}

// keepChanges has what a session changed kept, if the owner permitted it so.
func (d *Debugger) keepChanges(id string, p *debug.Permission, ended time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p != nil && p.KeepChanges && ended.Add(keptFor).After(d.kept.until) {
		d.kept = hold{id, ended.Add(keptFor)}
	}
}
