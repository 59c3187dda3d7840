package edits_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

var (
	noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	ada  = edits.Person{Person: releases.Person{Name: "Ada", Email: "ada@example.com"}, Key: key(1)}
)

func key(seed byte) ssh.PublicKey {
	public := ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize)).Public()
	k, err := ssh.NewPublicKey(public)
	if err != nil {
		panic(err)
	}
	return k
}

func line(k ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(k)) }

// files returns a commit's files.
func files(texts map[string]string) fstest.MapFS {
	all := fstest.MapFS{}
	for name, text := range texts {
		all[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

// decided formats a decision's outcome for comparison: the message, then each file.
func decided(e edits.Edit, err error) string {
	if err != nil {
		said := "error: " + err.Error()
		if no := new(edits.Error); errors.As(err, &no) {
			said += "\nnext: " + no.Next
		}
		return said
	}
	if len(e.Files) == 0 {
		return "unchanged: " + e.Summary
	}
	all := e.Message
	for _, name := range slices.Sorted(maps.Keys(e.Files)) {
		if e.Files[name] == nil {
			all += "- " + name + "\n"
			continue
		}
		all += "+ " + name + "\n" + string(e.Files[name])
	}
	all += "did: " + e.Summary
	if e.Next != "" {
		all += "\nnext: " + e.Next
	}
	for _, w := range e.Warnings {
		all += "\nwarning: " + w.String()
	}
	return all
}

// inMemory returns a release repository of two channels: staging runs 1.1.0; dedicated runs 1.0.0, after 0.9.0, without
// a request.
func inMemory() *edits.Releases {
	d := &plan.Desired{
		Commit: "c1", Order: []string{"staging", "dedicated"},
		Channels: map[string]*plan.Channel{}, Releases: map[string]*plan.Release{}, Cells: map[string]*plan.Cell{},
	}
	d.Pipeline.People = map[string]*channels.Member{
		"ada":   {Email: "ada@example.com", Keys: []string{line(key(1))}, Roles: []string{"support"}},
		"grace": {Email: "grace@example.com", Keys: []string{line(key(2))}, Roles: []string{"security"}},
	}
	for _, version := range []string{"0.9.0", "1.0.0", "1.1.0", "1.2.0"} {
		v, err := releases.ParseVersion(version)
		if err != nil {
			panic(err)
		}
		r := &plan.Release{Loaded: true}
		r.Version, r.Digest = v, digestOf(version)
		d.Releases[version], d.Versions = r, append(d.Versions, r)
	}
	d.Releases["1.2.0"].Authors = []releases.Person{{Name: "Grace", Email: "Grace@example.com"}}
	head := func(release string, sequence int64) plan.EffectiveHead {
		return plan.EffectiveHead{Head: channels.Head{Release: release, Digest: digestOf(release), Sequence: sequence}}
	}
	channel := func(name string, policy *channels.Channel, past ...plan.EffectiveHead) *plan.Channel {
		c := &plan.Channel{History: past, Effective: &past[len(past)-1]}
		c.Name, c.Policy = name, policy
		d.Channels[name] = c
		return c
	}
	channel("staging", &channels.Channel{}, head("1.1.0", 3))
	gates := []channels.Gate{{Approval: &channels.Approval{From: []string{"support"}}}}
	channel("dedicated", &channels.Channel{After: []string{"staging"}, Gates: gates,
		Rollout: channels.Rollout{Waves: make([]channels.Wave, 3)}},
		head("0.9.0", 1), head("1.0.0", 2))
	for name, identity := range map[string]cells.Identity{"acme": {PublicKey: "ssh-ed25519 AAAA", Serial: 2},
		"globex": {}} {
		c := &plan.Cell{Identity: identity}
		c.Name, c.Channel = name, "dedicated"
		d.Cells[name] = c
	}
	return &edits.Releases{Desired: d, Files: files(map[string]string{
		"channels/dedicated/head.yaml":    "# moved by the engine\nrelease: 1.0.0\nsequence: 2\n",
		"channels/dedicated/channel.yaml": "# the customers'\nafter: [staging]\n",
		"channels/staging/channel.yaml":   "# ours\napiVersion: sluice/v1\nkind: Channel\ngates: []\n",
		"quarantine/0.9.0.yaml":           "reason: slow\n",
		"cells/acme/cell.yaml":            "channel: dedicated\n",
		"cells/acme/identity.yaml":        "serial: 2\n",
		"releases/0.9.0/release.yaml":     "version: 0.9.0\n",
		"releases/0.9.0/base/app.yaml":    "kind: App\n",
	})}
}

func digestOf(version string) releases.Digest {
	return releases.Digest("sha256:" + strings.Repeat(fmt.Sprintf("%02x", version[2]), 32))
}

func TestReleaseDecisions(t *testing.T) {
	for name, c := range map[string]struct {
		given func(*edits.Releases) // nil: the repository as it is
		d     edits.Decision[*edits.Releases]
		by    edits.Person // zero: ada
		want  string
	}{
		"promote": {
			d: edits.Promote{Release: "1.1.0", Channel: "dedicated", Reason: "asked for by acme"},
			want: "promote 1.1.0 to dedicated\n\nasked for by acme\n+ channels/dedicated/head.yaml\n" +
				"# moved by the engine\nrelease: 1.1.0\nsequence: 2\ndid: ask to promote 1.1.0 to dedicated\n" +
				"next: the engine answers; sluice why dedicated shows what it waits for",
		},
		"promote: the first of a channel": {
			d: edits.Promote{Release: "1.2.0", Channel: "staging"},
			want: "promote 1.2.0 to staging\n+ channels/staging/head.yaml\nrelease: 1.2.0\n" +
				"did: ask to promote 1.2.0 to staging\n" +
				"next: the engine answers; sluice why staging shows what it waits for",
		},
		"promote: down": {
			d: edits.Promote{Release: "0.9.0", Channel: "dedicated"},
			want: "promote 0.9.0 to dedicated\n+ channels/dedicated/head.yaml\n" +
				"# moved by the engine\nrelease: 0.9.0\nsequence: 2\ndid: ask to promote 0.9.0 to dedicated\n" +
				"next: it is below 1.0.0, which dedicated runs: the engine takes this for a rollback, and holds the " +
				"channel; sluice promote dedicated --cancel takes it back as long as it is not answered",
		},
		"promote: what it runs": {
			d: edits.Promote{Release: "1.0.0", Channel: "dedicated"},
			want: "unchanged: promote 1.0.0 to dedicated: it is already the head, or requested; where it failed, sluice cell " +
				"retry CELL tries it again",
		},
		"promote: no such release": {
			d:    edits.Promote{Release: "9.0.0", Channel: "dedicated"},
			want: "error: there is no release \"9.0.0\"\nnext: sluice release list; the newest is 1.2.0",
		},
		"promote: faults": {
			given: func(s *edits.Releases) {
				s.Desired.Releases["1.1.0"].Faults = []releases.Fault{{File: "a", Line: 1, Message: "odd",
					Warning: true}, {File: "a", Line: 2, Message: "bad"}}
			},
			d:    edits.Promote{Release: "1.1.0", Channel: "dedicated"},
			want: "error: release 1.1.0 has faults: a:2: bad\nnext: sluice validate lists all of them",
		},
		"promote: no such channel": {
			d:    edits.Promote{Release: "1.1.0", Channel: "public"},
			want: "error: there is no channel \"public\"\nnext: the channels are staging, dedicated",
		},
		"rollback": {
			d: edits.Rollback{Channel: "dedicated", Reason: "slow"},
			want: "roll back dedicated\n\nslow\n+ channels/dedicated/head.yaml\n# moved by the engine\n" +
				"release: 0.9.0\nsequence: 2\ndid: roll back dedicated\n" +
				"next: the engine moves it, and holds the channel; when all is well: sluice hold dedicated --lift",
		},
		"rollback: not to what is quarantined": {
			given: func(s *edits.Releases) {
				s.Desired.Quarantine = []channels.Quarantine{{Release: "0.9.0", Digest: digestOf("0.9.0")}}
			},
			d: edits.Rollback{Channel: "dedicated"},
			want: "error: dedicated never ran an earlier release that it could go back to\n" +
				"next: name one: --to V (sluice release list)",
		},
		"rollback: upward": {
			d: edits.Rollback{Channel: "dedicated", To: "1.1.0"},
			want: "error: dedicated runs 1.0.0, and 1.1.0 is not an earlier release\n" +
				"next: to go up: sluice promote dedicated 1.1.0",
		},
		"approve": {
			d: edits.Approve{Release: "1.1.0", Channel: "dedicated", Comment: "tried it"},
			want: "approve 1.1.0 for dedicated\n\ntried it\n+ channels/dedicated/approvals/1.1.0/ada.yaml\ndigest: " +
				string(digestOf("1.1.0")) + "\ncomment: tried it\ndid: approve 1.1.0 for dedicated as ada\n" +
				"next: the engine counts it; sluice why dedicated shows what else it waits for",
		},
		"approve: once more": {
			given: func(s *edits.Releases) {
				s.Files.(fstest.MapFS)["channels/dedicated/approvals/1.1.0/ada.yaml"] = &fstest.MapFile{Data: []byte(
					"digest: " + digestOf("1.1.0") + "\ncomment: \"\"\n")}
			},
			d: edits.Approve{Release: "1.1.0", Channel: "dedicated"},
			want: "approve 1.1.0 for dedicated\n+ channels/dedicated/approvals/1.1.0/ada.yaml\ndigest: " +
				string(digestOf("1.1.0")) + "\ncomment: \"\"\n# once more\ndid: approve 1.1.0 for dedicated as ada\n" +
				"next: the engine counts it; sluice why dedicated shows what else it waits for",
		},
		"approve: proven already": {
			given: func(s *edits.Releases) {
				s.Desired.Channels["dedicated"].Approved = []plan.Approved{{Approver: channels.Approver{Person: "ada"},
					Release: "1.1.0", Digest: digestOf("1.1.0")}}
			},
			d:    edits.Approve{Release: "1.1.0", Channel: "dedicated"},
			want: "unchanged: approve 1.1.0 for dedicated: already done",
		},
		"approve: another key (R22)": {
			d: edits.Approve{Release: "1.1.0", Channel: "dedicated"}, by: edits.Person{Person: ada.Person, Key: key(3)},
			want: "error: it would not count: sluice.yaml does not list the key " + ssh.FingerprintSHA256(key(3)) +
				" for ada\nnext: name one that it lists: --key FILE; or have this one added to people.ada.keys",
		},
		"approve: no key": {
			d: edits.Approve{Release: "1.1.0", Channel: "dedicated"}, by: edits.Person{Person: ada.Person},
			want: "error: approvals are signed, and there is no SSH key to sign with\n" +
				"next: name one that sluice.yaml lists for ada: --key FILE, or load it into your SSH agent",
		},
		"approve: no key where authors are trusted": {
			given: func(s *edits.Releases) { s.Desired.Pipeline.TrustAuthors = true },
			d:     edits.Approve{Release: "1.1.0", Channel: "dedicated"}, by: edits.Person{Person: ada.Person},
			want: "approve 1.1.0 for dedicated\n+ channels/dedicated/approvals/1.1.0/ada.yaml\ndigest: " +
				string(digestOf("1.1.0")) + "\ncomment: \"\"\ndid: approve 1.1.0 for dedicated as ada\n" +
				"next: the engine counts it; sluice why dedicated shows what else it waits for",
		},
		"approve: by an author (R22)": {
			d: edits.Approve{Release: "1.2.0", Channel: "dedicated", As: "grace"},
			want: "error: grace is an author of 1.2.0, and authors don't approve their own releases\n" +
				"next: ask somebody else",
		},
		"approve: of another role": {
			d: edits.Approve{Release: "1.1.0", Channel: "dedicated", As: "grace"},
			want: "error: dedicated needs approvals from support, and grace has no such role\n" +
				"next: ask somebody who has it, or have people.grace.roles changed in sluice.yaml",
		},
		"approve: nobody asks": {
			d:    edits.Approve{Release: "1.1.0", Channel: "staging"},
			want: "error: staging needs no approval\nnext: sluice why staging shows what it waits for",
		},
		"approve: a stranger": {
			d:  edits.Approve{Release: "1.1.0", Channel: "dedicated"},
			by: edits.Person{Person: releases.Person{Email: "x@example.com"}},
			want: "error: sluice.yaml has no person with the address x@example.com\n" +
				"next: say who you are: --as ada or grace",
		},
		"hold": {
			d: edits.Hold{Channel: "dedicated", Reason: "incident 512"},
			want: "hold dedicated\n\nincident 512\n+ channels/dedicated/holds/20261124-120000.yaml\n" +
				"reason: incident 512\nby: Ada\ndid: hold dedicated\n" +
				"next: nothing moves there except rollbacks; sluice hold dedicated --lift ends it",
		},
		"hold: in the same second": {
			given: func(s *edits.Releases) {
				s.Files.(fstest.MapFS)["channels/dedicated/holds/20261124-120000.yaml"] = &fstest.MapFile{}
			},
			d: edits.Hold{Channel: "dedicated", Cells: []string{"acme"}, Reason: "fair"},
			want: "hold acme in dedicated\n\nfair\n+ channels/dedicated/holds/20261124-120000-2.yaml\nreason: fair\n" +
				"by: Ada\ncells:\n    - acme\ndid: hold acme in dedicated\n" +
				"next: they get nothing new except rollbacks; sluice hold dedicated --lift 20261124-120000-2 ends it",
		},
		"hold: no cell of it": {
			d:    edits.Hold{Channel: "staging", Cells: []string{"acme"}},
			want: "error: acme is no cell of staging\nnext: sluice status --channel staging lists them",
		},
		"hold: a name that leads elsewhere": {
			d: edits.Hold{Channel: "staging", ID: "../channel"},
			want: "error: --id \"../channel\" is not a portable file name\n" +
				"next: use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first",
		},
		"lift": {
			given: held("a"),
			d:     edits.LiftHold{Channel: "dedicated"},
			want: "lift the hold on dedicated\n- channels/dedicated/holds/a.yaml\ndid: lift the hold on dedicated\n" +
				"next: it continues as its gates allow; sluice why dedicated",
		},
		"lift: which": {
			given: held("a", "b"),
			d:     edits.LiftHold{Channel: "dedicated"},
			want:  "error: dedicated has 2 holds: a, b\nnext: say which: sluice hold dedicated --lift a",
		},
		"lift: another": {
			given: held("a", "b"),
			d:     edits.LiftHold{Channel: "dedicated", ID: "c"},
			want:  "error: dedicated has no hold c\nnext: there are: a, b",
		},
		"lift: of these cells": {
			given: heldCells("acme"),
			d:     edits.LiftHold{Channel: "dedicated", Cells: []string{"acme"}},
			want: "lift the hold on dedicated\n- channels/dedicated/holds/cells.yaml\ndid: lift the hold on dedicated\n" +
				"next: it continues as its gates allow; sluice why dedicated",
		},
		"lift: of these cells, where others are held too": {
			given: heldCells("acme", "globex"),
			d:     edits.LiftHold{Channel: "dedicated", Cells: []string{"acme"}},
			want: "error: dedicated has no hold of just acme\n" +
				"next: sluice why acme shows the holds of a cell, and what lifts each",
		},
		"hold all: where some cells have a hold of that name": {
			given: func(s *edits.Releases) {
				held(edits.AllID)(s)
				s.Desired.Channels["staging"].CellHolds = []channels.Hold{{ID: edits.AllID, Cells: []string{"eu-1"}}}
				s.Files.(fstest.MapFS)["channels/staging/holds/all.yaml"] = &fstest.MapFile{}
			},
			d: edits.HoldAll{Reason: "incident 512"},
			want: "hold all channels\n\nincident 512\n+ channels/staging/holds/all.yaml\nreason: incident 512\n" +
				"by: Ada\ndid: hold all channels\n" +
				"next: nothing moves anywhere except rollbacks; sluice hold --all --lift ends it",
		},
		"take a request back": {
			given: requested("1.2.0"),
			d:     edits.CancelRequest{Channel: "dedicated", Release: "1.2.0"},
			want: "take back the request for dedicated\n+ channels/dedicated/head.yaml\nrelease: 1.0.0\ncommit: \ndigest: " +
				string(digestOf("1.0.0")) + "\nsequence: 2\ndid: take back the request for dedicated\n" +
				"next: the channel goes on by itself; sluice why dedicated",
		},
		"take a request back: for another release": {
			given: requested("1.2.0"),
			d:     edits.CancelRequest{Channel: "dedicated", Release: "1.1.0"},
			want: "error: Grace asked for 1.2.0 there, and not for 1.1.0\n" +
				"next: sluice promote dedicated --cancel takes that back",
		},
		"resume: the person's halt first": {
			given: held("a", edits.HaltID),
			d:     edits.Resume{Channel: "dedicated", Reason: "fixed"},
			want: "resume the rollout of dedicated\n\nfixed\n- channels/dedicated/holds/rollout.yaml\n" +
				"did: resume the rollout of dedicated\n" +
				"next: it continues where it stopped; sluice rollout status dedicated",
		},
		"resume: which": {
			given: held("a", "b"),
			d:     edits.Resume{Channel: "dedicated"},
			want: "error: dedicated has 2 holds, none of them by sluice rollout halt\n" +
				"next: say which: sluice rollout resume dedicated a",
		},
		"resume: not halted": {
			d:    edits.Resume{Channel: "dedicated"},
			want: "error: dedicated is not halted\nnext: sluice rollout status dedicated shows what it waits for",
		},
		"skip a wave": {
			d: edits.SkipWave{Channel: "dedicated", Wave: 2, Seen: 2, Reason: "urgent"},
			want: "open wave 2 of dedicated\n\nurgent\n+ channels/dedicated/skips/2.yaml\nwave: 2\nreason: urgent\n" +
				"by: Ada\ndid: open wave 2 of dedicated\n" +
				"next: its cells get it once everything else allows it; sluice rollout status dedicated",
		},
		"skip a wave: open already": {
			given: func(s *edits.Releases) {
				s.Desired.Channels["dedicated"].Skips = []channels.Skip{{Sequence: 2, Wave: 3}}
			},
			d:    edits.SkipWave{Channel: "dedicated", Wave: 2},
			want: "unchanged: open wave 2 of dedicated: already done",
		},
		"skip a wave: the head moved": {
			d:    edits.SkipWave{Channel: "dedicated", Wave: 2, Seen: 1},
			want: "error: the head moved to 1.0.0 meanwhile\nnext: look again: sluice rollout status dedicated",
		},
		"skip a wave: none": {
			d:    edits.SkipWave{Channel: "dedicated", Wave: 4},
			want: "error: there is no wave 4 to open: dedicated has 3\nnext: sluice rollout status dedicated",
		},
		"freeze": {
			d: edits.Freeze{Channel: "staging", Freeze: channels.Freeze{From: noon, Until: noon.Add(time.Hour),
				Reason: "fair"}},
			want: "freeze staging until 2026-11-24T13:00:00Z\n\nfair\n+ channels/staging/channel.yaml\n# ours\n" +
				"apiVersion: sluice/v1\nkind: Channel\ngates: []\nfreezes:\n" +
				"  - {from: 2026-11-24T12:00:00Z, until: 2026-11-24T13:00:00Z, reason: \"fair\"}\n" +
				"did: freeze staging until 2026-11-24T13:00:00Z\n" +
				"next: until then nothing but rollbacks is promoted or granted there",
		},
		"freeze: a policy with faults": {
			d: edits.Freeze{Channel: "dedicated",
				Freeze: channels.Freeze{From: noon, Until: noon.Add(time.Hour), Reason: "fair"}},
			want: "error: add a freeze: correct the policy first: channel.yaml:2: apiVersion is required\n" +
				"next: edit channels/dedicated/channel.yaml by hand",
		},
		"quarantine": {
			d: edits.Quarantine{Release: "1.0.0", Channels: []string{"dedicated"}, Reason: "loses workspaces"},
			want: "quarantine 1.0.0 in dedicated\n\nloses workspaces\n+ quarantine/1.0.0.yaml\ndigest: " +
				string(digestOf("1.0.0")) + "\nchannels:\n    - dedicated\nreason: loses workspaces\nby: Ada\n" +
				"did: quarantine 1.0.0 in dedicated\n" +
				"next: dedicated runs it: where onFailure is rollback it rolls back by itself; see sluice status",
		},
		"quarantine: what nobody runs": {
			d: edits.Quarantine{Release: "1.2.0", Reason: "odd"},
			want: "quarantine 1.2.0\n\nodd\n+ quarantine/1.2.0.yaml\ndigest: " + string(digestOf("1.2.0")) +
				"\nreason: odd\nby: Ada\ndid: quarantine 1.2.0\n" +
				"next: no channel takes it; lift it with sluice quarantine 1.2.0 --lift",
		},
		"quarantine: where all channels are kept from it": {
			given: quarantined("1.0.0"),
			d:     edits.Quarantine{Release: "1.0.0", Channels: []string{"dedicated"}, Reason: "odd"},
			want: "unchanged: quarantine 1.0.0 in dedicated: all channels are kept from it already: slow (Grace); " +
				"sluice rollback CHANNEL --reason WHY takes one back that runs it",
		},
		"quarantine: in one more channel": {
			given: quarantined("1.2.0", "staging"),
			d:     edits.Quarantine{Release: "1.2.0", Channels: []string{"dedicated"}, Reason: "odd"},
			want: "quarantine 1.2.0 in dedicated\n\nodd\n+ quarantine/1.2.0.yaml\ndigest: " +
				string(digestOf("1.2.0")) + "\nchannels:\n    - dedicated\n    - staging\n" +
				"reason: 'odd; before: slow (Grace) (staging)'\nby: Ada\ndid: quarantine 1.2.0 in dedicated\n" +
				"next: not taken by dedicated, staging; lift it with sluice quarantine 1.2.0 --lift",
		},
		"lift a quarantine: in one channel of two": {
			given: quarantined("1.2.0", "dedicated", "staging"),
			d:     edits.LiftQuarantine{Release: "1.2.0", Channels: []string{"staging"}, Reason: "tried"},
			want: "lift the quarantine of 1.2.0 in staging\n\ntried\n+ quarantine/1.2.0.yaml\ndigest: " +
				string(digestOf("1.2.0")) + "\nchannels:\n    - dedicated\nreason: slow\nby: Grace\n" +
				"did: lift the quarantine of 1.2.0 in staging\nnext: it is a candidate again where it was accepted",
		},
		"lift a quarantine: in the last channel": {
			given: quarantined("1.2.0", "staging"),
			d:     edits.LiftQuarantine{Release: "1.2.0", Channels: []string{"staging"}},
			want: "lift the quarantine of 1.2.0 in staging\n- quarantine/1.2.0.yaml\n" +
				"did: lift the quarantine of 1.2.0 in staging\nnext: it is a candidate again where it was accepted",
		},
		"lift a quarantine: in one channel of all": {
			given: quarantined("1.2.0"),
			d:     edits.LiftQuarantine{Release: "1.2.0", Channels: []string{"staging"}},
			want: "error: all channels are kept from it, and not single ones: slow (Grace)\n" +
				"next: sluice quarantine 1.2.0 --lift ends that in all; then quarantine it in some, by --channel",
		},
		"lift a quarantine: in a channel that may take it": {
			given: quarantined("1.2.0", "dedicated"),
			d:     edits.LiftQuarantine{Release: "1.2.0", Channels: []string{"staging"}},
			want: "error: it is not quarantined in staging, but in dedicated\n" +
				"next: sluice why 1.2.0 shows where it is",
		},
		"lift a quarantine": {
			d: edits.LiftQuarantine{Release: "0.9.0"},
			want: "lift the quarantine of 0.9.0\n- quarantine/0.9.0.yaml\ndid: lift the quarantine of 0.9.0\n" +
				"next: it is a candidate again where it was accepted",
		},
		"lift no quarantine": {
			d: edits.LiftQuarantine{Release: "1.0.0"},
			want: "error: it is not quarantined: there is no quarantine/1.0.0.yaml\n" +
				"next: sluice status shows what holds",
		},
		"add a cell": {
			given: parameters,
			d: edits.AddCell{Name: "initech", Channel: "dedicated", Profile: "small",
				Values: map[string]string{"replicas": "3", "domain": "initech.example"},
				Labels: map[string]string{"region": "eu"}},
			want: "add cell initech to dedicated\n+ cells/initech/cell.yaml\napiVersion: sluice/v1\nkind: Cell\n" +
				"channel: dedicated\nprofile: small\nlabels:\n    region: eu\nvalues:\n    domain: initech.example\n" +
				"    replicas: 3\ndid: add cell initech to dedicated",
		},
		"add a cell: its values are of their parameters' types": {
			given: parameters,
			d: edits.AddCell{Name: "initech", Channel: "dedicated", Values: map[string]string{"tenant": "0123",
				"replicas": "3", "domain": "true", "later": "1.10"}},
			want: "add cell initech to dedicated\n+ cells/initech/cell.yaml\napiVersion: sluice/v1\nkind: Cell\n" +
				"channel: dedicated\nvalues:\n    domain: \"true\"\n    later: 1.1\n    replicas: 3\n    tenant: \"0123\"\n" +
				"did: add cell initech to dedicated\nwarning: cells/initech/cell.yaml: warning: later is no parameter of 1.0.0 " +
				"or a later release: until one has it, the cell is granted nothing new",
		},
		"add a cell: a value that no release takes": {
			given: parameters,
			d:     edits.AddCell{Name: "initech", Channel: "dedicated", Values: map[string]string{"replicas": "many"}},
			want: "error: --value replicas must be a number, not many\n" +
				"next: sluice release show 1.2.0 lists the parameters",
		},
		"change a cell: a value that its owner sets": {
			given: parameters,
			d:     edits.ChangeCell{Name: "acme", Values: map[string]string{"license": "x"}},
			want: "error: --value license is set in the cell only: remove it here\n" +
				"next: sluice release show 1.2.0 lists the parameters",
		},
		"change a cell: a value as text, and a name with a mistake": {
			given: parameters,
			d:     edits.ChangeCell{Name: "acme", Values: map[string]string{"tenant": "2026-01-01", "replica": "3"}},
			want: "edit cell acme\n+ cells/acme/cell.yaml\nchannel: dedicated\nvalues:\n  replica: 3\n" +
				"  tenant: \"2026-01-01\"\ndid: edit cell acme\nnext: sluice why acme shows what it gets\n" +
				"warning: cells/acme/cell.yaml: warning: replica is no parameter of 1.0.0 or a later release: " +
				"until one has it, the cell is granted nothing new; did you mean replicas?",
		},
		"add a cell: there": {
			d:    edits.AddCell{Name: "acme", Channel: "dedicated"},
			want: "unchanged: add cell acme to dedicated: already done",
		},
		"add a cell: elsewhere": {
			d: edits.AddCell{Name: "acme", Channel: "staging"},
			want: "error: the cell exists already, in dedicated\n" +
				"next: edit cells/acme/cell.yaml to change it; for a new token, omit --channel and the other flags",
		},
		"add a cell: a name that leads elsewhere": {
			d:    edits.AddCell{Name: "../acme", Channel: "staging"},
			want: "error: \"../acme\" can't be a cell's name\nnext: it takes lower-case letters, digits and dashes",
		},
		"remove a cell": {
			d: edits.RemoveCell{Name: "acme"},
			want: "remove cell acme\n- cells/acme/cell.yaml\n- cells/acme/identity.yaml\ndid: remove cell acme\n" +
				"next: it gets no more assignments, and its reports are refused",
		},
		"rename a cell: onto another": {
			d:    edits.RenameCell{Name: "acme", To: "globex"},
			want: "error: there is a cell globex already\nnext: choose another name",
		},
		"rename a cell: none": {
			d:    edits.RenameCell{Name: "nobody", To: "acme-eu"},
			want: "error: the repository has no cell \"nobody\"\nnext: sluice cell list",
		},
		"rename a cell: a name that leads elsewhere": {
			d: edits.RenameCell{Name: "acme", To: "../acme"},
			want: "error: \"../acme\" can't be a cell's name\n" +
				"next: it takes lower-case letters, digits and dashes",
		},
		"remove a cell: none": {
			d:    edits.RemoveCell{Name: "."},
			want: "error: the repository has no cell \".\"\nnext: sluice cell list",
		},
		"retry a cell": {
			d: edits.RetryCell{Name: "acme", Reason: "their database is back"},
			want: "retry acme\n\ntheir database is back\n+ cells/acme/cell.yaml\nchannel: dedicated\n" +
				"retry: \"2026-11-24T12:00:00Z\"\ndid: retry acme\n" +
				"next: if the newest release failed there, the cell tries it once more; sluice why acme",
		},
		"retry a cell: once more in the same second": {
			given: func(s *edits.Releases) { s.Desired.Cells["acme"].Retry = noon },
			d:     edits.RetryCell{Name: "acme"},
			want: "retry acme\n+ cells/acme/cell.yaml\nchannel: dedicated\nretry: \"2026-11-24T12:00:01Z\"\n" +
				"did: retry acme\nnext: if the newest release failed there, the cell tries it once more; sluice why acme",
		},
		"retry a cell: none": {
			d:    edits.RetryCell{Name: "nobody"},
			want: "error: the repository has no cell \"nobody\"\nnext: sluice cell list",
		},
		"revoke a cell": {
			d: edits.RevokeCell{Name: "acme"},
			want: "revoke acme\n+ cells/acme/identity.yaml\napiVersion: sluice/v1\nkind: Identity\nepoch: 0\n" +
				"serial: 3\npublicKey: ssh-ed25519 AAAA\nrevoked: true\ndid: revoke acme\n" +
				"next: the control plane shuts it out once it has read this; sluice cell add acme lets it come back",
		},
		"revoke a cell: no key": {
			d: edits.RevokeCell{Name: "globex"},
			want: "error: cell globex has no key in the repository\n" +
				"next: name the control plane with --server: it may know of one that is not committed yet",
		},
		"prune": {
			given: func(s *edits.Releases) {
				s.Desired.Channels["dedicated"].History = s.Desired.Channels["dedicated"].History[1:]
			},
			d: edits.Prune{Keep: 1},
			want: "prune releases\n- releases/0.9.0/base/app.yaml\n- releases/0.9.0/release.yaml\n" +
				"+ releases/0.9.0/tombstone.yaml\napiVersion: sluice/v1\ndigest: " + string(digestOf("0.9.0")) +
				"\nkind: Tombstone\nreason: pruned\nversion: 0.9.0\ndid: prune 0.9.0",
		},
		"prune: a cell is pinned to it": {
			given: func(s *edits.Releases) {
				s.Desired.Channels["dedicated"].History = s.Desired.Channels["dedicated"].History[1:]
				s.Desired.Cells["acme"].Pin = "0.9.0"
			},
			d:    edits.Prune{Keep: 1},
			want: "unchanged: nothing to prune",
		},
		"prune: a channel without a head asks for it": {
			given: func(s *edits.Releases) {
				c := &plan.Channel{Request: &plan.Request{Release: "0.9.0"}}
				s.Desired.Channels["dedicated"].History = s.Desired.Channels["dedicated"].History[1:]
				s.Desired.Order, s.Desired.Channels["new"] = append(s.Desired.Order, "new"), c
			},
			d:    edits.Prune{Keep: 1},
			want: "unchanged: nothing to prune",
		},
		"prune: a rollback needs it": {
			d:    edits.Prune{Keep: 1},
			want: "unchanged: nothing to prune",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := inMemory()
			if c.given != nil {
				c.given(s)
			}
			if c.by.Email == "" {
				c.by = ada
			}
			if got := decided(edits.Decide(c.d, s, c.by, noon)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// held holds dedicated.
func held(ids ...string) func(*edits.Releases) {
	return func(s *edits.Releases) {
		for _, id := range ids {
			s.Desired.Channels["dedicated"].Holds = append(s.Desired.Channels["dedicated"].Holds, channels.Hold{ID: id})
		}
	}
}

// parameters gives the releases from 1.0.0 on parameters; only the newest has domain.
func parameters(s *edits.Releases) {
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		s.Desired.Releases[version].Parameters = map[string]releases.Parameter{"tenant": {Type: "string"},
			"replicas": {Type: "integer"}, "license": {Type: "string", Owner: releases.OwnerCell}}
	}
	s.Desired.Releases["1.2.0"].Parameters["domain"] = releases.Parameter{Type: "string"}
}

// heldCells holds some cells of dedicated, and the channel as a whole too.
func heldCells(names ...string) func(*edits.Releases) {
	return func(s *edits.Releases) {
		s.Desired.Channels["dedicated"].CellHolds = []channels.Hold{{ID: "cells", Cells: names}}
		s.Desired.Channels["dedicated"].Holds = []channels.Hold{{ID: "whole"}}
	}
}

// quarantined keeps some channels from a release; none: all.
func quarantined(version string, names ...string) func(*edits.Releases) {
	return func(s *edits.Releases) {
		s.Desired.Quarantine = append(s.Desired.Quarantine, channels.Quarantine{Release: version,
			Digest: digestOf(version), Channels: names, Reason: "slow", By: "Grace"})
		s.Files.(fstest.MapFS)["quarantine/"+version+".yaml"] = &fstest.MapFile{}
	}
}

// requested is Grace's request for a release in dedicated.
func requested(version string) func(*edits.Releases) {
	return func(s *edits.Releases) {
		s.Desired.Channels["dedicated"].Request = &plan.Request{Release: version, By: "Grace"}
	}
}

func TestCut(t *testing.T) {
	version, err := releases.ParseVersion("1.3.0")
	if err != nil {
		t.Fatal(err)
	}
	manifest := "apiVersion: sluice/v1\nkind: Release\nversion: 1.3.0\n"
	content := map[string][]byte{"release.yaml": []byte(manifest), "kustomization.yaml": []byte("resources: []\n")}
	d, faults := edits.NewCut(version, content, "for the fair")
	if len(edits.Fatal(faults)) > 0 {
		t.Fatal(faults)
	}
	s := inMemory()
	e, err := edits.Decide(d, s, ada, noon)
	got := decided(e, err)
	for _, part := range []string{"cut 1.3.0\n\nfor the fair\n",
		"+ releases/1.3.0/kustomization.yaml\nresources: []\n+ releases/1.3.0/release.yaml\n" + manifest,
		"did: cut 1.3.0 (2 files, sha256:", "next: the engine promotes it to staging; " +
			"sluice why staging shows its progress"} {
		if !strings.Contains(got, part) {
			t.Errorf("got\n%s\nwithout\n%s", got, part)
		}
	}
	s.Desired.Channels["staging"].Holds = []channels.Hold{{ID: "a"}}
	if got := decided(edits.Decide(d, s, ada, noon)); !strings.Contains(got,
		"next: the engine promotes it to staging once that is no longer held; sluice why staging shows by whom") {
		t.Errorf("where staging is held: got\n%s", got)
	}
	lower, err := releases.ParseVersion("1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	below, _ := edits.NewCut(lower, map[string][]byte{"kustomization.yaml": content["kustomization.yaml"],
		"release.yaml": []byte(strings.ReplaceAll(manifest, "1.3.0", "1.0.1"))}, "")
	if got := decided(edits.Decide(below, s, ada, noon)); !strings.Contains(got,
		"next: no channel takes it by itself, for staging runs 1.1.0: cut it again under a greater version") {
		t.Errorf("below every head: got\n%s", got)
	}
	candidate, err := releases.ParseVersion("1.4.0-rc.1")
	if err != nil {
		t.Fatal(err)
	}
	rc, _ := edits.NewCut(candidate, map[string][]byte{"kustomization.yaml": content["kustomization.yaml"],
		"release.yaml": []byte(strings.ReplaceAll(manifest, "1.3.0", "1.4.0-rc.1"))}, "")
	e, err = edits.Decide(rc, s, ada, noon)
	if got := decided(e, err); !strings.Contains(got, "next: no channel takes pre-releases") {
		t.Errorf("a pre-release that no channel takes: got\n%s", got)
	}
	if _, faults := edits.NewCut(version, map[string][]byte{"release.yaml": []byte("version: 2.0.0\n")},
		""); len(edits.Fatal(faults)) == 0 {
		t.Error("a release that says another version has no faults")
	}
	faulty := inMemory()
	faulty.Desired.Channels["staging"].Policy = nil
	if got := decided(edits.Decide(d, faulty, ada, noon)); !strings.Contains(got,
		"next: staging takes nothing, for its policy has faults: sluice validate shows them") {
		t.Errorf("where staging's policy has faults: got\n%s", got)
	}
	again := inMemory() // an old release, which was not read
	again.Desired.Releases["1.3.0"] = &plan.Release{StoredRelease: releases.StoredRelease{
		Release: releases.Release{Version: version}}}
	again.Files = files(map[string]string{"releases/1.3.0/release.yaml": manifest,
		"releases/1.3.0/kustomization.yaml": "resources: []\n"})
	if got := decided(edits.Decide(d, again, ada, noon)); !strings.Contains(got, "already, with the same bytes") {
		t.Errorf("the same bytes: got\n%s", got)
	}
	there := *s.Desired.Releases["1.2.0"]
	there.Version = version
	s.Desired.Releases["1.3.0"] = &there
	if got, want := decided(edits.Decide(d, s, ada, noon)),
		"error: 1.3.0 exists already, with other bytes\nnext: releases never change: use another version"; got != want {
		t.Errorf("other bytes: got\n%s\nwant\n%s", got, want)
	}
	there.Tombstone = &releases.Tombstone{}
	if got, want := decided(edits.Decide(d, s, ada, noon)),
		"error: 1.3.0 was used before, and pruned\nnext: use another version"; got != want {
		t.Errorf("pruned: got\n%s\nwant\n%s", got, want)
	}
}

// branch is a branch that other people push to: it moves some times before it accepts a commit.
type branch struct {
	moves  int
	refuse error
	drafts []releases.Draft
	reads  int
	read   func() *edits.Releases
}

func (b *branch) Push(_ context.Context, base string, drafts []releases.Draft) ([]string, error) {
	switch {
	case b.refuse != nil:
		return nil, b.refuse
	case b.moves > 0:
		b.moves--
		return nil, fmt.Errorf("push on %s: %w", base, releases.ErrMoved)
	}
	b.drafts = append(b.drafts, drafts...)
	return []string{"c2"}, nil
}

func (b *branch) pusher() edits.Pusher[*edits.Releases] {
	if b.read == nil {
		b.read = inMemory
	}
	return edits.Pusher[*edits.Releases]{Repo: b, By: ada, Address: "/srv/releases",
		Pause: func(ctx context.Context, tries int) error {
			return backoff.Sleep(ctx,
				backoff.FullJitter(backoff.Exponential(20*time.Millisecond, time.Second/2, tries)))
		},
		ReadSnapshot: func(context.Context) (*edits.Releases, error) {
			b.reads++
			return b.read(), nil
		}}
}

func TestPushDecidesAgainWhenTheBranchMoved(t *testing.T) {
	b := &branch{moves: 3}
	done, err := b.pusher().Push(t.Context(), edits.Hold{Channel: "dedicated", ID: "fair", Reason: "fair"})
	if err != nil || done.Commit != "c2" || done.Summary != "hold dedicated" || b.reads != 4 || len(b.drafts) != 1 {
		t.Errorf("done %+v, %v; read %d times, pushed %d commits", done, err, b.reads, len(b.drafts))
	}
	if got, want := b.drafts[0].Message, "hold dedicated\n\nfair\n"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}

// R61: a decision goes on losing races for minutes, with pauses between, and is given up with the caller.
func TestPushWaitsBetweenRaces(t *testing.T) {
	hold := edits.Hold{Channel: "dedicated", Reason: "fair"}
	synctest.Test(t, func(t *testing.T) {
		b := &branch{moves: 100}
		if done, err := b.pusher().Push(t.Context(), hold); err != nil || done.Commit != "c2" {
			t.Errorf("100 lost races: %+v, %v", done, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b, began := &branch{moves: 1 << 20}, time.Now()
		_, err := b.pusher().Push(t.Context(), hold)
		got, took := decided(edits.Edit{}, err), time.Since(began)
		if want := fmt.Sprintf("error: hold dedicated: the branch moved %d times meanwhile\nnext: try again",
			b.reads); got != want || took < time.Minute || took > 3*time.Minute {
			t.Errorf("after %s got %s, want %s", took, got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b := &branch{moves: 1 << 20}
		if _, err := b.pusher().Push(ctx, hold); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPushOfNothingNew(t *testing.T) {
	b := new(branch)
	done, err := b.pusher().Push(t.Context(), edits.AddCell{Name: "acme", Channel: "dedicated"})
	if err != nil || done.Commit != "" || done.Summary != "add cell acme to dedicated: already done" ||
		len(b.drafts) > 0 {
		t.Errorf("done %+v, %v; pushed %d commits", done, err, len(b.drafts))
	}
}

func TestPushSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  error
		next string
	}{
		{errors.New("timeout"), "it is not known whether the push landed: check git log, then try again"},
		{&releases.RefusedError{Reason: "refusing to update checked out branch"},
			"git -C /srv/releases config receive.denyCurrentBranch updateInstead"},
		{&releases.RefusedError{Reason: "Working directory has unstaged changes"},
			"commit or stash the changes in /srv/releases, then try again"},
		{&releases.RefusedError{Reason: "protected branch"},
			"the git host's own message is above: ask whoever runs the host"},
	} {
		b := &branch{refuse: c.err}
		_, err := b.pusher().Push(t.Context(), edits.RemoveCell{Name: "acme"})
		if got, want := decided(edits.Edit{}, err),
			"error: remove cell acme: "+c.err.Error()+"\nnext: "+c.next; got != want || !errors.Is(err, c.err) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A push reports a landed approval that is not proven as a failure, with the commit.
func TestPushLooksWhetherAnApprovalCounts(t *testing.T) {
	b := new(branch)
	d := edits.Approve{Release: "1.1.0", Channel: "dedicated"}
	done, err := b.pusher().Push(t.Context(), d)
	want := "error: approve 1.1.0 for dedicated: it is committed but does not count: " +
		"sluice.yaml does not list its signing key for ada\n" +
		"next: have the key added to people.ada.keys in sluice.yaml, then approve again"
	if got := decided(edits.Edit{}, err); got != want || done.Commit != "c2" {
		t.Errorf("got %s, commit %q", got, done.Commit)
	}
	b = new(branch)
	b.read = func() *edits.Releases {
		s := inMemory()
		if b.reads > 1 {
			s.Desired.Channels["dedicated"].Approved = []plan.Approved{{Approver: channels.Approver{Person: "ada"},
				Release: "1.1.0", Digest: digestOf("1.1.0")}}
		}
		return s
	}
	if done, err := b.pusher().Push(t.Context(), d); err != nil ||
		done.Summary != "approve 1.1.0 for dedicated as ada" {
		t.Errorf("done %+v, %v", done, err)
	}
}
