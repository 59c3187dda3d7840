package edits

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

func announcementFile(id string) string { return path.Join(repository.AnnouncementsDir, id+".yaml") }

// Announce writes an announcement.
type Announce struct {
	ID           string
	Title        string
	At           string      // a future wall time in Zone, or RFC 3339; empty: not scheduled
	Zone         string      // IANA; empty: the repository's
	Channels     edit.Fields // readiness by channel: ready, never or a time
	Features     []string
	Cells        edit.Fields // names, channels, labels; none: all
	Ramp         edit.Fields // by, steps; none: all cells at once
	Embargo      bool
	WhenNotReady repository.Readiness // zero: wait
	Notes        string               // Markdown
}

func (a Announce) Message() (subject, body string) { return "announce " + a.ID + ": " + a.Title, "" }

func (a Announce) Edit(s *Flags, _ Person, now time.Time) (Edit, error) {
	file := announcementFile(a.ID)
	if !ValidName(a.ID) {
		return Edit{}, errInvalidName(a.ID, "an announcement's")
	}
	if exists(s.Files, file) {
		return Edit{}, Fail(fmt.Errorf("there is an announcement %s already", a.ID), "sluice announce show %s", a.ID)
	}
	zone, err := s.loadZone(a.Zone)
	if err != nil {
		return Edit{}, err
	}
	at := repository.LocalTime{}
	if a.At != "" {
		if at, err = parseFutureTime(a.ID, a.At, zone, now); err != nil {
			return Edit{}, err
		}
	}
	all := edit.Fields{{Key: "apiVersion", Value: releases.APIVersion}, {Key: "kind", Value: "Announcement"},
		{Key: "title", Value: a.Title}}
	add := func(key string, value any, there bool) {
		if there {
			all = append(all, edit.Field{Key: key, Value: value})
		}
	}
	add("publishAt", at.String(), a.At != "")
	add("zone", a.Zone, a.Zone != "")
	add("channels", a.Channels, len(a.Channels) > 0)
	add("features", a.Features, true)
	add("cells", a.Cells, len(a.Cells) > 0)
	add("ramp", a.Ramp, len(a.Ramp) > 0)
	add("embargo", true, a.Embargo)
	add("whenNotReady", a.WhenNotReady.String(), a.WhenNotReady.Mode != "")
	add("notes", a.Notes, a.Notes != "")
	next := "sluice announce approve " + a.ID
	if s.Tree.Settings.Approvals.Count == 0 && len(s.Tree.Settings.People) == 0 {
		next = "sluice announce show " + a.ID
	}
	data, err := edit.Format(all)
	return Edit{Files: singleFile(file, data), Next: next}, err
}

// PublishAnnouncement changes an announcement's time, or publishes the announcement at once. The new text needs
// approvals again.
type PublishAnnouncement struct {
	ID     string
	At     string // as in Announce; empty: at once
	Zone   string // empty: the announcement's
	Now    bool   // with At: move a time that has passed, though users may have been told
	Reason string
}

func (p PublishAnnouncement) Message() (subject, body string) {
	if p.At != "" {
		return fmt.Sprintf("publish the announcement %s at %s", p.ID, p.At), p.Reason
	}
	return "publish the announcement " + p.ID + " now", p.Reason
}

// Edit sets the time, and keeps all other text.
func (p PublishAnnouncement) Edit(s *Flags, _ Person, now time.Time) (Edit, error) {
	old, err := s.Announcement(p.ID)
	if err != nil {
		return Edit{}, err
	}
	fields, err := p.fields(s, old, now)
	if err != nil {
		return Edit{}, err
	}
	files, err := s.setAnnouncement(p.ID, fields)
	next := fmt.Sprintf("the text is new: sluice announce approve %s; sluice announce show %s shows its progress",
		p.ID, p.ID)
	if own := ownTimes(old); len(own) > 0 {
		next = "only channels without a time of their own follow; these keep theirs, from channels in " +
			announcementFile(p.ID) + ": " + strings.Join(own, ", ") + "; " + next
	}
	if slices.ContainsFunc(s.Tree.Overrides, holdsOf(p.ID)) {
		next = fmt.Sprintf("it is held, and not published before sluice announce hold %s --lift; %s", p.ID, next)
	}
	return Edit{Files: files, Next: next}, err
}

