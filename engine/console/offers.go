package console

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/internal/markup"
	"github.com/sluice-cd/sluice/internal/ui"
)

// offer is an action that a page offers, with the values that the page knows.
type offer struct {
	name   string
	values actions.Values
	word   string // empty: the action's title
}

// offered lists actions as links to their forms, which say whether the reader may.
func offered(all ...offer) markup.HTML { return listOffers("What you can do", all) }

func listOffers(label string, all []offer) markup.HTML {
	var items []markup.HTML
	for _, o := range all {
		a := actions.Find(o.name)
		if a == nil {
			continue
		}
		word := o.word
		if word == "" {
			word = a.Title
		}
		items = append(items, markup.Element("li", nil, markup.Element("a", markup.Attributes{"class", "button", "href",
			ActionAddress(o.name, o.values)}, markup.Text(word+"…"))))
	}
	if len(items) == 0 {
		return ""
	}
	return markup.Element("nav", markup.Attributes{"aria-label", label},
		ui.Element("ul", "actions", items...))
}

// offersOfChannel returns the actions that make sense for a channel now, the likeliest first.
func (m *Model) offersOfChannel(c view.ChannelStatus) markup.HTML {
	of := func(name, word string, more ...string) offer {
		v := actions.Values{"channel": c.Name}
		for i := 0; i < len(more); i += 2 {
			v[more[i]] = more[i+1]
		}
		return offer{name, v, word}
	}
	var all []offer
	desired := m.view.Desired.Channels[c.Name]
	for _, h := range slices.Concat(desired.Holds, desired.CellHolds) {
		all = append(all, of("lift-hold", "Lift the hold "+h.ID, "hold", h.ID))
	}
	if q := c.Request; q != nil && q.Release != "" {
		all = append(all, of("cancel-request", "Take the request back"))
	}
	r := m.rollouts()[c.Name]
	if r.Wave > 0 && r.Wave < len(r.Waves) {
		all = append(all, of("skip-wave", "Open wave "+strconv.Itoa(r.Wave+1), "wave", strconv.Itoa(r.Wave+1)))
	}
	if r.Release != "" && !r.Finished && len(desired.Holds) == 0 {
		all = append(all, of("halt", "Halt the rollout"))
	}
	all = append(all, of("promote", "Ask for a release"))
	if len(desired.History) > 1 {
		all = append(all, of("rollback", "Roll back"))
	}
	all = append(all, of("hold", "Hold"), of("freeze", "Freeze"))
	now := m.view.Plan.Now
	if desired.Policy != nil && slices.ContainsFunc(desired.Policy.Freezes,
		func(f channels.Freeze) bool { return f.Until.After(now) }) {
		all = append(all, of("lift-freeze", "End the freezes"))
	}
	if m.view.Flags != nil && len(c.After) > 0 {
		all = append(all, of("promote-flags", "Take the newest flags"))
	}
	return offered(all...)
}

func (m *Model) offersOfRelease(r *plan.Release) markup.HTML {
	name := r.Version.String()
	with := func(channel string) actions.Values { return actions.Values{"release": name, "channel": channel} }
	var all []offer
	for _, channel := range m.view.Desired.Order {
		for _, v := range m.blocked()[place{channel, name}] {
			all = append(all, offersOfVerdict(v)...)
		}
		for _, h := range m.view.Desired.Channels[channel].Hotfixes {
			if h.Release == name && h.Closed == "" {
				all = append(all, offer{"close-hotfix", with(channel), "Close the hotfix to " + channel})
			}
		}
	}
	all = append(all, offer{"promote", actions.Values{"release": name}, "Ask for it in a channel"},
		offer{"hotfix", actions.Values{"release": name}, "Take it as a hotfix"})
	last := offer{"quarantine", actions.Values{"release": name}, "Quarantine it"}
	if slices.ContainsFunc(m.view.Desired.Quarantine, func(q channels.Quarantine) bool { return q.Release == name }) {
		last.name, last.word = "lift-quarantine", "Lift its quarantine"
	}
	return offered(append(all, last)...)
}

