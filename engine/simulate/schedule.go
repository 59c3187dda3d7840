package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// checkNames returns an error for each name in the scenario that the repository does not have.
func (w *world) checkNames() error {
	s := w.input.Scenario
	var faults []error
	checkChannel := func(where, name string) {
		if name != "" && w.desired.Channels[name] == nil {
			faults = append(faults,
				fmt.Errorf("%s: there is no channel %q; there are %s", where, name,
					strings.Join(w.desired.Order, ", ")))
		}
	}
	checkRelease := func(where, version string) {
		if version == "" || version == "*" || w.desired.Releases[version] != nil {
			return
		}
		if !slices.ContainsFunc(s.Releases, func(c Cut) bool { return c.Version.String() == version }) {
			faults = append(faults,
				fmt.Errorf("%s: there is no release %q, neither in the repository nor in the scenario", where, version))
		}
	}
	for i, c := range s.Releases {
		where := fmt.Sprintf("releases[%d]", i)
		checkRelease(where, c.Like)
		if c.At.instant(w.input.From).Before(w.input.From) {
			faults = append(faults, fmt.Errorf("%s: the release is cut before the simulation begins", where))
		}
		if w.desired.Releases[c.Version.String()] != nil {
			faults = append(faults, fmt.Errorf("%s: the repository has a release %s already", where, c.Version))
		}
	}
	for i, o := range s.Outages {
		where := fmt.Sprintf("outages[%d]", i)
		checkChannel(where, o.Of.Channel)
		for _, name := range o.Of.Cells {
			if w.desired.Cells[name] == nil {
				faults = append(faults, fmt.Errorf("%s: there is no cell %q", where, name))
			}
		}
	}
	for i, d := range s.Owners {
		checkChannel(fmt.Sprintf("owners[%d]", i), d.Of.Channel)
	}
	for i, j := range s.Joins {
		checkChannel(fmt.Sprintf("joins[%d]", i), j.Channel)
	}
	for i, a := range s.People {
		where := fmt.Sprintf("people[%d]", i)
		checkChannel(where, a.Channel)
		checkRelease(where, a.Release)
		if a.Release != "*" && a.At.instant(w.input.From).Before(w.input.From) {
			faults = append(faults, fmt.Errorf("%s: at is before the simulation begins", where))
		}
		if _, err := personAsAuthor(w.desired, a.By); a.Do == "approve" && err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
		}
	}
	faults = append(faults, w.checkNotices()...)
	for i, a := range s.Answers {
		checkChannel(fmt.Sprintf("answers[%d]", i), a.Channel)
		checkRelease(fmt.Sprintf("answers[%d]", i), a.Release)
	}
	return errors.Join(faults...)
}

