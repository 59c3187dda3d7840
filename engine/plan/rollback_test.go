package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/reason"
)

// R20: a forward-only release that a channel skipped, or that was pruned, is a barrier all the same.
func TestNoWayBackOverForwardOnly(t *testing.T) {
	for name, c := range map[string]func(*World){
		"skipped": func(w *World) {
			w.Commit("bob", "cut two", Union(Release("2.0.0", "rollback: forward-only\n"), Release("3.0.0")))
		},
		"pruned": func(w *World) {
			w.CutAndInstall("staging", "2.0.0", "rollback: forward-only\n")
			files := map[string]string{
				"releases/2.0.0/release.yaml": "", "releases/2.0.0/kustomization.yaml": "",
				"releases/2.0.0/app.yaml": "",
				"releases/2.0.0/tombstone.yaml": "apiVersion: sluice/v1\nkind: Tombstone\nversion: 2.0.0\ndigest: " +
					string(w.Digest("2.0.0")) + "\n",
			}
			for i := range plan.RollbackReach { // no tombstone takes what is within reach
				version := fmt.Sprintf("2.1.%d", i)
				w.CutAndInstall("staging", version)
				files["quarantine/"+version+".yaml"] = "digest: @digest:" + version + "\nreason: bad\n"
			}
			w.Commit("bob", "cut", Release("3.0.0"))
			w.Settle()
			w.Commit("eve", "prune", files)
		},
		"edited": func(w *World) {
			w.CutAndInstall("staging", "2.0.0", "rollback: forward-only\n")
			w.Commit("eve", "edit", Release("2.0.0"))
			w.Commit("bob", "cut", Union(Release("3.0.0"), map[string]string{
				"quarantine/2.0.0.yaml": "digest: " + string(w.Desired().Channels["staging"].Effective.Digest) +
					"\nreason: bad\n",
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := One(t, "")
			c(w)
			w.Settle()
			if name == "edited" {
				w.Unhold() // the quarantined head halted the channel
				w.Settle()
			}
			w.WantHead("staging", "3.0.0")
			w.ReportFailed("s1", "broken")
			p := w.Run()
			if len(p.Actions) == 0 || p.Actions[0].Kind != plan.Halt ||
				!strings.Contains(p.Actions[0].Reason, "2.0.0 is forward-only") {
				t.Fatalf("actions %s: %+v", Kinds(p), p.Actions)
			}
			w.RequestRelease("staging", "1.0.0")
			w.WantActions("")
			w.WantBlocked("staging", "request", "2.0.0 is forward-only")
		})
	}
}

// R20: a forward-only release that was cut later, below the head, is no barrier: it never ran here.
func TestLaterForwardOnlyIsNoBarrier(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("3.0.0"))
	w.Settle()
	w.Commit("bob", "cut", Release("2.0.0", "rollback: forward-only\n"))
	w.ReportFailed("s1", "broken")
	w.WantActions("rollback 1.0.0 staging; quarantine 3.0.0 staging")
}

// R19: a rollback goes below the head. A release that a person rolled back is no target.
func TestBackIsNeverUp(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "2.0.0")
	w.RequestRelease("staging", "1.0.0")
	w.WantActions("rollback 1.0.0 staging")
	w.InstallAll()
	w.Commit("eve", "stop it", map[string]string{"quarantine/1.0.0.yaml": "digest: @digest:1.0.0\nreason: leaks\n"})
	w.WantActions("halt 1.0.0 staging")
	w.WantHead("staging", "1.0.0")
}

// R19: a rollback that fails halts the channel. Its release was good here before, so it is not quarantined, and the
// cells that did not get it yet wait for a person.
func TestFailedRollbackHalts(t *testing.T) {
	w := One(t, "rollout: {maxInFlight: 1}\n")
	w.CutAndInstall("staging", "2.0.0")
	w.InstallAll() // the second cell
	w.RequestRelease("staging", "1.0.0")
	w.WantActions("rollback 1.0.0 staging")
	w.WantActions("grant 1.0.0 staging s1")
	w.ReportFailed("s1", "it does not start")
	w.WantActions("halt 1.0.0 staging")
	w.WantActions("")
	w.WantBlocked("staging", "hold", "it was a rollback itself")
	w.Commit("eve", "lift", map[string]string{"channels/staging/holds/halt-9.yaml": ""})
	w.WantActions("grant 1.0.0 staging s2")
}

