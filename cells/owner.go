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

	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Bounds of what an owner decides.
const (
	MaxWindows  = 16
	MaxApproved = 64
	MaxHeld     = 64      // features
	maxReason   = 1 << 10 // bytes
	maxWhy      = 200     // bytes, of a reason to hold a feature
)

// Judge tells whether the owner's decisions let a cell begin an assignment at now. If not, reason says why and until is
// the earliest instant at which they might, as far as time alone decides it; zero: the owner must do something. ok: until is
// when that ends; zero: not known. It is pure, and both the agent and the engine ask it: the agent enforces it, the
// engine grants nothing against it (R18). A cell's own return to its last good assignment is not asked about. A nil
// Owner decided nothing.
func (o *Owner) Judge(a Assignment, now time.Time) (reason string, until time.Time, ok bool) {
	switch {
	case o == nil:
		return "", time.Time{}, true
	case o.Paused != "":
		return "paused by the cell's owner: " + o.Paused, time.Time{}, false
	case o.Pin != "" && o.Pin != a.Release:
		return "pinned to " + o.Pin + " by the cell's owner", time.Time{}, false
	case o.Approval && !slices.Contains(o.Approved, a.Digest):
		return a.Release + " waits for the approval of the cell's owner: sluice cell approve, on the cell's machine", time.Time{}, false
	}
	open, why, until := JudgeWindows(o.Windows, now)
	if !open {
		return "outside the windows of the cell's owner: " + why, until, false
	}
	return "", until, true
}

// JudgeWindows tells whether any of the windows is open at now; without windows it is always so. Open: until is an instant up
// to which it stays so; zero: for ever. Shut: until is when the first opens, and why says so.
func JudgeWindows(all []window.Window, now time.Time) (open bool, why string, until time.Time) {
	for i := range all {
		is, says, at := all[i].Judge(now)
		switch {
		case is && !open:
			open, why, until = true, "", at
		case is && (at.IsZero() || !until.IsZero() && at.After(until)):
			until = at
		case open || is:
		case why == "" || !at.IsZero() && (until.IsZero() || at.Before(until)):
			why, until = says, at
		}
	}
	return open || len(all) == 0, why, until
}

// Check holds what an owner decided against its bounds, and makes its windows quick to judge. Nobody else may use o meanwhile.
func (o *Owner) Check() error {
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
	if len(o.Approved) > MaxApproved {
		fault("more than %d approved releases", MaxApproved)
	}
	for _, d := range o.Approved[:min(len(o.Approved), MaxApproved)] {
		if _, err := releases.ParseDigest(string(d)); err != nil {
			fault("approved: %w", err)
		}
	}
	if len(o.Windows) > MaxWindows {
		fault("more than %d windows", MaxWindows)
	}
	for i := range o.Windows[:min(len(o.Windows), MaxWindows)] {
		for _, wrong := range o.Windows[i].Ready() {
			fault("windows[%d].%s: %s", i, wrong.Field, wrong.Reason)
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
		case len(o.Reasons[f]) > maxWhy:
			fault("reasons: that of %s has more than %d bytes", f, maxWhy)
		}
	}
	return errors.Join(faults...)
}

// ValidFeature tells whether a name can be a feature's: 1 to 128 bytes without spaces and what can't be seen.
func ValidFeature(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// Binds says why the vendor gives a cell nothing new of a release at now, by what cell.yaml says: the gate paused, pin or
// window, in words, and until when, if that is known. ok: nothing binds it; until is when that ends, if it does by time alone.
func (c *Cell) Binds(release string, now time.Time) (gate, reason string, until time.Time, ok bool) {
	switch {
	case c.Paused != "":
		return "paused", c.Paused, time.Time{}, false
	case c.Pin != "" && c.Pin != release:
		return "pin", "pinned to " + c.Pin, time.Time{}, false
	}
	open, why, until := JudgeWindows(c.Windows, now)
	if !open {
		gate = "window"
	}
	return gate, why, until, open
}
