package edits

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
)

// Hold stops a channel, or some of its cells, until somebody lifts the hold.
type Hold struct {
	Channel string
	ID      string   // the file's name; empty: derived from the time
	Cells   []string // none: the whole channel
	Reason  string
}

func holdFile(channel, id string) string {
	return path.Join(channels.Dir, channel, "holds", id+".yaml")
}

func (h Hold) Message() (subject, body string) {
	if len(h.Cells) > 0 {
		return fmt.Sprintf("hold %s in %s", strings.Join(h.Cells, ", "), h.Channel), h.Reason
	}
	return "hold " + h.Channel, h.Reason
}

func (h Hold) Edit(s *Releases, by Person, now time.Time) (Edit, error) {
	if h.ID != "" && !ValidName(h.ID) {
		return Edit{}, Fail(fmt.Errorf("--id %q is not a portable file name", h.ID),
			"use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first")
	}
	if _, err := s.Channel(h.Channel); err != nil {
		return Edit{}, err
	}
	for _, name := range h.Cells {
		if cell := s.Desired.Cells[name]; cell == nil || cell.Channel != h.Channel {
			return Edit{}, Fail(fmt.Errorf("%s is no cell of %s", name, h.Channel),
				"sluice status --channel %s lists them", h.Channel)
		}
	}
	if h.ID == "" { // two holds in the same second are both valid
		at := now.UTC().Format("20060102-150405")
		h.ID = at
		for n := 2; exists(s.Files, holdFile(h.Channel, h.ID)); n++ {
			h.ID = fmt.Sprintf("%s-%d", at, n)
		}
	}
	if exists(s.Files, holdFile(h.Channel, h.ID)) {
		return Edit{}, Fail(fmt.Errorf("there is a hold %s already", h.ID), "lift it first: sluice hold %s --lift %s",
			h.Channel, h.ID)
	}
	next := fmt.Sprintf("nothing moves there except rollbacks; sluice hold %s --lift ends it", h.Channel)
	if len(h.Cells) > 0 {
		next = fmt.Sprintf("they get nothing new except rollbacks; sluice hold %s --lift %s ends it", h.Channel, h.ID)
	}
	data, err := yaml.Marshal(channels.Hold{Reason: h.Reason, By: by.Name, Cells: h.Cells})
	return Edit{Files: singleFile(holdFile(h.Channel, h.ID), data), Next: next}, err
}

// LiftHold ends a hold.
type LiftHold struct {
	Channel string
	ID      string   // empty: the only one
	Cells   []string // only a hold of just these cells; none: any hold
	Reason  string
}

func (l LiftHold) Message() (subject, body string) { return "lift the hold on " + l.Channel, l.Reason }

func (l LiftHold) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	c, err := s.Channel(l.Channel)
	if err != nil {
		return Edit{}, err
	}
	holds := slices.Concat(c.Holds, c.CellHolds)
	if len(l.Cells) > 0 {
		holds = slices.DeleteFunc(holds, func(h channels.Hold) bool { return !sameNames(h.Cells, l.Cells) })
	}
	ids := holdIDs(holds)
	switch {
	case len(ids) == 0 && len(l.Cells) > 0:
		return Edit{}, Fail(fmt.Errorf("%s has no hold of just %s", l.Channel, strings.Join(l.Cells, ", ")),
			"sluice why %s shows the holds of a cell, and what lifts each", l.Cells[0])
	case len(ids) == 0:
		return Edit{}, Fail(fmt.Errorf("%s has no hold", l.Channel), "sluice why %s shows what it waits for", l.Channel)
	case l.ID == "" && len(ids) > 1:
		return Edit{}, Fail(fmt.Errorf("%s has %d holds: %s", l.Channel, len(ids), strings.Join(ids, ", ")),
			"say which: sluice hold %s --lift %s", l.Channel, ids[0])
	case l.ID == "":
		l.ID = ids[0]
	case !slices.Contains(ids, l.ID):
		return Edit{}, Fail(fmt.Errorf("%s has no hold %s", l.Channel, l.ID), "there are: %s", strings.Join(ids, ", "))
	}
	return Edit{Files: singleFile(holdFile(l.Channel, l.ID), nil),
		Next: "it continues as its gates allow; sluice why " + l.Channel}, nil
}

