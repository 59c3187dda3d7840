package announcer_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// world is a release repository with two channels and a cell in each, both at a release with the feature classes, and a
// flags repository: real git, a real store.
type world struct {
	t       *testing.T
	dir     string
	log     zerolog.Logger
	digest  releases.Digest
	flags   string        // the flags repository
	ada     *gitrepo.Repo // a person's clone
	kim     *gitrepo.Repo // the approver's clone
	process []*process

	flagsURL string // the flags repository's URL for processes; empty: in dir
}

// process is the part of a control plane that these tests need.
type process struct {
	*announcer.Announcer
	w           *world
	engine      *engine.Engine
	store       *store.Store
	stop        func()
	clockOffset time.Duration // of cells' clocks
	receiptTime time.Time     // in the newest receipt
}

const (
	settings = "apiVersion: sluice/v1\nkind: Flags\ntrustAuthors: true\n" +
		"people: {ada: {email: ada@example.com}, kim: {email: kim@example.com}}\nsoak: 1s\n" +
		"webhooks: [{name: chat, url: \"https://chat.example/hook\"}]\n"
	definitions = `flags:
  classes:
    state: ENABLED
    variants: {lit: true, dark: false}
    defaultVariant: lit
    metadata: {feature: classes, off: dark}
  plain:
    state: ENABLED
    variants: {lit: true, dark: false}
    defaultVariant: lit
`
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: zerolog.New(zerolog.NewTestWriter(t))}
	release := map[string]string{
		"releases/1.0.0/release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n" +
			"features: [classes]\n",
		"releases/1.0.0/kustomization.yaml": "resources: [app.yaml]\n",
		"releases/1.0.0/app.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n",
	}
	files := fstest.MapFS{}
	for name, text := range release {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	var err error
	if w.digest, err = releases.DigestOf(files, "releases/1.0.0"); err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("release: 1.0.0\ndigest: %s\nsequence: 1\n", w.digest)
	maps.Copy(release, map[string]string{
		"sluice.yaml":                     "apiVersion: sluice/v1\nkind: Pipeline\n",
		"channels/staging/channel.yaml":   "apiVersion: sluice/v1\nkind: Channel\n",
		"channels/dedicated/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\nafter: [staging]\n",
		"channels/staging/head.yaml":      head,
		"channels/dedicated/head.yaml":    head,
		"cells/s1/cell.yaml":              "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n",
		"cells/d1/cell.yaml": "apiVersion: sluice/v1\nkind: Cell\nchannel: dedicated\n" +
			"labels: {region: eu}\n",
	})
	w.initRepos("releases.git", release)
	w.initRepos("flags.git", map[string]string{"sluice.yaml": settings, "flags/ui.yaml": definitions})
	w.flags = filepath.Join(w.dir, "flags.git")
	w.ada = w.openRepo("flags.git", "ada", releases.Person{Name: "Ada", Email: "ada@example.com"}, gitrepo.FlagsLayout)
	w.kim = w.openRepo("flags.git", "kim", releases.Person{Name: "Kim", Email: "kim@example.com"}, gitrepo.FlagsLayout)
	return w
}

func (w *world) initRepos(name string, files map[string]string) {
	w.t.Helper()
	n := gitrepo.InitOptions{Bare: true, Files: map[string][]byte{}, Message: "begin",
		Author: releases.Person{Name: "Ada", Email: "ada@example.com"}, When: time.Now()}
	for path, text := range files {
		n.Files[path] = []byte(text)
	}
	if _, err := gitrepo.Init(w.t.Context(), filepath.Join(w.dir, name), n); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) openRepo(name, mirror string, author releases.Person, layout gitrepo.Layout) *gitrepo.Repo {
	w.t.Helper()
	url := filepath.Join(w.dir, name)
	if name == "flags.git" && w.flagsURL != "" {
		url = w.flagsURL
	}
	r, err := gitrepo.Open(w.t.Context(), url, gitrepo.Options{Mirror: filepath.Join(w.dir, "mirrors", mirror),
		Author: author, Layout: layout, Log: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.Close() })
	return r
}

// commit commits as Ada on the current tip: files by path, removed if empty.
// soon is long enough for a busy machine to commit, approve and arm an announcement before its time.
const soon = 15 * time.Second

func (w *world) commit(message string, files map[string]string) string {
	w.t.Helper()
	return w.commitAs(w.ada, message, files)
}