// ownTimes returns the channels that publishAt does not move, with their times.
func ownTimes(a *repository.Announcement) (all []string) {
	for _, channel := range slices.Sorted(maps.Keys(a.Channels)) {
		switch when := a.Channels[channel]; {
		case when.Never:
			all = append(all, channel+" (never)")
		case !when.Ready:
			all = append(all, channel+" ("+when.At.String()+")")
		}
	}
	return all
}

func (p PublishAnnouncement) fields(s *Flags, old *repository.Announcement, now time.Time) (edit.Fields, error) {
	if err := refuseEnded(old); err != nil {
		return nil, err
	}
	zone, err := s.loadZone(cmp.Or(p.Zone, old.Zone))
	if err != nil {
		return nil, err
	}
	when := repository.LatestTime(now.In(zone)) // to publish now is at once, whatever hour the clocks repeat
	if p.At != "" {
		if when, err = parseFutureTime(p.ID, p.At, zone, now); err != nil {
			return nil, err
		}
		before, err := s.loadZone(old.Zone)
		if err != nil {
			return nil, err
		}
		if !p.Now && !old.PublishAt.IsZero() && !isLater(old.PublishAt, repository.LocalTimeOf(now.In(before))) {
			return nil, Fail(fmt.Errorf("its time, %s, has passed", old.PublishAt),
				"users may have been told: to move it anyway, add --now")
		}
	}
	fields := edit.Fields{{Key: "publishAt", Value: when.String()}}
	if p.Zone != "" && p.Zone != old.Zone {
		fields = append(fields, edit.Field{Key: "zone", Value: p.Zone})
	}
	if soon := p.At == ""; soon != old.Now {
		fields = append(fields, edit.Field{Key: "now", Value: soon})
	}
	return fields, nil
}

// CancelAnnouncement prevents an announcement from being published or, if it was published, retracts it.
type CancelAnnouncement struct{ ID, Reason string }

func (c CancelAnnouncement) Message() (subject, body string) {
	return "cancel the announcement " + c.ID, c.Reason
}

// Edit sets cancelled, and keeps all other text.
func (c CancelAnnouncement) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	now, err := s.Announcement(c.ID)
	if err != nil || now.Cancelled != "" {
		return Edit{}, err
	}
	next := "it will never be published; a new announcement may take its features"
	if s.isPublished(c.ID) {
		next = "it is retracted: its features are turned off; sluice announce show " + c.ID
	}
	files, err := s.setAnnouncement(c.ID, edit.Fields{{Key: "cancelled", Value: c.Reason}})
	return Edit{Files: files, Next: next}, err
}

func (s *Flags) isPublished(id string) bool {
	for _, r := range s.Tree.Records[id] {
		if r.Outcome == repository.Published {
			return true
		}
	}
	return false
}

// setAnnouncement sets fields of an announcement's file, and keeps all other text.
func (s *Flags) setAnnouncement(id string, fields edit.Fields) (map[string][]byte, error) {
	file := announcementFile(id)
	text, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if text, err = edit.Set(text, []string{f.Key}, f.Value); err != nil {
			return nil, wrapEditError(file, err)
		}
	}
	return singleFile(file, text), nil
}

// loadZone returns the time zone with a name; without a name, the repository's.
func (s *Flags) loadZone(name string) (*time.Location, error) {
	name = cmp.Or(name, s.Tree.Settings.Zone)
	zone, err := window.LoadZone(name)
	if err != nil {
		return nil, Fail(fmt.Errorf("there is no zone %q", name), "name an IANA zone such as Europe/Berlin")
	}
	return zone, nil
}

// parseFutureTime parses a time in the future for an announcement, as clocks in zone show it.
func parseFutureTime(id, text string, zone *time.Location, now time.Time) (repository.LocalTime, error) {
	var at repository.LocalTime
	instant, err := time.Parse(time.RFC3339, text) // RFC 3339 has an offset
	if err == nil {
		at = repository.LocalTimeOf(instant.In(zone))
	} else if err = at.UnmarshalText([]byte(strings.Replace(text, " ", "T", 1))); err != nil {
		return at, Fail(fmt.Errorf("--at %q is not a time", text),
			`write it as "2026-12-01 10:00", as clocks in --zone show it`)
	}
	if now = now.In(zone); !isLater(at, repository.LocalTimeOf(now)) {
		return at, Fail(fmt.Errorf("--at %s has passed: it is %s in %s", at, repository.LocalTimeOf(now), zone),
			"give a future time, or leave --at out; to publish at once: sluice announce publish %s --now", id)
	}
	return at, nil
}

// isLater compares two times of the same zone.
func isLater(a, b repository.LocalTime) bool { return a.String() > b.String() }
