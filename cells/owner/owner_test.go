package owner_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// R18: only what is offered and does not run is a candidate, each digest once, and a pin takes the digest of it.
func TestR18CandidatesAndPins(t *testing.T) {
	head := &cells.Head{Channel: "stable", Release: "1.2.0", Digest: "sha256:2"}
	granted := &cells.Assignment{Channel: "stable", Release: "1.1.0", Digest: "sha256:1"}
	other := &cells.Assignment{Release: "1.2.0", Digest: "sha256:3"}
	for name, c := range map[string]struct {
		head             *cells.Head
		granted, running *cells.Assignment
		want             int
	}{
		"nothing": {want: 0}, "a head": {head: head, want: 1}, "both": {head: head, granted: granted, want: 2},
		"the granted runs": {head: head, granted: granted, running: granted, want: 1},
		"an empty grant":   {granted: &cells.Assignment{}, want: 0},
	} {
		if all := owner.Candidates(c.head, c.granted, c.running); len(all) != c.want {
			t.Errorf("%s: %v", name, all)
		}
	}
	if d, err := owner.DigestToPin(owner.Candidates(head, granted, nil), other,
		"1.2.0"); d != "sha256:3" || err != nil {
		t.Errorf("what runs counts first: %s, %v", d, err)
	}
	if d, err := owner.DigestToPin(owner.Candidates(head, granted, nil), nil, "9.9.9"); d != "" || err != nil {
		t.Errorf("what is unknown has no digest: %s, %v", d, err)
	}
	_, err := owner.DigestToPin(owner.Candidates(head, other, nil), nil, "1.2.0")
	if refused := new(owner.Refusal); !errors.As(err, &refused) || refused.Next == "" {
		t.Errorf("two digests of one version: %v", err)
	}
}

// Each decision changes what it says and nothing else, and the second time nothing at all.
func TestDecisionsChangeWhatTheySay(t *testing.T) {
	now := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	w := window.Window{Opens: "0 22 * * SAT", For: 4 * time.Hour}
	if wrong := w.Compile(); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	c := owner.Candidate{Release: "1.1.0", Digest: "sha256:1"}
	var o cells.Owner
	for _, step := range []struct {
		decision owner.Decision
		done     func() bool
	}{
		{owner.Pause("audit"), func() bool { return o.Paused == "audit" }},
		{owner.Unpause(), func() bool { return o.Paused == "" }},
		{owner.Pin("1.1.0", "sha256:1"), func() bool { return o.Pin == "1.1.0" && o.PinDigest == "sha256:1" }},
		{owner.Unpin(), func() bool { return o.Pin == "" && o.PinDigest == "" }},
		{owner.AddWindow(w, now), func() bool { return len(o.Windows) == 1 }},
		{owner.AddWindow(w, now), func() bool { return len(o.Windows) == 1 }},
		{owner.RemoveWindow("1"), func() bool { return len(o.Windows) == 0 }},
		{owner.RequireApproval(true), func() bool { return o.Approval }},
		{owner.Approve(c), func() bool { return len(o.Approved) == 1 }},
		{owner.Approve(c), func() bool { return len(o.Approved) == 1 }},
		{owner.HoldFeature("f", " why "), func() bool { return len(o.Features) == 1 && o.Reasons["f"] == "why" }},
		{owner.HoldFeature("f", ""), func() bool { return len(o.Features) == 1 && o.Reasons["f"] == "why" }},
		{owner.ReleaseFeature("f"), func() bool { return len(o.Features) == 0 && len(o.Reasons) == 0 }},
	} {
		if _, err := step.decision.Change(&o); err != nil || !step.done() {
			t.Errorf("%v: %v, %+v", step.decision.Command, err, o)
		}
	}
	for i := range 2 * cells.MaxApproved {
		one := owner.Candidate{Digest: releases.DigestBytes([]byte{byte(i)})}
		if _, err := owner.Approve(one).Change(&o); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.Approved) != cells.MaxApproved {
		t.Errorf("%d approvals", len(o.Approved))
	}
	for _, d := range []owner.Decision{owner.RemoveWindow("1"), owner.RemoveWindow("x"), owner.EndMaintenance()} {
		if _, err := d.Change(&o); !errors.As(err, new(*owner.Refusal)) {
			t.Errorf("%v: %v", d.Command, err)
		}
	}
}
