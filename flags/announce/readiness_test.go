package announce

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
)

// R41: block publishes at the time or later, to all cells, once enough cells are ready.
func TestBlock(t *testing.T) {
	w := newWorld(t)
	w.downgrade("d1")
	w.putFiles(newsFile,
		newsYAML("whenNotReady: block 100%",
			"ramp: {steps: [{percent: 50}, {percent: 100, after: 1h}]}")).approve("news", "ada")
	p := w.planUntilSettled()
	if w.record("news", "dedicated") != repository.Armed || len(p.CellFlags["d2"].Bundle.Gates) != 0 {
		t.Fatalf("it is %q, and sent: %v", w.record("news", "dedicated"), p.CellFlags["d2"].Bundle.Gates)
	}
	p = w.advanceTo(noon().Add(time.Minute)).planUntilSettled()
	if got := p.channelStatus(t, "news", "dedicated"); got.State != Scheduled ||
		got.Summary != "waits for cells: 2 of 3 cells ready, and 100 % are required" {
		t.Errorf("%s: %s", got.State, got.Summary)
	}
	w.upgrade("d1")
	p = w.advanceTo(noon().Add(time.Hour)).planUntilSettled()
	rec := w.tip().Records["news"]["dedicated"]
	if rec.Outcome != repository.Published || !rec.At.Equal(w.now) {
		t.Fatalf("%+v", rec)
	}
	// R44: steps count from when it was published
	if got := p.channelStatus(t, "news", "dedicated"); got.Percent != 50 || got.State != Publishing {
		t.Errorf("%d %%, %s", got.Percent, got.State)
	}
}

// R41: skip leaves out cells that were not ready, even once they are.
func TestSkip(t *testing.T) {
	w := newWorld(t)
	w.downgrade("d1")
	w.findCell("d3").Silent = true // the cell may have the release
	w.putFiles(newsFile, newsYAML("whenNotReady: skip 30%")).approve("news", "ada")
	w.planUntilSettled()
	p := w.advanceTo(noon()).planUntilSettled()
	if rec := w.tip().Records["news"]["dedicated"]; rec.Outcome != repository.Published ||
		strings.Join(rec.Cells, " ") != "d2" {
		t.Fatalf("%+v", rec)
	}
	w.upgrade("d1")
	w.findCell("d3").Silent = false
	p = w.planUntilSettled()
	for name, want := range map[string]string{"d1": "off", "d2": "on", "d3": "off"} {
		if got := w.variant(p, name, "x"); got != want {
			t.Errorf("x is %s in %s", got, name)
		}
	}
	in := p.channelStatus(t, "news", "dedicated")
	if in.findCell("d1").State != flags.LeftOut || in.State != Published {
		t.Errorf("%+v", in)
	}
	// A new time counts the cells that are ready then.
	w.putFiles(newsFile, newsYAML("whenNotReady: skip 30%", "publishAt: 2026-12-02T12:00:00")).approve("news", "ada")
	p = w.planUntilSettled()
	if got := w.variant(p, "d2", "x"); got != "on" {
		t.Errorf("x is %s in d2 before the new time", got)
	}
	p = w.advanceTo(noon().Add(24 * time.Hour)).planUntilSettled()
	if got := w.variant(p, "d1", "x"); got != "on" {
		t.Errorf("x is %s in d1 after a new time", got)
	}
}

func TestSkipWithTooFew(t *testing.T) {
	w := newWorld(t)
	w.downgrade("d1")
	w.downgrade("d2")
	w.putFiles(newsFile, newsYAML("whenNotReady: skip 50%")).approve("news", "ada")
	w.planUntilSettled()
	p := w.advanceTo(noon()).planUntilSettled()
	if got := p.channelStatus(t, "news", "dedicated"); got.State != Missed ||
		got.Summary != "missed: too few cells: 1 of 3 cells ready, and 50 % are required" {
		t.Errorf("%s: %s", got.State, got.Summary)
	}
}

// R43: a hold of some cells leaves them out, even if it ends while the engine is down.
func TestHoldOfSomeCells(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.putFiles("overrides/d1.yaml",
		"apiVersion: sluice/v1\nkind: Hold\nannouncement: news\ncells: {names: [d1]}\nreason: asked for\n")
	p := w.planUntilSettled()
	if got := p.channelStatus(t, "news", "dedicated"); got.State != Armed || got.findCell("d1").State != flags.Held ||
		got.findCell("d1").Why != "held: asked for" {
		t.Fatalf("%+v", got)
	}
	if len(p.CellFlags["d1"].Orders.Held) != 1 || len(p.CellFlags["d2"].Orders.Held) != 0 {
		t.Errorf("orders: %v, %v", p.CellFlags["d1"].Orders, p.CellFlags["d2"].Orders)
	}
	w.advanceTo(noon().Add(time.Minute)).putFiles("overrides/d1.yaml", "")
	p = w.planUntilSettled()
	if rec := w.tip().Records["news"]["dedicated"]; rec.Outcome != repository.Published ||
		strings.Join(rec.Without, " ") != "d1" {
		t.Fatalf("%+v", rec)
	}
	if x, y := w.variant(p, "d1", "x"), w.variant(p, "d2", "x"); x != "off" || y != "on" {
		t.Errorf("x is %s in d1, %s in d2", x, y)
	}
	w.putFiles(newsFile, newsYAML("now: true")).approve("news", "ada")
	if got := w.variant(w.planUntilSettled(), "d1", "x"); got != "on" {
		t.Errorf("x is %s in d1 after now", got)
	}
}

// A new channel has what is published elsewhere, so that a cell that moves there keeps its features.
func TestNewChannel(t *testing.T) {
	w := newWorld(t)
	w.putFiles(newsFile, newsYAML()).approve("news", "ada").planUntilSettled()
	w.advanceTo(noon()).planUntilSettled()
	w.channels = append(w.channels, Channel{Name: "europe", After: []string{"dedicated"}})
	w.cells = append(w.cells, w.cell("e1", "europe"))
	p := w.planUntilSettled()
	if got := w.variant(p, "e1", "x"); got != "on" {
		t.Errorf("x is %s in e1", got)
	}
	// An edit that was never published is not published by a new channel.
	w.channels = append(w.channels, Channel{Name: "asia", After: []string{"dedicated"}})
	w.putFiles(newsFile, newsYAML("notes: edited"))
	w.planUntilSettled()
	if got := w.record("news", "asia"); got != "" {
		t.Errorf("the record in asia is %q while the edit waits for approval", got)
	}
	w.approve("news", "ada").planUntilSettled()
	if got := w.record("news", "asia"); got != repository.Published {
		t.Errorf("the record in asia is %q after it", got)
	}
}
