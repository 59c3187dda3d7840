// Package owner has the decisions of a cell's owner: what each changes in what was decided before, and the command line
// that does the same. The verbs of sluice cell and the owner's page both use it.
//
// It reads and writes no file: package agent does, all of a decision or nothing. What a decision may do is bounded by
// cells.Owner.Validate. The package is pure, and everything in it may be called at once.
package owner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// Decision is what an owner decides.
type Decision struct {
	Command []string // what follows "sluice cell", without the state folder
	// Change changes what was decided so far, and returns the outcome in words. A *Refusal says why it does not.
	Change func(*cells.Owner) (outcome string, err error)
}

// Refusal says why a decision can't be made, and what to do next.
type Refusal struct{ Reason, Next string }

func (r *Refusal) Error() string { return r.Reason }

func refuse(next, reason string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(reason, args...), Next: next}
}

// Pause lets nothing new begin.
func Pause(reason string) Decision {
	return Decision{[]string{"pause", "--reason", reason}, func(o *cells.Owner) (string, error) {
		o.Paused = reason
		return "paused: nothing new starts; sluice cell unpause ends it", nil
	}}
}

// Unpause ends the owner's pause.
func Unpause() Decision {
	return Decision{[]string{"unpause"}, func(o *cells.Owner) (string, error) {
		return clearDecision(&o.Paused, "paused"), nil
	}}
}

// clearDecision ends a decision of the owner and returns the outcome in words.
func clearDecision(what *string, was string) string {
	if *what == "" {
		return "it was not " + was
	}
	*what = ""
	return "no longer " + was
}

// Pin lets no other release begin. An empty digest pins by the name alone; see DigestToPin.
func Pin(version string, digest releases.Digest) Decision {
	return Decision{[]string{"pin", version}, func(o *cells.Owner) (string, error) {
		o.Pin, o.PinDigest = version, digest
		return "pinned to " + PinText(o) + ": no other release starts; sluice cell unpin ends it", nil
	}}
}

// PinText returns the owner's pin in words; "" if there is none.
func PinText(o *cells.Owner) string {
	switch {
	case o.Pin == "":
		return ""
	case o.PinDigest == "":
		return o.Pin + " by name alone (sluice cell pin takes the digest of what runs or is offered)"
	}
	return o.Pin + " " + string(o.PinDigest)
}

// Unpin ends the owner's pin.
func Unpin() Decision {
	return Decision{[]string{"unpin"}, func(o *cells.Owner) (string, error) {
		o.PinDigest = ""
		return clearDecision(&o.Pin, "pinned"), nil
	}}
}

// AddWindow adds a window, which is compiled. now is for the outcome.
func AddWindow(w window.Window, now time.Time) Decision {
	command := []string{"window", "add", "--opens", w.Opens, "--for", w.For.String()}
	if w.Zone != "" {
		command = append(command, "--zone", w.Zone)
	}
	return Decision{command, func(o *cells.Owner) (string, error) {
		same := func(other window.Window) bool {
			return other.Opens == w.Opens && other.For == w.For && other.Zone == w.Zone
		}
		if slices.ContainsFunc(o.Windows, same) {
			return "there is such a window already", nil
		}
		o.Windows = append(o.Windows, w)
		outside := "this window"
		if n := len(o.Windows); n > 1 {
			outside = strconv.Itoa(n) + " windows"
		}
		return "nothing new starts outside " + outside + windowsState(o.Windows, now), nil
	}}
}

// windowsState returns in words whether the windows are open now.
func windowsState(all []window.Window, now time.Time) string {
	_, shut, until := window.JudgeAny(all, now)
	switch {
	case shut == "" && until.IsZero():
		return "; open now"
	case shut == "":
		return "; open now, until " + formatTime(until)
	}
	return "; shut now: " + shut
}

// formatTime returns an instant in the zone that it has.
func formatTime(t time.Time) string { return t.Format(time.RFC3339) }

// AnyTime is the outcome where there are no windows.
const AnyTime = "no windows: something new may start at any time"

