package announce

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// cellAnnouncement is an announcement in one cell.
type cellAnnouncement struct {
	announced *channelState
	cell      *cell
}

func (s *channelState) inCell(c *cell) cellAnnouncement { return cellAnnouncement{s, c} }

// cellState returns the state of the announcement in the cell: the reported state if the report is about the last
// bundle and no time has come since, otherwise the derived state. ok is false if the announcement is not for the cell.
func (i cellAnnouncement) cellState() (state flags.CellState, confirmed, ok bool) {
	switch {
	case i.announced.rules == nil || i.announced.state == "" || i.announced.state == Cancelled ||
		i.announced.state == Retracted || i.announced.state == Missed ||
		i.announced.state == Archived && !i.announced.sent && !i.announced.retired:
		return "", false, false
	case i.announced.retired:
		return flags.Retired, false, true
	case !i.announced.reach.selects(i.cell):
		return "", false, false
	case i.announced.sent && i.announced.reach.excludes(i.cell):
		return flags.LeftOut, false, true
	case (i.announced.heldReason != "" || len(i.announced.holds) > 0) && i.announced.holdReason(i.cell) != "":
		return flags.Held, false, true
	case !i.announced.sent && i.announced.contained[i.cell.featureSet] && i.announced.state != Publishing:
		return flags.Ready, false, true
	case !i.announced.sent:
		return flags.Waiting, false, true
	}
	reported := i.reportedState()
	state = i.deriveState()
	if reported == "" || !i.cell.Current || isOutdated(reported, state) {
		return state, false, true
	}
	return reported, true, true
}

// reportedState returns the state that the cell reports, or reported about an earlier bundle; empty: none. Most
// announcements are on, so states other than on are indexed.
func (i cellAnnouncement) reportedState() flags.CellState {
	switch {
	case i.cell.Report == nil:
		return ""
	case !i.cell.Current:
		return i.cell.Report.States[i.announced.announcement.id]
	case !i.announced.knownTo[i.cell.bundleIndex]:
		return "" // the announcement was not sent yet
	case len(i.cell.notOn) > 8:
		return cmp.Or(i.cell.Report.States[i.announced.announcement.id], flags.On)
	}
	for k := range i.cell.notOn {
		if i.cell.notOn[k].id == i.announced.announcement.id {
			return i.cell.notOn[k].state
		}
	}
	return flags.On
}

// deriveState returns the state that follows from the cell's releases, the time and the previous state.
func (i cellAnnouncement) deriveState() flags.CellState {
	switch {
	case slices.ContainsFunc(i.announced.kills, func(k repository.Override) bool {
		return k.Cells.Selects(i.cell.Name, i.cell.Channel, i.cell.Labels)
	}):
		return flags.Killed
	case !i.announced.contained[i.cell.featureSet]:
		// Only a named state counts: an announcement that the report leaves out may be new to the cell.
		if i.cell.Report != nil {
			switch i.cell.Report.States[i.announced.announcement.id] {
			case flags.On, flags.Ramping, flags.Suspended:
				return flags.Suspended
			}
		}
		return flags.Waiting
	case !i.announced.counts.due:
		return flags.Armed
	case i.announced.counts.percent >= 100:
		return flags.On
	case i.announced.counts.gate.By != flags.ByCell:
		return flags.Ramping
	case i.announced.counts.gate.Includes(i.cell.Name, i.announced.counts.percent):
		return flags.On
	}
	return flags.Armed
}

// isOutdated reports whether a reported state only lags behind the derived state.
func isOutdated(reported, derived flags.CellState) bool {
	switch reported {
	case flags.Armed:
		return derived == flags.Ramping || derived == flags.On || derived == flags.Suspended || derived == flags.Waiting
	case flags.Ramping:
		return derived == flags.On || derived == flags.Suspended
	case flags.On: // the report also leaves out announcements that are new to the cell
		return derived == flags.Suspended || derived == flags.Waiting || derived == flags.Armed
	}
	return false
}

// countsAsOn reports whether a cell in the state has the features, or will have them when the time comes.
func countsAsOn(state flags.CellState) bool {
	return state == flags.On || state == flags.Ramping || state == flags.Armed || state == flags.Ready
}

// describeState explains a cell's state, as words that follow the cell's name; empty: no explanation needed.
func (i cellAnnouncement) describeState(state flags.CellState) string {
	switch state {
	case flags.Waiting:
		return i.describeWait()
	case flags.Suspended:
		return "is suspended: " + i.cell.describeRelease() + " without " + strings.Join(i.missingFeatures(), ", ")
	case flags.Killed:
		for _, k := range i.announced.kills {
			if k.Cells.Selects(i.cell.Name, i.cell.Channel, i.cell.Labels) {
				return "has " + k.Flag + " killed: " + oneLine(k.Reason)
			}
		}
		return "has one of its flags killed"
	case flags.Held:
		if why := i.announced.holdReason(i.cell); why != "" {
			return "is held: " + why
		}
		return "is held by its owner"
	case flags.LeftOut:
		if i.announced.reach.without[i.cell.Name] {
			return "was held when its time came"
		}
		return "was not ready when its time came"
	case flags.Ready:
		if i.announced.state == Draft {
			return "is ready: " + i.announced.reason
		}
	}
	return ""
}

// describeWait says what the cell waits for, and why that has not come.
func (i cellAnnouncement) describeWait() string {
	missing := i.missingFeatures()
	switch {
	case len(missing) == 0 && i.announced.tree == nil:
		return "has it off: the approved commit can't be read"
	case len(missing) == 0:
		return "does not report it as on"
	case i.cell.HeadWait.Owner:
		return i.cell.HeadWait.Text
	case !i.cell.Known:
		return "has not reported what it runs"
	}
	release, ok := i.announced.planner.firstReleaseWith(i.announced.rules.Features)
	if !ok {
		return "waits for a release that contains " + strings.Join(missing, ", ")
	}
	if i.cell.HeadWait.Text != "" {
		return "waits for " + release + " (" + i.cell.HeadWait.Text + ")"
	}
	return "waits for " + release
}

// missingFeatures returns the features that the cell's releases lack.
func (i cellAnnouncement) missingFeatures() (missing []string) {
	for _, f := range i.announced.rules.Features {
		if !i.announced.planner.featureSets[i.cell.featureSet][f] {
			missing = append(missing, f)
		}
	}
	return missing
}

// firstReleaseWith returns the first supported release that contains the features.
func (p *planner) firstReleaseWith(features []string) (version string, ok bool) {
	for _, r := range p.input.Releases {
		if !slices.ContainsFunc(features, func(f string) bool { return !slices.Contains(r.Features, f) }) {
			return r.Version, true
		}
	}
	return "", false
}

func (c *Cell) describeRelease() string { return "it runs " + cmp.Or(c.Release, "a release") }
