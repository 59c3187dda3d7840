package announce

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
)

// scenarioStep is a step of a scenario, and what holds after it.
type scenarioStep struct {
	do      func(w *world)
	record  repository.Outcome // of news in dedicated
	state   State
	on      string // what x is in d1
	staging string // what x is in s1; empty: not asked
}

const newsFile = "announcements/news.yaml"

func writeNews(more ...string) func(*world) {
	return func(w *world) { w.putFiles(newsFile, newsYAML(more...)) }
}
func writeApproved(more ...string) func(*world) {
	return func(w *world) { w.putFiles(newsFile, newsYAML(more...)).approve("news", "ada") }
}
func passTo(offset time.Duration) func(*world) {
	return func(w *world) { w.advanceTo(noon().Add(offset)) }
}
func holdNews(w *world) {
	w.putFiles("overrides/wait.yaml",
		"apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: the docs are not ready\n")
}
func liftHold(w *world) { w.putFiles("overrides/wait.yaml", "") }
func inOrder(acts ...func(*world)) func(*world) {
	return func(w *world) {
		for _, a := range acts {
			a(w)
		}
	}
}

func TestRecords(t *testing.T) {
	const zero = 0 * time.Second
	later := "publishAt: 2026-12-02T12:00:00"
	for name, acts := range map[string][]scenarioStep{
		"a draft is off but in staging (R42)": {
			{do: writeNews(), record: "", state: Draft, on: "off", staging: "on"},
			{do: passTo(zero), record: repository.Missed, state: Missed, on: "off", staging: "on"},
		},
		"armed, and published at its time": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(-time.Second), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
		},
		"held over its time: it needs a new one (R43)": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: holdNews, record: repository.Disarmed, state: Held, on: "off", staging: "off"},
			{do: passTo(zero), record: repository.Missed, state: Missed, on: "off"},
			{do: liftHold, record: repository.Missed, state: Missed, on: "off", staging: "on"},
			{do: writeApproved(later), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(24 * time.Hour), record: repository.Published, state: Published, on: "on"},
		},
		"held over its time: or now (R43)": {
			{do: inOrder(writeApproved(), holdNews), record: repository.Disarmed, state: Held, on: "off"},
			{do: inOrder(passTo(time.Hour), liftHold), record: repository.Missed, state: Missed, on: "off"},
			{do: writeNews("now: true"), record: repository.Missed, state: Draft, on: "off"},
			{do: writeApproved("now: true"), record: repository.Published, state: Published, on: "on"},
		},
		"held and let go before its time": {
			{do: inOrder(writeApproved(), holdNews), record: repository.Disarmed, state: Held, on: "off"},
			{do: liftHold, record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
		},
		"let go a second before its time": {
			{do: inOrder(writeApproved(), holdNews), record: repository.Disarmed, state: Held, on: "off"},
			{do: inOrder(passTo(-time.Second), liftHold), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
		},
		"let go a second after its time, unseen until then (R43)": {
			{do: inOrder(writeApproved(), holdNews), record: repository.Disarmed, state: Held, on: "off"},
			{do: inOrder(passTo(time.Second), liftHold), record: repository.Missed, state: Missed, on: "off"},
		},
		"a hold after publication is nothing (R43)": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
			{do: holdNews, record: repository.Published, state: Published, on: "on"},
		},
		"an edit before its time needs approval again (R42)": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: writeNews("notes: more"), record: repository.Disarmed, state: Draft, on: "off"},
			{do: writeApproved("notes: more"), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
		},
		"half edited at its time: missed": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: writeNews("notes: more"), record: repository.Disarmed, state: Draft, on: "off"},
			{do: inOrder(passTo(zero), writeApproved()), record: repository.Missed, state: Missed, on: "off"},
		},
		"an edit after publication waits for approval": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
			{
				do: writeNews("cells: {names: [d2]}"), record: repository.Published, state: Published, on: "on",
				staging: "off",
			},
			{do: writeApproved("cells: {names: [d2]}"), record: repository.Published, state: Published, on: "off"},
		},
		"a later time after publication takes nothing back": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
			{
				do: writeApproved(later, "cells: {names: [d2]}"), record: repository.Published, state: Published,
				on: "on",
			},
			{do: passTo(24 * time.Hour), record: repository.Published, state: Published, on: "off"},
		},
		"an approval that is taken back disarms": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{
				do: func(w *world) { w.putFiles("approvals/news/ada.yaml", "") }, record: repository.Disarmed,
				state: Draft, on: "off",
			},
		},
		"cancelled before": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: writeNews("cancelled: no"), record: repository.Disarmed, state: Cancelled, on: "off"},
			{do: passTo(zero), record: repository.Disarmed, state: Cancelled, on: "off", staging: "off"},
			{do: writeNews(), record: repository.Missed, state: Missed, on: "off"},
		},
		"cancelled after: taken back without approval, and given again": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
			{do: writeNews("cancelled: no"), record: repository.Published, state: Retracted, on: "off", staging: "off"},
			{do: writeNews(), record: repository.Published, state: Published, on: "on"},
		},
		"no time": {
			{do: writeApproved(""), record: "", state: Approved, on: "off", staging: "on"},
			{do: passTo(zero), record: "", state: Approved, on: "off"},
			{
				do: writeApproved("publishAt: 2026-11-01T12:00:00", "now: true"), record: repository.Published,
				state: Published, on: "on",
			},
		},
		"never, and an approved change of mind": {
			{do: writeApproved("channels: {dedicated: never}"), record: "", on: "off", staging: "on"},
			{
				do: writeApproved("channels: {dedicated: ready}"), record: repository.Published, state: Published,
				on: "on",
			},
			{do: writeApproved("channels: {dedicated: never}"), record: repository.Disarmed, on: "off", staging: "on"},
		},
		"staging at a time of its own": {
			{
				do: writeNews("channels: {staging: 2026-12-01T13:00:00}"), record: "", state: Draft, on: "off",
				staging: "off",
			},
			{do: passTo(time.Hour), record: repository.Missed, state: Missed, on: "off", staging: "on"},
		},
		"its file goes": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: func(w *world) { w.putFiles(newsFile, "") }, record: repository.Disarmed, on: "off", staging: "off"},
		},
		"its file goes after publication: nothing goes dark": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
			{
				do: func(w *world) { w.putFiles(newsFile, "") }, record: repository.Published, state: Published,
				on: "on", staging: "off",
			},
		},
		"a clock that steps back takes nothing back": {
			{do: writeApproved(), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(time.Minute), record: repository.Published, state: Published, on: "on"},
			{
				do: inOrder(passTo(-time.Hour), func(w *world) {}), record: repository.Published, state: Publishing,
				on: "off",
			},
			{do: passTo(zero), record: repository.Published, state: Published, on: "on"},
		},
		"a clock that leaps": {
			{do: writeApproved(later), record: repository.Armed, state: Armed, on: "off"},
			{do: passTo(100 * time.Hour), record: repository.Published, state: Published, on: "on"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i, a := range acts {
				a.do(w)
				p := w.planUntilSettled()
				if got := w.record("news", "dedicated"); got != a.record {
					t.Fatalf("step %d: the record is %q, not %q", i, got, a.record)
				}
				if len(p.Announcements) > 0 {
					if got := p.channelStatus(t, "news", "dedicated"); got.State != a.state {
						t.Errorf("step %d: it is %q in dedicated (%s), not %q", i, got.State, got.Summary, a.state)
					}
				}
				if got := w.variant(p, "d1", "x"); got != a.on {
					t.Errorf("step %d: x is %s in d1, not %s", i, got, a.on)
				}
				if got := w.variant(p, "s1", "x"); a.staging != "" && got != a.staging {
					t.Errorf("step %d: x is %s in s1, not %s", i, got, a.staging)
				}
			}
		})
	}
}

// R10: while time can't be trusted no time comes and nothing is armed; turning off still works.
func TestDoubt(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	in := w.advanceTo(noon().Add(48 * time.Hour)).input()
	in.Doubt = "two days are missing"
	if got := writeReasons(Make(in)); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
	in.Kills = []repository.Override{{Flag: "x", Reason: "it burns"}}
	if got := writeReasons(Make(in)); !slices.Equal(got, []string{"kill x: it burns"}) {
		t.Errorf("written: %q", got)
	}
	w.advanceTo(noon().Add(-time.Hour)).putFiles("overrides/hold.yaml",
		"apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: wait\n")
	in = w.input()
	in.Doubt = "two days are missing"
	if got := Make(in).Writes; len(got) != 1 || !strings.HasPrefix(got[0].Why, "disarm news in dedicated") {
		t.Errorf("written: %+v", got)
	}
	w.planUntilSettled()
	in = w.putFiles("overrides/hold.yaml", "").input()
	in.Doubt = "two days are missing"
	if got := writeReasons(Make(in)); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
}
