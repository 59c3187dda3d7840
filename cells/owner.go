package cells

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

const (
	MaxApproved   = 64
	MaxHeld       = 64      // features
	maxReason     = 1 << 10 // bytes
	maxHeldReason = 200     // bytes, of a reason to hold a feature
)

// Binding is the outcome of the decisions about one cell at an instant.
type Binding struct {
	OK     bool
	Gate   string // what binds the cell: owner, paused, pin or window
	Code   reason.Code
	Reason string    // empty if OK
	Until  time.Time // earliest instant at which time alone may change it; zero: a person must act
}

func newBinding(gate string, code reason.Code, args ...any) Binding {
	return Binding{Gate: gate, Code: code, Reason: code.Words(args...)}
}

// Judge returns whether the owner's decisions let a cell begin an assignment at now. It is pure. The agent and the
// engine both call it: the agent enforces the decisions, and the engine grants nothing against them (R18). A cell's own
// return to its last good assignment is not judged. A nil Owner decided nothing.
func (o *Owner) Judge(a Assignment, now time.Time) Binding {
	switch {
	case o == nil:
		return Binding{OK: true}
	case o.Paused != "":
		return newBinding("owner", reason.OwnerPaused, o.Paused)
	case o.Pin != "" && o.Pin != a.Release:
		return newBinding("owner", reason.OwnerPinned, o.Pin)
	case o.Pin != "" && o.PinDigest != "" && o.PinDigest != a.Digest:
		return newBinding("owner", reason.OwnerPinned, o.Pin+" of "+string(o.PinDigest))
	case o.Approval && !slices.Contains(o.Approved, a.Digest):
		return newBinding("owner", reason.OwnerApproval, a.Release)
	}
	return windowBinding("owner", reason.OwnerWindow, o.Windows, now)
}

func windowBinding(gate string, code reason.Code, windows []window.Window, now time.Time) (b Binding) {
	open, why, until := window.JudgeAny(windows, now)
	if !open {
		b = newBinding(gate, code, why)
	}
	b.OK, b.Until = open, until
	return b
}

// Validate validates an owner's decisions against their bounds and prepares their windows for judging. No other
// goroutine may use o meanwhile.
func (o *Owner) Validate() error {
	if o == nil {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("owner: "+format, args...)) }
	if len(o.Paused) > maxReason {
		fault("paused has more than %d bytes", maxReason)
	}
	if _, err := releases.ParseVersion(o.Pin); o.Pin != "" && err != nil {
		fault("pin: %w", err)
	}
	if _, err := releases.ParseDigest(string(o.PinDigest)); o.PinDigest != "" && err != nil {
		fault("pinDigest: %w", err)
	}
	if len(o.Approved) > MaxApproved {
		fault("more than %d approved releases", MaxApproved)
	}
	for _, d := range o.Approved[:min(len(o.Approved), MaxApproved)] {
		if _, err := releases.ParseDigest(string(d)); err != nil {
			fault("approved: %w", err)
		}
	}
	if len(o.Windows) > window.MaxList {
		fault("more than %d windows", window.MaxList)
	}
	for i := range o.Windows[:min(len(o.Windows), window.MaxList)] {
		for _, wrong := range o.Windows[i].Compile() {
			fault("windows[%d].%s: %s", i, wrong.Field, wrong.Reason)
		}
	}
	if m := o.Maintenance; m != nil {
		if len(m.Reason) > maxReason {
			fault("maintenance: reason has more than %d bytes", maxReason)
		}
		if !m.Since.Before(m.Until) || m.Until.Sub(m.Since) > maintenance.MaxOwner {
			fault("maintenance: until must be after since, by at most %s", maintenance.MaxOwner)
		}
	}
	if o.Export != nil {
		if err := o.Export.Validate(); err != nil {
			fault("export: %w", err)
		}
	}
	if len(o.Features) > MaxHeld {
		fault("more than %d features are held", MaxHeld)
	}
	for i, f := range o.Features[:min(len(o.Features), MaxHeld)] {
		switch {
		case !ValidFeature(f):
			fault("features: %.80q can't be a feature's name", f)
		case slices.Contains(o.Features[:i], f):
			fault("features: %s is there twice", f)
		}
	}
	for _, f := range slices.Sorted(maps.Keys(o.Reasons)) {
		switch {
		case !slices.Contains(o.Features, f):
			fault("reasons: %.80q is not held", f)
		case len(o.Reasons[f]) > maxHeldReason:
			fault("reasons: that of %s has more than %d bytes", f, maxHeldReason)
		}
	}
	return errors.Join(faults...)
}

// ValidFeature reports whether name can be a feature's name: 1 to 128 bytes, all printable, without spaces.
func ValidFeature(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Judge returns why the vendor withholds new releases from a cell at now, by cell.yaml: paused, pinned, or outside its
// windows.
func (c *Cell) Judge(release string, now time.Time) Binding {
	switch {
	case c.Paused != "":
		return newBinding("paused", reason.CellPaused, c.Paused)
	case c.Pin != "" && c.Pin != release:
		return newBinding("pin", reason.CellPinned, c.Pin)
	}
	return windowBinding("window", reason.WindowShut, c.Windows, now)
}
