package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
)

func (a *app) announcePublishVerb() *cobra.Command {
	var at, zone, reason string
	var now bool
	cmd := &cobra.Command{
		Use:   "publish ID --now | ID --at TIME",
		Short: "Give an announcement a new time, or publish it now",
		Long: `Commits a new publishAt to announcements/ID.yaml; --now says this moment. That is a new text, which is approved again before it counts.
A time that has passed is not moved without --now, because users may have been told by then.`,
		Example: `  sluice announce publish workspace-classes --at "2026-12-02 10:00"
  sluice announce publish workspace-classes --now --reason "the hold is over"`,
		Args: arguments(1, 1, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if at == "" && !now {
				return usage(cmd, "--now or --at is missing")
			}
			id := args[0]
			c := change{what: "publish the announcement " + id + " now", body: reason}
			if at != "" {
				c.what = fmt.Sprintf("publish the announcement %s at %s", id, at)
			}
			return a.commitFlags(cmd, c, func(s *flagsSnapshot) (map[string][]byte, error) {
				return editAnnouncement(s, id, func(old *flags.Announcement) (edit.Fields, error) {
					return republished(s, id, old, at, zone, now)
				})
			}, func() string {
				return fmt.Sprintf("it is a new text: sluice announce approve %s; sluice announce show %s tells how far it is", id, id)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "when: a `TIME` such as \"2026-12-01 10:00\"")
	f.StringVar(&zone, "zone", "", "IANA `ZONE` of --at (default: the announcement's)")
	f.BoolVar(&now, "now", false, "at once; with --at: although its time has passed")
	f.StringVar(&reason, "reason", "", "why, for the commit")
	return cmd
}

// republished are the fields that give an announcement another time.
func republished(s *flagsSnapshot, id string, old *flags.Announcement, at, zone string, now bool) (edit.Fields, error) {
	switch {
	case old.Cancelled != "":
		return nil, fail(fmt.Errorf("it is cancelled: %s", old.Cancelled), "write another: sluice announce new")
	case old.Archived:
		return nil, fail(fmt.Errorf("it is archived"), "write another: sluice announce new")
	}
	name := zone
	if name == "" {
		name = old.Zone
	}
	in, err := zoneOf(name, s.tree)
	if err != nil {
		return nil, err
	}
	instant := time.Now()
	when := flags.LocalOf(instant.In(in))
	if at != "" {
		if when, err = wallTime(at, in, instant); err != nil {
			return nil, err
		}
		before, err := zoneOf(old.Zone, s.tree)
		if err != nil {
			return nil, err
		}
		if passed := flags.LocalOf(instant.In(before)); !now && !old.PublishAt.IsZero() && !later(old.PublishAt, passed) {
			return nil, fail(fmt.Errorf("its time, %s, has passed", old.PublishAt), "users may have been told: to move it all the same, say --now too")
		}
	}
	fields := edit.Fields{{Key: "publishAt", Value: when.String()}}
	if zone != "" && zone != old.Zone {
		fields = append(fields, edit.Field{Key: "zone", Value: zone})
	}
	if soon := at == ""; soon != old.Now {
		fields = append(fields, edit.Field{Key: "now", Value: soon})
	}
	return fields, nil
}
