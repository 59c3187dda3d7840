package controlplane_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// flagSite is a securedSite with a flags repository. As in production, announce.Make decides what cells are told, and
// the store has the kills.
type flagSite struct {
	*securedSite
	mu         sync.Mutex // guards what follows
	files      map[string]string
	valid      *repository.Tree // the newest valid tree; nil: nothing was read
	changes    []func(*view.View)
	killDelay  time.Duration // until a view has a kill; negative: for ever
	background sync.WaitGroup
}

const flagSettings = `apiVersion: sluice/v1
kind: Flags
zone: Europe/Berlin
approvals: {count: 0}
link: https://acme.example/news
webhooks:
  - {name: chat, url: "https://chat.example/secret"}
`

const flagSet = `flags:
  classes: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on", metadata: {feature: classes, off: "off"}}
  rooms: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "on", metadata: {feature: rooms, off: "off"}}
  theme: {state: ENABLED, variants: {light: 1, dark: 2}, defaultVariant: light}
`

const announcementOfClasses = `apiVersion: sluice/v1
kind: Announcement
title: Classes
notes: Now with classes.
publishAt: 2026-12-01T10:00:00
features: [classes]
`

func newFlagSite(t *testing.T) *flagSite {
	t.Helper()
	l := &flagSite{files: map[string]string{"sluice.yaml": flagSettings, "flags/all.yaml": flagSet,
		"announcements/classes.yaml": announcementOfClasses}}
	l.securedSite = newSecuredSiteWith(t, true, func(o *controlplane.Options) {
		o.Flags = l
		o.Outbox = o.Journal.(engine.Outbox)
	})
	t.Cleanup(l.background.Wait)
	l.writeFile(t, "", "")
	return l
}

// writeFile writes or removes a file of the flags repository and sets the resulting view.
func (l *flagSite) writeFile(t *testing.T, name, text string) {
	t.Helper()
	l.mu.Lock()
	if text == "" {
		delete(l.files, name)
	} else {
		l.files[name] = text
	}
	l.mu.Unlock()
	l.refresh(t.Context())
}

// Kill stores a kill, then sets the resulting view, as the engine does.
func (l *flagSite) Kill(ctx context.Context, o repository.Override) error {
	if err := l.store.Kill(ctx, plan.Kill{ID: rand.Text(), At: noon, Override: o}); err != nil {
		return err
	}
	if l.killDelay >= 0 {
		l.background.Go(func() {
			time.Sleep(l.killDelay)
			l.refresh(context.WithoutCancel(ctx))
		})
	}
	return nil
}

// refresh sets the view that results from the repository, the store's kills and the fleet.
func (l *flagSite) refresh(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fsys := fstest.MapFS{}
	for name, text := range l.files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	newest := repository.Load(nil, fsys)
	if !newest.Invalid {
		l.valid = newest
	}
	kept, err := l.store.Kills(ctx)
	if err != nil {
		panic(err)
	}
	v := viewOf("1.0.1")
	v.Desired.Pipeline.StaleAfter = 5 * time.Minute
	f := &view.Flags{Commit: "f1", Height: 4, Faults: newest.Faults, ByCell: map[string]*cells.Flags{},
		Bundles: map[releases.Digest][]byte{}}
	for _, k := range kept {
		f.Kills = append(f.Kills, k.Override)
	}
	if newest.Invalid {
		f.Fault = "the tip is not valid"
	}
	tip := *l.valid
	tip.Overrides = newest.Overrides
	f.Tip = &tip
	f.Plan = announce.Make(announce.Input{
		Now: noon, Tip: f.Tip, Commit: "f1", Trees: map[string]*repository.Tree{"f1": f.Tip}, Kills: f.Kills,
		Channels: []announce.Channel{{Name: "staging"}, {Name: "dedicated", After: []string{"staging"}}},
		Cells: []announce.Cell{
			{Name: "acme", Channel: "staging", Known: true, Release: "1.0.1", Assignment: "0/3",
				Features: []string{"classes"}},
			{Name: "bolt", Channel: "staging", Known: true, Release: "1.0.0", Assignment: "0/2",
				HeadWait: announce.HeadWait{Text: "soak"}},
			{Name: "crow", Channel: "dedicated"},
		},
		Releases: []announce.Release{{Version: "1.0.0"}, {Version: "1.0.1", Features: []string{"classes"}}},
	})
	for name, told := range f.Plan.CellFlags {
		f.ByCell[name] = encodeTold(f, told)
	}
	v.Flags = f
	for _, change := range l.changes {
		change(v)
	}
	l.setView(v)
}

