package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
	"github.com/sluice-cd/sluice/releases"
)

// announced is what announce new was told.
type announced struct {
	title, notes string
	at, zone     string
	features     []string
	channels     []string // CHANNEL=WHEN
	cells        []string
	ramp, rampBy string
	notReady     string
	embargo      bool
}

func (a *app) announceNewVerb() *cobra.Command {
	var n announced
	cmd := &cobra.Command{
		Use:   "new ID --title TITLE --feature FEATURE",
		Short: "Write an announcement: what is told, when, to whom, and which features turn on",
		Long: `Commits announcements/ID.yaml. --at is a wall time in --zone; without it the announcement is not scheduled. Entry channels (staging) have
its features as soon as their cells have the release, unless --in says otherwise.

  --cells  acme,globex names cells; channel=dedicated a channel; any other NAME=VALUE a label. All that is said must hold.
  --ramp   PERCENT@AFTER,… counted from publication: 5@0s,25@24h,100@72h. The last is 100.
  --when-not-ready  what happens to cells without the release at that time: wait (each turns on when it has it),
           skip:PERCENT (they are left out, if at least so many are ready) or block:PERCENT (nobody gets it before so many are ready).`,
		Example: `  sluice announce new workspace-classes --title "Workspace classes" --feature workspace-classes --at "2026-12-01 10:00" --zone Europe/Berlin
  sluice announce new ssh --title "SSH gateway" --feature ssh-gateway --notes-file ssh.md --ramp 5@0s,100@24h --cells channel=dedicated
  sluice announce new v2 --title "Version 2" --feature v2 --at 2026-12-01T10:00 --in staging=never --embargo --when-not-ready block:90`,
		Args: arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.announceNew(cmd, args[0], n) },
	}
	f := cmd.Flags()
	f.StringVar(&n.title, "title", "", "what it is called, for users")
	f.StringVar(&n.notes, "notes-file", "", "Markdown `FILE` with what is told; - is standard input")
	f.StringSliceVar(&n.features, "feature", nil, "a `FEATURE` of release.yaml that turns on with it; may be repeated")
	f.StringVar(&n.at, "at", "", "when: a `TIME` such as \"2026-12-01 10:00\"")
	f.StringVar(&n.zone, "zone", "", "IANA `ZONE` of --at (default: the repository's)")
	f.StringSliceVar(&n.channels, "in", nil, "`CHANNEL=WHEN`: ready, never or a time, for one channel; may be repeated")
	f.StringSliceVar(&n.cells, "cells", nil, "which cells (default: all)")
	f.StringVar(&n.ramp, "ramp", "", "`STEPS` of a growing share (default: everybody at once)")
	f.StringVar(&n.rampBy, "ramp-by", "", "whose share: user or cell (default user)")
	f.StringVar(&n.notReady, "when-not-ready", "", "wait, skip:PERCENT or block:PERCENT (default wait)")
	f.BoolVar(&n.embargo, "embargo", false, "keys and time are not shown before")
	return cmd
}

func (a *app) announceNew(cmd *cobra.Command, id string, n announced) error {
	fields, err := a.announcementFields(cmd, id, n)
	if err != nil {
		return err
	}
	needs := ""
	return a.commitFlags(cmd, change{what: "announce " + id + ": " + n.title}, func(s *flagsSnapshot) (map[string][]byte, error) {
		if exists(s.files, announcementFile(id)) {
			return nil, fail(fmt.Errorf("there is an announcement %s already", id), "sluice announce show %s", id)
		}
		zone, err := zoneOf(n.zone, s.tree)
		if err != nil {
			return nil, err
		}
		all := fields
		if n.at != "" {
			at, err := wallTime(n.at, zone, time.Now())
			if err != nil {
				return nil, err
			}
			all = slices.Insert(slices.Clone(fields), 3, edit.Field{Key: "publishAt", Value: at.String()})
		}
		if needs = fmt.Sprintf("sluice announce approve %s", id); s.tree.Settings.Approvals.Count == 0 && len(s.tree.Settings.People) == 0 {
			needs = "sluice announce show " + id
		}
		data, err := edit.New(all)
		return map[string][]byte{announcementFile(id): data}, err
	}, func() string { return needs })
}

