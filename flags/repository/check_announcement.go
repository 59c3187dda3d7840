package repository

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/manifest"
)

func indexPath(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func channelPath(name string) string { return "channels[" + name + "]" }

// validateAnnouncement checks an announcement without other files, sets its ID and defaults, and records the lines of
// its fields for faults that are found later.
func validateAnnouncement(doc *manifest.Doc[Announcement]) (faults []manifest.Fault) {
	a := &doc.Value
	a.ID = stem(doc.File)
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	if !ValidID(a.ID) {
		fault(manifest.WrongName, "", "%.70q can't name an announcement: %s", a.ID, labelRule)
	}
	if strings.TrimSpace(a.Title) == "" && a.Title != "" {
		fault(manifest.Missing, "title", "title is empty: say what is new")
	}
	hasTime := !a.PublishAt.IsZero()
	for _, name := range slices.Sorted(maps.Keys(a.Channels)) {
		if !manifest.IsLabel(name) {
			fault(manifest.WrongName, channelPath(name), "%.70q can't name a channel: %s", name, labelRule)
		}
		w := a.Channels[name]
		if w == (PublishTime{}) {
			fault(manifest.WrongValue, channelPath(name),
				"channels.%.70s must be ready, never or a wall time such as 2026-12-01T10:00:00", name)
		}
		hasTime = hasTime || !w.At.IsZero()
	}
	if a.Now && !hasTime {
		fault(manifest.Missing, "now",
			"now publishes although the time has passed, but there is no time: add publishAt")
	}
	if doc.HasField("cancelled") && strings.TrimSpace(a.Cancelled) == "" {
		fault(manifest.Missing, "cancelled",
			"cancelled must give a reason; remove it if the announcement is not cancelled")
	}
	faults = slices.Concat(faults, checkFeatures(doc), checkSelector(doc, "cells", a.Cells), checkRamp(doc))
	if a.Approvals != nil {
		setDefaultCount(doc, "approvals.count", a.Approvals)
	}
	a.lines = map[string]int{
		"": doc.Line(""), "publishAt": doc.Line("publishAt"), "zone": doc.Line("zone"),
		"approvals": doc.Line("approvals"),
	}
	for name := range a.Channels {
		a.lines[channelPath(name)] = doc.Line(channelPath(name))
	}
	for i := range a.Features {
		a.lines[indexPath("features", i)] = doc.Line(indexPath("features", i))
	}
	return refuseEmpty(doc, faults)
}

func checkFeatures(doc *manifest.Doc[Announcement]) (faults []manifest.Fault) {
	features := doc.Value.Features
	if doc.HasField("features") && len(features) == 0 {
		faults = append(faults, doc.Fault(manifest.Missing, "features",
			"features is empty: name what turns on with the announcement"))
	}
	if len(features) > flags.MaxGateFeatures {
		return []manifest.Fault{doc.Fault(manifest.TooLarge, "features",
			"has %d features, but an announcement can have at most %d: let flags share a feature",
			len(features), flags.MaxGateFeatures)}
	}
	for i, name := range features {
		switch at := indexPath("features", i); {
		case !isFeatureName(name):
			faults = append(faults, doc.Fault(manifest.WrongName, at, "%.60q can't be a feature's name", name))
		case slices.Contains(features[:i], name):
			faults = append(faults, doc.Fault(manifest.Duplicate, at, "feature %s is there twice", name))
		}
	}
	return faults
}

// checkSelector checks a selector. An empty list is refused, since it would select every cell.
func checkSelector[T any](doc *manifest.Doc[T], at string, s Selector) (faults []manifest.Fault) {
	for field, filled := range map[string]bool{
		"names": len(s.Names) > 0, "channels": len(s.Channels) > 0, "labels": len(s.Labels) > 0,
	} {
		if !filled && doc.HasField(at+"."+field) {
			faults = append(faults, doc.Fault(manifest.Missing, at+"."+field,
				"%s.%s is empty: leave it out to select all", at, field))
		}
	}
	faults = append(faults, checkLabels(doc, at+".names", s.Names, "a cell")...)
	return append(faults, checkLabels(doc, at+".channels", s.Channels, "a channel")...)
}

func checkRamp(doc *manifest.Doc[Announcement]) (faults []manifest.Fault) {
	r := doc.Value.Ramp
	if len(r.Steps) == 0 && doc.HasField("ramp") {
		return []manifest.Fault{doc.Fault(manifest.Missing, "ramp",
			"ramp has no steps: leave it out to turn the features on for all users at once")}
	}
	for i, s := range r.Steps {
		at := indexPath("ramp.steps", i)
		if time.Duration(s.After)%time.Second != 0 {
			faults = append(faults, doc.Fault(manifest.WrongValue, at+".after",
				"after must be whole seconds, not %s", s.After))
		}
		if s.After > flags.MaxAfter*Duration(time.Second) {
			faults = append(faults, doc.Fault(manifest.WrongValue, at+".after",
				"after must be within ten years, not %s", s.After))
		}
		if i == 0 {
			continue
		}
		if before := r.Steps[i-1]; s.Percent <= before.Percent {
			faults = append(faults, doc.Fault(manifest.Conflict, at+".percent",
				"shares must grow: %d percent after %d", s.Percent, before.Percent))
		} else if s.After <= before.After {
			faults = append(faults, doc.Fault(manifest.Conflict, at+".after",
				"after counts from publication, and must grow: %s follows %s", s.After, before.After))
		}
	}
	if n := len(r.Steps); n > 0 && r.Steps[n-1].Percent < 100 {
		faults = append(faults, doc.Fault(manifest.WrongValue, indexPath("ramp.steps", n-1)+".percent",
			"the last step must be 100 percent, not %d", r.Steps[n-1].Percent))
	}
	return faults
}

// loadAnnouncements reads announcements/, and checks them against settings, flags and each other.
func (l *loader) loadAnnouncements() {
	var all []*Announcement
	for _, a := range loadFolder(l, AnnouncementsDir, validateAnnouncement) {
		l.tree.Announcements[a.ID] = &a
		all = append(all, &a)
		if zone, err := l.zones.load(cmp.Or(a.Zone, l.tree.Settings.Zone)); err != nil {
			l.addFault(manifest.WrongValue, a.filePath(), a.lines["zone"], "%v", err)
		} else {
			a.zone = zone
			l.checkTimes(&a)
		}
		if a.Approvals != nil && !l.peopleUnknown {
			if f := l.tree.Settings.checkRule(*a.Approvals, a.filePath(), a.lines["approvals"]); f != nil {
				l.faults = append(l.faults, *f)
			}
		}
		for i, name := range a.Features {
			if l.tree.keysByFeature[name] == nil && !a.Archived && !l.flagsUnknown {
				l.addFault(manifest.UnknownReference, a.filePath(), a.lines[indexPath("features", i)],
					"no flag names the feature %.60q: put it into a flag's metadata.feature, or archive the "+
						"announcement if its flags are gone",
					name)
			}
		}
	}
	l.checkOverlaps(all)
}

func (a *Announcement) filePath() string { return path.Join(AnnouncementsDir, a.ID+".yaml") }

// checkTimes adds a fault for each wall time that the zone's clocks never show, or show twice.
func (l *loader) checkTimes(a *Announcement) {
	check := func(at string, t LocalTime) {
		if t.IsZero() {
			return
		}
		if err := t.checkIn(a.zone); err != nil {
			l.addFault(manifest.WrongValue, a.filePath(), a.lines[at], "%v", err)
		}
	}
	check("publishAt", a.PublishAt)
	for name, w := range a.Channels {
		check(channelPath(name), w.At)
	}
}

// checkOverlaps adds a fault for each feature in two announcements that can reach the same cell: which announcement
// turns the feature on would be undefined.
func (l *loader) checkOverlaps(all []*Announcement) {
	byFeature := map[string][]*Announcement{}
	for _, a := range all {
		if a.Archived || a.Cancelled != "" {
			continue
		}
		for i, name := range a.Features {
			others := byFeature[name]
			if at := slices.IndexFunc(others, func(b *Announcement) bool { return a != b && a.overlaps(b) }); at >= 0 {
				l.addFault(manifest.Conflict, a.filePath(), a.lines[indexPath("features", i)],
					"feature %s is in %s too, and both reach the same cells: let them select different cells, or "+
						"cancel or archive one",
					name, others[at].filePath())
			}
			byFeature[name] = append(others, a)
		}
	}
}

// overlaps reports whether a and b may reach the same cell.
func (a *Announcement) overlaps(b *Announcement) bool {
	s, t := a.Cells, b.Cells
	if areDisjoint(s.Names, t.Names) {
		return false
	}
	for name, value := range s.Labels {
		if other, ok := t.Labels[name]; ok && other != value {
			return false
		}
	}
	channels := s.Channels
	if len(channels) == 0 {
		channels = t.Channels
	}
	return len(channels) == 0 || slices.ContainsFunc(channels, func(name string) bool {
		return a.mayReach(name) && b.mayReach(name)
	})
}

// mayReach reports whether an announcement can be published in a channel.
func (a *Announcement) mayReach(channel string) bool {
	return (len(a.Cells.Channels) == 0 || slices.Contains(a.Cells.Channels, channel)) && !a.Channels[channel].Never
}

// areDisjoint reports whether both lists have entries, but none in common.
func areDisjoint(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && !slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