// encodeTold returns what a cell is told, as in cells.Desired.
func encodeTold(f *view.Flags, told *announce.CellFlags) *cells.Flags {
	orders, err := json.Marshal(told.Orders)
	if err != nil {
		panic(err)
	}
	out := &cells.Flags{Height: f.Height,
		Orders: cells.Sealed{Payload: orders, Digest: releases.DigestBytes(orders), Metadata: []any{}}}
	if told.Bundle != nil {
		b := told.Bundle.Encode()
		out.Bundle = cells.FlagBundle{Digest: releases.DigestBytes(b), Size: int64(len(b)), Metadata: []any{}}
		f.Bundles[out.Bundle.Digest] = b
	}
	return out
}

// confirmFlags makes cells report that what they are told is in force.
func (l *flagSite) confirmFlags(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, func(v *view.View) {
		for _, name := range names {
			told := v.Flags.ByCell[name]
			v.Observed.Cells[name].Flags = &cells.FlagsReport{Height: told.Height, Bundle: told.Bundle.Digest,
				Orders: told.Orders.Digest}
		}
	})
}

// requestAs sends a request with a role's token and parses the response.
func requestAs[T any](t *testing.T, l *flagSite, role, method, path, body string, status int) (v T) {
	t.Helper()
	w, said := l.request(t, l.client(t, "people", nil), "people", method, path, body, "Authorization",
		"Bearer "+l.tokens[role])
	if w.StatusCode != status {
		t.Fatalf("%s %s: %s %s", method, path, w.Status, said)
	}
	if err := json.Unmarshal([]byte(said), &v); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, said)
	}
	return v
}

// Fault 61, R43: a kill applies at once whatever else is broken, reaches waiting polls, and may be repeated.
func TestKill(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.writeFile(t, "flags/all.yaml", "flags: {classes: [")
	l.writeFile(t, "overrides/other.yaml", "kind: 7")
	l.writeFile(t, "announcements/classes.yaml", "title: {}")
	l.killDelay = 100 * time.Millisecond
	cell := l.client(t, "cells", l.signers["acme"])
	w, _ := l.request(t, cell, "cells", "GET", "/v1/desired", "")
	woken := make(chan string, 1)
	go func() {
		_, body := l.request(t, cell, "cells", "GET", "/v1/desired?wait=30s", "", "If-None-Match", w.Header.Get("ETag"))
		woken <- body
	}()
	const kill = `{"reason": "  it is\n broken ", "until": "2026-12-24T00:00:00.5Z"}`
	got := requestAs[peopleapi.Killed](t, l, "operator", "POST", "/v1/flags/classes/kill", kill, 200)
	if got.Flag != "classes" || got.Reason != "it is broken" || got.By != "operator" || got.Told != 3 ||
		got.Connected != 2 || got.Cells != 3 || got.Committed || got.Warning != "" ||
		!slices.Equal(got.Offline, []string{"crow"}) || got.Unconfirmed != 2 || got.Confirmed != 0 {
		t.Errorf("%+v", got)
	}
	var told cells.Desired
	if err := json.Unmarshal([]byte(<-woken), &told); err != nil || told.Flags == nil ||
		!strings.Contains(string(told.Flags.Orders.Payload), `"flag":"classes"`) {
		t.Errorf("the cell received %+v (%v)", told.Flags, err)
	}
	again := requestAs[peopleapi.Killed](t, l, "operator", "POST", "/v1/flags/classes/kill", kill, 200)
	if again.Told != got.Told || again.Reason != got.Reason || !again.Until.Equal(got.Until) {
		t.Errorf("again: %+v, before %+v", again, got)
	}
	if kept, err := l.store.Kills(t.Context()); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v (%v)", kept, err)
	}
	audit := requestAs[struct{ Entries []access.Entry }](t, l, "admin", "GET", "/v1/audit", "", 200)
	if len(audit.Entries) != 2 || audit.Entries[0].Who != "operator" ||
		audit.Entries[0].What != "kill the flag classes: it is broken" {
		t.Errorf("audit: %+v", audit)
	}
	// The key need not exist: the repository may be broken.
	if got := requestAs[peopleapi.Killed](t, l, "operator", "POST", "/v1/flags/no%20such/kill", `{"reason": "r"}`,
		200); got.Flag != "no such" || !strings.Contains(got.Warning, "no such flag") {
		t.Errorf("%+v", got)
	}
}

