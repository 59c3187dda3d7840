package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// Explanation says why something is as it is: in lines for people, and by verdicts for programs.
type Explanation struct {
	Name    string             `json:"name"`
	Kind    Subject            `json:"kind" enum:"cell,channel,release" doc:"what has the name"`
	Lines   []string           `json:"lines" doc:"what it runs, what it should run, and every verdict between the two, for people; of a release, where it is and what it waits for"`
	Blocked []channels.Verdict `json:"blocked" doc:"the verdicts, each with its gate, its code and, where known, until when"`

	Unhealthy *cells.Unhealthy `json:"unhealthy,omitempty" doc:"of a cell: the objects that do not work"`
}

// Subject is a kind of thing that can be explained.
type Subject string

const (
	SubjectCell    Subject = "cell"
	SubjectChannel Subject = "channel"
	SubjectRelease Subject = "release"
)

// Why explains a cell, a channel or a release, with every verdict about it (invariant 10). ok is false if nothing has
// that name. Of several things with the name, the first in this order is explained: a cell, a channel, a release.
// formerKey is when a former key of the cell was last refused; zero: never.
func Why(v *View, name string, formerKey time.Time) (e Explanation, ok bool) {
	e = Explanation{Name: name, Blocked: v.unreadVerdicts()}
	if v.Unread != nil {
		e.Lines = append(e.Lines, v.Unread.String())
	}
	e.Lines = append(append(e.Lines, v.HostNotes...), v.Desired.Trust.Expiring(v.Plan.Now)...)
	var lines []string
	var about []channels.Verdict
	switch cell, c, r := v.Desired.Cells[name], v.Desired.Channels[name], v.Desired.Releases[name]; {
	case cell != nil:
		e.Kind = SubjectCell
		lines, about = v.whyCell(cell)
		if s := v.Observed.Cells[name]; s != nil {
			e.Unhealthy = s.Unhealthy
		}
		lines = append(lines, formerKeyLines(name, v.Observed.Cells[name], formerKey)...)
	case c != nil:
		e.Kind = SubjectChannel
		lines, about = v.whyChannel(c)
	case r != nil:
		e.Kind = SubjectRelease
		lines, about = v.whyRelease(r)
	default:
		return Explanation{}, false
	}
	if v.NotObserved {
		lines = append(lines, NotObserved)
	}
	e.Lines, e.Blocked = append(e.Lines, lines...), append(e.Blocked, about...)
	return e, true
}

func (v *View) whyCell(cell *plan.Cell) (lines []string, about []channels.Verdict) {
	s := v.Observed.Cells[cell.Name]
	lines = []string{fmt.Sprintf("%s, a cell of %s, %s", cell.Name, cell.Channel, v.describeRunning(s))}
	lines = append(lines, unhealthyLines(s)...)
	lines = append(lines, shutOutLines(cell.Name, v.Identity(cell.Name))...)
	lines = append(lines, v.keyLines(cell.Name)...)
	lines = append(lines, v.silenceLines(cell.Name, s)...)
	lines = append(lines, v.infrastructureLines(cell, s)...)
	lines = append(lines, v.cellMaintenance(s).lines()...)
	lines = append(lines, debugLines(s)...)
	lines = append(lines, v.signatureLines(cell, s)...)
	if s != nil && s.Actual.NeedsLook() {
		lines = append(lines, "its infrastructure: "+words.OneLine(s.Actual.String()))
	}
	c := v.Desired.Channels[cell.Channel]
	if c == nil {
		return append(lines, fmt.Sprintf("there is no channel %q: see sluice validate", cell.Channel)), nil
	}
	e := c.Effective
	if e == nil {
		about = v.verdictsAbout(c, cell.Name)
		return append(append(lines, c.Name+" has no release yet"), verdictLines(about)...), about
	}
	if last := s.Last(); last != nil && last.Digest == e.Digest && last.Sequence == e.Sequence {
		if s.Digest == e.Digest {
			lines = append(lines, fmt.Sprintf("it runs what it should: %s, sequence %d", e.Release, e.Sequence))
		} else {
			lines = append(lines, fmt.Sprintf("it was granted %s at %s", e.Release, words.FormatTime(s.GrantedAt)))
		}
	} else {
		lines = append(lines, fmt.Sprintf("%s is at %s, sequence %d", c.Name, e.Release, e.Sequence))
	}
	lines = append(lines, vendorLines(c, cell)...)
	if s != nil && s.Owner != nil {
		lines = append(lines, ownerLines(s.Owner)...)
	}
	if s != nil {
		if m := s.Miscount; m != nil {
			lines = append(lines,
				fmt.Sprintf("its event numbers were out of order %s, the last time at %s: %s",
					words.Count(int(m.Times), "time"), words.FormatTime(m.At), m.What))
		}
		for _, f := range s.Failures {
			if f.Assignment.Digest == e.Digest {
				lines = append(lines, fmt.Sprintf("it failed %s: %s", f.Assignment.Release, words.OneLine(f.Reason)))
			}
		}
	}
	about = slices.DeleteFunc(v.verdictsAbout(c, cell.Name), func(b channels.Verdict) bool {
		return b.Cell == "" && b.Release != "" && b.Release != e.Release
	})
	if id := v.Identity(cell.Name); len(about) == 0 && (s == nil || v.Silent(s) || id.Revoked || id.Quarantined != "") {
		return lines, nil // the cell's silence, or its identity, holds it, and the lines above say so
	}
	if len(about) == 0 && s != nil && s.Digest != e.Digest && (s.State == cells.StateApplying || s.Applying != nil) {
		return append(lines, "nothing is blocked: the cell is applying it"), nil
	}
	return append(lines, verdictLines(about)...), about
}