func (w *world) commitAs(who *gitrepo.Repo, message string, files map[string]string) string {
	w.t.Helper()
	d := releases.Draft{Message: message, When: time.Now(), Files: map[string][]byte{}}
	for path, text := range files {
		if d.Files[path] = nil; text != "" {
			d.Files[path] = []byte(text)
		}
	}
	for range 20 {
		tip, err := who.Fetch(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		commits, err := who.Push(w.t.Context(), tip, []releases.Draft{d})
		if err == nil {
			for _, p := range w.process {
				p.NotifyPush()
			}
			return commits[0]
		}
	}
	w.t.Fatal("the branch never stands still")
	return ""
}

// tree returns the flags repository's tip.
func (w *world) tree() *repository.Tree {
	w.t.Helper()
	tip, err := w.ada.Fetch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	files, err := w.ada.FS(tip)
	if err != nil {
		w.t.Fatal(err)
	}
	return repository.Load(new(manifest.Cache), files)
}

// approve commits Kim's approval of an announcement's current text.
func (w *world) approve(id string) {
	w.t.Helper()
	tree := w.tree()
	hash, _ := tree.Hash(tree.Announcements[id])
	w.commitAs(w.kim, "approve "+id, map[string]string{"approvals/" + id + "/kim.yaml": "hash: " + hash + "\n"})
}

// history returns the branch's commits, newest first, as "author: subject".
func (w *world) history() (lines []string) {
	w.t.Helper()
	tip, err := w.ada.Fetch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := w.ada.Changes(w.t.Context(), "", tip)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range all {
		subject, _, _ := strings.Cut(c.Message, "\n")
		lines = append([]string{c.Author.Name + ": " + subject}, lines...)
	}
	return lines
}

// start starts a process on a store: two on one store are replicas.
func (w *world) start(storeFile string) *process {
	w.t.Helper()
	return w.startOn(storeFile, fmt.Sprint("p", len(w.process)))
}

// startOn starts a process with the mirrors of an earlier one.
func (w *world) startOn(storeFile, name string) *process {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	log := w.log.With().Str("process", name).Logger()
	s, err := store.OpenWith(ctx, filepath.Join(w.dir, storeFile),
		store.Options{Log: zerolog.Nop(), Poll: 100 * time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	bot := releases.Person{Name: "Sluice", Email: "sluice@localhost"}
	e, err := engine.New(ctx, w.openRepo("releases.git", name+"-releases", bot, gitrepo.ReleaseLayout), s,
		engine.Options{Log: zerolog.Nop()})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := announcer.New(announcer.Options{Repo: w.openRepo("flags.git", name+"-flags", bot, gitrepo.FlagsLayout),
		Store: s, Engine: e, Log: log, Poll: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = e.Run(ctx, nil) })
	running.Go(func() { _ = a.Run(ctx, nil) })
	p := &process{Announcer: a, w: w, engine: e, store: s, stop: sync.OnceFunc(func() {
		cancel()
		running.Wait()
		_ = s.Close()
	})}
	w.process = append(w.process, p)
	w.t.Cleanup(p.stop)
	p.waitForView("the engine reads the repository", func(v *view.View) bool { return v != nil })
	return p
}

// waitForView waits for a matching view, up to a time limit.
func (p *process) waitForView(what string, is func(*view.View) bool) *view.View {
	p.w.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		changed := p.engine.Changed()
		v := p.engine.View()
		if is(v) {
			return v
		}
		select {
		case <-changed:
		case <-deadline:
			if v != nil && v.Flags != nil {
				p.w.t.Fatalf("%s: never. Flags at %s: fault %q, writes %d, announcements %+v", what, v.Flags.Commit,
					v.Flags.Fault, len(v.Flags.Plan.Writes), v.Flags.Plan.Announcements)
			}
			p.w.t.Fatalf("%s: never", what)
		}
	}
}

// report makes a cell report that it runs the release, with its flags in force.
func (p *process) report(name, channel string) {
	p.w.t.Helper()
	runs := &cells.Assignment{Channel: channel, Sequence: 1, Release: "1.0.0", Digest: p.w.digest}
	r := cells.Report{Cell: name, Boot: "b", Sent: time.Now().Add(p.clockOffset), State: cells.StateHealthy,
		Running: runs}
	if d, _, ok := p.engine.View().Cell(name); ok && d.Flags != nil {
		r.Flags = &cells.FlagsReport{Height: d.Flags.Height, Bundle: d.Flags.Bundle.Digest,
			Orders: d.Flags.Orders.Digest}
	}
	receipt, err := p.engine.Receive(p.w.t.Context(), &r)
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.receiptTime = receipt.Time
}

func (p *process) reports() {
	p.w.t.Helper()
	p.report("s1", "staging")
	p.report("d1", "dedicated")
}

// bundle returns a cell's bundle, as the cell would read it.
func bundle(t *testing.T, v *view.View, cell string) *flags.Bundle {
	t.Helper()
	d, _, _ := v.Cell(cell)
	if d.Flags == nil {
		return nil
	}
	b, err := flags.ParseBundle(v.Flags.Bundles[d.Flags.Bundle.Digest])
	if err != nil {
		t.Fatalf("the bundle of %s: %v", cell, err)
	}
	return b
}

func orders(t *testing.T, v *view.View, cell string) (killed, held []string) {
	t.Helper()
	d, _, _ := v.Cell(cell)
	if d.Flags == nil {
		return nil, nil
	}
	var o flags.Orders
	if err := manifestJSON(d.Flags.Orders.Payload, &o); err != nil {
		t.Fatal(err)
	}
	for _, k := range o.Killed {
		killed = append(killed, k.Flag)
	}
	return killed, o.Held
}