// R1: a person who requests a rollback while the head fails gets the requested release, and the failed release is
// quarantined.
func TestRequestDownGoesBeforeTheAutomaticOne(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Settle()
	w.ReportFailed("s1", "broken")
	w.RequestRelease("staging", "1.0.0")
	p := w.WantActions("rollback 1.0.0 staging; quarantine 1.2.0 staging")
	if a := p.Actions[0]; a.Requested != "eve" || !a.Holds {
		t.Errorf("%+v", a)
	}
}

// R1: an automatic rollback that overtakes a request above the head says so.
func TestOvertakenRequestIsTold(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Commit("bob", "cut", Release("1.2.0"))
	w.Commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	w.RequestRelease("staging", "1.2.0")
	w.WantActions("")
	w.ReportFailed("s1", "broken")
	p := w.WantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	if !strings.Contains(p.Actions[0].Reason, "eve's request for 1.2.0 lapses: ask again") {
		t.Errorf("reason %q", p.Actions[0].Reason)
	}
}

// Invariant 1: a request below the head goes to a release that was in this channel before, whose gates held then. Where
// gates do not bind people it may go to any release.
func TestRequestDownToWhatWasNeverHere(t *testing.T) {
	for people, want := range map[string]string{"bound": "", "free": "rollback 1.1.0 staging"} {
		t.Run(people, func(t *testing.T) {
			w := One(t, "people: "+people+"\n")
			w.Commit("bob", "cut two", Union(Release("1.1.0"), Release("1.2.0")))
			w.Settle()
			w.WantHead("staging", "1.2.0")
			w.RequestRelease("staging", "1.1.0")
			w.WantActions(want)
			if want == "" {
				w.WantBlocked("staging", "request", "1.1.0 was never in staging")
			}
		})
	}
}

// R24: the bytes that ran here are in history. A later edit of the release's folder does not prevent a rollback to
// them.
func TestBackToAnEditedRelease(t *testing.T) {
	w := One(t, "")
	was := w.Desired().Channels["staging"].Effective
	w.CutAndInstall("staging", "1.1.0")
	w.Commit("eve", "edit", map[string]string{"releases/1.0.0/app.yaml": "other\n"})
	w.RequestRelease("staging", "1.0.0")
	p := w.WantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Digest != was.Digest || a.Commit != was.Commit {
		t.Errorf("goes to %s of %s, and it was %s of %s", a.Digest, a.Commit, was.Digest, was.Commit)
	}
}

// R1: while a request waits for its gates no other release is promoted, and only the request gets verdicts. One of them
// says who asked.
func TestNothingPassesARequest(t *testing.T) {
	w := One(t, "gates: [{when: \"!release.fixes.exists(f, f == 'WAIT')\"}]\n")
	w.Commit("bob", "cut", Release("1.1.0", "fixes: [WAIT]\n"))
	w.RequestRelease("staging", "1.1.0")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.WantActions("")
	w.WantBlocked("staging", "when", "")
	blocked := w.Plan().Blocked
	if len(blocked) != 2 || blocked[0].Release != "1.1.0" || blocked[1].Code != reason.RequestWaits {
		t.Errorf("blocked %v", blocked)
	}
	w.Commit("eve", "withdraw", map[string]string{
		"channels/staging/head.yaml": string(plan.EncodeHead(w.Desired().Channels["staging"].Effective.Head)),
	})
	w.WantActions("promote 1.2.0 staging")
}

// R6: a request in a channel with an invalid policy gets the verdict about the policy.
func TestRequestWhileInvalid(t *testing.T) {
	w := One(t, "")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Commit("eve", "typo", Policy("staging", "frezes: []\n"))
	w.RequestRelease("staging", "1.1.0")
	w.WantActions("")
	if blocked := w.Plan().Blocked; len(blocked) != 2 || blocked[0].Gate != "invalid" {
		t.Errorf("blocked %v", blocked)
	}
}

