package channels

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/window"
)

const maxGates = 32

// gateKinds are in the order of Gate's fields.
var gateKinds = []string{"soak", "window", "windows", "approval", "check", "metric", "when"}

// reservedGateNames are gates that every channel has, so no other gate may have these names.
var reservedGateNames = []string{"freeze", "hold", "quarantine", "invalid"}

// kinds returns those of the gate's kinds that are set; a valid gate has one.
func (g *Gate) kinds() (kinds []string) {
	set := []bool{g.Soak != nil, g.Window != nil, g.Windows != nil, g.Approval != nil, g.Check != nil, g.Metric != nil,
		g.When != nil}
	for i, is := range set {
		if is {
			kinds = append(kinds, gateKinds[i])
		}
	}
	return kinds
}

// AnyWindow returns the windows any of which must be open, if the gate is about windows.
func (g *Gate) AnyWindow() []window.Window {
	if g.Window != nil {
		return []window.Window{*g.Window}
	}
	return g.Windows
}

// checkGates validates the gates, sets each gate's ID, and compiles windows and expressions.
func checkGates(doc *manifest.Doc[Channel]) []manifest.Fault {
	c := &doc.Value
	if len(c.Gates) > maxGates {
		return []manifest.Fault{doc.Fault(manifest.TooLarge, "gates",
			"%d gates: at most %d are read", len(c.Gates), maxGates)}
	}
	var faults []manifest.Fault
	ids, repeats := map[string]bool{}, map[string]int{}
	for i := range c.Gates {
		g := &c.Gates[i]
		at := fmt.Sprintf("gates[%d]", i)
		kinds := g.kinds()
		if len(kinds) != 1 {
			code := manifest.Conflict
			if kinds == nil {
				code = manifest.Missing
			}
			faults = append(faults, doc.Fault(code, at,
				"a gate has exactly one of %s", strings.Join(gateKinds, ", ")))
			continue
		}
		kind := kinds[0]
		g.ID = g.Name
		switch {
		case g.Name == "":
			g.ID = kind
			if repeats[kind]++; repeats[kind] > 1 {
				g.ID = fmt.Sprintf("%s-%d", kind, repeats[kind])
			}
		case !manifest.IsLabel(g.Name):
			faults = append(faults, doc.Fault(manifest.WrongName, at+".name",
				"%.70q can't name a gate: use small letters, digits and hyphens, at most 63", g.Name))
		case g.Name != kind && slices.Contains(gateKinds, g.Name) || slices.Contains(reservedGateNames, g.Name):
			faults = append(faults, doc.Fault(manifest.WrongName, at+".name",
				"%q means another gate: choose another name", g.Name))
		}
		if ids[g.ID] {
			faults = append(faults, doc.Fault(manifest.Duplicate, at,
				"there is a gate %q already: give one of them another name", g.ID))
		}
		ids[g.ID] = true
		faults = append(faults, checkGate(doc, g, at+"."+kind)...)
	}
	if len(faults) == 0 {
		faults = checkTogether(doc)
	}
	return faults
}

// checkTogether returns a fault if the windows of all gates are never open at once (R55).
func checkTogether(doc *manifest.Doc[Channel]) []manifest.Fault {
	lists, ids, last := doc.Value.windowLists()
	if len(lists) < 2 {
		return nil
	}
	together, found := window.OpenTogether(lists)
	switch {
	case together:
		return nil
	case !found:
		return []manifest.Fault{doc.Fault(manifest.TooLarge, fmt.Sprintf("gates[%d]", last),
			"%s have so many openings that nothing says whether all are ever open at once: let them open less often, "+
				"and for longer", strings.Join(ids, " and "))}
	}
	return []manifest.Fault{doc.Fault(manifest.Conflict, fmt.Sprintf("gates[%d]", last),
		"%s are not open together within two years, so nothing ever moves: "+
			"for windows any of which may be open, write one gate: windows: [{…}, {…}]", strings.Join(ids, " and "))}
}

// windowLists returns the windows of each gate that is about windows, those gates' names, and the index of the last.
func (c *Channel) windowLists() (lists [][]window.Window, ids []string, last int) {
	for i := range c.Gates {
		if any := c.Gates[i].AnyWindow(); any != nil {
			lists, ids, last = append(lists, any), append(ids, c.Gates[i].ID), i
		}
	}
	return lists, ids, last
}

