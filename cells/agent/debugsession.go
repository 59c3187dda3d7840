package agent

import (
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugger"
	"github.com/sluice-cd/sluice/internal/wake"
)

// maxDebugConnections is how many debug sessions and uploads of their records may be at once.
const maxDebugConnections = 8

// openDebugger prepares to serve debug sessions.
func (l *loop) openDebugger() {
	o := &l.agent.options
	l.debugChanges = wake.New()
	l.debugger = debugger.New(debugger.Options{
		StateDir: o.StateDir, Cell: o.Cell, Identity: l.agent.client.Key,
		Transport: l.agent.client.Transport(maxDebugConnections), Enclose: o.Enclose, PodLogs: o.PodLogs,
		PodShells: o.PodShells, Now: l.agent.clock.Latest, OnChange: l.debugChanges.Notify, Log: o.Log,
	})
}

// followDebugging has healing wait while a debug session may change things (D7).
func (l *loop) followDebugging(now time.Time) {
	if a := l.state.Attempt; a != nil && a.Phase == phaseApplying {
		l.debugger.ReleaseBegan()
	}
	l.state.holdHealing(l.debugger.HealingWaits(now), now)
}