// announcementFields are the file's, in its order, but for publishAt.
func (a *app) announcementFields(cmd *cobra.Command, id string, n announced) (all edit.Fields, err error) {
	switch {
	case !holdID.MatchString(id):
		return nil, usage(cmd, "ID %q does not do as a file's name everywhere: use up to 100 letters, digits, dots, dashes and underscores", id)
	case n.title == "":
		return nil, usage(cmd, "--title is missing")
	case len(n.features) == 0:
		return nil, usage(cmd, "--feature is missing")
	}
	all = edit.Fields{{Key: "apiVersion", Value: releases.APIVersion}, {Key: "kind", Value: "Announcement"}, {Key: "title", Value: n.title}}
	add := func(key string, value any) { all = append(all, edit.Field{Key: key, Value: value}) }
	if n.zone != "" {
		add("zone", n.zone)
	}
	if len(n.channels) > 0 {
		in, err := assignments(n.channels)
		if err != nil {
			return nil, usage(cmd, "--in: %w", err)
		}
		add("channels", in)
	}
	add("features", n.features)
	if len(n.cells) > 0 {
		add("cells", selectorFields(n.cells))
	}
	if n.ramp != "" {
		ramp, err := rampFields(n.ramp, n.rampBy)
		if err != nil {
			return nil, usage(cmd, "--ramp %q: %w", n.ramp, err)
		}
		add("ramp", ramp)
	}
	if n.embargo {
		add("embargo", true)
	}
	if n.notReady != "" {
		mode, share, ok := strings.Cut(n.notReady, ":")
		if ok {
			mode += " " + strings.TrimSuffix(share, "%") + "%"
		}
		var rule flags.Readiness
		if err := rule.UnmarshalText([]byte(mode)); err != nil {
			return nil, usage(cmd, "--when-not-ready %q is none of wait, skip:PERCENT, block:PERCENT", n.notReady)
		}
		add("whenNotReady", rule.String())
	}
	if n.notes != "" {
		text, err := a.readFile(n.notes, maxRule)
		if err != nil || len(text) > maxRule {
			return nil, fail(errors.Join(fmt.Errorf("read --notes-file %s", n.notes), err), "it names a Markdown file of at most %d bytes", maxRule)
		}
		add("notes", string(text))
	}
	return all, nil
}

func assignments(list []string) (all edit.Fields, err error) {
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", text)
		}
		all = append(all, edit.Field{Key: name, Value: value})
	}
	return all, nil
}

// selectorFields reads acme, channel=dedicated, region=eu.
func selectorFields(list []string) (all edit.Fields) {
	var names, channels []string
	labels := edit.Fields{}
	for _, text := range list {
		switch key, value, ok := strings.Cut(text, "="); {
		case !ok:
			names = append(names, text)
		case key == "channel":
			channels = append(channels, value)
		default:
			labels = append(labels, edit.Field{Key: key, Value: value})
		}
	}
	if len(names) > 0 {
		all = append(all, edit.Field{Key: "names", Value: names})
	}
	if len(channels) > 0 {
		all = append(all, edit.Field{Key: "channels", Value: channels})
	}
	if len(labels) > 0 {
		all = append(all, edit.Field{Key: "labels", Value: labels})
	}
	return all
}

// rampFields reads 5@0s,25@24h,100@72h.
func rampFields(text, by string) (all edit.Fields, err error) {
	if by != "" {
		all = append(all, edit.Field{Key: "by", Value: by})
	}
	var steps []edit.Fields
	for part := range strings.SplitSeq(text, ",") {
		share, after, timed := strings.Cut(strings.TrimSpace(part), "@")
		percent, err := strconv.Atoi(strings.TrimSuffix(share, "%"))
		if err != nil {
			return nil, fmt.Errorf("%q is not PERCENT@AFTER", part)
		}
		step := edit.Fields{{Key: "percent", Value: percent}}
		if timed {
			step = append(step, edit.Field{Key: "after", Value: after})
		}
		steps = append(steps, step)
	}
	return append(all, edit.Field{Key: "steps", Value: steps}), nil
}

// zoneOf is the zone of a name or, without one, the repository's.
func zoneOf(name string, tree *flags.Tree) (*time.Location, error) {
	if name == "" {
		name = tree.Settings.Zone
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fail(fmt.Errorf("there is no zone %q", name), "name an IANA zone such as Europe/Berlin")
	}
	return zone, nil
}

// wallTime reads a time that is still to come, as clocks in zone show it.
func wallTime(text string, zone *time.Location, now time.Time) (flags.Local, error) {
	var at flags.Local
	instant, err := time.Parse(time.RFC3339, text) // with an offset: the same instant in zone
	if err == nil {
		at = flags.LocalOf(instant.In(zone))
	} else if err = at.UnmarshalText([]byte(strings.Replace(text, " ", "T", 1))); err != nil {
		return at, fail(fmt.Errorf("--at %q is no time", text), `write it as "2026-12-01 10:00", as clocks in --zone show it`)
	}
	if now = now.In(zone); !later(at, flags.LocalOf(now)) {
		return at, fail(fmt.Errorf("--at %s has passed: it is %s in %s", at, flags.LocalOf(now), zone), "give a time that is to come; to publish at once: --now of sluice announce publish")
	}
	return at, nil
}

// later compares two times of one zone as they are written.
func later(a, b flags.Local) bool { return a.String() > b.String() }
