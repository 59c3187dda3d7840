package demo

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/lookcmd"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// screen prints a line for each event and, on a terminal, draws the status below them.
type screen struct {
	out   cli.Printer
	began time.Time
	drawn int    // lines of the status view below the events
	view  string // the text of the status view
}

func newScreen(out cli.Printer) *screen { return &screen{out: out, began: time.Now()} }

// printEvent prints a line above the status view.
func (s *screen) printEvent(format string, args ...any) { s.printColoured(cli.Plain, format, args...) }

func (s *screen) printColoured(c cli.Colour, format string, args ...any) {
	s.clearView()
	at := s.out.Paint(cli.Faint, fmt.Sprintf("%6.1fs", time.Since(s.began).Seconds()))
	s.out.PrintLine("%s  %s", at, s.out.Paint(c, fmt.Sprintf(format, args...)))
}

func (s *screen) clearView() {
	if s.drawn > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
		s.drawn = 0
	}
}

// drawView draws the status below the events.
func (s *screen) drawView(status view.Status) {
	if !s.out.Terminal {
		return
	}
	width := 80
	if f, ok := s.out.Writer.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	drawing := lookcmd.StatusText(s.out, status)
	if s.drawn > 0 && drawing == s.view {
		return
	}
	s.clearView()
	s.view = drawing
	lines := strings.Split(strings.TrimRight(drawing, "\n"), "\n")
	fmt.Fprintln(s.out)
	for _, l := range lines {
		fmt.Fprintln(s.out, clip(l, width-1))
	}
	s.drawn = len(lines) + 1
}

// clip cuts a line to a width, not counting colours.
func clip(line string, width int) string {
	var b strings.Builder
	seen, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			if seen++; seen > width {
				continue
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// printChanges prints the difference between two statuses, and draws the status again.
func (s *screen) printChanges(before, now view.Status, d *plan.Desired) {
	was := map[string]view.ChannelStatus{}
	for _, c := range before.Channels {
		was[c.Name] = c
	}
	for _, c := range now.Channels {
		s.printChannelChanges(was[c.Name], c, d)
	}
	cellWas := map[string]view.CellStatus{}
	for _, c := range before.Cells {
		cellWas[c.Name] = c
	}
	for _, c := range now.Cells {
		s.printCellChanges(cellWas[c.Name], c)
	}
	s.drawView(now)
}

func (s *screen) printChannelChanges(was, c view.ChannelStatus, d *plan.Desired) {
	if c.Sequence != was.Sequence {
		for _, h := range d.Channels[c.Name].History {
			switch {
			case h.Sequence <= was.Sequence:
			case h.Kind == plan.Rollback:
				s.printColoured(cli.Red, "%s: rolled back from %s to %s, commit %s", c.Name, h.Replaces, h.Release,
					cli.ShortID(h.Written))
				if q := quarantineReason(d, h.Replaces); q != "" {
					s.printColoured(cli.Red, "%s: quarantined: %s", h.Replaces, q)
				}
			default:
				s.printColoured(cli.Green, "%s: %s %s, commit %s", c.Name, pastTense(h.Kind), h.Release,
					cli.ShortID(h.Written))
			}
		}
	}
	for _, b := range c.Blocked {
		known := false
		for _, k := range was.Blocked {
			known = known || k.Release == b.Release && k.Gate == b.Gate
		}
		if !known {
			s.printColoured(cli.Yellow, "%s: %s", strings.TrimSpace(c.Name+" "+b.Release), b)
		}
	}
}

func pastTense(k plan.Kind) string {
	if k == plan.Promote {
		return "promoted"
	}
	return string(k)
}

func quarantineReason(d *plan.Desired, version string) string {
	for _, q := range d.Quarantine {
		if q.Release == version {
			return q.Reason
		}
	}
	return ""
}

func (s *screen) printCellChanges(was, c view.CellStatus) {
	if c.Failures > was.Failures {
		s.printColoured(cli.Red, "%s: could not keep the new release, and went back", c.Name)
	}
	if c.State == was.State && c.Release == was.Release {
		return
	}
	switch c.State {
	case cells.StateHealthy:
		s.printEvent("%s: healthy on %s", c.Name, c.Release)
	case cells.StateApplying:
		s.printEvent("%s: applies %s", c.Name, cli.OrDash(c.Applying))
	case cells.StateUnhealthy, cells.StateFailed, cells.StateStuck:
		s.printColoured(cli.Red, "%s: %s: %s", c.Name, c.State, c.Message)
	case cells.StatePending:
	}
}
