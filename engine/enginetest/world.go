// Package enginetest is a release repository in memory, with cells that report, for tests of the planner and the
// engine: scenarios that can be read aloud. It does no I/O. A World belongs to one test.
package enginetest

import (
	"crypto/sha1" //nolint:gosec // git's object ids
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// World is a release repository in memory, for the pure core: files, commits and their folded history.
type World struct {
	T         testing.TB
	Files     map[string]string
	Commits   map[string]fs.FS
	history   *plan.History
	cache     manifest.Cache
	Tip       string
	Changes   []releases.Change
	Known     map[string]releases.Change // all that were ever made, by commit
	Built     *plan.Desired              // of Tip
	CoAuthors []releases.Person          // further authors of the next commit, a merge
	Signs     map[string]string          // the key that signs an author's commits; the engine's author is "sluice"
	Now       time.Time
	Obs       plan.Observed
	memory    plan.Memory                // compares all states
	informed  plan.Memory                // is told which were replaced
	planned   map[string]*plan.CellState // that informed knows of
	Signer    *trust.Signer              // signs heads for cells; nil: nothing does
}

var Start = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC) // a Monday

// NewWorld commits files as the root. "@digest:V" in a file is replaced by that release's digest.
func NewWorld(t testing.TB, files map[string]string) *World {
	t.Helper()
	w := &World{T: t, Files: map[string]string{}, Commits: map[string]fs.FS{}, history: plan.NewHistory(), Now: Start}
	w.Obs = plan.Observed{Cells: map[string]*plan.CellState{}, Served: map[string]int64{},
		Refused: map[string]plan.Refusal{}}
	if _, ok := files["sluice.yaml"]; !ok {
		w.Files["sluice.yaml"] = "apiVersion: sluice/v1\nkind: Pipeline\n"
	}
	w.Commit("ada", "begin", files)
	return w
}

func (w *World) Digest(version string) releases.Digest {
	w.T.Helper()
	d, err := releases.DigestOf(w.fs(), "releases/"+version)
	if err != nil {
		w.T.Fatalf("digest of %s: %v", version, err)
	}
	return d
}

func (w *World) fs() fs.FS {
	m := fstest.MapFS{}
	for name, data := range w.Files {
		m[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
	}
	return m
}

func objectID(data string) string {
	sum := sha1.Sum([]byte(data)) //nolint:gosec // git's object ids
	return hex.EncodeToString(sum[:])
}

// paths returns the paths that a Change names, with their object ids.
func (w *World) paths() map[string]string {
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.Files)) {
		if parts := strings.Split(name, "/"); parts[0] == "releases" && len(parts) > 2 {
			dir := path.Join(parts[0], parts[1])
			all[dir] = objectID(all[dir] + name + "\x00" + w.Files[name])
			continue
		}
		all[name] = objectID(w.Files[name])
	}
	return all
}

// Commit changes files as author, and returns the commit's id; an empty text removes a file.
func (w *World) Commit(author, message string, files map[string]string) string {
	w.T.Helper()
	before := w.paths()
	for name, data := range files {
		if data == "" {
			delete(w.Files, name)
			continue
		}
		w.Files[name] = data
	}
	for name, data := range files {
		for strings.Contains(data, "@digest:") {
			_, rest, _ := strings.Cut(data, "@digest:")
			version := strings.TrimRight(rest[:strings.IndexAny(rest+"\n", "\n \",}")], "\n")
			data = strings.Replace(data, "@digest:"+version, string(w.Digest(version)), 1)
			w.Files[name] = data
		}
	}
	if w.Tip == "" {
		before = map[string]string{}
	}
	after := w.paths()
	who := releases.Person{Name: author, Email: author + "@example.com"}
	c := releases.Change{Parent: w.Tip, Author: who, Committer: who, When: w.Now, Message: message,
		Key: w.Signs[author], Accepts: releases.Trailers(message, releases.AcknowledgeTrailer)}
	c.Commit = objectID(w.Tip + message + fmt.Sprint(after) + w.Now.String())
	for _, name := range slices.Sorted(maps.Keys(merged(before, after))) {
		if before[name] != after[name] {
			f := releases.FileChange{Path: name, Old: before[name], New: after[name],
				Authors: append([]releases.Person{who}, w.CoAuthors...)}
			if path.Dir(name) == releases.Dir {
				f.Commits = []releases.SignedCommit{{Commit: c.Commit, Key: c.Key}}
			}
			c.Files = append(c.Files, f)
		}
	}
	w.CoAuthors = nil
	w.Commits[c.Commit] = w.fs()
	if err := w.history.Advance([]releases.Change{c}, w.Open, &w.cache); err != nil {
		w.T.Fatal(err)
	}
	w.Tip, w.Changes = c.Commit, append(w.Changes, c)
	if w.Known == nil {
		w.Known = map[string]releases.Change{}
	}
	w.Known[c.Commit] = c
	return c.Commit
}

