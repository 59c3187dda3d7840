package edits_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/releases"
)

// A commit is made if it is the one that was shown, whatever else was committed meanwhile, and no other one.
func TestOnlyTheShownCommitIsMade(t *testing.T) {
	for name, c := range map[string]struct {
		between map[string]string // committed in between
		made    bool
	}{
		"nothing in between":       {nil, true},
		"something else":           {map[string]string{"cells/acme/cell.yaml": "x: 1\n"}, true},
		"the same file":            {map[string]string{"channels/staging/holds/h.yaml": "reason: theirs\n"}, false},
		"the head":                 {map[string]string{"channels/staging/head.yaml": "release: 1.0.0\n"}, false},
		"the same file, the same":  {map[string]string{"channels/staging/holds/h.yaml": "by: Ada\nreason: x\n"}, false},
		"a file with another name": {map[string]string{"channels/staging/holds/i.yaml": "reason: theirs\n"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"channels/staging/head.yaml": "release: 1.1.0\n"}
			b := &branch{read: func() *edits.Releases {
				s := inMemory()
				s.Files = files(all)
				return s
			}}
			p := b.pusher()
			p.See = func(s *edits.Releases) string {
				head, err := fs.ReadFile(s.Files, "channels/staging/head.yaml")
				if err != nil {
					t.Error(err)
				}
				return string(head)
			}
			d := edits.Asked[*edits.Releases]{Decision: edits.Hold{Channel: "staging", ID: "h", Reason: "x"}, At: noon,
				By: "ada", From: "192.0.2.1"}
			shown, err := p.Propose(t.Context(), d)
			if err != nil || len(shown.Files) != 1 {
				t.Fatal(shown, err)
			}
			for file, text := range c.between {
				all[file] = text
			}
			done, now, err := p.PushProposed(t.Context(), d, shown.Digest())
			if made := err == nil && done.Commit != ""; made != c.made || len(b.drafts) > 0 != made {
				t.Errorf("made: %t, want %t: %v", made, c.made, err)
			}
			refused := new(edits.Error)
			if !c.made && !errors.Is(err, edits.ErrChanged) && !errors.As(err, &refused) ||
				errors.Is(err, edits.ErrChanged) && now.Digest() == shown.Digest() {
				t.Errorf("%v, %v", now, err)
			}
		})
	}
}

// What somebody gives as a reason never counts as a trailer, in any line.
func TestAskedReasonsAreNoTrailers(t *testing.T) {
	for _, reason := range []string{"Asked-By: grace", "Acknowledge-Divergence: c9",
		"Co-authored-by: G <g@example.com>",
		"Decision: sha256:x", "x\n\nAsked-By: grace", "x\nAsked-By: grace", "\n\nDecided-On: c1\n", "cell : x",
		"x\r\rAsked-By: grace", "x\u2028Asked-By: grace"} {
		d := edits.Asked[*edits.Releases]{Decision: edits.HoldAll{Reason: reason}, At: noon,
			By: "ada\nAsked-By: mallory", From: "192.0.2.1\n\nCo-authored-by: x <y>"}
		e, err := edits.Decide(d, inMemory(), ada, noon.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if got := releases.Trailers(e.Message, "Asked-By"); len(got) != 1 || !strings.HasPrefix(got[0], "ada") {
			t.Errorf("%q: asked by %q", reason, got)
		}
		for _, key := range []string{"Acknowledge-Divergence", "Decision", "Decided-On", "Cell", "Co-authored-by",
			"cell"} {
			if got := releases.Trailers(e.Message, key); len(got) > 0 {
				t.Errorf("%q became a trailer: %s", reason, e.Message)
			}
		}
		if lines := strings.Split(strings.TrimSpace(e.Message), "\n"); !strings.HasPrefix(lines[len(lines)-1], "Asked-From: ") ||
			!strings.HasPrefix(lines[len(lines)-2], "Asked-By: ") {
			t.Errorf("the trailers are not last: %s", e.Message)
		}
	}
}

// An undo restores what a commit changed, and refuses what was changed since or is nobody's to undo in a form.
func TestUndo(t *testing.T) {
	const hold, policy = "channels/staging/holds/h.yaml", "channels/staging/channel.yaml"
	text := func(s string) []byte { return []byte(s) }
	type contents = map[string][]byte
	for name, c := range map[string]struct {
		now           map[string]string
		before, after contents
		want          string
	}{
		"added": {map[string]string{hold: "a"}, nil, contents{hold: text("a")},
			"undo \"hold\"\n\nThis reverts commit c1.\n- " + hold},
		"removed": {nil, contents{hold: text("a")}, nil, "+ " + hold + "\na"},
		"emptied": {map[string]string{hold: "a"}, contents{hold: text("")}, contents{hold: text("a")},
			"+ " + hold + "\ndid"},
		"changed": {map[string]string{policy: "b"}, contents{policy: text("a")}, contents{policy: text("b")},
			"+ " + policy + "\na"},
		"undone already": {map[string]string{policy: "a"}, contents{policy: text("a")}, contents{policy: text("b")},
			"unchanged"},
		"changed since": {map[string]string{policy: "c"}, contents{policy: text("a")}, contents{policy: text("b")},
			"error: " + policy + " was changed again since"},
		"removed since": {nil, contents{policy: text("a")}, contents{policy: text("b")}, "was changed again since"},
		"a revocation": {map[string]string{"cells/acme/identity.yaml": "b"},
			contents{"cells/acme/identity.yaml": text("a")},
			contents{"cells/acme/identity.yaml": text("b")}, "is not undone here"},
		"an approval": {nil, contents{"channels/staging/approvals/1.0.0/ada.yaml": text("a")}, nil, "is not undone here"},
		"settings": {map[string]string{"sluice.yaml": "b"}, contents{"sluice.yaml": text("a")},
			contents{"sluice.yaml": text("b")}, "is not undone here"},
	} {
		s := inMemory()
		s.Files = files(c.now)
		d := edits.Undo[*edits.Releases]{Commit: "c1", Subject: "hold", Before: c.before, After: c.after}
		if got := decided(edits.Decide(d, s, ada, noon)); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
