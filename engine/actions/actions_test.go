package actions_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/actions"
)

// Every row of the table can be served: a name for an address, a role, a field for its scope, and one way to do it.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range actions.All() {
		if seen[a.Name] || a.Name != url.PathEscape(a.Name) || strings.Contains(a.Name, "/") {
			t.Errorf("%s: another action has this name, or it is none for an address", a.Name)
		}
		seen[a.Name] = true
		if a.Title == "" || !strings.HasSuffix(a.Effect, ".") || !slices.Contains(access.AllRoles(), a.Role) ||
			(a.Role == access.Viewer) != a.Own {
			t.Errorf("%s: title, effect or role is missing", a.Name)
		}
		ways := 0
		for _, is := range []bool{a.Releases != nil, a.Flags != nil, a.Approve != nil, a.Undo} {
			if is {
				ways++
			}
		}
		if ways != 1 && (ways > 1 || a.Role != access.Approver) {
			t.Errorf("%s: it is done in %d ways", a.Name, ways)
		}
		names, taken := map[string]bool{}, []string{"step", "again", "shown", "since", "assertion"}
		for _, f := range a.Fields {
			if names[f.Name] || f.Label == "" || slices.Contains(taken, f.Name) {
				t.Errorf("%s: the field %s", a.Name, f.Name)
			}
			names[f.Name] = true
		}
		for _, need := range []actions.Subject{a.Scope, a.Subject} {
			if need != actions.Everything && !names[string(need)] {
				t.Errorf("%s: no field names its %s", a.Name, need)
			}
		}
		if (a.Scope == actions.Channel) != (names["channel"] && a.Name != "move") {
			t.Errorf("%s is about a channel, and its scope is %q", a.Name, a.Scope)
		}
		if got := actions.Find(a.Name); got == nil || got.Title != a.Title {
			t.Errorf("%s is not found", a.Name)
		}
	}
	if actions.Find("nothing") != nil {
		t.Error("found nothing")
	}
}

// No value gets through that a field does not take, and a message says what it takes.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		action, query, field, problem string
	}{
		"missing": {"hold", "channel=staging", "reason", "is required"},
		"blank":   {"hold", "channel=staging&reason=%20%09", "reason", "is required"},
		"too long": {"hold", "channel=staging&reason=" + strings.Repeat("x", 501), "reason",
			"at most 500 bytes"},
		"not UTF-8":        {"hold", "channel=staging&reason=%ff", "reason", "not UTF-8"},
		"no instant":       {"freeze", "channel=staging&reason=x&until=tomorrow", "until", "neither a time"},
		"a negative span":  {"freeze", "channel=staging&reason=x&until=-3h", "until", "not a positive length"},
		"no length":        {"hotfix", "channel=a&release=1.0.0&reason=x&for=0s", "for", "length of time"},
		"no number":        {"skip-wave", "channel=a&reason=x&wave=two", "wave", "is a number"},
		"a negative one":   {"skip-wave", "channel=a&reason=x&wave=-2", "wave", "is a number"},
		"a wrong checkbox": {"hotfix", "channel=a&release=1.0.0&reason=x&override-freeze=no", "override-freeze", "missing"},
	} {
		query, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		if _, wrong := actions.Find(c.action).Parse(query); !strings.Contains(wrong[c.field], c.problem) {
			t.Errorf("%s: %q", name, wrong)
		}
	}
	v, wrong := actions.Find("hold").Parse(url.Values{"channel": {" staging "}, "reason": {"a\nb\u202e\x00c"},
		"other": {"x"}})
	if len(wrong) > 0 || v["channel"] != "staging" || strings.ContainsAny(v["reason"], "\n\x00\u202e") ||
		v["other"] != "" {
		t.Errorf("%q %q", v, wrong)
	}
}

// A shell takes each value of the command line as one argument, whatever it has.
func TestCommand(t *testing.T) {
	v := actions.Values{"channel": "staging", "cells": "a, b", "reason": "it's $(rm) `x`"}
	if got := actions.Find("hold").Command(v); got !=
		`sluice hold staging --cell a --cell b --reason 'it'\''s $(rm) `+"`x`'" {
		t.Error(got)
	}
	if got := actions.Find("undo").Command(actions.Values{"commit": "c1"}); got != "git revert c1" {
		t.Error(got)
	}
}

func TestFreezeEndsAfterItBegins(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	make := func(from, until string) error {
		_, err := actions.Find("freeze").Releases(actions.Values{"channel": "a", "from": from, "until": until,
			"reason": "x"}, now)
		return err
	}
	if err := make("", "2026-11-24T11:00:00Z"); err == nil {
		t.Error("it ended before it began")
	}
	if err := make("48h", "1h"); err != nil { // the end counts from the beginning
		t.Error(err)
	}
}
