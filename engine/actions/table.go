package actions

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/words"
)

// All returns the table.
func All() []Action {
	return slices.Concat(ofChannels(), ofHolds(), ofRollouts(), ofReleases(), ofCells(), ofInfrastructure(), ofFlags(),
		ofAnnouncements(), []Action{addPasskey(), undo()})
}

func named(of Subject, label string) Field {
	return Field{Name: string(of), Of: of, Kind: Name, Label: label, Required: true}
}

func channel() Field { return named(Channel, "Channel") }
func cell() Field    { return named(Cell, "Cell") }
func release() Field { return named(Release, "Release") }

// why asks for the reason that everyone who is affected sees; note asks for one that may be left out.
func why() Field {
	return Field{Name: "reason", Kind: Text, Label: "Reason", Required: true, Hint: "shown to everyone it affects"}
}

func note() Field {
	return Field{Name: "reason", Kind: Text, Label: "Reason", Hint: "recorded in the commit; may be left out"}
}

type (
	releasesDecision = edits.Decision[*edits.Releases]
	flagsDecision    = edits.Decision[*edits.Flags]
)

// inReleases makes a decision that can't fail before it is decided.
func inReleases(d func(v Values) releasesDecision) func(Values, time.Time) (releasesDecision, error) {
	return func(v Values, _ time.Time) (releasesDecision, error) { return d(v), nil }
}

func inFlags(d func(v Values) flagsDecision) func(Values, time.Time) (flagsDecision, error) {
	return func(v Values, _ time.Time) (flagsDecision, error) { return d(v), nil }
}

// addPasskey has fields that a browser fills in, with what the authenticator returned.
func addPasskey() Action {
	made := func(name, label string) Field {
		return Field{Name: name, Kind: Text, Label: label, Required: true, Hint: "the browser fills it in"}
	}
	return Action{Name: "add-passkey", Title: "Add a passkey of yours", Role: access.Viewer, Own: true,
		Effect: "sluice.yaml lists the passkey for you, and you approve releases with it.",
		Fields: []Field{made("id", "Credential ID"), made("public-key", "Public key"),
			made("origin", "Address of this page")},
		Releases: inReleases(func(v Values) releasesDecision {
			return edits.AddPasskey{Key: passkey.Key{ID: v["id"], PublicKey: v["public-key"], Origin: v["origin"]}}
		}),
		Args: func(v Values) []string {
			return command("passkey", "add").with("--id", v["id"]).with("--public-key", v["public-key"]).
				with("--origin", v["origin"])
		}}
}

