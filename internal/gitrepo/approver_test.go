package gitrepo

import (
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// R52: an approval is the word of who signed the very commit that wrote it, and nothing else.
func TestApprover(t *testing.T) {
	bare, _ := newSharedRepository(t)
	adaKey, ada := testKey(t, "ada")
	bobKey, _ := testKey(t, "bob")
	signer := func(file string) Signer {
		s, err := LoadSigner(file)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain := openRepo(t, bare, nil)
	base := mustFetch(t, plain)
	const file, other = "channels/dedicated/approvals/1.0.0/ada.yaml", "channels/dedicated/approvals/2.0.0/ada.yaml"
	approve := draft("approve", map[string]string{file: "digest: x\n"})
	withdraw := releases.Draft{Message: "withdraw", When: noon, Files: map[string][]byte{file: nil}}
	with := func(extra string) releases.Draft {
		d := draft("approve, and more", map[string]string{file: "digest: x\n"})
		d.Files[extra] = []byte("x\n")
		return d
	}
	type step struct {
		by string // whose key signs; empty: none
		d  releases.Draft
	}
	adas, bobs, unsigned := adaKey, bobKey, ""
	for name, c := range map[string]struct {
		steps []step
		path  string
		want  string
	}{
		"signed":                {[]step{{adas, approve}}, file, ada},
		"both channels at once": {[]step{{adas, with("channels/staging/approvals/1.0.0/ada.yaml")}}, file, ada},
		"with a policy":         {[]step{{adas, with("channels/dedicated/channel.yaml")}}, file, ""},
		"with another's file":   {[]step{{adas, with("README.md")}}, file, ""},
		"with a cell":           {[]step{{adas, with("cells/acme/cell.yaml")}}, file, ""},
		"unsigned":              {[]step{{unsigned, approve}}, file, ""},
		"put back by another":   {[]step{{adas, approve}, {adas, withdraw}, {unsigned, approve}}, file, ""},
		"picked by another":     {[]step{{bobs, approve}}, file, "bob"},
		"renamed by another": {[]step{{adas, approve}, {bobs, releases.Draft{Message: "move", When: noon,
			Files: map[string][]byte{file: nil, other: []byte("digest: x\n")}}}}, other, "bob"},
	} {
		t.Run(name, func(t *testing.T) {
			branch := "b-" + name[:3] + string(rune('a'+len(name)))
			gitIn(t, bare, "branch", branch, base)
			tip := base
			for _, s := range c.steps {
				r := openRepo(t, bare, func(o *Options) {
					if o.Branch = branch; s.by != "" {
						o.Signer = signer(s.by)
					}
				})
				mustFetch(t, r)
				tip = mustPush(t, r, tip, s.d)[0]
			}
			on := openRepo(t, bare, func(o *Options) { o.Branch = branch })
			list := mustChanges(t, on, base, mustFetch(t, on))
			last := list[len(list)-1]
			i := slices.IndexFunc(last.Files, func(f releases.FileChange) bool { return f.Path == c.path })
			got := last.Files[i].Key
			if c.want == "bob" {
				if got == ada || got == "" {
					t.Errorf("key %q, want bob's", got)
				}
			} else if got != c.want {
				t.Errorf("key %q, want %q", got, c.want)
			}
			// A merge by somebody who signs changes nothing about that.
			gitIn(t, bare, "branch", "-f", "into", base)
			into := openRepo(t, bare, func(o *Options) { o.Branch, o.Signer = "into", signer(bobKey) })
			main := mustPush(t, into, mustFetch(t, into), draft("meanwhile", map[string]string{"other.md": "new\n"}))[0]
			tree := gitIn(t, bare, "merge-tree", "--write-tree", main, tip)
			merge := gitIn(t, bare, "commit-tree", tree, "-p", main, "-p", tip, "-m", "merge")
			gitIn(t, bare, "update-ref", "refs/heads/into", merge)
			list = mustChanges(t, into, main, mustFetch(t, into))
			i = slices.IndexFunc(list[0].Files, func(f releases.FileChange) bool { return f.Path == c.path })
			if merged := list[0].Files[i].Key; merged != got {
				t.Errorf("merged: key %q, want %q", merged, got)
			}
		})
	}
}

// R52: who signed what a release is made of is among its authors, by key, whatever address the commit names.
func TestKeysOfReleases(t *testing.T) {
	bare, _ := newSharedRepository(t)
	adaKey, ada := testKey(t, "ada")
	signer, err := LoadSigner(adaKey)
	if err != nil {
		t.Fatal(err)
	}
	plain := openRepo(t, bare, nil)
	base := mustFetch(t, plain)
	gitIn(t, bare, "branch", "topic", base)
	topic := openRepo(t, bare, func(o *Options) { o.Branch, o.Signer = "topic", signer })
	mustFetch(t, topic)
	side := mustPush(t, topic, base, draft("cut", map[string]string{"releases/3.0.0/release.yaml": "x\n"}))[0]
	main := mustPush(t, plain, base, draft("meanwhile", map[string]string{"other.md": "new\n"}))[0]
	tree := gitIn(t, bare, "merge-tree", "--write-tree", main, side)
	merge := gitIn(t, bare, "commit-tree", tree, "-p", main, "-p", side, "-m", "merge")
	gitIn(t, bare, "update-ref", "refs/heads/main", merge)
	for _, list := range [][]releases.Change{mustChanges(t, topic, base, side),
		mustChanges(t, plain, main, mustFetch(t, plain))} {
		f := list[len(list)-1].Files
		if len(f) != 1 || !slices.Contains(f[0].Commits, releases.SignedCommit{Commit: side, Key: ada}) {
			t.Errorf("%+v, want the key %s", f, ada)
		}
	}
}