// A kill works before the flags repository was read. If cells can't be notified in time, the response says so.
func TestKillBeforeFlagsAreRead(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.killDelay = -1
	l.setView(viewOf("1.0.1"))
	w, body := l.request(t, l.client(t, "loopback", nil), "loopback", "GET", "/v1/flags", "")
	wantProblem(t, w, body, 503, "has not been read yet")
	got := requestAs[peopleapi.Killed](t, l, "operator", "POST", "/v1/flags/classes/kill", `{"reason": "r"}`, 202)
	if got.Flag != "classes" || got.Told != 0 || !strings.Contains(got.Warning, "The kill is stored") {
		t.Errorf("%+v", got)
	}
	blind := viewOf("1.0.1")
	blind.Desired.Pipeline.StaleAfter = time.Minute
	blind.Flags = &view.Flags{Fault: "it can't be reached", ByCell: map[string]*cells.Flags{},
		Kills: []repository.Override{{Kind: repository.Kill, Flag: "rooms", Reason: "r", By: "operator"}}}
	blind.Flags.ByCell["acme"] = encodeTold(blind.Flags,
		&announce.CellFlags{Orders: flags.Orders{Killed: []flags.KilledFlag{{Flag: "rooms"}}}})
	time.AfterFunc(100*time.Millisecond, func() { l.setView(blind) })
	got = requestAs[peopleapi.Killed](t, l, "operator", "POST", "/v1/flags/rooms/kill", `{"reason": "r"}`, 200)
	if got.Told != 1 || got.Connected != 1 || !strings.Contains(got.Warning, "may not exist") {
		t.Errorf("%+v", got)
	}
}

func TestInvalidKills(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	people := l.client(t, "people", nil)
	for _, c := range []struct {
		key, body string
		status    int
	}{
		{"a%2Fb", `{"reason": "r"}`, 422}, {"a..b", `{"reason": "r"}`, 422},
		{url.PathEscape(strings.Repeat("k", 5000)), `{"reason": "r"}`, 422}, {"%1b%5b2J", `{"reason": "r"}`, 422},
		{"classes", `{}`, 422}, {"classes", `{"reason": ""}`, 422}, {"classes", `{"reason": " \n"}`, 422},
		{"classes", `{"reason": "` + strings.Repeat("r", 600) + `"}`, 422},
		{"classes", `{"reason": "r", "until": "soon"}`, 422}, {"classes", `{"reason": "r", "cells": "all"}`, 422},
		{"classes", `nothing`, 400},
	} {
		w, said := l.request(t, people, "people", "POST", "/v1/flags/"+c.key+"/kill", c.body, "Authorization",
			"Bearer "+l.tokens["operator"])
		if w.StatusCode != c.status || w.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.40s %.60s: %s %s", c.key, c.body, w.Status, said)
		}
	}
	if kept, err := l.store.Kills(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("kept: %v (%v)", kept, err)
	}
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	w, said := l.request(t, l.client(t, "socket", nil), "socket", "POST", "/v1/flags/classes/kill", `{"reason": "r"}`)
	wantProblem(t, w, said, 500, "log")
}

// Without a flags repository there are no flags, and every route names the next step.
func TestNoFlags(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	socket := h.client(t, "socket", nil)
	for _, r := range []string{"GET /v1/flags", "GET /v1/flags/classes", "POST /v1/flags/classes/kill",
		"GET /v1/announcements", "GET /v1/announcements/classes", "GET /v1/webhooks"} {
		method, path, _ := strings.Cut(r, " ")
		body := ""
		if method == http.MethodPost {
			body = `{"reason": "r"}`
		}
		w, said := h.request(t, socket, "socket", method, path, body)
		wantProblem(t, w, said, 404, "--flags-repo")
	}
	if _, body := h.request(t, socket, "socket", "GET", "/metrics", ""); strings.Contains(body, "sluice_flags") {
		t.Error("metrics of flags")
	}
}