func checkGate(doc *manifest.Doc[Channel], g *Gate, at string) (faults []manifest.Fault) {
	fault := func(code manifest.FaultCode, field, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at+field, format, args...))
	}
	switch {
	case g.Soak != nil:
		if g.Soak.For <= 0 {
			fault(manifest.WrongValue, ".for", "for must be more than 0")
		}
		if p := g.Soak.Percent; p != nil && !(*p >= 0 && *p <= 100) {
			fault(manifest.WrongValue, ".percent", "percent must be from 0 to 100, not %v", *p)
		}
		if len(doc.Value.After) == 0 {
			fault(manifest.Missing, "", "a soak is counted in upstream channels: name one in after")
		}
	case g.Window != nil:
		faults = append(faults, checkWindow(doc, g.Window, at)...)
	case g.Windows != nil:
		if len(g.Windows) > window.MaxList {
			fault(manifest.TooLarge, "", "%d windows: at most %d are read", len(g.Windows), window.MaxList)
			break
		}
		for i := range g.Windows {
			faults = append(faults, checkWindow(doc, &g.Windows[i], fmt.Sprintf("%s[%d]", at, i))...)
		}
	case g.Approval != nil:
		for i, role := range g.Approval.From {
			if slices.Contains(g.Approval.From[:i], role) {
				fault(manifest.Duplicate, fmt.Sprintf(".from[%d]", i), "role %q is there twice", role)
			}
		}
	case g.Check != nil:
		if err := checkURL(g.Check.URL, "#"); err != nil {
			fault(manifest.WrongValue, ".url", "%v", err)
		}
		checkTimeout(fault, g.Check.Timeout)
	case g.Metric != nil:
		checkMetric(fault, g.Metric, len(doc.Value.After) > 0)
	case g.When != nil:
		program, err := compileWhen(g.When.Expression)
		if err != nil {
			fault(manifest.WrongValue, "", "%v", err)
		}
		g.When.program = program
	}
	return faults
}

// checkWindow validates a window's fields (fault 20), and compiles the window.
func checkWindow(doc *manifest.Doc[Channel], w *window.Window, at string) (faults []manifest.Fault) {
	for _, wrong := range w.Compile() {
		faults = append(faults, doc.Fault(manifest.WrongValue, at+"."+wrong.Field, "%s", wrong.Reason))
	}
	for _, odd := range w.Warnings() {
		faults = append(faults, doc.Warning(manifest.WrongValue, at+"."+odd.Field, "%s", odd.Reason))
	}
	return faults
}

// JudgeWindows returns the verdict of a gate of the channel that is about windows, and the instant before which time
// alone does not change it (zero: never). Held: Until is when the last open window closes, or zero if it never does.
// Blocked: Until is the next instant at which the windows of all gates hold, zero if there is none within two years
// (R55).
func (c *Channel) JudgeWindows(g *Gate, now time.Time) (v Verdict, changes time.Time) {
	open, why, until := window.JudgeAny(g.AnyWindow(), now)
	if open {
		return Held("", reason.WindowOpen).WithUntil(until), until
	}
	together := until
	if lists, _, _ := c.windowLists(); len(lists) > 1 {
		together, _ = window.NextTogether(lists, now)
	}
	if !together.IsZero() && !together.Equal(until) {
		why += "; all windows are open from " + together.Format("2 Jan 15:04 MST")
	}
	return Blocked("", reason.WindowShut, why).WithUntil(together), until
}

// checkTimeout bounds the timeout, so that one slow answer does not delay the others.
func checkTimeout(fault func(code manifest.FaultCode, field, format string, args ...any), timeout time.Duration) {
	if timeout > time.Minute {
		fault(manifest.WrongValue, ".timeout", "timeout must be at most 1m")
	}
}

var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{[^{}]*\}`) })

// checkURL validates a URL that the engine will request, without any of the characters of without: they would make
// something else of what is appended to the URL.
func checkURL(s, without string) error {
	for _, p := range placeholder().FindAllString(s, -1) {
		if p != "{release}" && p != "{digest}" && p != "{channel}" {
			return fmt.Errorf("%.60q is not replaced: there are {release}, {digest} and {channel}", p)
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%.200q is not a URL", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%.200q is not an http or https URL", s)
	case u.Hostname() == "":
		return fmt.Errorf("%.200q names no host", s)
	case strings.ContainsAny(s, without):
		return fmt.Errorf("%.200q must not contain any of %s", s, without)
	}
	return nil
}
