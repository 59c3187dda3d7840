package desk_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/actions/desk"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// place is a release repository in git, and a desk of it.
type place struct {
	t    *testing.T
	bare string
	repo *gitrepo.Repo
	desk *desk.Desk
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, bare: filepath.Join(t.TempDir(), "releases.git")}
	if out, err := exec.Command("git", "init", "-q", "--bare", "-b", "main", p.bare).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	p.repo = p.open()
	p.desk = p.deskOf(p.repo)
	p.commit(map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n",
		"channels/staging/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n",
		"cells/acme/cell.yaml":          "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n"})
	return p
}

func (p *place) open() *gitrepo.Repo {
	p.t.Helper()
	r, err := gitrepo.Open(p.t.Context(), p.bare, gitrepo.Options{Mirror: filepath.Join(p.t.TempDir(), "mirror")})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = r.Close() })
	return r
}

// deskOf returns a desk over a repository, as a replica has one.
func (p *place) deskOf(r *gitrepo.Repo) *desk.Desk {
	loader := &engine.Loader{Repo: r}
	engines := releases.Person{Name: "Sluice", Email: "sluice@localhost"}
	return &desk.Desk{Releases: &desk.Branch[*edits.Releases]{History: r, Address: p.bare,
		Committer: func(author releases.Person) edits.Repository {
			return r.CommitterAs(author, nil).CommittedBy(engines)
		},
		Read: func(ctx context.Context) (*edits.Releases, error) {
			tip, err := r.Fetch(ctx)
			if err != nil {
				return nil, err
			}
			files, err := r.FS(tip)
			if err != nil {
				return nil, err
			}
			d, err := loader.Load(ctx, tip)
			return &edits.Releases{Files: files, Desired: d}, err
		}}}
}

// commit commits files as somebody does in a clone.
func (p *place) commit(files map[string]string) string {
	p.t.Helper()
	tip, err := p.repo.Fetch(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	all := map[string][]byte{}
	for name, text := range files {
		all[name] = []byte(text)
	}
	commits, err := p.repo.CommitterAs(releases.Person{Name: "Bob", Email: "bob@example.com"}, nil).
		Push(p.t.Context(), tip, []releases.Draft{{Message: "by hand", When: time.Now(), Files: all}})
	if err != nil {
		p.t.Fatal(err)
	}
	return commits[0]
}

func (p *place) git(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("git", append([]string{"-C", p.bare}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func request(name string, pairs ...string) desk.Request {
	v := actions.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v[pairs[i]] = pairs[i+1]
	}
	return desk.Request{Action: actions.Find(name), Values: v, Shown: time.Now().UTC().Truncate(time.Second),
		Author: releases.Person{Name: "Ada", Email: "ada@example.com"}, By: "ada@example.com (oidc https://idp.example 1)",
		From: "192.0.2.1"}
}

// The commit is the person's, made by the control plane, unsigned, with trailers; and it can be undone.
func TestCommitOfAnAction(t *testing.T) {
	p := newPlace(t)
	asked := request("pause-cell", "cell", "acme", "paused", "they move house")
	shown, err := p.desk.Propose(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	done, _, err := p.desk.Commit(t.Context(), asked, shown.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.git("show", "-s", "--format=%an <%ae>|%cn <%ce>|%G?|%B", done.Commit); got !=
		"Ada <ada@example.com>|Sluice <sluice@localhost>|N|edit cell acme\n\n"+
			"Asked-By: ada@example.com (oidc https://idp.example 1)\nAsked-From: 192.0.2.1" {
		t.Error(got)
	}
	c, err := p.desk.Show(t.Context(), desk.ReleasesRepository, done.Commit)
	if err != nil || !c.Undoable() || !strings.Contains(string(c.After["cells/acme/cell.yaml"]), "they move house") {
		t.Fatalf("%+v %v", c, err)
	}
	// Another replica, which has not read the commit yet, undoes it.
	other := p.deskOf(p.open())
	undo := request("undo", "repository", "releases", "commit", done.Commit, "reason", "they stay")
	if shown, err = other.Propose(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	undone, _, err := other.Commit(t.Context(), undo, shown.Digest())
	if err != nil || p.git("show", undone.Commit+":cells/acme/cell.yaml") != p.git("show", done.Commit+
		"~:cells/acme/cell.yaml") {
		t.Errorf("%+v %v", undone, err)
	}
	if got := p.git("log", "-1", "--format=%s"); got != `undo "edit cell acme"` {
		t.Error(got)
	}
}

// Two replicas that confirm what both have shown: the second one shows what it would be now.
func TestTwoReplicasConfirm(t *testing.T) {
	p := newPlace(t)
	one, other := p.desk, p.deskOf(p.open())
	first := request("pause-cell", "cell", "acme", "paused", "one")
	second := request("pause-cell", "cell", "acme", "paused", "two")
	a, err1 := one.Propose(t.Context(), first)
	b, err2 := other.Propose(t.Context(), second)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if _, _, err := one.Commit(t.Context(), first, a.Digest()); err != nil {
		t.Fatal(err)
	}
	tip := p.git("rev-parse", "main")
	done, now, err := other.Commit(t.Context(), second, b.Digest())
	if !errors.Is(err, edits.ErrChanged) || done.Commit != "" || p.git("rev-parse", "main") != tip ||
		!strings.Contains(string(now.Before["cells/acme/cell.yaml"]), "one") {
		t.Fatalf("%+v %+v %v", done, now, err)
	}
	if _, _, err := other.Commit(t.Context(), second, now.Digest()); err != nil {
		t.Error(err)
	}
}

// What is no commit of the branch is not shown, and what was not asked for in a form is not undone in one.
func TestOnlyTheBranchIsShown(t *testing.T) {
	p := newPlace(t)
	byHand := p.commit(map[string]string{"cells/acme/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n#\n"})
	for _, id := range []string{"", "main", "HEAD", strings.Repeat("0", 40), strings.Repeat("f", 40), byHand[:12],
		"--help", "../" + byHand, strings.ToUpper(byHand) + "x"} {
		if _, err := p.desk.Show(t.Context(), desk.ReleasesRepository, id); !errors.Is(err, desk.ErrNoCommit) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := p.desk.Show(t.Context(), "others", byHand); !errors.Is(err, desk.ErrNoCommit) {
		t.Error(err)
	}
	if c, err := p.desk.Show(t.Context(), desk.ReleasesRepository, byHand); err != nil || c.Undoable() {
		t.Errorf("%+v %v", c, err)
	}
	refused := new(edits.Error)
	if _, err := p.desk.Propose(t.Context(), request("undo", "repository", "releases", "commit",
		byHand)); !errors.As(err,
		&refused) {
		t.Error(err)
	}
	if _, err := p.desk.Propose(t.Context(), request("unkill", "flag", "x", "reason", "y")); !errors.As(err, &refused) {
		t.Error(err)
	}
}