func (w *world) addCells() error {
	files := map[string][]byte{}
	for channel, n := range w.input.Scenario.Cells.Add {
		c := w.desired.Channels[channel]
		if c == nil {
			return fmt.Errorf("cells.add: there is no channel %q; there are %s", channel,
				strings.Join(w.desired.Order, ", "))
		}
		data, err := draftCell(c)
		if err != nil {
			return err
		}
		for i := range n {
			name := fmt.Sprintf("%s-%0*d", channel, len(fmt.Sprint(n)), i+1)
			if w.desired.Cells[name] == nil {
				files[path.Join(cells.Dir, name, "cell.yaml")] = data
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	if err := w.repo.commit(anonymous, w.now, "cells: add those of the scenario", files); err != nil {
		return err
	}
	return w.readRepository()
}

// anonymous is the author of commits for which the scenario names no person.
var anonymous = author{Person: releases.Person{Name: "scenario", Email: "scenario@localhost"}}

func (w *world) scheduleScenario(ctx context.Context) error {
	s := w.input.Scenario
	schedule := func(t time.Time, do func() error) {
		w.queue.schedule(t, func() (bool, error) { return true, do() })
	}
	for i := range s.Releases {
		c := &s.Releases[i]
		when := c.At.instant(w.input.From)
		schedule(when, func() error { return w.mergeRelease(c) })
		for _, a := range s.People {
			if a.Release == "*" {
				a.Release = c.Version.String()
				schedule(when.Add(a.At.After), func() error { return w.commitAct(a) })
			}
		}
	}
	for _, a := range s.People {
		if a.Release != "*" {
			schedule(a.At.instant(w.input.From), func() error { return w.commitAct(a) })
		}
	}
	for i, o := range s.Outages {
		if err := w.fleet.scheduleOutage(ctx, i, o); err != nil {
			return err
		}
	}
	for i := range s.Owners {
		w.fleet.scheduleDecision(i, &s.Owners[i])
	}
	for i := range s.Notices {
		schedule(s.Notices[i].At.instant(w.input.From), func() error { return w.deliverNotice(i, &s.Notices[i]) })
	}
	for i, j := range s.Joins {
		schedule(j.At.instant(w.input.From), func() error { return w.joinCells(i, j) })
	}
	for _, k := range s.Skews {
		from := k.From.instant(w.input.From) // a skew that began before the simulation is in force from its start
		schedule(from, func() error { w.skews = append(w.skews, k); w.setClocks(); return nil })
		schedule(from.Add(k.For), func() error {
			w.skews = slices.DeleteFunc(w.skews, func(other Skew) bool { return other == k })
			w.setClocks()
			return nil
		})
	}
	return nil
}

func (w *world) mergeRelease(c *Cut) error {
	like := c.Like
	if n := len(w.desired.Versions); like == "" && n > 0 {
		like = w.desired.Versions[n-1].Version.String()
	}
	files, err := w.repo.draftRelease(*c, like)
	if err != nil {
		return err
	}
	w.recorder.addEvent(Event{At: w.now, Kind: "cut", Release: c.Version.String()})
	if err := w.repo.commit(anonymous, w.now, "release "+c.Version.String(), files); err != nil {
		return err
	}
	if err := w.readRepository(); err != nil {
		return err
	}
	if r := w.desired.Releases[c.Version.String()]; r == nil || len(r.Faults) > 0 {
		if r != nil {
			return fmt.Errorf("cut %s: %s", c.Version, r.Faults[0])
		}
		return fmt.Errorf("cut %s: the repository does not have it", c.Version)
	}
	return nil
}

func (w *world) commitAct(a Act) error {
	files, who, void, err := w.draftAct(a)
	if err != nil {
		return fmt.Errorf("%s in %s: %w", a.Do, a.Channel, err)
	}
	e := Event{At: w.now, Kind: a.Do, Channel: a.Channel, Release: a.Release, Text: a.Reason}
	if a.By != "" {
		e.Text = strings.TrimSpace(a.By + ": " + a.Reason)
		e.Text = strings.TrimSuffix(e.Text, ":")
	}
	if void != "" {
		e.Text = "no effect: " + void
	}
	w.recorder.addEvent(e)
	if len(files) == 0 {
		return nil
	}
	message := strings.TrimSpace(strings.Join([]string{a.Do, a.Channel, a.Release}, " "))
	if err := w.repo.commit(who, w.now, message, files); err != nil {
		return err
	}
	return w.readRepository()
}

// draftAct returns the files of a person's commit. void says why there are none.
func (w *world) draftAct(a Act) (files map[string][]byte, who author, void string, err error) {
	folder := path.Join(channels.Dir, a.Channel)
	who = anonymous
	if a.By != "" {
		who.Person = releases.Person{Name: a.By, Email: a.By + "@localhost"}
		if m, err := personAsAuthor(w.desired, a.By); err == nil {
			who = m
		}
	}
	file, content := "", any(nil)
	release := w.desired.Releases[a.Release]
	switch a.Do {
	case "hold":
		file = path.Join(folder, "holds", a.Hold+".yaml")
		content = channels.Hold{Reason: cmp.Or(a.Reason, "the scenario holds it"), By: a.By}
	case "lift":
		files = map[string][]byte{}
		for _, h := range w.desired.Channels[a.Channel].Holds {
			if a.Hold == "" || a.Hold == h.ID {
				files[h.File] = nil
			}
		}
		if len(files) == 0 {
			void = "there is no such hold"
		}
		return files, who, void, nil
	case "request":
		head := channels.Head{Release: a.Release}
		if h := w.desired.Channels[a.Channel].Head; h != nil {
			head = *h
			head.Release = a.Release
		}
		text := fmt.Sprintf("release: %s\n", head.Release)
		if head.Digest != "" {
			text += fmt.Sprintf("commit: %s\ndigest: %s\nsequence: %d\n", head.Commit, head.Digest, head.Sequence)
		}
		return map[string][]byte{path.Join(folder, "head.yaml"): []byte(text)}, who, "", nil
	case "approve":
		if release == nil || release.Digest == "" {
			return nil, who, "there is no such release yet", nil
		}
		file = path.Join(folder, "approvals", a.Release, a.By+".yaml")
		content = map[string]string{
			"digest": string(release.Digest), "comment": cmp.Or(a.Reason, "by the scenario"),
		}
	case "quarantine":
		if release == nil || release.Digest == "" {
			return nil, who, "there is no such release yet", nil
		}
		q := channels.Quarantine{
			Digest: release.Digest, Reason: cmp.Or(a.Reason, "the scenario quarantines it"), By: a.By,
		}
		if a.Channel != "" {
			q.Channels = []string{a.Channel}
		}
		file, content = path.Join(channels.QuarantineDir, a.Release+".yaml"), q
	}
	data, err := yaml.Marshal(content)
	return map[string][]byte{file: data}, who, "", err
}
