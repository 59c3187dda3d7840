package announce

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// Issue 13, part 11: an announcement whose features are on already says so, and by which other one.
func TestFeaturesThatAreOnAlready(t *testing.T) {
	archived := func(w *world, more ...string) {
		w.putFiles(newsFile, newsYAML(more...)).approve("news", "ada").planUntilSettled()
		w.advanceTo(noon()).planUntilSettled()
		w.putFiles(newsFile, newsYAML(append(more, "archived: true")...)).planUntilSettled()
	}
	for name, c := range map[string]struct {
		before        func(w *world)
		want, wantNot string
	}{
		"archived, for all": {func(w *world) { archived(w) },
			"3 of 3 cells have it already, by news, whatever happens on 2026-12-03 at 12:00", "will light up"},
		"archived, for one": {func(w *world) { archived(w, "cells: {names: [d2]}") },
			"3 of 3 cells will light up on 2026-12-03 at 12:00 Europe/Berlin, though 1 of them has it already, by news", ""},
		"archived before its time": {func(w *world) {
			w.putFiles(newsFile, newsYAML("archived: true")).planUntilSettled()
		}, "3 of 3 cells will light up on 2026-12-03", "already"},
		"cancelled": {func(w *world) {
			archived(w)
			w.putFiles(newsFile, newsYAML("cancelled: no")).planUntilSettled()
		}, "3 of 3 cells will light up on 2026-12-03", "already"},
		"nothing": {func(*world) {}, "3 of 3 cells will light up on 2026-12-03", "already"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.before(w)
			w.putFiles("announcements/more.yaml", newsYAML("publishAt: 2026-12-03T12:00:00")).approve("more", "ada")
			p := w.planUntilSettled()
			got := ""
			for _, st := range p.Announcements {
				if st.Announcement.ID == "more" {
					got = st.Summary
				}
			}
			if !strings.Contains(got, c.want) || c.wantNot != "" && strings.Contains(got, c.wantNot) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Issue 13, part 11: of an announcement that was not sent no cell is armed.
func TestNothingIsArmedThatWasNotSent(t *testing.T) {
	w := newWorld(t)
	count := func() map[flags.CellState]int {
		p := w.planUntilSettled()
		return p.channelStatus(t, "news", "dedicated").Counts
	}
	w.putFiles(newsFile, newsYAML())
	if got := count(); got[flags.Armed] != 0 || got[flags.Ready] != 3 {
		t.Errorf("a draft: %v", got)
	}
	w.approve("news", "ada")
	if got := count(); got[flags.Armed] != 3 || got[flags.Ready] != 0 {
		t.Errorf("armed: %v", got)
	}
	w.putFiles("overrides/h.yaml", "apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: wait\n")
	if got := count(); got[flags.Armed] != 0 || got[flags.Ready] != 0 {
		t.Errorf("held: %v", got)
	}
	w.putFiles("overrides/h.yaml", "", newsFile, newsYAML(""))
	w.approve("news", "ada")
	if got := count(); got[flags.Armed] != 0 || got[flags.Ready] != 3 {
		t.Errorf("without a time: %v", got)
	}
	w.advanceTo(noon().Add(time.Hour))
}