func ofChannels() []Action {
	return []Action{
		{Name: "promote", Title: "Ask for a release in a channel", Subject: Channel, Scope: Channel,
			Role:   access.Operator,
			Effect: "The engine answers with a promotion, or with what keeps it: gates apply to what people ask for too.",
			Fields: []Field{channel(), release(), note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Promote{Release: v["release"], Channel: v["channel"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("promote", v["release"], "--to", v["channel"]).with("--reason", v["reason"])
			}},
		{Name: "cancel-request", Title: "Take a request back", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "What was asked for and the engine has not answered is forgotten.",
			Fields: []Field{channel(), note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.CancelRequest{Channel: v["channel"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("promote", v["channel"], "--cancel").with("--reason", v["reason"])
			}},
		{Name: "rollback", Title: "Roll a channel back", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "The engine moves all its cells back at once, and holds the channel until the hold is lifted.",
			Fields: []Field{channel(), {Name: "to", Of: Release, Kind: Name, Label: "To release",
				Hint: "without one, the newest earlier head that is not quarantined"}, why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Rollback{Channel: v["channel"], To: v["to"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("rollback", v["channel"]).with("--to", v["to"]).with("--reason", v["reason"])
			}},
		{Name: "promote-flags", Title: "Move a channel to the newest flags", Subject: Channel, Scope: Channel,
			Role:   access.Operator,
			Effect: "The channel takes the definitions of flags without an announcement now, without waiting.",
			Fields: []Field{channel(), {Name: "to", Kind: Text, Label: "Commit",
				Hint: "of the flags repository; without one, " +
					"the newest"}, note()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.PromoteFlags{Channel: v["channel"], To: v["to"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("flag", "promote", v["channel"]).with("--to", v["to"]).with("--reason", v["reason"])
			}},
	}
}

func ofHolds() []Action {
	return []Action{
		{Name: "hold", Title: "Hold a channel", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "Nothing is promoted or granted there, except rollbacks, until somebody lifts the hold.",
			Fields: []Field{channel(), {Name: "cells", Kind: Text, Label: "Only cells",
				Hint: "names with commas between them; without any, the whole channel"}, why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Hold{Channel: v["channel"], Cells: list(v["cells"]), Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("hold", v["channel"]).withEach("--cell", v["cells"]).with("--reason", v["reason"])
			}},
		{Name: "lift-hold", Title: "Lift a hold", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "The channel goes on as its gates allow.",
			Fields: []Field{channel(), {Name: "hold", Kind: Text, Label: "Hold",
				Hint: "its ID, if there are several"}, note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.LiftHold{Channel: v["channel"], ID: v["hold"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				line := command("hold", v["channel"], "--lift")
				if v["hold"] != "" {
					line = append(line, v["hold"])
				}
				return line.with("--reason", v["reason"])
			}},
		{Name: "hold-all", Title: "Hold all channels", Role: access.Operator,
			Effect:   "Nothing moves anywhere, except rollbacks, until somebody ends it.",
			Fields:   []Field{why()},
			Releases: inReleases(func(v Values) releasesDecision { return edits.HoldAll{Reason: v["reason"]} }),
			Args:     func(v Values) []string { return command("hold", "--all").with("--reason", v["reason"]) }},
		{Name: "lift-all", Title: "End the hold of all channels", Role: access.Operator,
			Effect:   "All channels go on as their gates allow; holds of single channels stay.",
			Fields:   []Field{note()},
			Releases: inReleases(func(v Values) releasesDecision { return edits.LiftAll{Reason: v["reason"]} }),
			Args: func(v Values) []string {
				return command("hold", "--all", "--lift").with("--reason",
					v["reason"])
			}},
		{Name: "freeze", Title: "Freeze a channel", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "Nothing but rollbacks is promoted or granted there for a while.",
			Fields: []Field{channel(), {Name: "from", Kind: Instant, Label: "From",
				Hint: "2026-12-20T00:00:00Z, or 48h for in " +
					"two days; without it, now"}, {Name: "until", Kind: Instant, Label: "Until", Required: true,
				Hint: "2027-01-05T00:00:00Z, or 48h for two days after it begins"}, why()},
			Releases: freezeOf,
			Args: func(v Values) []string {
				return command("freeze", v["channel"]).with("--from", v["from"]).with("--until", v["until"]).
					with("--reason", v["reason"])
			}},
		{Name: "lift-freeze", Title: "End the freezes of a channel", Subject: Channel, Scope: Channel,
			Role:   access.Operator,
			Effect: "Its freezes end now, and those to come are dropped.",
			Fields: []Field{channel(), note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.LiftFreeze{Channel: v["channel"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("freeze", v["channel"], "--lift").with("--reason", v["reason"])
			}},
	}
}

func freezeOf(v Values, now time.Time) (releasesDecision, error) {
	d := edits.Freeze{Channel: v["channel"], Freeze: channels.Freeze{From: now.UTC().Truncate(time.Second),
		Reason: v["reason"]}}
	var err error
	if v["from"] != "" {
		d.From, err = ParseInstant(v["from"], d.From)
	}
	if err == nil {
		d.Until, err = ParseInstant(v["until"], d.From)
	}
	if err == nil && !d.From.Before(d.Until) {
		err = edits.Fail(fmt.Errorf("the freeze would end at %s, before it begins", d.Until.Format(time.RFC3339)),
			"name a later end")
	}
	return d, err
}

func ofRollouts() []Action {
	return []Action{
		{Name: "halt", Title: "Halt a rollout", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "No more cells start; those that have started go on to the end.",
			Fields: []Field{channel(), why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Hold{Channel: v["channel"], ID: edits.HaltID, Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("rollout", "halt", v["channel"]).with("--reason", v["reason"])
			}},
		{Name: "resume", Title: "Resume a halted rollout", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "The rollout goes on where it stopped.",
			Fields: []Field{channel(), {Name: "hold", Kind: Text, Label: "Hold",
				Hint: "its ID, if there are several"}, note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Resume{Channel: v["channel"], Hold: v["hold"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				line := command("rollout", "resume", v["channel"])
				if v["hold"] != "" {
					line = append(line, v["hold"])
				}
				return line.with("--reason", v["reason"])
			}},
		{Name: "skip-wave", Title: "Open the next wave", Subject: Channel, Scope: Channel, Role: access.Operator,
			Effect: "The wave opens without waiting for the soak of the earlier ones; everything else still applies.",
			Fields: []Field{channel(), {Name: "wave", Kind: Number, Label: "Wave", Required: true,
				Hint: "the one to open"}, why()},
			Releases: inReleases(func(v Values) releasesDecision {
				wave, _ := strconv.Atoi(v["wave"]) // Parse checked it
				return edits.SkipWave{Channel: v["channel"], Wave: wave, Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("rollout", "skip-wave", v["channel"]).with("--wave", v["wave"]).with("--reason",
					v["reason"])
			}},
	}
}

func ofReleases() []Action {
	return []Action{
		{Name: "approve", Title: "Approve a release", Subject: Release, Scope: Channel, Role: access.Approver,
			Effect: "A passkey of yours signs the approval, for this channel, release and digest; nobody else can.",
			Fields: []Field{release(), channel(), {Name: "comment", Kind: Text, Label: "Comment"}},
			Approve: func(v Values) edits.Approve {
				return edits.Approve{Release: v["release"], Channel: v["channel"], Comment: v["comment"]}
			},
			Args: func(v Values) []string {
				return command("approve", v["channel"], v["release"]).with("--comment", v["comment"])
			}},
		{Name: "hotfix", Title: "Take a hotfix into a channel", Subject: Release, Scope: Channel, Role: access.Operator,
			Effect: "The release needs no upstream, no soak and no window there; approvals, checks and holds bind it.",
			Fields: []Field{release(), channel(), {Name: "for", Kind: Span, Label: "Open for", Default: "72h",
				Hint: "72h"},
				{Name: "override-freeze", Kind: Checkbox, Label: "In a freeze too"}, why()},
			Releases: func(v Values, _ time.Time) (releasesDecision, error) {
				lasts := 72 * time.Hour
				if v["for"] != "" {
					var err error
					if lasts, err = words.ParseDuration(v["for"]); err != nil {
						return nil, edits.Fail(err, "write it as 72h or 3d")
					}
				}
				return edits.Hotfix{Release: v["release"], Channel: v["channel"], Reason: v["reason"], Lasts: lasts,
					OverrideFreeze: v["override-freeze"] == Checked}, nil
			},
			Args: func(v Values) []string {
				return command("hotfix", v["release"], "--to", v["channel"]).with("--for", v["for"]).
					when("--override-freeze", v["override-freeze"]).with("--reason", v["reason"])
			}},
		{Name: "close-hotfix", Title: "Close a hotfix", Subject: Release, Scope: Channel, Role: access.Operator,
			Effect: "Its lane ends, and later releases need not list its fixes.",
			Fields: []Field{release(), channel(), why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.CloseHotfix{Release: v["release"], Channel: v["channel"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("hotfix", v["release"], "--to", v["channel"]).with("--close", v["reason"])
			}},
		{Name: "quarantine", Title: "Quarantine a release", Subject: Release, Role: access.Operator,
			Effect: "No channel takes it, and no cell is granted it; channels that run it may go back by themselves.",
			Fields: []Field{release(), {Name: "channels", Kind: Text, Label: "Only in channels",
				Hint: "names with commas between them; without any, everywhere"}, why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.Quarantine{Release: v["release"], Channels: list(v["channels"]), Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("quarantine", v["release"]).withEach("--channel", v["channels"]).with("--reason",
					v["reason"])
			}},
		{Name: "lift-quarantine", Title: "End a quarantine", Subject: Release, Role: access.Operator,
			Effect: "Channels may take the release again.",
			Fields: []Field{release(), note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.LiftQuarantine{Release: v["release"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("quarantine", v["release"], "--lift").with("--reason", v["reason"])
			}},
	}
}

func ofCells() []Action {
	change := func(d func(v Values, c *edits.ChangeCell)) func(Values, time.Time) (releasesDecision, error) {
		return inReleases(func(v Values) releasesDecision {
			c := edits.ChangeCell{Name: v["cell"], Reason: v["reason"]}
			d(v, &c)
			return c
		})
	}
	edit := func(v Values, flags ...string) []string {
		return append(command("cell", "edit", v["cell"]), flags...).with("--reason", v["reason"])
	}
	return []Action{
		{Name: "retry", Title: "Try again in a cell", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect: "If the newest release failed there, the cell tries it once more.",
			Fields: []Field{cell(), note()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.RetryCell{Name: v["cell"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string { return command("cell", "retry", v["cell"]).with("--reason", v["reason"]) }},
		{Name: "pin", Title: "Pin a cell to a release", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect:   "The cell is granted no other release.",
			Fields:   []Field{cell(), release(), note()},
			Releases: change(func(v Values, c *edits.ChangeCell) { c.Pin = v["release"] }),
			Args:     func(v Values) []string { return edit(v, "--pin", v["release"]) }},
		{Name: "unpin", Title: "End the pin of a cell", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect:   "The cell follows its channel again.",
			Fields:   []Field{cell(), note()},
			Releases: change(func(_ Values, c *edits.ChangeCell) { c.Unpin = true }),
			Args:     func(v Values) []string { return edit(v, "--unpin") }},
		{Name: "pause-cell", Title: "Pause a cell", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect: "The cell is granted nothing new; rollbacks go on.",
			Fields: []Field{cell(), {Name: "paused", Kind: Text, Label: "Reason", Required: true,
				Hint: "shown to its owner"}},
			Releases: change(func(v Values, c *edits.ChangeCell) { c.Paused = v["paused"] }),
			Args:     func(v Values) []string { return edit(v, "--paused", v["paused"]) }},
		{Name: "resume-cell", Title: "End the pause of a cell", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect:   "The cell follows its channel again.",
			Fields:   []Field{cell(), note()},
			Releases: change(func(_ Values, c *edits.ChangeCell) { c.Resume = true }),
			Args:     func(v Values) []string { return edit(v, "--resume") }},
		{Name: "move", Title: "Move a cell to another channel", Subject: Cell, Role: access.Operator,
			Effect:   "The cell gets the head of that channel in its turn.",
			Fields:   []Field{cell(), channel(), note()},
			Releases: change(func(v Values, c *edits.ChangeCell) { c.Channel = v["channel"] }),
			Args: func(v Values) []string {
				return command("cell", "move", v["cell"], "--to", v["channel"]).with("--reason", v["reason"])
			}},
		{Name: "revoke", Title: "Shut a cell out", Subject: Cell, Scope: Cell, Role: access.Operator,
			Effect:   "Its key is refused until it gets a new token; what it runs keeps running.",
			Fields:   []Field{cell()},
			Releases: inReleases(func(v Values) releasesDecision { return edits.RevokeCell{Name: v["cell"]} }),
			Args:     func(v Values) []string { return command("cell", "revoke", v["cell"]) }},
		{Name: "rename", Title: "Rename a cell", Subject: Cell, Role: access.Admin,
			Effect: "Its key and its agent stay.",
			Fields: []Field{cell(), {Name: "to", Kind: Text, Label: "New name", Required: true}},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.RenameCell{Name: v["cell"], To: v["to"]}
			}),
			Args: func(v Values) []string { return command("cell", "rename", v["cell"], v["to"]) }},
		{Name: "remove", Title: "Remove a cell", Subject: Cell, Role: access.Admin,
			Effect:   "Its key is refused, and it gets no more releases; what it runs keeps running.",
			Fields:   []Field{cell()},
			Releases: inReleases(func(v Values) releasesDecision { return edits.RemoveCell{Name: v["cell"]} }),
			Args:     func(v Values) []string { return command("cell", "remove", v["cell"]) }},
	}
}

func ofInfrastructure() []Action {
	number := Field{Name: "number", Kind: Number, Label: "Update", Hint: "its number; without one, the newest or first due"}
	numberOf := func(v Values) int {
		n, _ := strconv.Atoi(v["number"]) // Parse checked it
		return n
	}
	return []Action{
		{Name: "notify", Title: "Record that a customer was notified", Subject: Cell, Scope: Cell,
			Role:   access.Operator,
			Effect: "The deadline of the infrastructure update begins, and no later policy moves it.",
			Fields: []Field{cell(), number, {Name: "delivered", Kind: Text, Label: "How it reached them",
				Required: true}},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.NotifyInfrastructure{Cell: v["cell"], Number: numberOf(v), By: v["delivered"]}
			}),
			Args: func(v Values) []string {
				return command("infra", "notify", v["cell"]).with("--number", v["number"]).with("--delivered",
					v["delivered"])
			}},
		{Name: "extend", Title: "Extend a deadline", Subject: Cell, Scope: Cell, Role: access.Approver,
			Effect: "The deadline of the infrastructure update moves to a later instant in this cell.",
			Fields: []Field{cell(), number, {Name: "until", Kind: Instant, Label: "Until", Required: true,
				Hint: "2026-12-20T00:00:00Z, or 72h from now"}, why()},
			Releases: func(v Values, now time.Time) (releasesDecision, error) {
				until, err := ParseInstant(v["until"], now)
				return edits.ExtendInfrastructure{Cell: v["cell"], Number: numberOf(v), Until: until,
					Reason: v["reason"]}, err
			},
			Args: func(v Values) []string {
				return command("infra", "extend", v["cell"]).with("--number", v["number"]).with("--until", v["until"]).
					with("--reason", v["reason"])
			}},
		{Name: "exempt", Title: "Ask no infrastructure updates of a cell", Subject: Cell, Scope: Cell,
			Role: access.Approver, Effect: "No deadline binds the cell while it is exempt.",
			Fields: []Field{cell(), why()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.ExemptInfrastructure{Cell: v["cell"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("infra", "exempt", v["cell"]).with("--reason", v["reason"])
			}},
		{Name: "end-exemption", Title: "Ask infrastructure updates of a cell again", Subject: Cell, Scope: Cell,
			Role: access.Approver, Effect: "Deadlines of delivered notices count again.",
			Fields: []Field{cell()},
			Releases: inReleases(func(v Values) releasesDecision {
				return edits.ExemptInfrastructure{Cell: v["cell"], Lift: true}
			}),
			Args: func(v Values) []string { return command("infra", "exempt", v["cell"], "--lift") }},
	}
}

func ofFlags() []Action {
	key := named(Flag, "Flag")
	return []Action{
		{Name: "kill", Title: "Kill a flag", Subject: Flag, Role: access.Operator, AtOnce: true,
			Effect: "The flag is off in every connected cell within seconds, whatever else is set; only a commit lifts it.",
			Fields: []Field{key, {Name: "until", Kind: Instant, Label: "Look again at",
				Hint: "2026-12-20T00:00:00Z, or 48h; nothing ends by itself"}, why()},
			Flags: func(v Values, now time.Time) (flagsDecision, error) {
				d := edits.KillFlag{Key: v["flag"], Reason: v["reason"]}
				var err error
				if v["until"] != "" {
					d.Until, err = ParseInstant(v["until"], now.UTC().Truncate(time.Second))
				}
				return d, err
			},
			Args: func(v Values) []string {
				return command("flag", "kill", v["flag"]).with("--until", v["until"]).with("--reason", v["reason"])
			}},
		{Name: "unkill", Title: "Lift the kill of a flag", Subject: Flag, Role: access.Operator,
			Effect: "The flag follows its rules and announcements again.",
			Fields: []Field{key, why()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.UnkillFlag{Key: v["flag"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("flag", "unkill", v["flag"]).with("--reason",
					v["reason"])
			}},
		{Name: "set-default", Title: "Change the default of a flag", Subject: Flag, Role: access.Operator,
			Effect: "What the flag gives where no rule says otherwise.",
			Fields: []Field{key, {Name: "default", Kind: Text, Label: "Variant", Required: true}, note()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.SetFlag{Key: v["flag"], Flag: edits.Flag{Default: v["default"]}, Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("flag", "set", v["flag"]).with("--default", v["default"]).with("--reason", v["reason"])
			}},
	}
}

func ofAnnouncements() []Action {
	id := named(Announcement, "Announcement")
	return []Action{
		{Name: "approve-announcement", Title: "Approve an announcement", Subject: Announcement, Role: access.Approver,
			Effect: "An approval is signed with a key of yours, which this page does not have: the command signs it.",
			Fields: []Field{id, {Name: "comment", Kind: Text, Label: "Comment"}},
			Args: func(v Values) []string {
				return command("announce", "approve", v["announcement"]).with("--comment", v["comment"])
			}},
		{Name: "publish", Title: "Give an announcement a new time", Subject: Announcement, Role: access.Operator,
			Effect: "Without a time it is published at once. The text is new with it, and needs approvals again.",
			Fields: []Field{id, {Name: "at", Kind: Text, Label: "At", Hint: "2026-12-02 10:00, as clocks in its zone show it"},
				{Name: "zone", Kind: Text, Label: "Zone", Hint: "Europe/Berlin; without one, the announcement's"},
				{Name: "now", Kind: Checkbox, Label: "Now, or although its time has passed"}, note()},
			Flags: func(v Values, _ time.Time) (flagsDecision, error) {
				if v["at"] == "" && v["now"] != Checked {
					return nil, edits.Fail(fmt.Errorf("neither a time nor now is given"), "give one of them")
				}
				return edits.PublishAnnouncement{ID: v["announcement"], At: v["at"], Zone: v["zone"],
					Now: v["now"] == Checked, Reason: v["reason"]}, nil
			},
			Args: func(v Values) []string {
				return command("announce", "publish", v["announcement"]).with("--at", v["at"]).with("--zone",
					v["zone"]).
					when("--now", v["now"]).with("--reason", v["reason"])
			}},
		{Name: "hold-announcement", Title: "Hold an announcement", Subject: Announcement, Role: access.Operator,
			Effect: "It is not published until the hold is lifted.",
			Fields: []Field{id, why()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.HoldAnnouncement{ID: v["announcement"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("announce", "hold", v["announcement"]).with("--reason", v["reason"])
			}},
		{Name: "lift-announcement", Title: "Lift the hold on an announcement", Subject: Announcement,
			Role: access.Operator, Effect: "If its time has not passed, it is published then.",
			Fields: []Field{id, note()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.LiftAnnouncement{ID: v["announcement"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("announce", "hold", v["announcement"], "--lift").with("--reason", v["reason"])
			}},
		{Name: "cancel-announcement", Title: "Cancel an announcement", Subject: Announcement, Role: access.Operator,
			Effect: "It is never published; if it was, it is retracted and its features turn off everywhere.",
			Fields: []Field{id, why()},
			Flags: inFlags(func(v Values) flagsDecision {
				return edits.CancelAnnouncement{ID: v["announcement"], Reason: v["reason"]}
			}),
			Args: func(v Values) []string {
				return command("announce", "cancel", v["announcement"]).with("--reason", v["reason"])
			}},
	}
}

func undo() Action {
	return Action{Name: "undo", Title: "Undo", Role: access.Operator, Undo: true,
		Effect: "Each file that the commit changed becomes what it was before, unless it was changed since.",
		Fields: []Field{{Name: "repository", Kind: Text, Label: "Repository", Required: true,
			Hint: "releases or flags"},
			{Name: "commit", Kind: Text, Label: "Commit", Required: true}, note()}}
}
