package announce

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// history is a random sequence of events around an announcement, and what the test knows about it.
type history struct {
	*world
	t        *rapid.T
	approved map[string]bool // hashes that were approved at some time
	begun    time.Time
	extra    int
}

func newHistory(t *rapid.T) *history {
	w := newWorld(t)
	w.channels = threeChannels()
	w.cells = append(w.cells, w.cell("l1", "late"))
	h := &history{world: w, t: t, approved: map[string]bool{}, begun: w.now}
	h.editNews()
	return h
}

func threeChannels() []Channel {
	return []Channel{
		{Name: "staging"}, {Name: "dedicated", After: []string{"staging"}},
		{Name: "late", After: []string{"dedicated"}},
	}
}

func pick[T any](h *history, name string, from ...T) T {
	return rapid.SampledFrom(from).Draw(h.t, name)
}

func (h *history) editNews() {
	at := h.now.Add(time.Duration(rapid.IntRange(-6, 30).Draw(h.t, "hours")) * time.Hour).Round(time.Hour)
	lines := []string{"publishAt: " + at.UTC().Format("2006-01-02T15:04:05"), "zone: UTC"}
	for _, choices := range [][]string{
		{"", "", "now: true"}, {"", "", "", "cancelled: no"},
		{"", "", "cells: {names: [d1, l1]}", "cells: {labels: {name: d2}}"},
		{"", "", "whenNotReady: block 60%", "whenNotReady: skip 40%"},
		{"", "", "channels: {late: ready}", "channels: {dedicated: never}"},
		{
			"", "", "ramp: {steps: [{percent: 0}, {percent: 100, after: 3h}]}",
			"ramp: {by: cell, steps: [{percent: 30}, {percent: 100, after: 2h}]}",
		},
	} {
		if line := pick(h, "line", choices...); line != "" {
			lines = append(lines, line)
		}
	}
	h.putFiles(newsFile, newsYAML(lines...))
}

func (h *history) randomEvent() {
	const held = "apiVersion: sluice/v1\nkind: Hold\nannouncement: news\nreason: wait\n"
	const killed = "apiVersion: sluice/v1\nkind: Kill\nflag: x\nreason: hurts\n"
	cell := pick(h, "cell", "d1", "d2", "d3", "l1", "s1")
	switch pick(h, "what", "time", "time", "time", "approve", "approve", "edit", "hold", "hold some", "lift", "kill",
		"kill some", "stored", "revive",
		"define", "join", "back", "ahead", "silent", "heard", "clock", "gone", "forget", "move", "channels") {
	case "time":
		h.now = h.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(h.t, "minutes")) * time.Minute)
	case "approve":
		if h.tip().Announcements["news"] != nil {
			h.approve("news", pick(h, "who", "ada", "bob"))
		}
	case "edit":
		h.editNews()
	case "gone":
		if pick(h, "really", true, false, false) {
			h.putFiles(newsFile, "")
			if pick(h, "again", true, true, false) {
				h.editNews()
			}
		}
	case "hold":
		h.putFiles("overrides/hold.yaml", held)
	case "hold some":
		h.putFiles("overrides/some.yaml", held+"cells: {names: [d2]}\n")
	case "lift":
		h.putFiles("overrides/hold.yaml", "", "overrides/some.yaml", "")
	case "kill":
		h.putFiles("overrides/kill.yaml", killed)
	case "kill some":
		h.putFiles("overrides/kill-d1.yaml", killed+"cells: {names: [d1]}\n")
	case "stored":
		h.kills = []repository.Override{{Flag: "y", Reason: "stored", By: "eve"}}
	case "revive":
		h.kills = nil
		h.putFiles("overrides/kill.yaml", "", "overrides/kill-d1.yaml", "", "overrides/kill-y.yaml", "")
	case "define":
		h.putFiles("flags/all.yaml", flagSetYAML(pick(h, "rule", "", goldRule), pick(h, "plain", "a", "b")))
	case "join":
		h.extra++
		h.putFiles("flags/more.yaml",
			fmt.Sprintf(
				"flags:\n  late%d:\n    state: ENABLED\n    variants: {\"on\": true, \"off\": false}\n    defaultVariant: \"on\"\n    metadata: {feature: f, off: \"off\"}\n", h.extra))
	case "back":
		h.downgrade(cell)
	case "ahead":
		h.upgrade(cell)
	case "silent", "heard":
		h.findCell(cell).Silent = pick(h, "silent", true, false)
	case "forget": // by hand
		h.putFiles(pick(h, "file", "records/news/dedicated.yaml", "records/news/late.yaml", "heads/dedicated.yaml",
			"heads/late.yaml"), "")
	case "move":
		h.findCell(cell).Channel = pick(h, "to", "dedicated", "late", "staging")
	case "channels":
		h.channels = pick(h, "channels", threeChannels(), threeChannels()[:2],
			[]Channel{
				{Name: "staging"}, {Name: "late", After: []string{"staging"}},
				{Name: "dedicated", After: []string{"late"}},
			},
			[]Channel{
				{Name: "dev"}, {Name: "staging", After: []string{"dev"}},
				{Name: "dedicated", After: []string{"staging"}}, {Name: "late", After: []string{"dedicated"}},
			})
	case "clock":
		h.now = h.now.Add(-time.Duration(rapid.IntRange(1, 200).Draw(h.t, "back")) * time.Minute)
	}
	t := h.tip()
	if a := t.Announcements["news"]; a != nil {
		hash, _ := t.Hash(a)
		if slices.ContainsFunc(t.Approvals, func(p repository.Approval) bool { return p.Hash == hash }) {
			h.approved[hash] = true
		}
	}
}

