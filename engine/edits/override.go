package edits

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/releases"
)

func overrideFile(name string) string { return path.Join(repository.OverridesDir, name+".yaml") }

func overrideFiles(name string, o repository.Override) (map[string][]byte, error) {
	all := edit.Fields{{Key: "apiVersion", Value: releases.APIVersion}, {Key: "kind", Value: o.Kind}}
	add := func(key string, value any, there bool) {
		if there {
			all = append(all, edit.Field{Key: key, Value: value})
		}
	}
	add("flag", o.Flag, o.Flag != "")
	add("announcement", o.Announcement, o.Announcement != "")
	add("reason", o.Reason, true)
	add("by", o.By, o.By != "")
	add("until", o.Until, !o.Until.IsZero())
	data, err := edit.Format(all)
	return singleFile(overrideFile(name), data), err
}

// overrideRemovals returns the removal of the overrides that match.
func (s *Flags) overrideRemovals(those func(repository.Override) bool) map[string][]byte {
	files := map[string][]byte{}
	for _, o := range s.Tree.Overrides {
		if those(o) {
			files[overrideFile(o.Name)] = nil
		}
	}
	return files
}

// KillFlag turns a flag off everywhere, whatever else is set.
type KillFlag struct {
	Key    string
	Reason string
	Until  time.Time // when somebody should review the kill; zero: not set
}

func (k KillFlag) Message() (subject, body string) { return "kill " + k.Key, k.Reason }

// Edit writes the override, whatever other faults the repository has (R43).
func (k KillFlag) Edit(s *Flags, by Person, _ time.Time) (done Edit, err error) {
	// A key with a slash would be another file.
	d, err := s.Definition(k.Key)
	if err != nil && (!s.Tree.Invalid || strings.Contains(k.Key, "/")) {
		return Edit{}, err
	}
	const next = "it is off in connected cells as soon as the control plane sees the commit; " +
		"sluice flag unkill %s --reason WHY lifts it"
	done.Next = fmt.Sprintf(next, k.Key)
	if d != nil {
		if gives, next := s.notOff(d); gives != "" {
			done.Short, done.Next = "it is not off: "+gives, next
		}
	}
	if slices.ContainsFunc(s.Tree.Overrides, func(o repository.Override) bool {
		return o.Kind == repository.Kill && o.Flag == k.Key && o.Cells.IsZero()
	}) {
		return Edit{Short: done.Short, Next: done.Next}, nil
	}
	done.Files, err = overrideFiles("kill-"+k.Key, repository.Override{Kind: repository.Kill, Flag: k.Key,
		Reason: k.Reason, By: by.Name, Until: k.Until})
	return done, err
}

// notOff returns what a killed flag gives although it is not off, and the next step; empty: it is off. A channel that
// is behind the tip, or whose announcement was approved before, has an older definition.
func (s *Flags) notOff(d *flags.Definition) (gives, next string) {
	if gives = d.Kill().Gives; gives != "" || s.Open == nil {
		return gives, view.NotOffHint
	}
	trees := map[string]*repository.Tree{s.Commit: s.Tree}
	for _, channel := range slices.Sorted(maps.Keys(s.Tree.Heads)) {
		_, commit := s.Tree.Deciding(d.Feature(), channel)
		commit = cmp.Or(commit, s.Tree.Heads[channel].Commit)
		if trees[commit] == nil {
			files, err := s.Open(commit)
			if err != nil { // then the channel has the tip's
				continue
			}
			trees[commit] = repository.Load(nil, files)
		}
		if older := trees[commit].Flags[d.Key]; older != nil && older.Kill().Gives != "" {
			return view.OlderNotOff(s.Tree, d, channel, older.Kill().Gives)
		}
	}
	return "", ""
}

// UnkillFlag lifts all kills of a flag.
type UnkillFlag struct{ Key, Reason string }

func (u UnkillFlag) Message() (subject, body string) { return "lift the kill of " + u.Key, u.Reason }

func (u UnkillFlag) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	files := s.overrideRemovals(func(o repository.Override) bool {
		return o.Kind == repository.Kill && o.Flag == u.Key
	})
	if len(files) == 0 {
		return Edit{}, Fail(fmt.Errorf("no kill of %s is in the repository", u.Key),
			"if it was killed just now, its commit is on its way: try again; see sluice flag show %s", u.Key)
	}
	return Edit{Files: files, Next: "it follows its rules and announcements; sluice flag show " + u.Key}, nil
}

// HoldAnnouncement prevents an announcement from being published.
type HoldAnnouncement struct{ ID, Reason string }

func (h HoldAnnouncement) Message() (subject, body string) {
	return "hold the announcement " + h.ID, h.Reason
}

func holdsOf(id string) func(repository.Override) bool {
	return func(o repository.Override) bool { return o.Kind == repository.Hold && o.Announcement == id }
}

func (h HoldAnnouncement) Edit(s *Flags, by Person, _ time.Time) (Edit, error) {
	announced, err := s.Announcement(h.ID)
	if err == nil {
		err = refuseEnded(announced)
	}
	if err != nil {
		return Edit{}, err
	}
	if slices.ContainsFunc(s.Tree.Overrides, holdsOf(h.ID)) {
		return Edit{}, nil
	}
	next := fmt.Sprintf("it is not published until sluice announce hold %s --lift", h.ID)
	if s.isPublished(h.ID) {
		next = fmt.Sprintf("where it is already published, a hold has no effect: "+
			"sluice flag kill KEY --reason WHY, or sluice announce cancel %s --reason WHY", h.ID)
	}
	files, err := overrideFiles("hold-"+h.ID, repository.Override{Kind: repository.Hold, Announcement: h.ID,
		Reason: h.Reason, By: by.Name})
	return Edit{Files: files, Next: next}, err
}

// LiftAnnouncement ends the hold of an announcement.
type LiftAnnouncement struct{ ID, Reason string }

func (l LiftAnnouncement) Message() (subject, body string) {
	return "lift the hold on the announcement " + l.ID, l.Reason
}

func (l LiftAnnouncement) Edit(s *Flags, _ Person, _ time.Time) (Edit, error) {
	files := s.overrideRemovals(holdsOf(l.ID))
	if len(files) == 0 {
		return Edit{}, Fail(fmt.Errorf("%s is not held", l.ID), "sluice announce show %s shows its progress", l.ID)
	}
	return Edit{Files: files, Next: fmt.Sprintf("if its time has not passed it is published then; "+
		"else it needs sluice announce publish %s --now", l.ID)}, nil
}
