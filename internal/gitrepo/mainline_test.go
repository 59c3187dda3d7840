package gitrepo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// graph makes commits without files, a minute apart.
type graph struct {
	t    *testing.T
	bare string
	tree string
	now  time.Time
}

func newGraph(t *testing.T) (g *graph, root string) {
	bare, _ := newSharedRepository(t)
	root = gitIn(t, bare, "rev-parse", "main")
	return &graph{t, bare, gitIn(t, bare, "rev-parse", "main^{tree}"), noon}, root
}

func (g *graph) commit(message string, parents ...string) string {
	g.t.Helper()
	g.now = g.now.Add(time.Minute)
	args := []string{"commit-tree", g.tree, "-m", message}
	for _, p := range parents {
		args = append(args, "-p", p)
	}
	cmd := exec.Command("git", args...)
	date := fmt.Sprintf("%d +0000", g.now.Unix())
	cmd.Dir, cmd.Env = g.bare, append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_DATE="+date)
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("commit-tree: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// decide makes a commit as the engine does, on the branch's tip.
func (g *graph) decide(tip string) string {
	g.t.Helper()
	return g.commit("promote\n\nDecided-On: "+tip+"\n", tip)
}

// open opens the repository with all of the named commits.
func (g *graph) open(commits ...string) *Repo {
	g.t.Helper()
	all := g.commit("everything", commits...)
	gitIn(g.t, g.bare, "update-ref", "refs/heads/everything", all)
	r := openRepo(g.t, g.bare, func(o *Options) { o.Branch = "everything" })
	mustFetch(g.t, r)
	return r
}

func idsOf(list []releases.Change) (ids []string) {
	for _, c := range list {
		ids = append(ids, c.Commit)
	}
	return ids
}

// R51: a merge whose second parent is the old tip is followed along it; every other one by its first parent.
func TestR51MainLine(t *testing.T) {
	g, root := newGraph(t)
	first := g.decide(root)
	mine := g.commit("mine", root)
	foxtrot := g.commit("pull", mine, first)
	afterwards := g.decide(foxtrot)
	topic := g.commit("topic", first)
	updated := g.commit("update branch", topic, foxtrot)
	nested := g.commit("pull again", updated, afterwards)
	ordinary := g.commit("merge the topic", afterwards, updated)
	quiet := g.commit("person", root)
	quietFoxtrot := g.commit("pull what the engine did not touch", mine, quiet)
	octopus := g.commit("three", mine, quiet, first)
	picked := g.commit("cherry-picked\n\nDecided-On: "+root+"\n", g.commit("older", root))
	ofPicked := g.commit("merge a copy", quiet, picked)
	lost := g.decide(mine)
	both := g.commit("merge what was lost", first, lost)
	chain := g.commit("second of a plan\n\nDecided-On: "+root+"\n", first)
	ofChain := g.commit("pull a chain", mine, chain)
	r := g.open(nested, ordinary, quietFoxtrot, octopus, ofPicked, both, ofChain)
	for name, c := range map[string]struct {
		tip  string
		want []string
	}{
		"foxtrot":                            {foxtrot, []string{root, first, foxtrot}},
		"decided upon":                       {afterwards, []string{root, first, foxtrot, afterwards}},
		"nested":                             {nested, []string{root, first, foxtrot, afterwards, nested}},
		"updated, and nothing decided since": {updated, []string{root, first, topic, updated}},
		"ordinary":                           {ordinary, []string{root, first, foxtrot, afterwards, ordinary}},
		"nothing decided since the fork":     {quietFoxtrot, []string{root, mine, quietFoxtrot}},
		"octopus":                            {octopus, []string{root, first, octopus}},
		"a copy of a decision":               {ofPicked, []string{root, quiet, ofPicked}},
		"decisions on both sides":            {both, []string{root, first, both}},
		"a chain of one plan":                {ofChain, []string{root, first, chain, ofChain}},
	} {
		t.Run(name, func(t *testing.T) {
			all := mustChanges(t, r, "", c.tip)
			if got := idsOf(all); !slices.Equal(got, c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i, one := range all[1:] {
				if one.Parent != all[i].Commit {
					t.Errorf("the parent of %s is %s", one.Commit, one.Parent)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		commit, tip string
		want        bool
	}{
		"the old tip":                              {first, foxtrot, true},
		"what a foxtrot brought":                   {mine, foxtrot, true},
		"a tip without a decision":                 {quiet, quietFoxtrot, true},
		"a decision that came as a side":           {lost, both, false},
		"a commit of another line":                 {quiet, foxtrot, false},
		"a later commit":                           {nested, foxtrot, false},
		"a commit that the mirror never had":       {strings.Repeat("ab", 20), foxtrot, false},
		"a decision under an acknowledged rewrite": {first, ofPicked, false},
	} {
		if got, err := r.Contains(t.Context(), c.commit, c.tip); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if r.damaged.Load() {
		t.Error("a commit that was never there counts as damage")
	}
}

// R51: an acknowledgement counts however it is merged.
func TestR51AcknowledgementsOfMerges(t *testing.T) {
	g, root := newGraph(t)
	accept := g.commit("accept the branch\n\nAcknowledge-Divergence: 4f0c\n"+
		"Acknowledge-Divergence: dedicated 7 1.1.0\n", root)
	merge := g.commit("Merge pull request #5", g.commit("meanwhile", root), g.commit("and more", accept))
	squash := g.commit("accept the branch (#6)\n\n* accept the branch\n\nAcknowledge-Divergence: 77aa\n", merge)
	list := mustChanges(t, g.open(squash), root, squash)
	for i, want := range [][]string{nil, {"4f0c", "dedicated 7 1.1.0"}, {"77aa"}} {
		if !slices.Equal(list[i].Accepts, want) {
			t.Errorf("%s accepts %q", list[i].Message, list[i].Accepts)
		}
	}
}

// R51, R52: what a foxtrot brought is judged as what a merge brought: people are credited with what they wrote, and the
// merge's signature vouches for nothing that came by it.
func TestR51FoxtrotIsJudgedAsAMerge(t *testing.T) {
	bare, _ := newSharedRepository(t)
	adaKey, ada := testKey(t, "ada")
	bobKey, bob := testKey(t, "bob")
	on := func(branch, key string) *Repo {
		return openRepo(t, bare, func(o *Options) {
			o.Branch = branch
			if key != "" {
				signer, err := LoadSigner(key)
				if err != nil {
					t.Fatal(err)
				}
				o.Signer = signer
			}
		})
	}
	plain := on("main", "")
	base := mustFetch(t, plain)
	gitIn(t, bare, "branch", "mine", base)
	adas := on("mine", adaKey)
	mustFetch(t, adas)
	const file = "channels/dedicated/approvals/1.0.0/ada.yaml"
	side := mustPush(t, adas, base, draft("approve", map[string]string{file: "digest: x\n"}))[0]
	side = mustPush(t, adas, side, draft("cut", map[string]string{"releases/3.0.0/release.yaml": "x\n"}))[0]
	decided := draft("promote\n\nDecided-On: "+base+"\n",
		map[string]string{"channels/dedicated/head.yaml": "release: 1.0.0\n"})
	tip := mustPush(t, plain, base, decided)[0]
	tree := gitIn(t, bare, "merge-tree", "--write-tree", side, tip)
	merge := gitIn(t, bare, "commit-tree", tree, "-p", side, "-p", tip, "-m", "pull")
	gitIn(t, bare, "update-ref", "refs/heads/main", merge)
	signed := on("main", bobKey)
	onTop := draft("on top", map[string]string{"sluice.yaml": "kind: Pipeline\n"})
	last := mustPush(t, signed, mustFetch(t, signed), onTop)[0]
	list := mustChanges(t, plain, tip, mustFetch(t, plain))
	if len(list) != 2 || list[0].Commit != merge || list[0].Parent != tip || list[1].Commit != last ||
		list[1].Key != bob {
		t.Fatalf("%+v", list)
	}
	files := list[0].Files
	if len(files) != 2 || files[0].Path != file || files[0].Key != ada || files[1].Path != "releases/3.0.0" ||
		!slices.ContainsFunc(files[1].Commits, func(c releases.SignedCommit) bool { return c.Key == ada }) {
		t.Errorf("the merge brought %+v", files)
	}
}

// R51: in random histories of people who pull by merging, whoever followed the branch and whoever reads it from its
// root agree, and no decision is lost.
func TestR51FollowersAgree(t *testing.T) {
	g, root := newGraph(t)
	random := rand.New(rand.NewPCG(51, 7))
	tip, tips, decisions := root, []string{root}, []string{root}
	people := []string{root, root, root}
	move := func(to string) { tip, tips = to, append(tips, to) }
	for range 120 {
		who := random.IntN(len(people))
		own := people[who]
		switch random.IntN(6) {
		case 0:
			move(g.decide(tip))
			decisions = append(decisions, tip)
		case 1:
			people[who] = g.commit("work", own)
		case 2:
			people[who] = g.commit("pull", own, tip)
		case 3: // pull by merging, and push
			people[who] = g.commit("pull", g.commit("work", own), tip)
			move(people[who])
		case 4: // the host merges a topic
			move(g.commit("merge", tip, g.commit("work", own)))
		case 5: // another starts anew
			people[who] = tip
		}
	}
	r := g.open(tips...)
	var line []string
	for i, tip := range tips {
		whole := idsOf(mustChanges(t, r, "", tip))
		if i > 0 {
			more, err := r.Changes(t.Context(), tips[i-1], tip)
			if err == nil {
				if line = append(line, idsOf(more)...); !slices.Equal(line, whole) {
					t.Fatalf("step %d: followed %q, from the root %q", i, line, whole)
				}
			} else if !errors.Is(err, releases.ErrDiverged) {
				t.Fatal(err)
			}
			if ok, err := r.Contains(t.Context(), tips[i-1], tip); err != nil || !ok {
				t.Fatalf("step %d: lost %s (%v)", i, tips[i-1], err)
			}
		}
		line = whole
		kept := slices.DeleteFunc(slices.Clone(whole), func(c string) bool { return !slices.Contains(decisions, c) })
		if want := decisions[:len(kept)]; !slices.Equal(kept, want) {
			t.Fatalf("step %d: decisions %q, want %q", i, kept, want)
		}
	}
	if kept := idsOf(mustChanges(t, r, "", tip)); !slices.Contains(kept, decisions[len(decisions)-1]) {
		t.Error("the newest decision is lost")
	}
}
