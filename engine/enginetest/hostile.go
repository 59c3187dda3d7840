package enginetest

import (
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// HostileText is a text that ends every context it could stand in, if it were not escaped, and that deceives if its
// characters were obeyed. No page may have one of its bytes as they are.
const HostileText = "evil<evil>evil\"evil'evil`evil</title></script><script>ran=1</script><img src=x onerror=ran=2>" +
	"javascript:ran=3\u202eevil\u2066\x1b[31m\x00evil."

// HostileView returns a View that has hostile text wherever a View has text.
func HostileView() *view.View {
	const hostile = HostileText
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	version, err := releases.ParseVersion("1.0.0")
	if err != nil {
		panic(err)
	}
	head := &plan.EffectiveHead{Head: channels.Head{Release: "1.0.0", Digest: "sha256:" + hostile}, Moved: now,
		Replaces: hostile, Written: hostile, Kind: plan.Promote}
	release := &plan.Release{StoredRelease: releases.StoredRelease{Release: releases.Release{Version: version,
		Components: []releases.Component{{Name: hostile, Image: hostile}}, Features: []string{hostile},
		Fixes: []string{hostile}, Source: releases.Source{Repository: hostile, Commit: hostile}},
		Digest: releases.Digest(hostile)}, Origin: hostile, Loaded: true, Keys: []string{hostile},
		Authors: []releases.Person{{Name: hostile}},
		Faults:  []releases.Fault{{File: hostile, Message: hostile, Code: manifest.WrongValue}}}
	cell := &plan.Cell{Cell: cells.Cell{Name: hostile, Channel: hostile, Labels: map[string]string{hostile: hostile},
		Paused: hostile, Pin: hostile, Profile: hostile}}
	blocked := channels.Verdict{Channel: hostile, Release: "1.0.0", Gate: hostile, Reason: hostile,
		Until: now.Add(time.Hour)}
	ofCell := blocked
	ofCell.Cell = hostile
	other := blocked
	other.Release = hostile
	policy := &channels.Channel{After: []string{hostile}, Freezes: []channels.Freeze{{From: now,
		Until: now.Add(time.Hour), Reason: hostile}}}
	channel := &plan.Channel{Effective: head, History: []plan.EffectiveHead{*head, *head}, Valid: policy,
		Cells: []*plan.Cell{cell}, Request: &plan.Request{Release: hostile, By: hostile, Reason: hostile,
			Commit: hostile,
			Fault:  hostile}}
	channel.Name, channel.Policy = hostile, policy
	channel.Holds = []channels.Hold{{ID: hostile, Reason: hostile, By: hostile}}
	assignment := &cells.Assignment{Channel: hostile, Release: hostile, Digest: releases.Digest(hostile)}
	state := &plan.CellState{Name: hostile, Release: hostile, Digest: releases.Digest(hostile), Message: hostile,
		State: cells.StateUnhealthy, LastReport: now, Applying: assignment, Granted: assignment, HealthySince: now,
		Owner: &cells.Owner{Paused: hostile, Pin: hostile, Features: []string{hostile},
			Reasons: map[string]string{hostile: hostile}},
		Boots:    []plan.Boot{{ID: hostile, First: now, Last: now}},
		Failures: []plan.Failure{{Failure: cells.Failure{Assignment: *assignment, Reason: hostile, At: now}}}}
	announced := announce.Status{Announcement: &repository.Announcement{ID: hostile, Title: hostile, Notes: hostile,
		Features: []string{hostile}}, Zone: hostile, Hash: hostile, State: announce.Missed, Summary: hostile,
		Needs: hostile, Warnings: []string{hostile}, Approvals: []string{hostile},
		Channels: []announce.ChannelStatus{{Channel: hostile, State: announce.State(hostile), At: now.Add(time.Hour),
			Summary: hostile, Counts: map[flags.CellState]int{hostile: 1}}}}
	return &view.View{
		Desired: &plan.Desired{Commit: hostile, Channels: map[string]*plan.Channel{hostile: channel},
			Order: []string{hostile}, Releases: map[string]*plan.Release{"1.0.0": release},
			Versions: []*plan.Release{release}, Cells: map[string]*plan.Cell{hostile: cell},
			Quarantine: []channels.Quarantine{{Release: "1.0.0", Reason: hostile, By: hostile}},
			Faults:     []releases.Fault{{File: hostile, Message: hostile, Code: manifest.WrongValue}}},
		Observed: &plan.Observed{Cells: map[string]*plan.CellState{hostile: state},
			Refused:  map[string]plan.Refusal{hostile: {Reason: hostile}},
			Diverged: &plan.Divergence{Seen: hostile, Tip: hostile, At: now}},
		Plan: plan.Plan{Now: now, Blocked: []channels.Verdict{blocked, ofCell, other, {Gate: hostile,
			Reason: hostile}}},
		Unread:    &view.Unread{Since: now, Reason: hostile},
		HostNotes: []string{hostile},
		Flags: &view.Flags{Commit: hostile, Fault: hostile, Plan: announce.Plan{
			Announcements: []announce.Status{announced}},
			Kills: []repository.Override{{Kind: repository.Kill, Flag: hostile, Reason: hostile, By: hostile,
				Until: now.Add(time.Hour)}}},
	}
}
