package announcer_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

func manifestJSON(data []byte, v any) error { return json.Unmarshal(data, v) }

func announcement(at time.Time) string {
	return "apiVersion: sluice/v1\nkind: Announcement\ntitle: Workspace classes\nfeatures: [classes]\npublishAt: " +
		at.UTC().Format("2006-01-02T15:04:05") + "\n"
}

func gated(b *flags.Bundle, id string) bool {
	return b != nil && slices.ContainsFunc(b.Gates, func(g flags.Gate) bool { return g.ID == id })
}

func killed(t *testing.T, v *view.View, cell, flag string) bool {
	all, _ := orders(t, v, cell)
	return slices.Contains(all, flag)
}

// An announcement is armed by a commit once approved, is sent ahead, and is recorded as published after its time: once
// each.
func TestArmedAndPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	at := time.Now().Add(soon).Truncate(time.Second)
	w.commit("announce", map[string]string{"announcements/classes.yaml": announcement(at)})
	v := p.waitForView("the entry channel follows the tip",
		func(v *view.View) bool { return v.Flags != nil && gated(bundle(t, v, "s1"), "classes") })
	if gated(bundle(t, v, "d1"), "classes") {
		t.Error("dedicated is sent what nobody approved")
	}
	w.approve("classes")
	v = p.waitForView("it is armed in dedicated",
		func(v *view.View) bool { return gated(bundle(t, v, "d1"), "classes") })
	if r := v.Flags.Tip.Records["classes"]["dedicated"]; r.Outcome != repository.Armed || !r.At.Equal(at) {
		t.Errorf("recorded as %+v", r)
	}
	v = p.waitForView("it is published", func(v *view.View) bool {
		return v.Flags.Tip.Records["classes"]["dedicated"].Outcome == repository.Published
	})
	if got := v.Flags.Seen; !slices.Contains(got.Published["dedicated"], "classes") || got.Commit != v.Flags.Commit {
		t.Errorf("gates see %+v", got)
	}
	if time.Now().Before(at) {
		t.Error("published before its time")
	}
	var own []string
	for _, line := range w.history() {
		if strings.HasPrefix(line, "Sluice: ") && strings.Contains(line, "classes") {
			own = append(own, line)
		}
	}
	if len(own) != 2 {
		t.Errorf("%d commits about it: %q", len(own), w.history())
	}
	p.wantPosted("published")
	w.onlyOwnPaths()
}

// An announced feature that no cell has leads to no suspension, even of cells that got nothing yet and report nothing
// of it; once nothing happens any more, no plan leads to another.
func TestNewAnnouncement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	p.waitForView("cells are told", func(v *view.View) bool { return bundle(t, v, "d1") != nil })
	p.reports()
	w.commit("announce", map[string]string{
		"flags/more.yaml": "flags: {more: {state: ENABLED, variants: {lit: true, dark: " +
			"false}, defaultVariant: lit, metadata: {feature: more, off: dark}}}\n",
		"announcements/more.yaml": strings.Replace(announcement(time.Now().Add(time.Hour)), "[classes]", "[more]", 1),
	})
	p.waitForView("it is told in staging", func(v *view.View) bool { return gated(bundle(t, v, "s1"), "more") })
	p.waitUntilQuiet()
	all, err := p.store.Messages(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Event.Type == "suspended" {
			t.Errorf("told: %+v", m.Event)
		}
	}
}

// waitUntilQuiet waits until no view follows another.
func (p *process) waitUntilQuiet() {
	p.w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		select {
		case <-p.engine.Changed():
			if time.Now().After(deadline) {
				p.w.t.Fatal("it never comes to rest")
			}
		case <-time.After(700 * time.Millisecond):
			return
		}
	}
}

// R10: while most cells report another day, time stands still and nothing is armed, but a kill is sent and committed.
// Once the cells agree, everything continues.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start("store.db")
	p.reports()
	at := time.Now().Add(soon).Truncate(time.Second)
	w.commit("announce", map[string]string{"announcements/classes.yaml": announcement(at)})
	w.approve("classes")
	p.waitForView("it is armed", func(v *view.View) bool { return gated(bundle(t, v, "d1"), "classes") })
	p.clockOffset = 48 * time.Hour
	p.reports()
	p.waitForView("it is said that clocks differ",
		func(v *view.View) bool { return strings.Contains(v.Flags.Fault, "check its time service") })
	if p.reports(); !p.receiptTime.IsZero() {
		t.Errorf("cells are told that it is %s", p.receiptTime)
	}
	w.commit("announce another", map[string]string{
		"flags/more.yaml": "flags: {more: {state: ENABLED, variants: {lit: true, dark: " +
			"false}, defaultVariant: lit, metadata: {feature: more, off: dark}}}\n",
		"announcements/more.yaml": strings.Replace(announcement(at.Add(time.Hour)), "[classes]", "[more]", 1),
	})
	w.approve("more")
	time.Sleep(time.Until(at.Add(time.Second)))
	p.kill("plain")
	v := p.waitForView("the kill is committed", func(v *view.View) bool {
		return inFile(v, "plain") && !stored(v, "plain") && len(v.Flags.Tip.Approvals) == 2
	})
	if r := v.Flags.Tip.Records; r["classes"]["dedicated"].Outcome != repository.Armed || len(r["more"]) != 0 {
		t.Errorf("records: %+v", r)
	}
	p.clockOffset = 0
	for range 3 { // after a clock went back, the first does not count
		p.reports()
	}
	if p.receiptTime.IsZero() {
		p.waitForView("clocks agree", func(v *view.View) bool { p.reports(); return !p.receiptTime.IsZero() })
	}
	p.waitForView("all goes on", func(v *view.View) bool {
		r := v.Flags.Tip.Records
		return r["classes"]["dedicated"].Outcome == repository.Published && r["classes"]["dedicated"].At.Equal(at) &&
			r["more"]["dedicated"].Outcome == repository.Armed && v.Flags.Fault == ""
	})
}

// wantPosted waits until a message of a type is in the outbox, and wants just one.
func (p *process) wantPosted(kind string) {
	p.w.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		all, err := p.store.Messages(p.w.t.Context(), 100)
		if err != nil {
			p.w.t.Fatal(err)
		}
		n := 0
		for _, m := range all {
			if m.Event.Type == kind && m.Webhook == "chat" {
				n++
			}
		}
		if n == 1 {
			return
		}
		if n > 1 || time.Now().After(deadline) {
			p.w.t.Fatalf("%d messages that something was %s: %+v", n, kind, all)
		}
	}
}

// onlyOwnPaths fails if the engine wrote outside of its own folders, or did not name what it decided on.
func (w *world) onlyOwnPaths() {
	w.t.Helper()
	tip, err := w.ada.Fetch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := w.ada.Changes(w.t.Context(), "", tip)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range all {
		if c.Author.Name != "Sluice" {
			continue
		}
		if !strings.Contains(c.Message, "\nDecided-On: "+c.Parent+"\n") {
			w.t.Errorf("%s does not say what it was decided on: %s", c.Commit, c.Message)
		}
		for _, f := range c.Files {
			if dir, _, _ := strings.Cut(f.Path, "/"); !slices.Contains([]string{"records", "heads", "overrides"}, dir) {
				w.t.Errorf("the engine wrote %s", f.Path)
			}
		}
	}
}
