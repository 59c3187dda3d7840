package kept

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// R52: of a release that counts once its folder can be read again, the commits that brought it are known, or nobody
// signed it.
func TestR52CreditOfWhatCountsLater(t *testing.T) {
	t.Parallel()
	signed := func(name, key string) releases.FileChange {
		return releases.FileChange{Path: name, New: "x", Authors: []releases.Person{{Name: key}},
			Commits: []releases.SignedCommit{{Commit: "of " + key, Key: key}}}
	}
	var s State
	s.MakeMaps()
	s.drop(signed("releases/1.0.0", "ada"))
	s.drop(signed("releases/1.1.0", "ada"))
	own := map[string]releases.FileChange{"releases/1.1.0": signed("releases/1.1.0", "bob"),
		"releases/1.2.0": signed("releases/1.2.0", "bob")}
	c := releases.Change{Commit: "c", Key: "bob", Author: releases.Person{Name: "bob"},
		Committer: releases.Person{Name: "host"}}
	for version, want := range map[string]string{
		"1.0.0": "[{ada }] [{of ada ada false}]", "1.1.0": "[{ada } {bob }] [{of ada ada false} {of bob bob false}]",
		"1.2.0": "[{bob }] [{of bob bob false}]", "1.3.0": "[{bob } {host }] [{since  false}]",
	} {
		f := s.credit(releases.FileChange{Path: "releases/" + version}, c, own, "since")
		if got := fmt.Sprint(f.Authors, " ", f.Commits); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
	approval := s.credit(releases.FileChange{Path: "channels/a/approvals/1.0.0/ada.yaml"}, c, own, "since")
	if !slices.Contains(approval.Authors, releases.Person{}) {
		t.Errorf("an approval that nobody is known to have written is by %v", approval.Authors)
	}
	for range 3 * maxDropped {
		s.drop(signed("releases/2.0.0", "ada"))
	}
	f := s.credit(releases.FileChange{Path: "releases/2.0.0"}, c, own, "since")
	if len(f.Commits) > maxDropped || f.Commits[len(f.Commits)-1].Key != "" {
		t.Errorf("of too many, %d are signed", len(f.Commits))
	}
}
