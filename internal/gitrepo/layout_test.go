package gitrepo

import (
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// Changes reports other paths of a flags repository than of a release repository, and R22 holds there too.
func TestFlagsLayout(t *testing.T) {
	t.Parallel()
	bare, work := newSharedRepository(t)
	key, public := testKey(t, "ada")
	signer, err := LoadSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, work, map[string]string{
		"sluice.yaml":            "kind: Flags\n",
		"flags/product/ui.yaml":  "flags: {}\n",
		"announcements/x.yaml":   "title: x\n",
		"README.md":              "not told of\n",
		"releases/1.0.0/new":     "nor is this\n",
		"channels/a/policy.yaml": "nor this\n",
	})
	base := commitAll(t, work, "flags")
	gitIn(t, work, "push", "-q", "origin", "main")
	r := openRepo(t, bare, func(o *Options) { o.Signer, o.Layout = signer, FlagsLayout })
	tip := mustFetch(t, r)
	paths := func(c releases.Change) (list []string) {
		for _, f := range c.Files {
			list = append(list, f.Path)
		}
		return list
	}
	if got := mustChanges(t, r, "", tip); len(got) != 2 ||
		!slices.Equal(paths(got[1]), []string{"announcements/x.yaml", "flags/product/ui.yaml", "sluice.yaml"}) {
		t.Errorf("told of %v", got)
	}
	made := mustPush(t, r, base,
		draft("approve", map[string]string{"approvals/x/ada.yaml": "hash: sha256:00\n"}),
		draft("kill", map[string]string{"overrides/kill-k.yaml": "kind: Kill\n", "records/x/a.yaml": "outcome: armed\n",
			"heads/a.yaml": "commit: 00\n"}))
	got := mustChanges(t, r, base, made[1])
	if len(got) != 2 || got[0].Key != public || got[0].Files[0].Key != public {
		t.Errorf("the approval: %+v", got)
	}
	want := []string{"heads/a.yaml", "overrides/kill-k.yaml", "records/x/a.yaml"}
	if !slices.Equal(paths(got[1]), want) || got[1].Key != public {
		t.Errorf("the engine's: %+v, want %v and its key", got[1], want)
	}
}
