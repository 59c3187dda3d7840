package main

import (
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/edit"
	"github.com/sluice-cd/sluice/releases"
)

// overrideFile is where an override is written.
func overrideFile(name string) string { return path.Join(flags.OverridesDir, name+".yaml") }

// overrideText is an override as it is committed.
func overrideText(o flags.Override) ([]byte, error) {
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
	return edit.New(all)
}

// commitKill commits the override by the caller. It is refused for no fault of anything else (R43).
func (a *app) commitKill(cmd *cobra.Command, key, reason string, until time.Time) error {
	return a.commitFlags(cmd, change{what: "kill " + key, body: reason}, func(s *flagsSnapshot) (map[string][]byte, error) {
		if _, err := s.definition(key); err != nil && !s.tree.Invalid {
			return nil, err
		}
		if slices.ContainsFunc(s.tree.Overrides, func(o flags.Override) bool { return o.Kind == flags.Kill && o.Flag == key && o.Cells.IsZero() }) {
			return nil, errUnchanged
		}
		data, err := overrideText(flags.Override{Kind: flags.Kill, Flag: key, Reason: reason, By: s.repo.by.Name, Until: until})
		return map[string][]byte{overrideFile("kill-" + key): data}, err
	}, func() string {
		return fmt.Sprintf("it is off in connected cells as soon as the control plane sees the commit; sluice flag unkill %s --reason WHY lifts it", key)
	})
}

func (a *app) flagUnkillVerb() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "unkill KEY --reason WHY",
		Short: "Lift the kill of a flag: one commit of yours",
		Long: `Removes the kills of the flag from overrides/, in one commit to the flags repository: nothing but a commit lifts a kill. The flag is then
what its rules and announcements say.`,
		Example: `  sluice flag unkill new-editor --reason "fixed in 2026.11.4"`,
		Args:    arguments(1, 1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := args[0]
			if reason == "" {
				return usage(cmd, "--reason is missing")
			}
			return a.commitFlags(cmd, change{what: "lift the kill of " + key, body: reason}, func(s *flagsSnapshot) (map[string][]byte, error) {
				files := s.withoutOverrides(func(o flags.Override) bool { return o.Kind == flags.Kill && o.Flag == key })
				if len(files) == 0 {
					return nil, fail(fmt.Errorf("no kill of %s is in the repository", key), "if it was killed this moment its commit is on its way: try again; sluice flag show %s tells", key)
				}
				return files, nil
			}, func() string { return "it is what its rules and announcements say; sluice flag show " + key })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the commit")
	return cmd
}

// withoutOverrides removes the files of some overrides.
func (s *flagsSnapshot) withoutOverrides(those func(flags.Override) bool) map[string][]byte {
	files := map[string][]byte{}
	for _, o := range s.tree.Overrides {
		if those(o) {
			files[overrideFile(o.Name)] = nil
		}
	}
	return files
}