// People see the state of a flag in every cell, and whether the cell confirmed it.
func TestFlags(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.confirmFlags("acme")
	l.writeFile(t, "overrides/theme.yaml",
		"apiVersion: sluice/v1\nkind: Kill\nflag: theme\nreason: ugly\ncells: {channels: [staging]}\n")
	all := requestAs[peopleapi.Flags](t, l, "viewer", "GET", "/v1/flags", "", 200)
	if all.Height != 4 || all.Commit != "f1" || all.Fault != "" || all.Total != 3 || len(all.Flags) != 3 ||
		len(all.Kills) != 1 {
		t.Fatalf("%+v", all)
	}
	if k := all.Kills[0]; k.Flag != "theme" || !k.Committed || k.Cells != 2 || k.Confirmed != 1 ||
		k.Unconfirmed != 1 || len(k.Offline) != 0 {
		t.Errorf("%+v", k)
	}
	states := map[string]map[string]view.FlagState{
		"classes": {"acme": "on", "bolt": "waiting", "crow": "waiting"},
		"rooms":   {"acme": "off", "bolt": "off", "crow": "off"},
		"theme":   {"acme": "killed", "bolt": "killed", "crow": "on"},
	}
	for i, key := range slices.Sorted(maps.Keys(states)) {
		f := all.Flags[i]
		if f.Key != key || !f.Defined || f.Killed != (key == "theme") || len(f.Channels) != 2 {
			t.Errorf("%+v", f)
		}
		d := requestAs[peopleapi.FlagDetail](t, l, "viewer", "GET", "/v1/flags/"+key, "", 200)
		if d.Key != key || !strings.Contains(string(d.Definition), `"variants"`) || d.Total != 3 {
			t.Errorf("%+v", d)
		}
		for n, c := range d.Cells {
			if c.Cell != []string{"acme", "bolt", "crow"}[n] || c.State != states[key][c.Cell] ||
				c.Offline != (c.Cell == "crow") {
				t.Errorf("%s: %+v, want %s", key, c, states[key][c.Cell])
			}
			if key != "classes" && c.Confirmed != (c.Cell == "acme") {
				t.Errorf("%s: %+v", key, c)
			}
		}
		for _, c := range f.Channels { // the totals agree with the cells
			counted := map[view.FlagState]int{}
			for _, cell := range d.Cells {
				if cell.Channel == c.Channel {
					counted[cell.State]++
				}
			}
			if !maps.Equal(counted, c.Cells) {
				t.Errorf("%s in %s: %v, and its cells %v", key, c.Channel, c.Cells, counted)
			}
		}
	}
	if f := all.Flags[0]; f.Feature != "classes" || !slices.Equal(f.Announcements, []string{"classes"}) ||
		f.Channels[0].State == "" || f.Channels[1].At.IsZero() {
		t.Errorf("%+v", f)
	}
	first := requestAs[peopleapi.Flags](t, l, "viewer", "GET", "/v1/flags?limit=2", "", 200)
	rest := requestAs[peopleapi.Flags](t, l, "viewer", "GET", "/v1/flags?limit=2&after="+first.Next, "", 200)
	if len(first.Flags) != 2 || len(rest.Flags) != 1 || rest.Next != "" {
		t.Errorf("%+v\n%+v", first, rest)
	}
	if d := requestAs[peopleapi.FlagDetail](t, l, "viewer", "GET", "/v1/flags/classes?channel=staging&limit=1", "",
		200); d.Total != 2 || len(d.Cells) != 1 || d.Next != "acme" {
		t.Errorf("%+v", d)
	}
	requestAs[map[string]any](t, l, "viewer", "GET", "/v1/flags/nothing", "", 404)
	l.writeFile(t, "flags/all.yaml", "flags: [")
	if all := requestAs[peopleapi.Flags](t, l, "viewer", "GET", "/v1/flags", "", 200); all.Fault == "" ||
		len(all.Faults) == 0 || all.Total != 3 {
		t.Errorf("with a fault: %+v", all)
	}
}

