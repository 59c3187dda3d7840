package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// R20: a forward-only release that a channel skipped, or that was pruned, is still not crossed downward.
func TestNoWayBackOverForwardOnly(t *testing.T) {
	for name, c := range map[string]func(*world){
		"skipped": func(w *world) {
			w.commit("bob", "cut two", union(release("2.0.0", "rollback: forward-only\n"), release("3.0.0")))
		},
		"pruned": func(w *world) {
			w.takes("staging", "2.0.0", "rollback: forward-only\n")
			w.takes("staging", "2.1.0")
			w.commit("bob", "cut", release("3.0.0"))
			w.settle()
			w.commit("eve", "prune", map[string]string{
				"releases/2.0.0/release.yaml": "", "releases/2.0.0/kustomization.yaml": "", "releases/2.0.0/app.yaml": "",
				"releases/2.0.0/tombstone.yaml": "apiVersion: sluice/v1\nkind: Tombstone\nversion: 2.0.0\ndigest: " + string(w.digest("2.0.0")) + "\n",
				"quarantine/2.1.0.yaml":         "digest: @digest:2.1.0\nreason: bad\n",
			})
		},
		"edited": func(w *world) {
			w.takes("staging", "2.0.0", "rollback: forward-only\n")
			w.commit("eve", "edit", release("2.0.0"))
			w.commit("bob", "cut", union(release("3.0.0"), map[string]string{"quarantine/2.0.0.yaml": "digest: " + string(w.desired().Channels["staging"].Effective.Digest) + "\nreason: bad\n"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := one(t, "")
			c(w)
			w.settle()
			if name == "edited" {
				w.unhold() // the quarantine of a head without a way back
				w.settle()
			}
			w.wantHead("staging", "3.0.0")
			w.fails("s1", "broken")
			p := w.run()
			if len(p.Actions) == 0 || p.Actions[0].Kind != Halt || !strings.Contains(p.Actions[0].Reason, "2.0.0 is forward-only") {
				t.Fatalf("actions %s: %+v", kinds(p), p.Actions)
			}
			w.ask("staging", "1.0.0")
			w.wantActions("")
			w.wantBlocked("staging", "request", "2.0.0 is forward-only")
		})
	}
}

// R20: a release that was cut later, below the head, is no barrier: it never ran here.
func TestLaterForwardOnlyIsNoBarrier(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("3.0.0"))
	w.settle()
	w.commit("bob", "cut", release("2.0.0", "rollback: forward-only\n"))
	w.fails("s1", "broken")
	w.wantActions("rollback 1.0.0 staging; quarantine 3.0.0 staging")
}

// R19: what a channel goes back to is below its head: a release that a person rolled back is no way back.
func TestBackIsNeverUp(t *testing.T) {
	w := one(t, "")
	w.takes("staging", "2.0.0")
	w.ask("staging", "1.0.0")
	w.wantActions("rollback 1.0.0 staging")
	w.through()
	w.commit("eve", "stop it", map[string]string{"quarantine/1.0.0.yaml": "digest: @digest:1.0.0\nreason: leaks\n"})
	w.wantActions("halt 1.0.0 staging")
	w.wantHead("staging", "1.0.0")
}

// R19: a rollback that fails halts. The release that it went to was good here: it is not quarantined, and the cells
// that did not get it yet wait for a person.
func TestFailedRollbackHalts(t *testing.T) {
	w := one(t, "rollout: {maxInFlight: 1}\n")
	w.takes("staging", "2.0.0")
	w.through() // the second cell
	w.ask("staging", "1.0.0")
	w.wantActions("rollback 1.0.0 staging")
	w.wantActions("grant 1.0.0 staging s1")
	w.fails("s1", "it does not start")
	w.wantActions("halt 1.0.0 staging")
	w.wantActions("")
	w.wantBlocked("staging", "hold", "it was a rollback itself")
	w.commit("eve", "lift", map[string]string{"channels/staging/holds/halt-9.yaml": ""})
	w.wantActions("grant 1.0.0 staging s2")
}

// R1: a person who asks to go back while the head fails gets what was asked for, and the failed release its quarantine.
func TestRequestDownGoesBeforeTheAutomaticOne(t *testing.T) {
	w := one(t, "")
	w.takes("staging", "1.1.0")
	w.commit("bob", "cut", release("1.2.0"))
	w.settle()
	w.fails("s1", "broken")
	w.ask("staging", "1.0.0")
	p := w.wantActions("rollback 1.0.0 staging; quarantine 1.2.0 staging")
	if a := p.Actions[0]; a.Requested != "eve" || !a.Holds {
		t.Errorf("%+v", a)
	}
}

// R1: a request upward that an automatic rollback overtakes is not forgotten in silence.
func TestOvertakenRequestIsTold(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.commit("bob", "cut", release("1.2.0"))
	w.commit("eve", "hold", map[string]string{"channels/staging/holds/x.yaml": "reason: wait\n"})
	w.ask("staging", "1.2.0")
	w.wantActions("")
	w.fails("s1", "broken")
	p := w.wantActions("rollback 1.0.0 staging; quarantine 1.1.0 staging")
	if !strings.Contains(p.Actions[0].Reason, "eve's request for 1.2.0 lapses: ask again") {
		t.Errorf("reason %q", p.Actions[0].Reason)
	}
}

// Invariant 1: a request downward goes to what was in this channel before, whose gates held then. Where gates do not
// bind people it may be any.
func TestRequestDownToWhatWasNeverHere(t *testing.T) {
	for people, want := range map[string]string{"bound": "", "free": "rollback 1.1.0 staging"} {
		t.Run(people, func(t *testing.T) {
			w := one(t, "people: "+people+"\n")
			w.commit("bob", "cut two", union(release("1.1.0"), release("1.2.0")))
			w.settle()
			w.wantHead("staging", "1.2.0")
			w.ask("staging", "1.1.0")
			w.wantActions(want)
			if want == "" {
				w.wantBlocked("staging", "request", "1.1.0 was never in staging")
			}
		})
	}
}

// R24: the bytes that ran here are in history: an edit of the release's folder since is no reason not to go back to them.
func TestBackToAnEditedRelease(t *testing.T) {
	w := one(t, "")
	was := w.desired().Channels["staging"].Effective
	w.takes("staging", "1.1.0")
	w.commit("eve", "edit", map[string]string{"releases/1.0.0/app.yaml": "other\n"})
	w.ask("staging", "1.0.0")
	p := w.wantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Digest != was.Digest || a.Commit != was.Commit {
		t.Errorf("goes to %s of %s, and it was %s of %s", a.Digest, a.Commit, was.Digest, was.Commit)
	}
}

// R1: nothing goes past what a person asked for and what waits for its gates; it is said once.
func TestNothingPassesARequest(t *testing.T) {
	w := one(t, "gates: [{when: \"!release.fixes.exists(f, f == 'WAIT')\"}]\n")
	w.commit("bob", "cut", release("1.1.0", "fixes: [WAIT]\n"))
	w.ask("staging", "1.1.0")
	w.commit("bob", "cut", release("1.2.0"))
	w.wantActions("")
	w.wantBlocked("staging", "when", "")
	blocked := w.plan().Blocked
	if len(blocked) != 1 || blocked[0].Release != "1.1.0" {
		t.Errorf("blocked %v", blocked)
	}
	w.commit("eve", "withdraw", map[string]string{"channels/staging/head.yaml": string(headYAML(w.desired().Channels["staging"].Effective.Head))})
	w.wantActions("promote 1.2.0 staging")
}

// R6: a request in a channel whose policy is invalid is answered once.
func TestRequestWhileInvalid(t *testing.T) {
	w := one(t, "")
	w.commit("bob", "cut", release("1.1.0"))
	w.commit("eve", "typo", policy("staging", "frezes: []\n"))
	w.ask("staging", "1.1.0")
	w.wantActions("")
	if blocked := w.plan().Blocked; len(blocked) != 1 || blocked[0].Gate != "invalid" {
		t.Errorf("blocked %v", blocked)
	}
}

// R21: a quarantine that can't be read stops the release, and moves nothing: it does not say what was meant.
func TestUnreadableQuarantineMovesNothing(t *testing.T) {
	w := one(t, "")
	w.takes("staging", "1.1.0")
	w.commit("eve", "typo", map[string]string{"quarantine/1.1.0.yaml": "digest: nonsense\n"})
	w.wantActions("")
	w.wantBlocked("staging", "quarantine", "mend or remove quarantine/1.1.0.yaml")
	w.commit("eve", "another cell", cellFiles("staging", "s3"))
	w.obs.Cells["s3"] = w.receive(nil, cells.Report{Cell: "s3", State: cells.StatePending})
	w.wantActions("")
}

// R21, R3: a release that is quarantined while it is the head of two channels leaves both, in one chain.
func TestQuarantineInTwoChannels(t *testing.T) {
	w := twoChannels(t).installed()
	w.settle()
	w.commit("bob", "cut", release("1.1.0"))
	w.settle()
	w.wait(62*time.Minute, "staging", "dedicated")
	w.settle()
	w.wantHead("dedicated", "1.1.0")
	w.commit("eve", "stop", map[string]string{"quarantine/1.1.0.yaml": "digest: @digest:1.1.0\nreason: leaks\n"})
	w.wantActions("rollback 1.0.0 staging; rollback 1.0.0 dedicated")
	w.wantHead("staging", "1.0.0")
	w.wantHead("dedicated", "1.0.0")
	p := w.run()
	if !slices.ContainsFunc(p.Actions, func(a Action) bool { return a.Kind == Grant }) {
		t.Errorf("actions %s", kinds(p))
	}
	w.settle()
}

// R5, R2: after a force-push was accepted, cells hold sequences that the branch lost: the head is written anew above them.
func TestLostSequencesAreRisenAbove(t *testing.T) {
	w := one(t, "gates:\n  - window: {opens: \"0 3 * * *\", for: 1h}\n")
	w.now = time.Date(2026, 11, 24, 3, 5, 0, 0, time.UTC)
	w.report("s1", cells.StateHealthy)
	w.report("s2", cells.StateHealthy)
	w.takes("staging", "1.1.0")
	w.now = w.now.Add(2 * time.Minute)
	w.report("s1", cells.StateHealthy)
	w.report("s2", cells.StateHealthy)
	w.rewind(2) // the promotion and the release are gone
	w.commit("eve", "accept", map[string]string{"README.md": "we know"})
	p := w.wantActions("rollback 1.0.0 staging")
	if a := p.Actions[0]; a.Sequence != 9 || !strings.Contains(a.Reason, "sequence 8") {
		t.Errorf("%+v", a)
	}
	w.wantActions("grant 1.0.0 staging s1+s2")
	w.wantActions("")
	w.wantHead("staging", "1.0.0")
}
