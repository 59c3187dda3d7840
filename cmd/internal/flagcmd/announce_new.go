package flagcmd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

// announceOptions are the flags of announce new.
type announceOptions struct {
	title, notes string
	at, zone     string
	features     []string
	channels     []string // CHANNEL=WHEN
	cells        []string
	ramp, rampBy string
	notReady     string
	embargo      bool
}

func announceNewVerb(a *cli.App) *cobra.Command {
	var n announceOptions
	cmd := &cobra.Command{
		Use:   "new ID --title TITLE --feature FEATURE",
		Short: "Write an announcement: title, time, cells, and which features turn on",
		Long: `Commits announcements/ID.yaml. --at is a wall-clock time in --zone; without it the announcement is
not scheduled. Entry channels (staging) have its features as soon as their cells have the release,
unless --in says otherwise.

  --cells           acme,globex names cells; channel=dedicated a channel; any other NAME=VALUE a
                    label. A cell must match all of them.
  --ramp            PERCENT@AFTER,… counted from publication: 5@0s,25@24h,100@72h. The last is 100.
  --when-not-ready  what happens to cells without the release at that time: wait (each turns on when
                    it has the release), skip:PERCENT (they are left out, if at least that share is
                    ready) or block:PERCENT (no cell turns on before that share is ready)`,
		Example: `  sluice announce new workspace-classes --title "Workspace classes" --feature workspace-classes --at "2026-12-01 10:00" --zone Europe/Berlin
  sluice announce new ssh --title "SSH gateway" --feature ssh-gateway --notes-file ssh.md --ramp 5@0s,100@24h --cells channel=dedicated
  sluice announce new v2 --title "Version 2" --feature v2 --at 2026-12-01T10:00 --in staging=never --embargo --when-not-ready block:90`,
		Args: cli.ArgumentCount(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return createAnnouncement(a, cmd, args[0], n) },
	}
	f := cmd.Flags()
	f.StringVar(&n.title, "title", "", "title, for users")
	f.StringVar(&n.notes, "notes-file", "", "Markdown `FILE` with the notes for users; - is standard input")
	f.StringSliceVar(&n.features, "feature", nil,
		"`FEATURE` of release.yaml that turns on with the announcement; may be repeated")
	f.StringVar(&n.at, "at", "", "publication `TIME`, such as \"2026-12-01 10:00\"")
	f.StringVar(&n.zone, "zone", "", "IANA `ZONE` of --at (default: the repository's)")
	f.StringSliceVar(&n.channels, "in", nil, "`CHANNEL=WHEN` for one channel: ready, never or a time; may be repeated")
	f.StringSliceVar(&n.cells, "cells", nil, "`SELECTOR` of cells (default: all)")
	f.StringVar(&n.ramp, "ramp", "", "`STEPS` of a growing share (default: everyone at once)")
	f.StringVar(&n.rampBy, "ramp-by", "", "what the share counts: user or cell (default user)")
	f.StringVar(&n.notReady, "when-not-ready", "", "wait, skip:PERCENT or block:PERCENT (default wait)")
	f.BoolVar(&n.embargo, "embargo", false, "keep keys and time from being shown before publication")
	return cmd
}

func createAnnouncement(a *cli.App, cmd *cobra.Command, id string, n announceOptions) error {
	d, err := announcementFromOptions(a, cmd, id, n)
	if err != nil {
		return err
	}
	if err := checkPlaces(a, cmd, n.namedChannels(), n.namedCells()); err != nil {
		return fmt.Errorf("announce %s: %w", id, err)
	}
	return repos.CommitDecision(a, cmd, repos.FlagsRepository(), d)
}

// namedChannels returns the channels that --in and --cells name.
func (n *announceOptions) namedChannels() (names []string) {
	for _, text := range n.channels {
		name, _, _ := strings.Cut(text, "=")
		names = append(names, name)
	}
	for _, text := range n.cells {
		if name, ok := strings.CutPrefix(text, "channel="); ok {
			names = append(names, name)
		}
	}
	return names
}

// namedCells returns the cells that --cells names.
func (n *announceOptions) namedCells() (names []string) {
	for _, text := range n.cells {
		if !strings.Contains(text, "=") {
			names = append(names, text)
		}
	}
	return names
}

func announcementFromOptions(a *cli.App, cmd *cobra.Command, id string,
	n announceOptions) (d edits.Announce, err error) {
	switch {
	case !edits.ValidName(id):
		return d, cli.UsageError(cmd,
			"ID %q is not a portable file name: use up to 100 letters, digits, dots, dashes and underscores", id)
	case n.title == "":
		return d, cli.UsageError(cmd, "--title is missing")
	case len(n.features) == 0:
		return d, cli.UsageError(cmd, "--feature is missing")
	}
	d = edits.Announce{ID: id, Title: n.title, At: n.at, Zone: n.zone, Features: n.features,
		Cells: parseSelector(n.cells), Embargo: n.embargo}
	if d.Channels, err = parseAssignments(n.channels); err != nil {
		return d, cli.UsageError(cmd, "--in: %w", err)
	}
	if n.ramp != "" {
		if d.Ramp, err = parseRamp(n.ramp, n.rampBy); err != nil {
			return d, cli.UsageError(cmd, "--ramp %q: %w", n.ramp, err)
		}
	}
	if n.notReady != "" {
		mode, share, ok := strings.Cut(n.notReady, ":")
		if ok {
			mode += " " + strings.TrimSuffix(share, "%") + "%"
		}
		if err := d.WhenNotReady.UnmarshalText([]byte(mode)); err != nil {
			return d, cli.UsageError(cmd, "--when-not-ready %q is none of wait, skip:PERCENT, block:PERCENT",
				n.notReady)
		}
	}
	if n.notes != "" {
		text, err := a.ReadFile(n.notes, maxRuleBytes)
		if err != nil || len(text) > maxRuleBytes {
			return d, cli.Fail(errors.Join(fmt.Errorf("read --notes-file %s", n.notes), err),
				"it names a Markdown file of at most %d bytes", maxRuleBytes)
		}
		d.Notes = string(text)
	}
	return d, nil
}

func parseAssignments(list []string) (all edit.Fields, err error) {
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", text)
		}
		all = append(all, edit.Field{Key: name, Value: value})
	}
	return all, nil
}

// parseSelector parses acme, channel=dedicated, region=eu.
func parseSelector(list []string) (all edit.Fields) {
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

// parseRamp parses 5@0s,25@24h,100@72h.
func parseRamp(text, by string) (all edit.Fields, err error) {
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