// RemoveWindow removes a window by its number, from 1.
func RemoveWindow(number string) Decision {
	return Decision{[]string{"window", "remove", number}, func(o *cells.Owner) (string, error) {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(o.Windows) {
			return "", refuse("sluice cell window list numbers them", "there is no window %q", number)
		}
		o.Windows = slices.Delete(o.Windows, n-1, n)
		if len(o.Windows) == 0 {
			return "removed; something new may start at any time", nil
		}
		return "removed; " + strconv.Itoa(len(o.Windows)) + " left", nil
	}}
}

// RemoveWindows removes all windows.
func RemoveWindows() Decision {
	return Decision{[]string{"window", "remove", "--all"}, func(o *cells.Owner) (string, error) {
		o.Windows = nil
		return AnyTime, nil
	}}
}

// RequireApproval lets only approved releases begin, or any.
func RequireApproval(on bool) Decision {
	verb, outcome := "off", "approval is no longer needed; what was approved stays approved"
	if on {
		verb, outcome = "require", "only approved releases start; sluice cell approve approves what is offered"
	}
	return Decision{[]string{"approval", verb}, func(o *cells.Owner) (string, error) {
		o.Approval = on
		return outcome, nil
	}}
}

// Approve approves exactly the bytes of a candidate.
func Approve(c Candidate) Decision {
	return Decision{[]string{"approve", string(c.Digest)}, func(o *cells.Owner) (string, error) {
		channel := c.Channel
		if channel == "" {
			channel = "-"
		}
		outcome := fmt.Sprintf("approved %s, %s, of channel %s", c.Release, c.Digest, channel)
		if slices.Contains(o.Approved, c.Digest) {
			outcome = strings.Replace(outcome, "approved", "already approved:", 1)
		} else {
			o.Approved = append(o.Approved, c.Digest)
			o.Approved = o.Approved[max(0, len(o.Approved)-cells.MaxApproved):]
		}
		if !o.Approval {
			outcome += "\napproval is not needed here; sluice cell approval require changes that"
		}
		return outcome, nil
	}}
}

// HoldFeature keeps a feature off. An empty reason leaves the one that there is.
func HoldFeature(feature, reason string) Decision {
	command := []string{"feature", "hold", feature}
	if reason = strings.TrimSpace(reason); reason != "" {
		command = append(command, "--reason", reason)
	}
	return Decision{command, func(o *cells.Owner) (string, error) {
		outcome := feature + " was held already"
		if !slices.Contains(o.Features, feature) {
			o.Features = append(o.Features, feature)
			outcome = feature + " is held: it stays off here; sluice cell feature release " + feature + " ends it"
		}
		if reason != "" {
			if o.Reasons == nil {
				o.Reasons = map[string]string{}
			}
			o.Reasons[feature] = reason
		}
		return outcome, nil
	}}
}

// ReleaseFeature ends the owner's hold on a feature.
func ReleaseFeature(feature string) Decision {
	return Decision{[]string{"feature", "release", feature}, func(o *cells.Owner) (string, error) {
		i := slices.Index(o.Features, feature)
		if i < 0 {
			return feature + " was not held", nil
		}
		o.Features = slices.Delete(o.Features, i, i+1)
		delete(o.Reasons, feature)
		return feature + " is no longer held: it is on as announced", nil
	}}
}

// BeginMaintenance refuses the product's operations until an end.
func BeginMaintenance(m maintenance.Owner) Decision {
	return Decision{[]string{"maintenance", "begin", "--until", formatTime(m.Until), "--reason", m.Reason},
		func(o *cells.Owner) (string, error) {
			o.Maintenance = &m
			return "operations are refused until " + formatTime(m.Until) + "; sluice cell maintenance end ends it", nil
		}}
}

// EndMaintenance ends the owner's maintenance.
func EndMaintenance() Decision {
	return Decision{[]string{"maintenance", "end"}, func(o *cells.Owner) (string, error) {
		if o.Maintenance == nil {
			return "", refuse("sluice cell maintenance show says what goes on", "the owner began no maintenance")
		}
		o.Maintenance = nil
		return "ended: operations are accepted again, unless an update refuses them", nil
	}}
}