// sameNames reports whether two lists have the same names, in whatever order.
func sameNames(a, b []string) bool {
	sorted := func(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }
	return slices.Equal(sorted(a), sorted(b))
}

func holdIDs(holds []channels.Hold) (ids []string) {
	for _, h := range holds {
		ids = append(ids, h.ID)
	}
	return ids
}

// Freeze keeps new releases out of a channel for a while.
type Freeze struct {
	Channel string
	channels.Freeze
}

func (f Freeze) Message() (subject, body string) {
	return fmt.Sprintf("freeze %s until %s", f.Channel, f.Until.Format(time.RFC3339)), f.Reason
}

// Edit adds the freeze to the channel's policy, and keeps all other text.
func (f Freeze) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	if _, err := s.Channel(f.Channel); err != nil {
		return Edit{}, err
	}
	file := path.Join(channels.Dir, f.Channel, "channel.yaml")
	policy, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return Edit{}, err
	}
	edited, err := channels.AddFreeze(policy, f.Freeze)
	if err != nil {
		return Edit{}, Fail(err, "edit %s by hand", file)
	}
	next := "until then nothing but rollbacks is promoted or granted there"
	return Edit{Files: singleFile(file, edited), Next: next}, nil
}

// LiftFreeze ends the freezes of a channel, those to come too.
type LiftFreeze struct{ Channel, Reason string }

func (l LiftFreeze) Message() (subject, body string) {
	return "lift the freeze of " + l.Channel, l.Reason
}

// Edit changes freezes in the channel's policy, and keeps all other text.
func (l LiftFreeze) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	if _, err := s.Channel(l.Channel); err != nil {
		return Edit{}, err
	}
	file := path.Join(channels.Dir, l.Channel, "channel.yaml")
	policy, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return Edit{}, err
	}
	edited, ended, err := channels.EndFreezes(policy, now)
	switch {
	case err != nil:
		return Edit{}, Fail(err, "edit %s by hand", file)
	case len(ended) == 0 && slices.ContainsFunc(s.Desired.Pipeline.Freezes, func(f channels.Freeze) bool {
		return f.Until.After(now)
	}):
		return Edit{}, Fail(fmt.Errorf("%s has no freeze of its own: all channels are frozen, in sluice.yaml", l.Channel),
			"edit sluice.yaml by hand")
	case len(ended) == 0:
		return Edit{}, Fail(fmt.Errorf("%s is not frozen", l.Channel), "sluice why %s shows what it waits for",
			l.Channel)
	}
	return Edit{Files: singleFile(file, edited), Next: "it continues as its gates allow; sluice why " + l.Channel}, nil
}

// AllID is the ID of the holds that stop all channels at once.
const AllID = "all"

// HoldAll stops every channel, in one commit, until somebody lifts it.
type HoldAll struct{ Reason string }

func (h HoldAll) Message() (subject, body string) { return "hold all channels", h.Reason }

func (h HoldAll) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	data, err := yaml.Marshal(channels.Hold{Reason: h.Reason, By: by.Name})
	if err != nil {
		return Edit{}, err
	}
	files := map[string][]byte{}
	for _, name := range s.Desired.Order { // a hold of that ID that is for some cells only is replaced
		if !slices.Contains(holdIDs(s.Desired.Channels[name].Holds), AllID) {
			files[holdFile(name, AllID)] = data
		}
	}
	if len(s.Desired.Order) == 0 {
		_, err := s.Channel("")
		return Edit{}, err
	}
	return Edit{Files: files, Next: "nothing moves anywhere except rollbacks; sluice hold --all --lift ends it"}, nil
}

// LiftAll ends what HoldAll began. Other holds stay.
type LiftAll struct{ Reason string }

func (l LiftAll) Message() (subject, body string) { return "lift the hold on all channels", l.Reason }