// checkPlan checks invariant 9 independently, for every cell and every gated flag that the cell is sent.
func (h *history) checkPlan(p Plan) {
	h.tb.Helper()
	t := h.plannedTip
	for _, c := range h.cells {
		if p.CellFlags[c.Name].Bundle == nil {
			continue // its channel is gone
		}
		f := h.foldFlags(p, c.Name)
		for key, raw := range p.CellFlags[c.Name].Bundle.Flags {
			if key == "plain" || f.Evaluate(key, flags.Context{"targetingKey": "k"}, h.now.Unix()).Variant != "on" {
				continue
			}
			if key == "z" {
				h.tb.Fatalf("z is on in %s, and nobody announced it (R37)", c.Name)
			}
			if !slices.Contains(c.Features, "f") {
				h.tb.Fatalf("%s is on in %s, whose release does not contain it", key, c.Name)
			}
			for _, k := range slices.Concat(t.Overrides, h.kills) {
				if k.Flag == key && k.Cells.Selects(c.Name, c.Channel, c.Labels) {
					h.tb.Fatalf("%s is on in %s, and killed", key, c.Name)
				}
			}
			if a := t.Announcements["news"]; a != nil && a.Cancelled != "" {
				h.tb.Fatalf("%s is on in %s, and its announcement is cancelled", key, c.Name)
			}
			if c.Channel != h.channels[0].Name {
				h.checkDecided(c, key, raw)
			}
		}
	}
}

func (h *history) checkDecided(c Cell, key string, raw []byte) {
	h.tb.Helper()
	t := h.plannedTip
	rec, ok := t.Records["news"][c.Channel]
	if !ok || rec.Outcome != repository.Armed && rec.Outcome != repository.Published || rec.At.After(h.now) {
		h.tb.Fatalf("%s is on in %s at %s by the record %+v", key, c.Name, h.now, rec)
	}
	if !h.approved[rec.Hash] {
		h.tb.Fatalf("%s is on in %s by what nobody approved: %+v", key, c.Name, rec)
	}
	then := h.trees[rec.Commit]
	if a := then.Announcements["news"]; !a.Cells.Selects(c.Name, c.Channel, c.Labels) {
		h.tb.Fatalf("%s is on in %s, which %+v does not select", key, c.Name, a.Cells)
	}
	if d := then.Flags[key]; d == nil || !bytes.Equal(d.Encode(), raw) {
		h.tb.Fatalf("%s is on in %s by a definition that was not approved: %s", key, c.Name, raw)
	}
	for _, o := range t.Overrides {
		if o.Kind == repository.Hold && rec.Outcome == repository.Armed &&
			o.Cells.Selects(c.Name, c.Channel, c.Labels) {
			h.tb.Fatalf("%s is on in %s, and held before it was published", key, c.Name)
		}
	}
}

