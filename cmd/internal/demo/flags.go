package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// The feature of the demo.
const (
	demoFeature = "workspace-classes" // in the releases that run by then
	demoFlag    = "class-picker"
	demoAhead   = 5 * time.Second // at least, from writing the announcement to its time
)

// prepareFlags makes the flags repository.
func (d *demo) prepareFlags(ctx context.Context) error {
	who, err := repos.FindAuthor(ctx, d.app)
	if err != nil {
		return err
	}
	settings := "apiVersion: " + releases.APIVersion + "\nkind: Flags\n" +
		"trustAuthors: true # in earnest approvals are signed\npeople:\n  grace: {email: grace@sluice.example}\n"
	_, err = gitrepo.Init(ctx, d.flags,
		gitrepo.InitOptions{Files: map[string][]byte{repos.SettingsFile: []byte(settings)},
			Message: "begin a flags repository\n", Author: who, When: time.Now().Truncate(time.Second)})
	if err == nil {
		d.screen.printEvent("made a flags repository: %s", d.flags)
	}
	return err
}

// announceFeature turns a feature on with its announcement, then kills its flag.
func (d *demo) announceFeature(ctx context.Context) error {
	d.screen.printEvent("every cell runs %s, which contains %s: it is off until users are told", demoGood, demoFeature)
	began := time.Now()
	if err := d.runVerb(ctx, "", "flag", "set", demoFlag, "--new", "--feature", demoFeature); err != nil {
		return err
	}
	// Two more commands come, and then the engine arms it: on a busy machine each takes as long as the last one did.
	at := time.Now().Add(demoAhead + 5*time.Since(began)).Truncate(time.Second).UTC()
	if err := d.runVerb(ctx, "", "announce", "new", demoFeature, "--title", "Workspace classes", "--feature",
		demoFeature, "--at", at.Format(time.DateTime)); err != nil {
		return err
	}
	if err := d.runVerb(ctx, "grace", "announce", "approve", demoFeature); err != nil {
		return err
	}
	if err := d.awaitFlagState(ctx, "staging", flags.On); err != nil {
		return err
	}
	d.screen.printEvent("staging has it already; the others at %s, each by itself", at.Format(time.TimeOnly))
	if err := d.awaitFlagState(ctx, "dedicated", flags.On); err != nil {
		return err
	}
	if early := time.Until(at); early > 0 {
		return fmt.Errorf("%s was on %s before its time", demoFlag, early)
	}
	d.screen.printColoured(cli.Green, "%s is on in every cell", demoFlag)
	if err := d.runVerb(ctx, "", "flag", "kill", demoFlag, "--reason", "loses text"); err != nil {
		return err
	}
	if err := d.awaitFlagState(ctx, "", flags.Killed); err != nil {
		return err
	}
	d.screen.printColoured(cli.Red, "%s is killed in every cell", demoFlag)
	return nil
}

// awaitFlagState waits until all cells of a channel (empty: of all) confirm the flag's state.
func (d *demo) awaitFlagState(ctx context.Context, channel string, state flags.CellState) error {
	return d.pollUntil(ctx, func() bool {
		detail, err := client.FetchFlagDetail(ctx, d.app, demoFlag)
		return err == nil && len(detail.Cells) > 0 && !slices.ContainsFunc(detail.Cells, func(c view.FlagCell) bool {
			return (channel == "" || c.Channel == channel) && (c.State != view.FlagState(state) || !c.Confirmed)
		})
	})
}

// runVerb runs a verb as a user would; who, if given, is another user.
func (d *demo) runVerb(ctx context.Context, who string, args ...string) error {
	line := "sluice"
	for _, word := range args {
		if strings.Contains(word, " ") {
			word = strconv.Quote(word)
		}
		line += " " + word
	}
	// The reader's own environment must not direct the demo elsewhere.
	env := append(d.app.Env[:len(d.app.Env):len(d.app.Env)], "SLUICE_FLAGS_REPO="+d.flags,
		"SLUICE_DATA=", "XDG_CACHE_HOME="+d.path("user"), "SLUICE_SERVER=")
	if who != "" {
		line += "    as " + who
		env = append(env, "GIT_AUTHOR_NAME="+who, "GIT_AUTHOR_EMAIL="+who+"@sluice.example")
	}
	d.screen.printEvent("$ %s", line)
	output := process.NewTail(4 << 10)
	if err := (process.Child{Args: append([]string{d.self}, args...), Env: env, Stdout: output,
		Stderr: output}).Run(ctx); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, output.LastLine(1<<10))
	}
	return nil
}
