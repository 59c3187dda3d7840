package edits_test

import (
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
)

const (
	older, newest = "a111111111111111111111111111111111111111", "b222222222222222222222222222222222222222"

	editorText = "# of the editor\nflags:\n  new-editor:\n    state: ENABLED\n" +
		"    variants: {on: true, off: false} # both\n    defaultVariant: on\n" +
		"    metadata: {feature: classes, off: off}\n"
	classes = "apiVersion: sluice/v1\nkind: Announcement\ntitle: Classes\n" +
		"publishAt: 2026-12-01T10:00:00 # a Tuesday\nfeatures: [classes]\n"
)

// flagsRepository returns a repository with a flag of the feature classes, which an announcement has too, a flag
// without a feature, and the files of more.
func flagsRepository(more map[string]string) *edits.Flags {
	texts := map[string]string{
		"sluice.yaml": "apiVersion: sluice/v1\nkind: Flags\nzone: Europe/Berlin\npeople:\n" +
			"  ada: {email: ada@example.com, keys: [\"" + line(key(1))[:len(line(key(1)))-1] +
			"\"], roles: [support]}\n  grace: {email: grace@example.com}\napprovals: {count: 1, from: [support]}\n",
		"flags/editor.yaml": editorText,
		"flags/ssh.yaml": "flags:\n  gateway:\n    state: ENABLED\n    variants: {on: true, off: false}\n" +
			"    defaultVariant: on\n    metadata: {feature: ssh, off: off}\n",
		"flags/flags.yaml": "flags:\n  limit:\n    state: ENABLED\n    variants: {low: 1, high: 2}\n" +
			"    defaultVariant: low\n",
		"announcements/classes.yaml": classes,
	}
	maps.Copy(texts, more)
	all := files(texts)
	before := files(map[string]string{"flags/flags.yaml": "flags: {}\n"})
	return &edits.Flags{
		Commit: newest, Files: all, Tree: repository.Load(nil, all),
		Contains: func(commit string) bool { return commit == older || commit == newest },
		Open: func(commit string) (fs.FS, error) {
			found, ok := map[string]fs.FS{older: before, newest: all}[commit]
			if !ok {
				return nil, errors.New("there is no such commit")
			}
			return found, nil
		},
		Approvals: func() (announce.Input, error) {
			return announce.Input{Authors: map[string][]string{"classes": {"grace@example.com"}}}, nil
		},
	}
}

