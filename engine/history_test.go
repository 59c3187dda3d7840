package engine

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// R3: the commits of one plan are a chain. One that writes no head, a halt, does not part the others from it.
func TestHaltInsideAChain(t *testing.T) {
	w := sideBySide(t, "onFailure: halt\n", "", release("1.1.0"))
	w.commit("eve", "hold beta", map[string]string{"channels/beta/holds/x.yaml": "reason: wait\n"})
	w.settle()
	w.wantHead("alpha", "1.1.0")
	w.fails("a1", "broken")
	w.commit("eve", "lift", map[string]string{"channels/beta/holds/x.yaml": ""})
	w.wantActions("halt 1.1.0 alpha; promote 1.1.0 beta")
	w.wantHead("beta", "1.1.0")
	if q := w.desired().Channels["beta"].Request; q != nil {
		t.Errorf("the engine's own commit is a request: %+v", q)
	}
	w.wantActions("grant 1.1.0 beta b1")
	w.wantActions("")
	w.rewind(0) // a restart folds the history anew
	w.built = nil
	w.wantHead("beta", "1.1.0")
	w.wantActions("")
}

// R1: a commit is the engine's only where it was pushed: picked or squashed elsewhere it is a request.
func TestCopiesOfPromotionsAreRequests(t *testing.T) {
	for name, more := range map[string]map[string]string{"picked": nil, "squashed": release("1.2.0")} {
		t.Run(name, func(t *testing.T) {
			w := sideBySide(t, "", "")
			w.commit("bob", "cut", release("1.1.0"))
			w.wantActions("promote 1.1.0 alpha; promote 1.1.0 beta")
			promoted, files := w.changes[len(w.changes)-2], map[string]string{}
			for name, data := range w.files {
				if strings.HasPrefix(name, "channels/alpha/") {
					files[name] = data
				}
			}
			w.rewind(2)
			if more == nil {
				w.commit("eve", "something else", release("1.2.0"))
			}
			w.commit("eve", promoted.Message, union(files, more))
			c := w.desired().Channels["alpha"]
			if c.Effective.Release != "1.0.0" || c.Request == nil || c.Request.By != "eve" {
				t.Fatalf("effective %+v, request %+v", c.Effective, c.Request)
			}
		})
	}
}

// R22: where authors are trusted, a merge by one person of a file that another wrote is neither's approval.
func TestMergedApprovalIsTheWritersOnly(t *testing.T) {
	for name, c := range map[string]struct {
		others []releases.Person
		counts bool
	}{
		"own":    {nil, true},
		"merged": {[]releases.Person{{Name: "eve", Email: "eve@example.com"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, union(map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\npeople: {ada: {email: ada@example.com}}\n"},
				policy("staging", "gates: [{approval: {count: 1}}]\n"), cellFiles("staging", "s1"), release("1.0.0"), head("staging", "1.0.0")))
			w.commit("bob", "cut", release("1.1.0"))
			w.also = c.others
			w.commit("ada", "approve", map[string]string{"channels/staging/approvals/1.1.0/ada.yaml": "digest: @digest:1.1.0\n"})
			w.installed().settle()
			if got := w.desired().Channels["staging"].Effective.Release == "1.1.0"; got != c.counts {
				t.Errorf("the approval counts: %t, want %t", got, c.counts)
			}
		})
	}
}