// offersOfVerdict returns the actions that a person takes because of a verdict; none: time or the engine ends it.
func offersOfVerdict(v channels.Verdict) []offer {
	with := actions.Values{"release": v.Release, "channel": v.Channel}
	switch n := needOfVerdict(v); {
	case len(n) == 0:
	case strings.HasPrefix(n[0].Command, "sluice approve "):
		return []offer{{"approve", with, "Approve it for " + v.Channel}}
	case strings.HasPrefix(n[0].Command, "sluice promote "):
		return []offer{{"promote", with, "Promote it to " + v.Channel}}
	}
	return nil
}

func (m *Model) offersOfCell(c *view.CellStatus) markup.HTML {
	cell := m.view.Desired.Cells[c.Name]
	v := actions.Values{"cell": c.Name}
	var all []offer
	if c.Condition == view.ConditionFailing {
		all = append(all, offer{"retry", v, "Try again"})
	}
	if cell.Paused != "" {
		all = append(all, offer{"resume-cell", v, "End the pause"})
	} else {
		all = append(all, offer{"pause-cell", v, "Pause"})
	}
	if cell.Pin != "" {
		all = append(all, offer{"unpin", v, "End the pin"})
	} else {
		all = append(all, offer{"pin", actions.Values{"cell": c.Name, "release": c.Release}, "Pin"})
	}
	all = append(all, offer{"hold", actions.Values{"channel": c.Channel, "cells": c.Name}, "Hold in its channel"})
	seldom := []offer{{"move", v, "Move"}}
	if view.AccessOf(m.view.Identity(c.Name)) == view.AccessGood {
		all = append(all, offer{"revoke", v, "Shut out"})
	}
	if len(m.view.Desired.Infrastructure) > 0 {
		all = append(all, offer{"notify", v, "Record a notice"}, offer{"extend", v, "Extend a deadline"})
		if found := cell.Found; found != nil && found.Infrastructure != nil && found.Infrastructure.Exempt != "" {
			all = append(all, offer{"end-exemption", v, "End the exemption"})
		} else {
			seldom = append(seldom, offer{"exempt", v, "Exempt from updates"})
		}
	}
	seldom = append(seldom, offer{"rename", v, "Rename"}, offer{"remove", v, "Remove"})
	return offered(all...) + markup.Element("details", nil, markup.Element("summary", nil, "More actions"),
		listOffers("More that you can do", seldom))
}

func offersOfFlag(key string, killed bool) markup.HTML {
	v := actions.Values{"flag": key}
	first := offer{"kill", v, "Kill"}
	if killed {
		first = offer{"unkill", v, "Lift the kill"}
	}
	return offered(first, offer{"set-default", v, "Change the default"})
}

func offersOfAnnouncement(a announce.Status) markup.HTML {
	id := a.Announcement.ID
	v := actions.Values{"announcement": id}
	if a.Announcement.Cancelled != "" || a.Announcement.Archived {
		return ""
	}
	all := []offer{{"approve-announcement", v, "Approve"}, {"publish", v, "Give it a new time"}}
	if a.State == announce.Held {
		all = append(all, offer{"lift-announcement", v, "Lift the hold"})
	} else {
		all = append(all, offer{"hold-announcement", v, "Hold"})
	}
	return offered(append(all, offer{"cancel-announcement", v, "Cancel"})...)
}

// actionOf returns the address of the form that answers a need; empty: there is none.
func actionOf(name string, pairs ...string) string {
	v := actions.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v[pairs[i]] = pairs[i+1]
	}
	return ActionAddress(name, v)
}

func (m *Model) flagKeys() (keys []string) {
	m.withIndex(func(x *view.FlagIndex) { keys = x.Keys() })
	return keys
}

func (m *Model) announcementIDs() (ids []string) {
	if m.view.Flags != nil {
		for _, a := range m.view.Flags.Plan.Announcements {
			ids = append(ids, a.Announcement.ID)
		}
	}
	return ids
}