func TestFlagDecisions(t *testing.T) {
	kill := map[string]string{"overrides/kill-new-editor.yaml": "apiVersion: sluice/v1\nkind: Kill\n" +
		"flag: new-editor\nreason: loses text\n"}
	hold := map[string]string{"overrides/hold-classes.yaml": "apiVersion: sluice/v1\nkind: Hold\n" +
		"announcement: classes\nreason: docs\n"}
	published := map[string]string{"records/classes/dedicated.yaml": "outcome: published\nhash: sha256:" +
		strings.Repeat("ab", 32) + "\ntext: sha256:" + strings.Repeat("cd", 32) + "\ncommit: " + older +
		"\nat: 2026-11-20T10:00:00Z\n"}
	hash := func(s *edits.Flags) string {
		h, _ := s.Tree.Hash(s.Tree.Announcements["classes"])
		return h
	}(flagsRepository(nil))
	for name, c := range map[string]struct {
		more map[string]string
		d    edits.Decision[*edits.Flags]
		by   edits.Person // zero: ada
		want string
	}{
		"set a flag": {
			d: edits.SetFlag{Key: "new-editor", Flag: edits.Flag{Default: "off"}, Reason: "not yet"},
			want: "set flag new-editor: defaultVariant off\n\nnot yet\n+ flags/editor.yaml\n# of the editor\nflags:\n" +
				"  new-editor:\n    state: ENABLED\n    variants: {on: true, off: false} # both\n" +
				"    defaultVariant: \"off\"\n    metadata: {feature: classes, off: off}\n" +
				"did: set flag new-editor: defaultVariant off\n" +
				"next: cells of entry channels get it at the next poll; " +
				"where classes is approved, the approved version stays until: sluice announce approve classes",
		},
		"set a flag as it is": {
			d:    edits.SetFlag{Key: "limit", Flag: edits.Flag{State: "ENABLED"}},
			want: "unchanged: set flag limit: state ENABLED: already done",
		},
		"set no flag": {
			d: edits.SetFlag{Key: "limits", Flag: edits.Flag{State: "ENABLED"}},
			want: "error: there is no flag \"limits\"; did you mean limit?\n" +
				"next: sluice flag list; or make it: sluice flag set limits --new",
		},
		"set a flag wrongly": {
			d: edits.SetFlag{Key: "limit", Flag: edits.Flag{Default: "middle"}},
			want: "error: it would introduce a fault: flags/flags.yaml:5: flag limit: " +
				"there is no variant \"middle\" for defaultVariant; there are: high, low\n" +
				"next: nothing was committed; docs/formats.md describes the files",
		},
		"make a flag": {
			d: edits.NewFlag{Key: "dark", Flag: edits.Flag{Feature: "looks"}},
			want: "make flag dark\n+ flags/looks.yaml\n$schema: https://flagd.dev/schema/v0/flags.json\nflags:\n" +
				"  dark:\n    state: ENABLED\n    variants:\n      \"on\": true\n      \"off\": false\n" +
				"    defaultVariant: \"on\"\n    metadata:\n      feature: looks\n      \"off\": \"off\"\n" +
				"did: make flag dark\n" +
				"next: it stays off until its feature is announced: sluice announce new ID --title TITLE --feature looks",
		},
		"make a flag of other variants": {
			d: edits.NewFlag{Key: "theme", File: "flags/looks.json",
				Flag: edits.Flag{Variants: edit.Fields{{Key: "light", Value: "#fff"}, {Key: "dark", Value: "#000"}},
					Default: "light", Metadata: edit.Fields{{Key: "expose", Value: "client"}}}},
			want: "make flag theme\n+ flags/looks.json\n{\n" +
				"  \"$schema\": \"https://flagd.dev/schema/v0/flags.json\",\n  \"flags\": {\n    \"theme\": {\n" +
				"      \"state\": \"ENABLED\",\n      \"variants\": {\n        \"light\": \"#fff\",\n" +
				"        \"dark\": \"#000\"\n      },\n      \"defaultVariant\": \"light\",\n      \"metadata\": {\n" +
				"        \"expose\": \"client\"\n      }\n    }\n  }\n}\ndid: make flag theme\n" +
				"next: cells of entry channels get it at the next poll, " +
				"other cells once entry channels have served it for a while; sluice flag show theme",
		},
		"make a flag that is there": {
			d:    edits.NewFlag{Key: "limit"},
			want: "error: there is a flag limit already, in flags/flags.yaml:2\nnext: omit --new to change it",
		},
		"make a flag elsewhere": {
			d: edits.NewFlag{Key: "dark", File: "overrides/dark.yaml"},
			want: "error: --file overrides/dark.yaml is neither flags/*.yaml nor flags/*.json\n" +
				"next: omit --file, or name one there",
		},
		"kill": {
			d: edits.KillFlag{Key: "new-editor", Reason: "loses text", Until: noon},
			want: "kill new-editor\n\nloses text\n+ overrides/kill-new-editor.yaml\napiVersion: sluice/v1\n" +
				"kind: Kill\nflag: new-editor\nreason: loses text\nby: Ada\nuntil: \"2026-11-24T12:00:00Z\"\n" +
				"did: kill new-editor\n" +
				"next: it is off in connected cells as soon as the control plane sees the commit; " +
				"sluice flag unkill new-editor --reason WHY lifts it",
		},
		"kill again": {
			more: kill,
			d:    edits.KillFlag{Key: "new-editor", Reason: "loses text"},
			want: "unchanged: kill new-editor: already done",
		},
		"unkill": {
			more: kill,
			d:    edits.UnkillFlag{Key: "new-editor", Reason: "fixed"},
			want: "lift the kill of new-editor\n\nfixed\n- overrides/kill-new-editor.yaml\n" +
				"did: lift the kill of new-editor\n" +
				"next: it follows its rules and announcements; sluice flag show new-editor",
		},
		"unkill nothing": {
			d: edits.UnkillFlag{Key: "new-editor"},
			want: "error: no kill of new-editor is in the repository\n" +
				"next: if it was killed just now, its commit is on its way: try again; see sluice flag show new-editor",
		},
		"promote flags": {
			d: edits.PromoteFlags{Channel: "dedicated", Reason: "today"},
			want: "promote flags to dedicated\n\ntoday\n+ heads/dedicated.yaml\ncommit: " + newest +
				"\ndid: promote flags to dedicated\nnext: its cells get them at their next poll; see sluice flag list",
		},
		"promote flags of no commit": {
			d: edits.PromoteFlags{Channel: "dedicated", To: "c9"},
			want: "error: --to c9 is not in the branch's history\n" +
				"next: git -C CLONE log --first-parent lists its commits: name one in full",
		},
		"announce": {
			d: edits.Announce{ID: "ssh", Title: "SSH", At: "2026-12-01 10:00", Features: []string{"ssh"},
				Channels: edit.Fields{{Key: "staging", Value: "never"}}, Embargo: true, Notes: "# SSH\n"},
			want: "announce ssh: SSH\n+ announcements/ssh.yaml\napiVersion: sluice/v1\nkind: Announcement\n" +
				"title: SSH\npublishAt: 2026-12-01T10:00:00\nchannels:\n  staging: never\nfeatures:\n  - ssh\n" +
				"embargo: true\nnotes: |\n  # SSH\ndid: announce ssh: SSH\nnext: sluice announce approve ssh",
		},
		"announce: there": {
			d:    edits.Announce{ID: "classes", Title: "Classes", Features: []string{"classes"}},
			want: "error: there is an announcement classes already\nnext: sluice announce show classes",
		},
		"announce: too late": {
			d: edits.Announce{ID: "ssh", Title: "SSH", At: "2026-11-24 12:30", Features: []string{"ssh"}},
			want: "error: --at 2026-11-24T12:30:00 has passed: it is 2026-11-24T13:00:00 in Europe/Berlin\n" +
				"next: give a future time, or leave --at out; to publish at once: sluice announce publish ssh --now",
		},
		"announce: no zone": {
			d:    edits.Announce{ID: "ssh", Title: "SSH", Zone: "Mars", Features: []string{"ssh"}},
			want: "error: there is no zone \"Mars\"\nnext: name an IANA zone such as Europe/Berlin",
		},
		"announce: a name that leads elsewhere": {
			d: edits.Announce{ID: "../flags/x", Title: "X", Features: []string{"x"}},
			want: "error: \"../flags/x\" can't be an announcement's name\n" +
				"next: use up to 100 letters, digits, dots, dashes and underscores, a letter or a digit first",
		},
		"publish": {
			d: edits.PublishAnnouncement{ID: "classes", At: "2026-12-02T10:00:00+01:00"},
			want: "publish the announcement classes at 2026-12-02T10:00:00+01:00\n+ announcements/classes.yaml\n" +
				"apiVersion: sluice/v1\nkind: Announcement\ntitle: Classes\n" +
				"publishAt: 2026-12-02T10:00:00 # a Tuesday\nfeatures: [classes]\n" +
				"did: publish the announcement classes at 2026-12-02T10:00:00+01:00\n" +
				"next: the text is new: sluice announce approve classes; " +
				"sluice announce show classes shows its progress",
		},
		"publish now": {
			d: edits.PublishAnnouncement{ID: "classes", Reason: "the hold is over"},
			want: "publish the announcement classes now\n\nthe hold is over\n+ announcements/classes.yaml\n" +
				"apiVersion: sluice/v1\nkind: Announcement\ntitle: Classes\n" +
				"publishAt: 2026-11-24T13:00:00 # a Tuesday\nfeatures: [classes]\nnow: true\n" +
				"did: publish the announcement classes now\n" +
				"next: the text is new: sluice announce approve classes; " +
				"sluice announce show classes shows its progress",
		},
		"publish now: while it is held": {
			more: hold,
			d:    edits.PublishAnnouncement{ID: "classes"},
			want: "publish the announcement classes now\n+ announcements/classes.yaml\n" +
				"apiVersion: sluice/v1\nkind: Announcement\ntitle: Classes\n" +
				"publishAt: 2026-11-24T13:00:00 # a Tuesday\nfeatures: [classes]\nnow: true\n" +
				"did: publish the announcement classes now\n" +
				"next: it is held, and not published before sluice announce hold classes --lift; the text is new: " +
				"sluice announce approve classes; sluice announce show classes shows its progress",
		},
		"publish: its time has passed": {
			more: map[string]string{"announcements/classes.yaml": "apiVersion: sluice/v1\nkind: Announcement\n" +
				"title: Classes\npublishAt: 2026-11-01T10:00:00\nfeatures: [classes]\n"},
			d: edits.PublishAnnouncement{ID: "classes", At: "2026-12-02 10:00"},
			want: "error: its time, 2026-11-01T10:00:00, has passed\n" +
				"next: users may have been told: to move it anyway, add --now",
		},
		"cancel": {
			d: edits.CancelAnnouncement{ID: "classes", Reason: "later"},
			want: "cancel the announcement classes\n\nlater\n+ announcements/classes.yaml\n" + classes +
				"cancelled: later\ndid: cancel the announcement classes\n" +
				"next: it will never be published; a new announcement may take its features",
		},
		"cancel what is published": {
			more: published,
			d:    edits.CancelAnnouncement{ID: "classes", Reason: "later"},
			want: "cancel the announcement classes\n\nlater\n+ announcements/classes.yaml\n" + classes +
				"cancelled: later\ndid: cancel the announcement classes\n" +
				"next: it is retracted: its features are turned off; sluice announce show classes",
		},
		"hold an announcement": {
			d: edits.HoldAnnouncement{ID: "classes", Reason: "docs"},
			want: "hold the announcement classes\n\ndocs\n+ overrides/hold-classes.yaml\napiVersion: sluice/v1\n" +
				"kind: Hold\nannouncement: classes\nreason: docs\nby: Ada\ndid: hold the announcement classes\n" +
				"next: it is not published until sluice announce hold classes --lift",
		},
		"hold an announcement that is cancelled": {
			more: map[string]string{"announcements/classes.yaml": classes + "cancelled: later\n"},
			d:    edits.HoldAnnouncement{ID: "classes", Reason: "docs"},
			want: "error: it is cancelled: later\nnext: write another: sluice announce new",
		},
		"lift an announcement": {
			more: hold,
			d:    edits.LiftAnnouncement{ID: "classes"},
			want: "lift the hold on the announcement classes\n- overrides/hold-classes.yaml\n" +
				"did: lift the hold on the announcement classes\n" +
				"next: if its time has not passed it is published then; else it needs sluice announce publish classes --now",
		},
		"lift an announcement that is not held": {
			d:    edits.LiftAnnouncement{ID: "classes"},
			want: "error: classes is not held\nnext: sluice announce show classes shows its progress",
		},
		"approve an announcement": {
			d: edits.ApproveAnnouncement{ID: "classes", Comment: "the docs are out"},
			want: "approve the announcement classes\n\nthe docs are out\n+ approvals/classes/ada.yaml\nhash: " + hash +
				"\ncomment: the docs are out\ndid: approve the announcement classes as ada\n" +
				"next: the engine counts it; sluice announce show classes shows what else it waits for",
		},
		"approve an announcement of another role": {
			d: edits.ApproveAnnouncement{ID: "classes", As: "grace"},
			want: "error: it needs approvals from support, and grace has no such role\n" +
				"next: ask somebody who has it, or have people.grace.roles changed in sluice.yaml",
		},
		"approve an announcement that is none": {
			d:    edits.ApproveAnnouncement{ID: "ssh"},
			want: "error: there is no announcement \"ssh\"\nnext: there are: classes",
		},
		"approve an announcement with another key (R42)": {
			d: edits.ApproveAnnouncement{ID: "classes"}, by: edits.Person{Person: ada.Person},
			want: "error: approvals are signed, and there is no SSH key to sign with\n" +
				"next: name one that sluice.yaml lists for ada: --key FILE, or load it into your SSH agent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := flagsRepository(c.more)
			if broken := edits.Fatal(s.Tree.Faults); len(broken) > 0 {
				t.Fatal(broken)
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

// Authors can't approve their announcements (R22), and a proven approval is not repeated.
func TestApproveAnnouncementOnce(t *testing.T) {
	s := flagsRepository(nil)
	d := edits.ApproveAnnouncement{ID: "classes"}
	s.Approvals = func() (announce.Input, error) {
		return announce.Input{Authors: map[string][]string{"classes": {"ADA@example.com"}}}, nil
	}
	if got, want := decided(edits.Decide(d, s, ada, noon)),
		"error: ada wrote it, and authors don't approve their own announcements\nnext: ask somebody else"; got != want {
		t.Errorf("an author: got\n%s\nwant\n%s", got, want)
	}
	hash, _ := s.Tree.Hash(s.Tree.Announcements["classes"])
	s.Approvals = func() (announce.Input, error) {
		return announce.Input{Proven: []announce.ProvenApproval{{Approval: repository.Approval{Announcement: "classes",
			Person: "ada", Hash: hash}}}}, nil
	}
	if got, want := decided(edits.Decide(d, s, ada, noon)),
		"unchanged: approve the announcement classes: already done"; got != want {
		t.Errorf("again: got\n%s\nwant\n%s", got, want)
	}
}

// A channel that has the same flags already gets no new head, though other files changed since.
func TestPromoteSameFlags(t *testing.T) {
	s := flagsRepository(map[string]string{"heads/dedicated.yaml": "commit: " + older + "\n"})
	d := edits.PromoteFlags{Channel: "dedicated"}
	if e, err := edits.Decide(d, s, ada, noon); err != nil || len(e.Files) != 1 {
		t.Errorf("other flags: %v, %v", e, err)
	}
	s.Open = func(string) (fs.FS, error) { return fstest.MapFS{"flags/a.yaml": {Data: []byte("flags: {}\n")}}, nil }
	if e, err := edits.Decide(d, s, ada, noon); err != nil || len(e.Files) != 0 {
		t.Errorf("the same flags: %v, %v", e, err)
	}
}

// R42, R43: a kill does not say that a flag is off where a channel has an older definition, by which it is not; it
// names the channel and the step that brings the newest definition there.
func TestKillNamesOlderDefinitions(t *testing.T) {
	before := files(map[string]string{"flags/editor.yaml": strings.Replace(editorText, ", off: off", "", 1)})
	head := map[string]string{"heads/dedicated.yaml": "commit: " + older + "\n"}
	hash := "sha256:" + strings.Repeat("ab", 32)
	armed := map[string]string{"records/classes/dedicated.yaml": "outcome: armed\nhash: " + hash + "\ntext: " + hash +
		"\ncommit: " + older + "\nat: 2026-12-01T09:00:00Z\n"}
	maps.Copy(armed, head)
	for want, more := range map[string]map[string]string{
		"sluice flag promote dedicated --reason WHY brings": head, "sluice announce approve classes brings": armed,
	} {
		s := flagsRepository(more)
		s.Open = func(string) (fs.FS, error) { return before, nil }
		e, err := edits.Decide(edits.KillFlag{Key: "new-editor", Reason: "x"}, s, ada, noon)
		if err != nil || len(e.Files) != 1 || !strings.Contains(e.Short, "it is not off: dedicated has an older definition") ||
			!strings.Contains(e.Next, want) {
			t.Errorf("%q, %q, %v; want %q", e.Short, e.Next, err, want)
		}
	}
}

// Existing faults don't prevent a change that mends one, nor a kill (R43).
func TestKillLandsWhateverIsWrong(t *testing.T) {
	s := flagsRepository(map[string]string{"flags/editor.yaml": "flags: [\n"})
	if !s.Tree.Invalid {
		t.Fatal("the repository has no fault")
	}
	if e, err := edits.Decide(edits.KillFlag{Key: "new-editor", Reason: "loses text"}, s, ada,
		time.Now()); err != nil || len(e.Files) != 1 {
		t.Errorf("got %v, %v", e, err)
	}
	if e, err := edits.Decide(edits.KillFlag{Key: "../../../sluice", Reason: "x"}, s, ada, time.Now()); err == nil {
		t.Errorf("a key that leads elsewhere: got %v", e.Files)
	}
}