func planText(tb rapid.TB, p Plan) string {
	tb.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

// Invariant 9 holds over random histories, with and without a running engine.
func TestFlagsNeverOutrunCode(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		for range rapid.IntRange(1, 25).Draw(rt, "events") {
			h.randomEvent()
			if pick(h, "engine", true, true, true, false) {
				h.checkPlan(h.planOnce())
			}
		}
		h.checkPlan(h.planUntilSettled())
	})
}

// One round of writes is complete, and writes that never landed change nothing.
func TestIdempotent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		for range rapid.IntRange(1, 20).Draw(rt, "events") {
			h.randomEvent()
			lost, again := Make(h.input()), Make(h.input())
			if planText(rt, lost) != planText(rt, again) {
				rt.Fatal("two plans of the same input differ")
			}
			first := h.planOnce()
			if more := writeReasons(Make(h.input())); len(more) > 0 {
				rt.Fatalf("after %q there is still %q", writeReasons(first), more)
			}
		}
	})
}

// Until Next, nothing changes with time alone.
func TestNext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		for range rapid.IntRange(1, 15).Draw(rt, "events") {
			h.randomEvent()
			h.planUntilSettled()
			h.planUntilSettled()
		}
		p := h.planUntilSettled()
		until := 400 * time.Hour
		if !p.Next.IsZero() {
			if !p.Next.After(h.now) {
				rt.Fatalf("the next instant, %s, is not after %s", p.Next, h.now)
			}
			until = p.Next.Sub(h.now)
		}
		for _, after := range []time.Duration{time.Second, until / 2, until - time.Second} {
			if after = after.Truncate(time.Second); after <= 0 || after >= until {
				continue
			}
			in := h.input()
			in.Now = h.now.Add(after)
			if q := Make(in); planText(rt, q) != planText(rt, p) {
				rt.Fatalf("after %s, before %s, the plan is another:\n%s\n%s", after, until, planText(rt, p),
					planText(rt, q))
			}
		}
	})
}

// The order of cells, approvals, kills and overrides does not matter.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		for range rapid.IntRange(1, 15).Draw(rt, "events") {
			h.randomEvent()
			h.planOnce()
		}
		h.randomEvent()
		in := h.input()
		want := planText(rt, Make(in))
		tip := *in.Tip
		tip.Overrides = rapid.Permutation(tip.Overrides).Draw(rt, "overrides")
		in.Tip = &tip
		in.Trees = map[string]*repository.Tree{}
		for commit, tree := range h.trees {
			in.Trees[commit] = tree
		}
		in.Trees[in.Commit] = in.Tip
		in.Cells = rapid.Permutation(in.Cells).Draw(rt, "cells")
		in.Proven = rapid.Permutation(in.Proven).Draw(rt, "proven")
		in.Kills = rapid.Permutation(in.Kills).Draw(rt, "kills")
		if got := planText(rt, Make(in)); got != want {
			rt.Fatalf("another order, another plan:\n%s\n%s", want, got)
		}
	})
}

// A reach selects what its selector selects.
func TestReach(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		some := func(name string, from ...string) []string {
			return rapid.SliceOfN(rapid.SampledFrom(from), 0, 2).Draw(rt, name)
		}
		s := repository.Selector{Names: some("names", "a", "b"), Channels: some("channels", "x", "y")}
		for _, l := range some("labels", "1", "2") {
			s.Labels = map[string]string{"l": l}
		}
		c := &channel{Channel: Channel{Name: "x"}}
		cell := &cell{Cell: &Cell{
			Name: rapid.SampledFrom([]string{"a", "c"}).Draw(rt, "cell"), Channel: "x",
			Labels: map[string]string{"l": "1"},
		}}
		r := newReach(s, c)
		want := s.Selects(cell.Name, cell.Channel, cell.Labels)
		if got := r.selects(cell); got != want || r.isWholeChannel() && !want {
			rt.Fatalf("%+v selects %s: %t, all: %t", s, cell.Name, got, r.isWholeChannel())
		}
	})
}