func (l LiftAll) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	files := map[string][]byte{}
	var others []string
	for _, name := range s.Desired.Order {
		if file := holdFile(name, AllID); exists(s.Files, file) {
			files[file] = nil
		} else if len(s.Desired.Channels[name].Holds) > 0 {
			others = append(others, name)
		}
	}
	if len(files) > 0 {
		return Edit{Files: files, Next: "they continue as their gates allow; sluice status"}, nil
	}
	if len(others) > 0 {
		return Edit{}, Fail(fmt.Errorf("nobody held all channels; there are holds on %s", strings.Join(others, ", ")),
			"sluice hold %s --lift", others[0])
	}
	return Edit{}, Fail(fmt.Errorf("no channel is held"), "sluice status shows what channels wait for")
}

// HaltID is the ID of the hold that stops a rollout until the rollout is resumed.
const HaltID = "rollout"

// Resume continues a halted rollout.
type Resume struct {
	Channel string
	Hold    string // empty: HaltID, or else the only hold
	Reason  string
}

func (r Resume) Message() (subject, body string) {
	return "resume the rollout of " + r.Channel, r.Reason
}

func (r Resume) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	c, err := s.Channel(r.Channel)
	if err != nil {
		return Edit{}, err
	}
	ids := holdIDs(c.Holds)
	switch {
	case len(ids) == 0:
		return Edit{}, Fail(fmt.Errorf("%s is not halted", r.Channel),
			"sluice rollout status %s shows what it waits for", r.Channel)
	case r.Hold != "" && !slices.Contains(ids, r.Hold):
		return Edit{}, Fail(fmt.Errorf("%s has no hold %s", r.Channel, r.Hold), "sluice status --channel %s lists them",
			r.Channel)
	case r.Hold != "":
	case slices.Contains(ids, HaltID):
		r.Hold = HaltID
	case len(ids) == 1:
		r.Hold = ids[0]
	default:
		return Edit{}, Fail(fmt.Errorf("%s has %d holds, none of them by sluice rollout halt", r.Channel, len(ids)),
			"say which: sluice rollout resume %s %s", r.Channel, ids[0])
	}
	return Edit{Files: singleFile(holdFile(r.Channel, r.Hold), nil),
		Next: "it continues where it stopped; sluice rollout status " + r.Channel}, nil
}

// SkipWave opens a wave of the current head, and no other, without waiting for earlier waves.
type SkipWave struct {
	Channel string
	Wave    int   // to open
	Seen    int64 // the sequence of the head that is meant; 0: any
	Reason  string
}

func (w SkipWave) Message() (subject, body string) {
	return fmt.Sprintf("open wave %d of %s", w.Wave, w.Channel), w.Reason
}

func (w SkipWave) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	c, err := s.Channel(w.Channel)
	if err != nil {
		return Edit{}, err
	}
	e := c.Effective
	switch {
	case e == nil:
		return Edit{}, Fail(fmt.Errorf("%s has no release yet", w.Channel), "sluice why %s shows what it waits for",
			w.Channel)
	case w.Seen != 0 && w.Seen != e.Sequence:
		return Edit{}, Fail(fmt.Errorf("the head moved to %s meanwhile", e.Release),
			"look again: sluice rollout status %s", w.Channel)
	case c.Policy == nil:
		return Edit{}, Fail(fmt.Errorf("the policy of %s has faults", w.Channel), "sluice validate")
	case w.Wave < 2 || w.Wave > len(c.Policy.Rollout.Waves):
		return Edit{}, Fail(fmt.Errorf("there is no wave %d to open: %s has %d", w.Wave, w.Channel,
			len(c.Policy.Rollout.Waves)), "sluice rollout status %s", w.Channel)
	}
	if slices.ContainsFunc(c.Skips, func(s channels.Skip) bool {
		return s.Sequence == e.Sequence && s.Wave >= w.Wave
	}) {
		return Edit{}, nil
	}
	data, err := yaml.Marshal(channels.Skip{Wave: w.Wave, Reason: w.Reason, By: by.Name})
	file := path.Join(channels.Dir, w.Channel, "skips", strconv.FormatInt(e.Sequence, 10)+".yaml")
	next := "its cells get it once everything else allows it; sluice rollout status " + w.Channel
	return Edit{Files: singleFile(file, data), Next: next}, err
}
