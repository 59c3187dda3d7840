package announce

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags/repository"
)

// act is something that happens in a scenario, and what holds right after.
type act struct {
	do      func(w *world)
	record  repository.Outcome // of news in dedicated
	state   State
	on      string // what x is in d1
	staging string // what x is in s1; empty: not asked
}

const file = "announcements/news.yaml"

func write(more ...string) func(*world) {
	return func(w *world) { w.put(file, told(more...)) }
}
func approved(more ...string) func(*world) {
	return func(w *world) { w.put(file, told(more...)).approve("news", "ada") }
}
func at(offset time.Duration) func(*world) { return func(w *world) { w.pass(noon().Add(offset)) } }
func hold(w *world) {
	w.put("overrides/wait.yaml", "apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: the docs are not ready\n")
}
func lift(w *world) { w.put("overrides/wait.yaml", "") }
func both(acts ...func(*world)) func(*world) {
	return func(w *world) {
		for _, a := range acts {
			a(w)
		}
	}
}

func TestRecords(t *testing.T) {
	const zero = 0 * time.Second
	later := "publishAt: 2026-12-02T12:00:00"
	for name, acts := range map[string][]act{
		"a draft is off but in staging (R42)": {
			{do: write(), record: "", state: Draft, on: "off", staging: "on"},
			{do: at(zero), record: repository.Missed, state: Missed, on: "off", staging: "on"},
		},
		"armed, and published at its time": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(-time.Second), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
		},
		"held over its time: it needs a new one (R43)": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: hold, record: repository.Disarmed, state: Held, on: "off", staging: "off"},
			{do: at(zero), record: repository.Missed, state: Missed, on: "off"},
			{do: lift, record: repository.Missed, state: Missed, on: "off", staging: "on"},
			{do: approved(later), record: repository.Armed, state: Armed, on: "off"},
			{do: at(24 * time.Hour), record: repository.Published, state: Published, on: "on"},
		},
		"held over its time: or now (R43)": {
			{do: both(approved(), hold), record: repository.Disarmed, state: Held, on: "off"},
			{do: both(at(time.Hour), lift), record: repository.Missed, state: Missed, on: "off"},
			{do: write("now: true"), record: repository.Missed, state: Draft, on: "off"},
			{do: approved("now: true"), record: repository.Published, state: Published, on: "on"},
		},
		"held and let go before its time": {
			{do: both(approved(), hold), record: repository.Disarmed, state: Held, on: "off"},
			{do: lift, record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
		},
		"let go a second before its time": {
			{do: both(approved(), hold), record: repository.Disarmed, state: Held, on: "off"},
			{do: both(at(-time.Second), lift), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
		},
		"let go a second after its time, unseen until then (R43)": {
			{do: both(approved(), hold), record: repository.Disarmed, state: Held, on: "off"},
			{do: both(at(time.Second), lift), record: repository.Missed, state: Missed, on: "off"},
		},
		"a hold after publication is nothing (R43)": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
			{do: hold, record: repository.Published, state: Published, on: "on", staging: "off"},
		},
		"an edit before its time needs approval again (R42)": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: write("notes: more"), record: repository.Disarmed, state: Draft, on: "off"},
			{do: approved("notes: more"), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
		},
		"half edited at its time: missed": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: write("notes: more"), record: repository.Disarmed, state: Draft, on: "off"},
			{do: both(at(zero), approved()), record: repository.Missed, state: Missed, on: "off"},
		},
		"an edit after publication waits for approval": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
			{do: write("cells: {names: [d2]}"), record: repository.Published, state: Published, on: "on", staging: "off"},
			{do: approved("cells: {names: [d2]}"), record: repository.Published, state: Published, on: "off"},
		},
		"a later time after publication takes nothing back": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
			{do: approved(later, "cells: {names: [d2]}"), record: repository.Published, state: Published, on: "on"},
			{do: at(24 * time.Hour), record: repository.Published, state: Published, on: "off"},
		},
		"an approval that is taken back disarms": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: func(w *world) { w.put("approvals/news/ada.yaml", "") }, record: repository.Disarmed, state: Draft, on: "off"},
		},
		"cancelled before": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: write("cancelled: no"), record: repository.Disarmed, state: Cancelled, on: "off"},
			{do: at(zero), record: repository.Disarmed, state: Cancelled, on: "off", staging: "off"},
			{do: write(), record: repository.Missed, state: Missed, on: "off"},
		},
		"cancelled after: taken back without approval, and given again": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
			{do: write("cancelled: no"), record: repository.Published, state: Retracted, on: "off", staging: "off"},
			{do: write(), record: repository.Published, state: Published, on: "on"},
		},
		"no time": {
			{do: approved(""), record: "", state: Approved, on: "off", staging: "on"},
			{do: at(zero), record: "", state: Approved, on: "off"},
			{do: approved("publishAt: 2026-11-01T12:00:00", "now: true"), record: repository.Published, state: Published, on: "on"},
		},
		"never, and an approved change of mind": {
			{do: approved("channels: {dedicated: never}"), record: "", on: "off", staging: "on"},
			{do: approved("channels: {dedicated: ready}"), record: repository.Published, state: Published, on: "on"},
			{do: approved("channels: {dedicated: never}"), record: repository.Disarmed, on: "off", staging: "on"},
		},
		"staging at a time of its own": {
			{do: write("channels: {staging: 2026-12-01T13:00:00}"), record: "", state: Draft, on: "off", staging: "off"},
			{do: at(time.Hour), record: repository.Missed, state: Missed, on: "off", staging: "on"},
		},
		"its file goes": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: func(w *world) { w.put(file, "") }, record: repository.Disarmed, on: "off", staging: "off"},
		},
		"its file goes after publication: nothing goes dark": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
			{do: func(w *world) { w.put(file, "") }, record: repository.Published, state: Published, on: "on", staging: "off"},
		},
		"a clock that steps back takes nothing back": {
			{do: approved(), record: repository.Armed, state: Armed, on: "off"},
			{do: at(time.Minute), record: repository.Published, state: Published, on: "on"},
			{do: both(at(-time.Hour), func(w *world) {}), record: repository.Published, state: Publishing, on: "off"},
			{do: at(zero), record: repository.Published, state: Published, on: "on"},
		},
		"a clock that leaps": {
			{do: approved(later), record: repository.Armed, state: Armed, on: "off"},
			{do: at(100 * time.Hour), record: repository.Published, state: Published, on: "on"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for i, a := range acts {
				a.do(w)
				p := w.settle()
				if got := w.record("news", "dedicated"); got != a.record {
					t.Fatalf("step %d: the record is %q, not %q", i, got, a.record)
				}
				if len(p.Announcements) > 0 {
					if got := p.in(t, "news", "dedicated"); got.State != a.state {
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

// R10: while time can't be trusted no time comes and nothing is armed; what turns off waits for nobody.
func TestDoubt(t *testing.T) {
	w := newWorld(t)
	w.put(file, told()).approve("news", "ada").settle()
	in := w.pass(noon().Add(48 * time.Hour)).input()
	in.Doubt = "two days are missing"
	if got := whys(Make(in)); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
	in.Kills = []repository.Override{{Flag: "x", Reason: "it burns"}}
	if got := whys(Make(in)); !slices.Equal(got, []string{"kill x: it burns"}) {
		t.Errorf("written: %q", got)
	}
	w.pass(noon().Add(-time.Hour)).put("overrides/hold.yaml", "apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: wait\n")
	in = w.input()
	in.Doubt = "two days are missing"
	if got := Make(in).Writes; len(got) != 1 || !strings.HasPrefix(got[0].Why, "disarm news in dedicated") {
		t.Errorf("written: %+v", got)
	}
	w.settle()
	in = w.put("overrides/hold.yaml", "").input()
	in.Doubt = "two days are missing"
	if got := whys(Make(in)); len(got) != 0 {
		t.Errorf("written: %q", got)
	}
}