// unhealthyLines say which objects of a cell do not work.
func unhealthyLines(s *plan.CellState) (lines []string) {
	if s == nil || s.Unhealthy == nil {
		return nil
	}
	for _, line := range s.Unhealthy.Lines() {
		lines = append(lines, "not healthy: "+words.OneLine(line))
	}
	return lines
}

func (v *View) silenceLines(name string, s *plan.CellState) []string {
	i := v.Identity(name)
	switch {
	case v.NotObserved:
	case i.Quarantined != "" || i.Revoked: // shutOutLines says it
	case v.Silent(s):
		return []string{"it gets nothing new until it reports again: " +
			"check that its machine and sluice agent run, and that the agent reaches the control plane"}
	case s != nil && !s.LastReport.IsZero():
	case i.PublicKey == "":
		return []string{"no agent has registered under its name: get a token for one with sluice cell add " + name}
	default:
		return []string{"an agent registered under its name and has not reported since: check that sluice agent runs there"}
	}
	return nil
}

// formerKeyLines says that a machine asks with a key that was the cell's, unless the cell reported well after that.
func formerKeyLines(name string, s *plan.CellState, refused time.Time) []string {
	if refused.IsZero() || s != nil && s.LastReport.Sub(refused) > formerKeyShown {
		return nil
	}
	return []string{
		"an agent asked with a former key of this cell at " + words.FormatTime(refused) + ", and was refused: its machine " +
			"was restored from a snapshot that is older than the key, or a copy of it runs",
		"if it is the cell, give it a new token: sluice cell add " + name,
	}
}

// formerKeyShown is how long a refused former key is shown although the cell reports with its own.
const formerKeyShown = time.Hour

// shutOutLines says why a cell is not let in, and what to do (R27).
func shutOutLines(name string, i cells.Identity) []string {
	switch {
	case i.Quarantined != "":
		return []string{
			"its key is shut out, because it is used from two places: " + words.OneLine(i.Quarantined),
			"find out which of the two is the cell (an agent logs its boot when it starts), stop the other, " +
				"and give the cell a new token: sluice cell add " + name,
		}
	case i.Revoked:
		return []string{"its key is revoked: to let it in again, give it a new token: sluice cell add " + name}
	}
	return nil
}

// keyLines say when the cell's key changed, and who asked for it.
func (v *View) keyLines(name string) (lines []string) {
	for _, k := range plan.KeyChangesOf(v.Desired, v.Observed.Registered, name) {
		where := "not committed yet"
		if k.Commit != "" {
			where = "in " + words.ShortCommit(k.Commit)
		}
		lines = append(lines, fmt.Sprintf("its key at %s: %s (%s)", words.FormatTime(k.At), k.What, where))
	}
	return lines
}

// infrastructureLines say which infrastructure update a cell lacks, by when it is due, and what to do.
func (v *View) infrastructureLines(cell *plan.Cell, s *plan.CellState) []string {
	is := v.Desired.Standing(cell, s, v.Plan.Now)
	switch {
	case is.State == deadline.Exempt:
		return []string{"no infrastructure update is asked of it: " + words.OneLine(is.Exempt)}
	case is.Number == 0:
		return nil
	case is.Due.IsZero():
		line := fmt.Sprintf("infrastructure update %d is open, and no deadline runs: no notice of it was delivered", is.Number)
		return []string{line + "; after one was, sluice infra notify " + cell.Name + " --delivered HOW"}
	}
	tense := "is"
	if is.OutOfSupport {
		tense = "was"
	}
	line := fmt.Sprintf("infrastructure update %d %s due at %s: the notice was delivered at %s, by %s", is.Number, tense,
		words.FormatTime(is.Due), words.FormatTime(is.Noticed), words.OneLine(is.By))
	if x := is.Extension; x != nil {
		line += fmt.Sprintf("; extended by %s: %s", words.OneLine(x.Approver), words.OneLine(x.Reason))
	}
	line += "; sluice infra show " + cell.Name + " has the steps"
	for _, u := range v.Desired.Infrastructure {
		if u.Number == is.Number && u.Link != "" {
			line += "; the customer finds them at " + u.Link
		}
	}
	return []string{line}
}

