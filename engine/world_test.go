package engine

import (
	"crypto/sha1" //nolint:gosec // git's object ids
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// world is a release repository in memory, for the pure core: files, commits and the history that they fold to.
type world struct {
	t       testing.TB
	files   map[string]string
	commits map[string]fs.FS
	history *History
	cache   manifest.Cache
	tip     string
	changes []releases.Change
	built   *Desired          // of tip
	also    []releases.Person // who else wrote what the next commit, a merge, brings
	now     time.Time
	obs     Observed
}

var start = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC) // a Monday

// newWorld commits files as the root. "@digest:V" in them stands for a release's digest.
func newWorld(t testing.TB, files map[string]string) *world {
	t.Helper()
	w := &world{t: t, files: map[string]string{}, commits: map[string]fs.FS{}, history: NewHistory(), now: start}
	w.obs = Observed{Cells: map[string]*CellState{}, Served: map[string]int64{}, Refused: map[string]Refusal{}}
	if _, ok := files["sluice.yaml"]; !ok {
		w.files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\n"
	}
	w.commit("ada", "begin", files)
	return w
}

func (w *world) digest(version string) releases.Digest {
	w.t.Helper()
	d, err := releases.DigestOf(w.fs(), "releases/"+version)
	if err != nil {
		w.t.Fatalf("digest of %s: %v", version, err)
	}
	return d
}

func (w *world) fs() fs.FS {
	m := fstest.MapFS{}
	for name, data := range w.files {
		m[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
	}
	return m
}

func object(data string) string {
	sum := sha1.Sum([]byte(data)) //nolint:gosec // git's object ids
	return hex.EncodeToString(sum[:])
}

// trees gives the paths that a Change names, with their object ids.
func (w *world) paths() map[string]string {
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		if parts := strings.Split(name, "/"); parts[0] == "releases" && len(parts) > 2 {
			dir := path.Join(parts[0], parts[1])
			all[dir] = object(all[dir] + name + "\x00" + w.files[name])
			continue
		}
		all[name] = object(w.files[name])
	}
	return all
}

// commit changes files as author; an empty text removes the file. It gives the commit's id.
func (w *world) commit(author, message string, files map[string]string) string {
	w.t.Helper()
	before := w.paths()
	for name, data := range files {
		if data == "" {
			delete(w.files, name)
			continue
		}
		w.files[name] = data
	}
	for name, data := range files {
		for strings.Contains(data, "@digest:") {
			_, rest, _ := strings.Cut(data, "@digest:")
			version := strings.TrimRight(rest[:strings.IndexAny(rest+"\n", "\n \",}")], "\n")
			data = strings.Replace(data, "@digest:"+version, string(w.digest(version)), 1)
			w.files[name] = data
		}
	}
	if w.tip == "" {
		before = map[string]string{}
	}
	after := w.paths()
	who := releases.Person{Name: author, Email: author + "@example.com"}
	c := releases.Change{Parent: w.tip, Author: who, Committer: who, When: w.now, Message: message}
	c.Commit = object(w.tip + message + fmt.Sprint(after) + w.now.String())
	for _, name := range slices.Sorted(maps.Keys(merged(before, after))) {
		if before[name] != after[name] {
			c.Files = append(c.Files, releases.FileChange{Path: name, Old: before[name], New: after[name], Authors: append([]releases.Person{who}, w.also...)})
		}
	}
	w.also = nil
	w.commits[c.Commit] = w.fs()
	if err := w.history.Advance([]releases.Change{c}, w.open, &w.cache); err != nil {
		w.t.Fatal(err)
	}
	w.tip, w.changes = c.Commit, append(w.changes, c)
	return c.Commit
}