// For the race detector: many requests read one plan.
func TestFlagsInParallel(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.writeFile(t, "overrides/theme.yaml", "apiVersion: sluice/v1\nkind: Kill\nflag: theme\nreason: ugly\n")
	var wg sync.WaitGroup
	for _, path := range []string{"/v1/flags", "/v1/flags/classes", "/v1/flags/theme", "/v1/announcements",
		"/v1/announcements/classes", "/metrics", "/announcements", "/announcements.atom"} {
		for range 4 {
			wg.Go(func() {
				if w, body := l.request(t, l.client(t, "loopback", nil), "loopback", "GET", path,
					""); w.StatusCode != 200 {
					t.Errorf("%s: %s %s", path, w.Status, body)
				}
			})
		}
	}
	wg.Wait()
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.writeFile(t, "announcements/rooms.yaml",
		strings.NewReplacer("Classes", "Rooms", "classes", "rooms").Replace(announcementOfClasses))
	all := requestAs[peopleapi.Announcements](t, l, "viewer", "GET", "/v1/announcements", "", 200)
	if all.Total != 2 || len(all.Announcements) != 2 || all.Announcements[0].Announcement.ID != "classes" ||
		all.Announcements[0].Summary == "" || all.Announcements[0].Channels[0].Cells != nil {
		t.Fatalf("%+v", all)
	}
	state := all.Announcements[0].State
	if some := requestAs[peopleapi.Announcements](t, l, "viewer", "GET", "/v1/announcements?state="+string(state), "",
		200); some.Total == 0 || some.Announcements[0].State != state {
		t.Errorf("%+v", some)
	}
	if none := requestAs[peopleapi.Announcements](t, l, "viewer", "GET", "/v1/announcements?state=nothing", "",
		200); none.Total != 0 || none.Announcements == nil {
		t.Errorf("%+v", none)
	}
	first := requestAs[peopleapi.Announcements](t, l, "viewer", "GET", "/v1/announcements?limit=1", "", 200)
	if rest := requestAs[peopleapi.Announcements](t, l, "viewer", "GET", "/v1/announcements?after="+first.Next, "",
		200); len(rest.Announcements) != 1 || rest.Announcements[0].Announcement.ID != "rooms" {
		t.Errorf("%+v", rest)
	}
	one := requestAs[announce.Status](t, l, "viewer", "GET", "/v1/announcements/classes", "", 200)
	if one.Announcement.Title != "Classes" || len(one.Channels) != 2 || len(one.Channels[0].Cells) != 2 ||
		one.Channels[0].Cells[0].Cell != "acme" {
		t.Errorf("%+v", one)
	}
	requestAs[map[string]any](t, l, "viewer", "GET", "/v1/announcements/nothing", "", 404)
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	m := plan.Message{Event: announce.Event{ID: "e1", Type: "killed"}, Webhook: "chat", Posted: noon, Next: noon}
	if _, err := l.store.PostMessages(t.Context(), []plan.Message{m}); err != nil {
		t.Fatal(err)
	}
	if err := l.store.Postpone(t.Context(), m, noon.Add(time.Minute), "answered 500"); err != nil {
		t.Fatal(err)
	}
	got := requestAs[struct{ Webhooks []outbox.State }](t, l, "viewer", "GET", "/v1/webhooks", "", 200)
	if len(got.Webhooks) != 1 || got.Webhooks[0].Name != "chat" || got.Webhooks[0].Host != "chat.example" ||
		got.Webhooks[0].Waiting != 1 || got.Webhooks[0].LastError != "answered 500" {
		t.Errorf("%+v", got)
	}
}

func TestFlagMetrics(t *testing.T) {
	t.Parallel()
	l := newFlagSite(t)
	l.confirmFlags("acme")
	l.writeFile(t, "overrides/theme.yaml", "apiVersion: sluice/v1\nkind: Kill\nflag: theme\nreason: ugly\n")
	want := []string{
		"sluice_flags_height 4", "sluice_flags_fault 0", "sluice_flags_diverged 0", "sluice_flags_repository_faults 0",
		"sluice_flags_kills 1", "sluice_flags_kills_uncommitted 0",
		`sluice_flags_cells{bundle="current",channel="staging"} 1`,
		`sluice_flags_cells{bundle="none",channel="staging"} 1`,
		`sluice_flags_kills_unconfirmed_cells{cell="connected",channel="staging"} 1`,
		`sluice_flags_kills_unconfirmed_cells{cell="offline",channel="dedicated"} 1`,
		`sluice_flags_kills_unconfirmed_cells{cell="offline",channel="staging"} 0`,
	}
	states := map[announce.State]int{}
	for _, a := range l.View().Flags.Plan.Announcements {
		states[a.State]++
	}
	for state, n := range states {
		want = append(want, fmt.Sprintf(`sluice_announcements{state=%q} %d`, state, n))
	}
	_, body := l.request(t, l.client(t, "loopback", nil), "loopback", "GET", "/metrics", "")
	for _, line := range want {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("the metrics don't say %s", line)
		}
	}
	if strings.Contains(body, "theme") || strings.Contains(body, "classes") {
		t.Error("a flag or an announcement makes a series")
	}
	l.writeFile(t, "flags/all.yaml", "flags: [")
	if _, body := l.request(t, l.client(t, "loopback", nil), "loopback", "GET", "/metrics",
		""); !strings.Contains(body, "\nsluice_flags_fault 1\n") {
		t.Error("the fault is not in the metrics")
	}
}