func vendorLines(c *plan.Channel, cell *plan.Cell) (lines []string) {
	if cell.Paused != "" {
		lines = append(lines, "the vendor paused it: "+words.OneLine(cell.Paused))
	}
	if cell.Pin != "" {
		lines = append(lines, "the vendor pinned it to "+cell.Pin)
	}
	for _, h := range c.CellHolds {
		if slices.Contains(h.Cells, cell.Name) {
			lines = append(lines,
				fmt.Sprintf("a hold keeps new releases from it: %s; sluice hold %s --lift %s ends it",
					words.OneLine(h.Why()), c.Name, h.ID))
		}
	}
	return lines
}

func ownerLines(o *cells.Owner) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, "its owner "+fmt.Sprintf(format, args...)) }
	if o.Paused != "" {
		add("paused it: %s", words.OneLine(o.Paused))
	}
	if o.Pin != "" {
		add("pinned it to %s", words.OneLine(o.Pin))
	}
	if o.Approval {
		add("approves each release, so far %s", words.Count(len(o.Approved), "release"))
	}
	if n := len(o.Windows); n > 0 {
		add("lets it begin something new in %s only", words.Count(n, "window"))
	}
	return lines
}

func (v *View) describeRunning(s *plan.CellState) string {
	switch {
	case v.NotObserved:
		return "runs what is not known here"
	case s == nil || s.LastReport.IsZero():
		return "has not reported yet"
	case s.Release == "":
		return fmt.Sprintf("has nothing installed (%s); last report %s", s.State, words.FormatTime(s.LastReport))
	}
	how := string(s.State)
	if s.State == cells.StateHealthy && !s.HealthySince.IsZero() {
		how = "healthy for " + words.FormatElapsed(s.Soaked)
	}
	if s.Message != "" {
		how += " (" + words.OneLine(s.Message) + ")"
	}
	if v.Silent(s) {
		how += ", silent since then"
	}
	return fmt.Sprintf("runs %s, %s; last report %s", s.Release, how, words.FormatTime(s.LastReport))
}

func (v *View) whyChannel(c *plan.Channel) (lines []string, about []channels.Verdict) {
	if e := c.Effective; e == nil {
		lines = append(lines, c.Name+" has no release yet")
	} else {
		on := 0
		for _, cell := range c.Cells {
			if s := v.Observed.Cells[cell.Name]; s != nil && s.Digest == e.Digest && s.State == cells.StateHealthy {
				on++
			}
		}
		lines = append(lines, fmt.Sprintf("%s runs %s, sequence %d, since %s; %d of %s healthy on it",
			c.Name, e.Release, e.Sequence, words.FormatTime(e.Moved), on, words.Count(len(c.Cells), "cell")))
	}
	for _, a := range v.Plan.Actions {
		switch {
		case a.Channel != c.Name:
		case a.Kind == plan.Promote:
			lines = append(lines, "the engine is about to promote "+a.Release)
		case a.Kind == plan.Rollback:
			lines = append(lines, "the engine is about to roll back to "+a.Release)
		}
	}
	if q := c.Request; q != nil && q.Release != "" {
		line := fmt.Sprintf("%s asked for %s in %s", q.By, q.Release, words.ShortCommit(q.Commit))
		if q.Reason != "" {
			line += ": " + q.Reason
		}
		lines = append(lines, line)
	}
	about = v.verdictsAbout(c, "")
	return append(lines, verdictLines(about)...), about
}

// verdictsAbout returns the verdicts about a channel and all of its cells and, with a cell's name, about that cell.
func (v *View) verdictsAbout(c *plan.Channel, cell string) []channels.Verdict {
	about, ofCells := v.Plan.BlockedIn(c.Name)
	for _, b := range ofCells {
		if b.Cell == cell {
			about = append(about, b)
		}
	}
	return about
}

func verdictLines(all []channels.Verdict) []string {
	lines := make([]string, 0, len(all))
	for _, b := range all {
		if b.Code == reason.RequestWaits {
			continue // a line of its own says who asked
		}
		line := "  "
		if b.Release != "" {
			line += b.Release + " "
		}
		lines = append(lines, line+words.OneLine(b.String()))
	}
	if len(lines) == 0 {
		lines = append(lines, "nothing is blocked")
	}
	return lines
}
