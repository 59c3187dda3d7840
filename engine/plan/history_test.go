package plan_test

import (
	"strings"
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
)

// R3: the commits of one plan are a chain. A halt writes no head, and does not break the chain.
func TestHaltInsideAChain(t *testing.T) {
	w := sideBySide(t, "onFailure: halt\n", "", Release("1.1.0"))
	w.Commit("eve", "hold beta", map[string]string{"channels/beta/holds/x.yaml": "reason: wait\n"})
	w.Settle()
	w.WantHead("alpha", "1.1.0")
	w.ReportFailed("a1", "broken")
	w.Commit("eve", "lift", map[string]string{"channels/beta/holds/x.yaml": ""})
	w.WantActions("halt 1.1.0 alpha; promote 1.1.0 beta")
	w.WantHead("beta", "1.1.0")
	if q := w.Desired().Channels["beta"].Request; q != nil {
		t.Errorf("the engine's own commit is a request: %+v", q)
	}
	w.WantActions("grant 1.1.0 beta b1")
	w.WantActions("")
	w.Rewind(0) // a restart folds the history again
	w.Built = nil
	w.WantHead("beta", "1.1.0")
	w.WantActions("")
}

// R1: a commit is the engine's only where the engine pushed it. Picked or squashed elsewhere, it is a request.
func TestCopiesOfPromotionsAreRequests(t *testing.T) {
	for name, more := range map[string]map[string]string{"picked": nil, "squashed": Release("1.2.0")} {
		t.Run(name, func(t *testing.T) {
			w := sideBySide(t, "", "")
			w.Commit("bob", "cut", Release("1.1.0"))
			w.WantActions("promote 1.1.0 alpha; promote 1.1.0 beta")
			promoted, files := w.Changes[len(w.Changes)-2], map[string]string{}
			for name, data := range w.Files {
				if strings.HasPrefix(name, "channels/alpha/") {
					files[name] = data
				}
			}
			w.Rewind(2)
			if more == nil {
				w.Commit("eve", "something else", Release("1.2.0"))
			}
			w.Commit("eve", promoted.Message, Union(files, more))
			c := w.Desired().Channels["alpha"]
			if c.Effective.Release != "1.0.0" || c.Request == nil || c.Request.By != "eve" {
				t.Fatalf("effective %+v, request %+v", c.Effective, c.Request)
			}
		})
	}
}

// R22: where authors are trusted, a merge by one person of a file that another wrote proves neither's approval.
func TestMergedApprovalIsTheWritersOnly(t *testing.T) {
	for name, c := range map[string]struct {
		others []releases.Person
		counts bool
	}{
		"own":    {nil, true},
		"merged": {[]releases.Person{{Name: "eve", Email: "eve@example.com"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pipeline := "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\n" +
				"people: {ada: {email: ada@example.com}}\n"
			w := NewWorld(t, Union(map[string]string{"sluice.yaml": pipeline},
				Policy("staging", "gates: [{approval: {count: 1}}]\n"), CellFiles("staging", "s1"),
				Release("1.0.0"), Head("staging", "1.0.0")))
			w.Commit("bob", "cut", Release("1.1.0"))
			w.CoAuthors = c.others
			w.Commit("ada", "approve", map[string]string{
				"channels/staging/approvals/1.1.0/ada.yaml": "digest: @digest:1.1.0\n",
			})
			w.ReportInstalled().Settle()
			if got := w.Desired().Channels["staging"].Effective.Release == "1.1.0"; got != c.counts {
				t.Errorf("the approval counts: %t, want %t", got, c.counts)
			}
		})
	}
}