func merged(a, b map[string]string) map[string]string {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

func (w *World) Open(commit string) (fs.FS, error) {
	if f, ok := w.Commits[commit]; ok {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

// CopyHistory returns the history, folded anew.
func (w *World) CopyHistory() (*plan.History, error) {
	h := plan.NewHistory()
	return h, h.Advance(w.Changes, w.Open, &w.cache)
}

func (w *World) Desired() *plan.Desired {
	w.T.Helper()
	if w.Built != nil && w.Built.Commit == w.Tip {
		return w.Built
	}
	d, err := plan.Build(w.fs(), w.history, w.Open, &w.cache, true, nil)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Built = d
	return d
}

func (w *World) Plan() plan.Plan {
	w.T.Helper()
	return w.make(w.Desired())
}

// make makes a plan with and without memory of the plans before, which must be the same.
func (w *World) make(d *plan.Desired) plan.Plan {
	w.T.Helper()
	want := plan.Make(d, &w.Obs, w.Now)
	told := w.Obs
	told.Replaced = w.findReplaced()
	for what, p := range map[string]plan.Plan{
		"with memory":                       w.memory.Make(d, &w.Obs, w.Now),
		"told " + fmt.Sprint(told.Replaced): w.informed.Make(d, &told, w.Now),
	} {
		if !reflect.DeepEqual(p, want) {
			w.T.Fatalf("at %s, %s:\n%+v\nwithout:\n%+v", w.Now.Format(time.RFC3339), what, p, want)
		}
	}
	return want
}

// findReplaced returns the names of the cells whose states were replaced since it was called last.
func (w *World) findReplaced() []string {
	names := []string{}
	for name := range w.Obs.Cells {
		if w.Obs.Cells[name] != w.planned[name] {
			names = append(names, name)
		}
	}
	for name := range w.planned {
		if w.Obs.Cells[name] == nil {
			names = append(names, name)
		}
	}
	w.planned = maps.Clone(w.Obs.Cells)
	return names
}

// Progress returns how far a channel's head has come.
func (w *World) Progress(channel string) plan.Progress {
	w.T.Helper()
	p := w.Plan()
	return plan.Rollouts(w.Desired(), &w.Obs, &p, channel)[0]
}

// Run carries a plan out as the engine does, without I/O, and returns the plan.
func (w *World) Run() plan.Plan {
	w.T.Helper()
	d := w.Desired()
	p := w.make(d)
	plan.Carry(&w.Obs, &p)
	chain, _, err := plan.Drafts(d, p, w.Signer)
	if err != nil {
		w.T.Fatal(err)
	}
	for _, draft := range chain {
		files := map[string]string{}
		for name, data := range draft.Files {
			files[name] = string(data)
		}
		w.Commit("sluice", draft.Message, files)
	}
	return p
}

// Settle runs plans until nothing is left to do.
func (w *World) Settle() plan.Plan {
	w.T.Helper()
	for range 20 {
		if p := w.Run(); len(p.Actions) == 0 {
			return p
		}
	}
	w.T.Fatal("plans never end")
	return plan.Plan{}
}

// Report makes a cell report that it runs what it was granted, in a state; it continues from earlier reports.
func (w *World) Report(name string, state cells.State) {
	w.T.Helper()
	prev := w.Obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: state, Running: prev.Last()}
	if prev != nil {
		r.Infrastructure.Number = prev.Infrastructure
	}
	w.Obs.Cells[name] = w.Receive(prev, r)
}

// ReportFailed makes a cell fail its grant and go back to what it ran before.
func (w *World) ReportFailed(name, reason string) {
	w.T.Helper()
	prev := w.Obs.Cells[name]
	r := cells.Report{Cell: name, Boot: "b", Sent: w.Now, State: cells.StateHealthy, Running: prev.Running}
	f := cells.Failure{Assignment: *prev.Last(), Cause: cells.CauseRelease, Reason: reason, At: w.Now}
	f.Values = prev.Running != nil && prev.Running.Digest == f.Assignment.Digest
	for _, known := range prev.Failures {
		r.Failures = append(r.Failures, known.Failure)
	}
	r.Failures = append(r.Failures, f)
	w.Obs.Cells[name] = w.Receive(prev, r)
}

func (w *World) Receive(prev *plan.CellState, r cells.Report) *plan.CellState {
	return plan.Receive(prev, r, w.Now, 5*time.Minute)
}

// reportAllHealthy makes all cells of a channel report healthy.
func (w *World) reportAllHealthy(channel string) {
	w.T.Helper()
	for name, cell := range w.Desired().Cells {
		if cell.Channel == channel {
			w.Report(name, cells.StateHealthy)
		}
	}
}

// Wait lets time pass in steps of a minute, while all cells of the channels report healthy.
func (w *World) Wait(d time.Duration, healthy ...string) {
	w.T.Helper()
	end := w.Now.Add(d)
	for w.Now.Before(end) {
		w.Now = w.Now.Add(min(time.Minute, end.Sub(w.Now)))
		for _, channel := range healthy {
			w.reportAllHealthy(channel)
		}
	}
}

func Release(version string, more ...string) map[string]string {
	return map[string]string{
		"releases/" + version + "/release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: " + version +
			"\n" + strings.Join(more, ""),
		"releases/" + version + "/kustomization.yaml": "resources: [app.yaml]\n",
		"releases/" + version + "/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n" +
			"data: {version: \"" + version + "\"}\n",
	}
}

func CellFiles(channel string, all ...string) map[string]string {
	files := map[string]string{}
	for _, name := range all {
		files["cells/"+name+"/cell.yaml"] = "apiVersion: sluice/v1\nkind: Cell\nchannel: " + channel + "\n"
	}
	return files
}

func Policy(name, text string) map[string]string {
	return map[string]string{"channels/" + name + "/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n" + text}
}

func Head(channel, version string) map[string]string {
	return map[string]string{"channels/" + channel + "/head.yaml": "release: " + version + "\ndigest: @digest:" +
		version + "\nsequence: 7\n"}
}

func Union(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, files := range all {
		maps.Copy(m, files)
	}
	return m
}

// Rewind drops the newest n commits, as a force-push does.
func (w *World) Rewind(n int) {
	w.T.Helper()
	kept := w.Changes[:len(w.Changes)-n]
	w.history, w.Changes, w.Tip = plan.NewHistory(), nil, ""
	for _, c := range kept {
		if err := w.history.Advance([]releases.Change{c}, w.Open, &w.cache); err != nil {
			w.T.Fatal(err)
		}
		w.Changes, w.Tip = append(w.Changes, c), c.Commit
	}
	w.Files = map[string]string{}
	err := fs.WalkDir(w.Commits[w.Tip], ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(w.Commits[w.Tip], name)
		w.Files[name] = string(data)
		return err
	})
	if err != nil {
		w.T.Fatal(err)
	}
}
