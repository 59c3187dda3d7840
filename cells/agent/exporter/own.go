package exporter

import (
	"maps"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
)

// own is what the agent measures of itself.
type own struct {
	state  cells.State
	events map[string]uint64 // since they were measured last, by kind
}

// steadyKinds are the kinds of events that are measured also while there are none, so that a gate can ask for none.
func steadyKinds() []string {
	return []string{"applied", "failed", "healed", "rolled-back", "unhealthy"}
}

// NoteState takes note of the cell's state.
func (e *Exporter) NoteState(s cells.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own.state = s
}

// CountEvents counts events that are new.
func (e *Exporter) CountEvents(all []cells.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range all {
		if e.own.events == nil {
			e.own.events = map[string]uint64{}
		}
		e.own.events[event.Kind]++
	}
}

// measureLocked adds what the agent measures of itself to what came in.
func (e *Exporter) measureLocked(now time.Time) {
	if e.own.state == "" { // nothing is known yet
		return
	}
	healthy := 0.0
	if e.own.state == cells.StateHealthy {
		healthy = 1
	}
	e.aggregate.AddOwn(&telemetry.Sample{Name: export.AgentHealthy, Type: export.Gauge, Value: healthy}, now)
	e.aggregate.AddOwn(&telemetry.Sample{Name: export.AgentMemory, Type: export.Gauge, Value: heldMemory()}, now)
	kinds := slices.AppendSeq(steadyKinds(), maps.Keys(e.own.events))
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		e.aggregate.AddOwn(&telemetry.Sample{Name: export.AgentEvents, Type: export.Counter, Delta: true,
			Labels: []telemetry.Label{{Name: "kind", Value: kind}}, Value: float64(e.own.events[kind])}, now)
	}
	e.own.events = nil
}

// heldMemory returns the bytes of memory that Go has of the machine.
func heldMemory() float64 {
	read := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(read)
	if read[0].Value.Kind() != metrics.KindUint64 || read[1].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return float64(read[0].Value.Uint64()) - float64(read[1].Value.Uint64())
}