func merged(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

func (w *world) open(commit string) (fs.FS, error) {
	if f, ok := w.commits[commit]; ok {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (w *world) desired() *Desired {
	w.t.Helper()
	if w.built != nil && w.built.Commit == w.tip {
		return w.built
	}
	d, err := Build(w.fs(), w.history, w.open, &w.cache, true)
	if err != nil {
		w.t.Fatal(err)
	}
	w.built = d
	return d
}

func (w *world) plan() Plan {
	w.t.Helper()
	return Make(w.desired(), &w.obs, w.now)
}

// progress is how far a channel's head has come.
func (w *world) progress(channel string) Progress {
	w.t.Helper()
	p := w.plan()
	return Rollouts(w.desired(), &w.obs, &p, channel)[0]
}

// run carries a plan out as the engine does, without any I/O, and gives it.
func (w *world) run() Plan {
	w.t.Helper()
	d := w.desired()
	plan := Make(d, &w.obs, w.now)
	Carry(&w.obs, &plan)
	chain, _, err := Drafts(d, plan)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, draft := range chain {
		files := map[string]string{}
		for name, data := range draft.Files {
			files[name] = string(data)
		}
		w.commit("sluice", draft.Message, files)
	}
	return plan
}

// settle runs plans until nothing is left to do.
func (w *world) settle() Plan {
	w.t.Helper()
	for range 20 {
		if plan := w.run(); len(plan.Actions) == 0 {
			return plan
		}
	}
	w.t.Fatal("plans never end")
	return Plan{}
}

// report lets a cell say that it runs what it was granted, in a state; reports before it go on from the last.
func (w *world) report(name string, state cells.State) {
	w.t.Helper()
	prev := w.obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.now, State: state, Running: prev.last()}
	w.obs.Cells[name] = w.receive(prev, r)
}

// fails lets a cell fail its grant and go back to what it ran before.
func (w *world) fails(name, reason string) {
	w.t.Helper()
	prev := w.obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.now, State: cells.StateHealthy, Running: prev.Running}
	f := cells.Failure{Assignment: *prev.last(), Reason: reason, At: w.now}
	f.Values = prev.Running != nil && prev.Running.Digest == f.Assignment.Digest
	for _, known := range prev.Failures {
		r.Failures = append(r.Failures, known.Failure)
	}
	r.Failures = append(r.Failures, f)
	w.obs.Cells[name] = w.receive(prev, r)
}

func (w *world) receive(prev *CellState, r cells.Report) *CellState {
	return Receive(prev, r, w.now, 5*time.Minute)
}

// reports lets all cells of a channel report healthy.
func (w *world) reports(channel string) {
	w.t.Helper()
	for name, cell := range w.desired().Cells {
		if cell.Channel == channel {
			w.report(name, cells.StateHealthy)
		}
	}
}

// wait lets time pass in steps of a minute, all cells of the channels reporting healthy.
func (w *world) wait(d time.Duration, healthy ...string) {
	w.t.Helper()
	end := w.now.Add(d)
	for w.now.Before(end) {
		w.now = w.now.Add(min(time.Minute, end.Sub(w.now)))
		for _, channel := range healthy {
			w.reports(channel)
		}
	}
}

func release(version string, more ...string) map[string]string {
	return map[string]string{
		"releases/" + version + "/release.yaml":       "apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\n" + strings.Join(more, ""),
		"releases/" + version + "/kustomization.yaml": "resources: [app.yaml]\n",
		"releases/" + version + "/app.yaml":           "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {version: \"" + version + "\"}\n",
	}
}

func cellFiles(channel string, all ...string) map[string]string {
	files := map[string]string{}
	for _, name := range all {
		files["cells/"+name+"/cell.yaml"] = "apiVersion: sluice/v1\nkind: Cell\nchannel: " + channel + "\n"
	}
	return files
}

func policy(name, text string) map[string]string {
	return map[string]string{"channels/" + name + "/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n" + text}
}

func head(channel, version string) map[string]string {
	return map[string]string{"channels/" + channel + "/head.yaml": "release: " + version + "\ndigest: @digest:" + version + "\nsequence: 7\n"}
}

func union(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, files := range all {
		maps.Copy(m, files)
	}
	return m
}

// rewind drops the newest n commits, as a force-push does.
func (w *world) rewind(n int) {
	w.t.Helper()
	kept := w.changes[:len(w.changes)-n]
	w.history, w.changes, w.tip = NewHistory(), nil, ""
	for _, c := range kept {
		if err := w.history.Advance([]releases.Change{c}, w.open, &w.cache); err != nil {
			w.t.Fatal(err)
		}
		w.changes, w.tip = append(w.changes, c), c.Commit
	}
	w.files = map[string]string{}
	err := fs.WalkDir(w.commits[w.tip], ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(w.commits[w.tip], name)
		w.files[name] = string(data)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}
