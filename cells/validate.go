package cells

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// Bounds of a report's fields, in bytes and entries. A report within these bounds, as agents send it, fits into 64 KiB.
const (
	MaxMessage = 4 << 10
	MaxValues  = 16 << 10 // of an assignment, as JSON
	MaxEvents  = 256
	maxName    = 128
	maxState   = 32

	maxUnhealthy    = 1 << 10 // of each line about an unhealthy object
	maxObjectEvents = 8
)

var validStates = []State{StatePending, StateApplying, StateHealthy, StateUnhealthy, StateFailed, StateStuck}

// Validate validates a report from outside: the bounds of its fields and the order of its events. It also prepares the
// owner's windows for judging. It does not check who sent the report, nor whether the assignments were ever granted.
func (r *Report) Validate() error {
	if !ValidName(r.Cell) {
		return fmt.Errorf("report: %.80q can't be a cell's name", r.Cell)
	}
	err := r.validateOwn()
	if err == nil {
		err = r.validateParts()
	}
	if err != nil {
		return fmt.Errorf("report of %s: %w", r.Cell, err)
	}
	return nil
}

// validateOwn checks the fields that have no validate of their own, and the assignments.
func (r *Report) validateOwn() error {
	switch {
	case r.Boot == "" || len(r.Boot) > maxName:
		return fmt.Errorf("boot must have 1 to %d bytes", maxName)
	case len(r.Agent) > maxName:
		return fmt.Errorf("agent has more than %d bytes", maxName)
	case !slices.Contains(validStates, r.State):
		return fmt.Errorf("there is no state %.80q", r.State)
	case len(r.Message) > MaxMessage || !utf8.ValidString(r.Message):
		return fmt.Errorf("message must be UTF-8 of at most %d bytes", MaxMessage)
	case len(r.Failures) > MaxFailures:
		return fmt.Errorf("more than %d failures", MaxFailures)
	case len(r.Events) > MaxEvents:
		return fmt.Errorf("more than %d events", MaxEvents)
	}
	var before *Assignment
	for _, a := range [...]*Assignment{r.Running, r.Acknowledged, r.Applying} {
		if a == nil || a == before { // a healthy cell's are the same
			continue
		}
		if err := a.validate(); err != nil {
			return err
		}
		before = a
	}
	for i := range r.Failures {
		f := &r.Failures[i]
		if len(f.Reason) > MaxMessage {
			return fmt.Errorf("a failure's reason has more than %d bytes", MaxMessage)
		}
		if err := f.Assignment.validate(); err != nil {
			return fmt.Errorf("failure: %w", err)
		}
	}
	return nil
}

func (r *Report) validateParts() error {
	part, err := "", validateEvents(r.Events)
	if err == nil {
		part, err = "unhealthy: ", r.Unhealthy.validate()
	}
	if err == nil {
		part, err = "flags: ", r.Flags.validate()
	}
	if err == nil {
		part, err = "infrastructure: ", r.Infrastructure.validate()
	}
	if err == nil {
		part, err = "", r.Owner.Validate()
	}
	if err == nil {
		part, err = "signatures: ", r.Signatures.validate()
	}
	if err == nil {
		part, err = "maintenance: ", r.Maintenance.validate()
	}
	if err == nil {
		part, err = "debug: ", validateDebug(r.Debug)
	}
	if err != nil {
		return fmt.Errorf("%s%w", part, err)
	}
	return nil
}

func (m *MaintenanceReport) validate() error {
	phases := []maintenance.Phase{"", maintenance.Announced, maintenance.Draining, maintenance.Drained}
	switch {
	case m == nil:
		return nil
	case !slices.Contains(phases, m.Phase):
		return fmt.Errorf("there is no phase %.80q", m.Phase)
	case !m.Totals.Valid():
		return fmt.Errorf("totals must not be negative, and name at most %d kinds of operation and %s",
			maintenance.MaxRefusedKinds, maintenance.OtherKinds)
	case m.Phase == "":
		return nil
	}
	_, err := releases.ParseVersion(m.Release)
	return err
}

