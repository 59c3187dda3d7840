package signed_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/flags/signed"
)

var at = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)

const settings = `apiVersion: sluice/v1
kind: Flags
zone: UTC
trustAuthors: true
people: {grace: {email: grace@example.com}}
`

const definitions = `flags:
  editor:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "on"
    metadata: {feature: classes, off: "off"}
  plain:
    state: ENABLED
    variants: {a: "<1>", b: "2"}
    defaultVariant: a
  ruled:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "on"
    targeting: {if: [{"==": [{var: channel}, dedicated]}, "off"]}
`

const announcement = `apiVersion: sluice/v1
kind: Announcement
title: Classes
features: [classes]
publishAt: "2026-12-01T09:00:00"
cells: {labels: {region: eu}}
ramp: {by: cell, steps: [{percent: 5}, {percent: 100, after: 24h}]}
`

func load(t *testing.T, files map[string]string) *repository.Tree {
	t.Helper()
	in := fstest.MapFS{}
	for name, text := range files {
		in[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	tree := repository.Load(nil, in)
	if tree.Invalid {
		t.Fatal(tree.Faults)
	}
	return tree
}

// newParts returns what signers sign of a repository, and a bundle of it that a cell in dedicated may get.
func newParts(t *testing.T) ([]signed.Part, flags.Bundle) {
	t.Helper()
	tree := load(t, map[string]string{"sluice.yaml": settings, "flags/all.yaml": definitions,
		"announcements/classes.yaml": announcement})
	parts, err := signed.Make(tree, map[string]bool{"staging": true, "dedicated": false})
	if err != nil {
		t.Fatal(err)
	}
	b := flags.Bundle{Version: flags.BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{},
		Gates: []flags.Gate{{ID: "classes", Features: []string{"classes"}, At: at.Unix(), By: flags.ByCell,
			Steps: []flags.GateStep{{Percent: 5}, {Percent: 100, After: 24 * 3600}}}}}
	for key, d := range tree.Flags {
		b.Flags[key] = d.Encode()
	}
	return parts, b
}

// asSent returns a bundle as a cell reads it.
func asSent(t *testing.T, b flags.Bundle) *flags.Bundle {
	t.Helper()
	sent, err := flags.ParseBundle(b.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// Whoever sends bundles can leave out, shut and put off what was signed. All else is refused, and the words say what.
func TestOnlySignedPartsPass(t *testing.T) {
	t.Parallel()
	cell := signed.Cell{Name: "acme", Channel: "dedicated", Labels: map[string]string{"region": "eu"}}
	parts, _ := newParts(t)
	for name, c := range map[string]struct {
		change func(b *flags.Bundle)
		words  string // empty: it passes
	}{
		"as signed":        {func(*flags.Bundle) {}, ""},
		"without the gate": {func(b *flags.Bundle) { b.Gates = nil }, ""},
		"without a flag":   {func(b *flags.Bundle) { delete(b.Flags, "editor") }, ""},
		"without rules": {func(b *flags.Bundle) {
			var d map[string]any
			if err := json.Unmarshal(b.Flags["ruled"], &d); err != nil {
				t.Error(err)
			}
			delete(d, "targeting")
			b.Flags["ruled"], _ = json.Marshal(d)
		}, `did not sign flag "ruled"`},
		"later":                {func(b *flags.Bundle) { b.Gates[0].At += 3600 }, ""},
		"what it hides":        {func(b *flags.Bundle) { b.Hidden = []string{"classes"} }, ""},
		"earlier":              {func(b *flags.Bundle) { b.Gates[0].At-- }, "before the time that was signed, 2026-12-01 09:00:00Z"},
		"at once":              {func(b *flags.Bundle) { b.Gates[0].At = 0 }, "before the time that was signed"},
		"a made-up gate":       {func(b *flags.Bundle) { b.Gates[0].ID = "other" }, `"other": the signers did not sign it`},
		"more features":        {func(b *flags.Bundle) { b.Gates[0].Features = []string{"classes", "more"} }, "other features"},
		"no ramp":              {func(b *flags.Bundle) { b.Gates[0].Steps = nil }, "other features, another ramp"},
		"a ramp by user":       {func(b *flags.Bundle) { b.Gates[0].By = flags.ByUser }, "another ramp"},
		"under embargo":        {func(b *flags.Bundle) { b.Gates[0].Embargo = true }, "embargo"},
		"another channel's":    {func(b *flags.Bundle) { b.Channel = "staging" }, "this cell follows dedicated"},
		"a flag of its own":    {func(b *flags.Bundle) { b.Flags["evil"] = b.Flags["plain"] }, `did not sign flag "evil"`},
		"another flag's rules": {func(b *flags.Bundle) { b.Flags["editor"] = b.Flags["plain"] }, `did not sign flag "editor"`},
		"a flag shut": {func(b *flags.Bundle) {
			b.Flags["editor"] = json.RawMessage(strings.Replace(string(b.Flags["editor"]), `"defaultVariant":"on"`,
				`"defaultVariant":"off"`, 1))
		}, ""},
		"another value": {func(b *flags.Bundle) {
			b.Flags["plain"] = json.RawMessage(strings.Replace(string(b.Flags["plain"]), "1", "evil", 1))
		}, `did not sign flag "plain"`},
	} {
		_, b := newParts(t)
		c.change(&b)
		err := signed.Check(parts, asSent(t, b), cell)
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
	_, b := newParts(t)
	cell.Labels = map[string]string{"region": "us"}
	if err := signed.Check(parts, asSent(t, b), cell); err == nil || !strings.Contains(err.Error(), "for this cell") {
		t.Errorf("a cell that was not selected: %v", err)
	}
	if err := signed.Check(nil, asSent(t, b), cell); err == nil {
		t.Error("where nothing is signed, all passes")
	}
}

// Each channel has its own time; older contents count beside the newest while they are listed; what was cancelled is
// not signed.
func TestTermsByChannel(t *testing.T) {
	t.Parallel()
	parts, b := newParts(t)
	in := func(channel string) signed.Cell {
		return signed.Cell{Name: "a", Channel: channel, Labels: map[string]string{"region": "eu"}}
	}
	b.Channel, b.Gates[0].At = "staging", 0
	if err := signed.Check(parts, asSent(t, b), in("staging")); err != nil {
		t.Errorf("in an entry channel, as soon as a cell has the release: %v", err)
	}
	b.Channel = "new"
	if err := signed.Check(parts, asSent(t, b), in("new")); err == nil {
		t.Error("it begins in a channel that the signers did not know")
	}
	entries := map[string]bool{"staging": true, "dedicated": false}
	now := strings.Replace(announcement, "cells: {labels: {region: eu}}\n", "now: true\n", 1)
	files := map[string]string{"sluice.yaml": settings, "flags/all.yaml": definitions,
		"announcements/classes.yaml": now}
	newer, err := signed.Make(load(t, files), entries)
	if err != nil {
		t.Fatal(err)
	}
	b.Channel, b.Gates[0].At = "dedicated", at.Unix()
	if err := signed.Check(slices.Concat(parts, newer), asSent(t, b), signed.Cell{Name: "us"}); err != nil {
		t.Errorf("by the newer terms: %v", err)
	}
	files["announcements/classes.yaml"] = announcement + "cancelled: a mistake\n"
	cancelled, err := signed.Make(load(t, files), entries)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range cancelled {
		names[p.Name] = true
	}
	if !maps.Equal(names, map[string]bool{"flags/editor": true, "flags/plain": true, "flags/ruled": true}) {
		t.Errorf("signed: %v", names)
	}
}