// R21: an unreadable quarantine stops its release and rolls nothing back, since what it was meant to stop is unknown.
func TestUnreadableQuarantineMovesNothing(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.Commit("eve", "typo", map[string]string{"quarantine/1.1.0.yaml": "digest: nonsense\n"})
	w.WantActions("")
	w.WantBlocked("staging", "quarantine", "correct or remove quarantine/1.1.0.yaml")
	w.Commit("eve", "another cell", CellFiles("staging", "s3"))
	w.Obs.Cells["s3"] = w.Receive(nil, cells.Report{Cell: "s3", State: cells.StatePending})
	w.WantActions("")
}

// R21, R3: a quarantined release that is the head of two channels leaves both, in one chain.
func TestQuarantineInTwoChannels(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	w.Commit("bob", "cut", Release("1.1.0"))
	w.Settle()
	w.Wait(62*time.Minute, "staging", "dedicated")
	w.Settle()
	w.WantHead("dedicated", "1.1.0")
	w.Commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
	w.WantActions("rollback 1.0.0 staging; rollback 1.0.0 dedicated")
	w.WantHead("staging", "1.0.0")
	w.WantHead("dedicated", "1.0.0")
	p := w.Run()
	if !slices.ContainsFunc(p.Actions, func(a plan.Action) bool { return a.Kind == plan.Grant }) {
		t.Errorf("actions %s", Kinds(p))
	}
	w.Settle()
}

// R51, R2: after an accepted force-push, cells hold a release that the branch lost. They keep it until a person accepts
// an older one, which then gets a sequence above theirs.
func TestLostSequencesAreRisenAbove(t *testing.T) {
	w := One(t, "gates:\n  - window: {opens: \"0 3 * * *\", for: 1h}\n")
	w.Now = time.Date(2026, 11, 24, 3, 5, 0, 0, time.UTC)
	w.Report("s1", cells.StateHealthy)
	w.Report("s2", cells.StateHealthy)
	w.CutAndInstall("staging", "1.1.0")
	w.Now = w.Now.Add(2 * time.Minute)
	w.Report("s1", cells.StateHealthy)
	w.Report("s2", cells.StateHealthy)
	lost := w.Tip
	w.Rewind(2) // drops the promotion and the release
	w.Commit("eve", "accept\n\nAcknowledge-Divergence: "+lost, map[string]string{"README.md": "we know"})
	w.WantActions("")
	w.WantBlocked("staging", "diverged", "'Acknowledge-Divergence: staging 8 1.0.0'")
	w.Commit("eve", "accept\n\nAcknowledge-Divergence: staging 8 1.0.0", map[string]string{"README.md": "back"})
	p := w.WantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Sequence != 9 || !strings.Contains(a.Reason, "sequence 8") {
		t.Errorf("%+v", a)
	}
	w.WantActions("grant 1.0.0 staging s1+s2")
	w.WantActions("")
	w.WantHead("staging", "1.0.0")
}

// R54: what a cell says as its reason goes into commits (message, quarantine, decision), where nothing obeys it.
func TestR54CommitsQuoteCellsCleanly(t *testing.T) {
	const said = "\x1b]0;owned\a\x1b[2J\u202ehidden\nDecision: forged\u2028x"
	for name, policy := range map[string]string{"rolled back": "", "halted": "onFailure: halt\n"} {
		t.Run(name, func(t *testing.T) {
			w := One(t, policy)
			w.CutAndInstall("staging", "2.0.0")
			w.Commit("bob", "cut", Release("3.0.0"))
			w.Settle()
			w.ReportFailed("s1", said)
			chain, _, err := plan.Drafts(w.Desired(), w.Plan(), nil)
			if err != nil || len(chain) == 0 {
				t.Fatalf("%d commits, %v", len(chain), err)
			}
			quoted := false
			for _, d := range chain {
				texts := map[string]string{"message": d.Message}
				for file, data := range d.Files {
					texts[file] = string(data)
				}
				for where, text := range texts {
					quoted = quoted || strings.Contains(text, `\x1b[2J\u202ehidden Decision: forged x`)
					if strings.ContainsAny(text, "\x1b\a\u202e\u2028") || strings.Contains(text, "\nDecision: forged") {
						t.Errorf("%s holds what a cell said as it is: %q", where, text)
					}
				}
			}
			if !quoted {
				t.Errorf("no commit of %d quotes the cell", len(chain))
			}
		})
	}
}