// validate checks the bounds of the fields.
func (u *Unhealthy) validate() error {
	switch {
	case u == nil:
		return nil
	case len(u.Objects) > MaxUnhealthyObjects:
		return fmt.Errorf("more than %d objects", MaxUnhealthyObjects)
	case u.More < 0:
		return fmt.Errorf("more is %d, below 0", u.More)
	}
	lines := []string{u.Reason}
	for _, o := range u.Objects {
		if len(o.Events) > maxObjectEvents {
			return fmt.Errorf("an object has more than %d events", maxObjectEvents)
		}
		lines = append(append(lines, o.Object, o.Reason), o.Events...)
	}
	for _, line := range lines {
		if len(line) > maxUnhealthy || !utf8.ValidString(line) {
			return fmt.Errorf("objects, reasons and events must be UTF-8 of at most %d bytes", maxUnhealthy)
		}
	}
	return nil
}

// validate checks the bounds of the fields. Unknown states are accepted: a later agent may report them.
func (f *FlagsReport) validate() error {
	switch {
	case f == nil:
		return nil
	case f.Height < 0:
		return fmt.Errorf("height is %d, below 0", f.Height)
	case len(f.States) > MaxFlagStates:
		return fmt.Errorf("states of more than %d announcements", MaxFlagStates)
	case len(f.Fault) > maxReason || !utf8.ValidString(f.Fault):
		return fmt.Errorf("fault must be UTF-8 of at most %d bytes", maxReason)
	}
	for _, d := range []releases.Digest{f.Bundle, f.Orders} {
		if _, err := releases.ParseDigest(string(d)); d != "" && err != nil {
			return err
		}
	}
	for id, state := range f.States {
		if id == "" || len(id) > maxName || len(state) > maxState || !utf8.ValidString(id) ||
			!utf8.ValidString(string(state)) {
			return fmt.Errorf("states must be UTF-8 of at most %d bytes, by announcements of 1 to %d", maxState,
				maxName)
		}
	}
	return nil
}

func validateEvents(events []Event) error {
	last := int64(0)
	for _, e := range events {
		switch {
		case e.Number <= last:
			return fmt.Errorf("event %d comes after event %d: numbers must rise from 1", e.Number, last)
		case e.Kind == "" || len(e.Kind) > maxName || len(e.Release) > maxName || len(e.Digest) > maxName:
			return fmt.Errorf("event %d: kind must be given, and kind, release and digest have at most %d bytes",
				e.Number, maxName)
		case len(e.Detail) > MaxMessage:
			return fmt.Errorf("event %d: detail has more than %d bytes", e.Number, MaxMessage)
		}
		last = e.Number
	}
	return nil
}

// validate checks the bounds of an assignment from outside.
func (a *Assignment) validate() error {
	if a.Epoch < 0 || a.Sequence < 0 {
		return fmt.Errorf("assignment: epoch %d and sequence %d must not be negative", a.Epoch, a.Sequence)
	}
	if a.Channel != "" && !ValidName(a.Channel) {
		return fmt.Errorf("assignment: %.80q can't be a channel's name", a.Channel)
	}
	if _, err := releases.ParseVersion(a.Release); err != nil {
		return fmt.Errorf("assignment: %w", err)
	}
	if _, err := releases.ParseDigest(string(a.Digest)); err != nil {
		return fmt.Errorf("assignment: %w", err)
	}
	if len(a.Profile) > maxName || len(a.Revision) > maxName || len(a.Retry) > maxName {
		return fmt.Errorf("assignment: profile, revision and retry have at most %d bytes", maxName)
	}
	if len(a.Values) == 0 {
		return nil
	}
	values, err := a.MarshalValues()
	if err != nil || len(values) > MaxValues {
		return fmt.Errorf("assignment: values must be JSON of at most %d bytes", MaxValues)
	}
	return nil
}
