package agent

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/agent/debuginbox"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// openDebugInbox opens what takes requests for debug access, and has news of them reported.
func (l *loop) openDebugInbox() *debuginbox.Inbox {
	a := l.agent
	log := a.options.Log.With().Str("about", "debug access").Logger()
	return debuginbox.New(debuginbox.Options{StateDir: a.options.StateDir, Cell: a.options.Cell,
		Fetch: a.client.FetchDebug, Now: a.clock.Latest, Log: log,
		OnNews: func(events []cells.Event) {
			if err := l.outbox.Add(events, time.Now()); err != nil {
				log.Warn().Err(err).Msg("news of debug access is not in the cell's history")
			}
			l.reporter.Notify()
		}})
}

// saveDeclared keeps the commands that the release that is known to work declares, for the owner and for sessions. A
// failure is tried again when the state changes.
func (l *loop) saveDeclared() {
	c := l.state.Contents
	if l.savedDeclared != nil && c == l.declaredBy {
		return // as nearly always: most changes of the state are of other things
	}
	declared := diagnostics.List{}
	if c != nil && c.Diagnostics != nil {
		declared = c.Diagnostics
	}
	text, err := json.Marshal(declared)
	if err != nil {
		return
	}
	if !bytes.Equal(text, l.savedDeclared) {
		if err := debugfolder.Of(l.agent.options.StateDir).SaveDeclared(declared); err != nil {
			l.agent.options.Log.Warn().Err(err).Msg("the owner and sessions of debug access see older commands")
			return
		}
	}
	l.savedDeclared, l.declaredBy = text, c
}
