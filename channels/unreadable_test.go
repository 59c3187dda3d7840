package channels

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// brokenDir is a repository with a folder that can't be listed.
type brokenDir struct {
	fstest.MapFS
	dir string
}

var errBroken = errors.New("input/output error")

func (b brokenDir) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == b.dir {
		return nil, errBroken
	}
	return b.MapFS.ReadDir(name)
}

// An unreadable file may say anything: nothing is promoted meanwhile.
func TestFolderThatCanNotBeRead(t *testing.T) {
	fsys := repositoryFS("sluice.yaml", pipelineOK, "channels/a/channel.yaml", header, "channels/a/holds/x.yaml",
		"reason: y\n", "channels/b/channel.yaml", header, "quarantine/1.0.0.yaml", "")
	for dir, stopped := range map[string]string{"channels/a/holds": "a", "channels/a": "a", "quarantine": "a b",
		"channels": ""} {
		set, faults := Load(nil, brokenDir{fsys, dir})
		var got []string
		for name, s := range set.Channels {
			if s.Policy == nil {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != stopped ||
			!strings.Contains(joinFaults(faults), dir+": can't be read: input/output error") {
			t.Errorf("%s: stopped %v, with\n%s", dir, got, joinFaults(faults))
		}
	}
}

// withIDs has ids for files and folders, as a commit does: the content determines the id.
type withIDs struct {
	fstest.MapFS
	opened *int
}

type idInfo struct {
	fs.FileInfo
	id string
}

func (i idInfo) Sys() any { return i.id }

type idEntry struct {
	fs.DirEntry
	info idInfo
}

func (e idEntry) Info() (fs.FileInfo, error) { return e.info, nil }

func (w withIDs) id(name string) string {
	var all strings.Builder
	for file, content := range w.MapFS {
		if file == name || strings.HasPrefix(file, name+"/") {
			fmt.Fprintf(&all, "%s %x\n", file, content.Data)
		}
	}
	sorted := strings.Split(all.String(), "\n")
	slices.Sort(sorted)
	return strings.Join(sorted, "\n")
}

func (w withIDs) Open(name string) (fs.File, error) {
	*w.opened++
	return w.MapFS.Open(name)
}

func (w withIDs) Stat(name string) (fs.FileInfo, error) {
	info, err := w.MapFS.Stat(name)
	if err != nil {
		return nil, err
	}
	return idInfo{info, w.id(name)}, nil
}

func (w withIDs) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := w.MapFS.ReadDir(name)
	for i, e := range entries {
		info, _ := e.Info()
		entries[i] = idEntry{e, idInfo{info, w.id(name + "/" + e.Name())}}
	}
	return entries, err
}

// With a cache, unchanged files are not opened again, and the results are the same as without.
func TestLoadCached(t *testing.T) {
	opened := 0
	fsys := withIDs{repositoryFS("sluice.yaml", pipelineWithPeople(t), "channels/staging/channel.yaml", header,
		"channels/dedicated/channel.yaml", designExample, "channels/same/channel.yaml", header), &opened}
	var cache manifest.Cache
	if _, faults := Load(&cache, fsys); len(faults) > 0 {
		t.Fatal(joinFaults(faults))
	}
	opened = 0
	set, faults := Load(&cache, fsys)
	if opened != 0 || len(faults) > 0 {
		t.Errorf("opened %d files of a commit that was read before:\n%s", opened, joinFaults(faults))
	}
	if set.Channels["same"].Policy.Name != "same" || set.Channels["staging"].Policy.Name != "staging" {
		t.Error("two channels with one text share their names")
	}
	// References to other files are not cached with the folder.
	delete(fsys.MapFS, "channels/staging/channel.yaml")
	set, faults = Load(&cache, fsys)
	if set.Channels["dedicated"].Policy != nil ||
		joinFaults(faults) != `channels/dedicated/channel.yaml:3: there is no channel "staging"` {
		t.Errorf("after its upstream went: %+v\n%s", set.Channels["dedicated"].Policy, joinFaults(faults))
	}
	fsys.MapFS["channels/staging/channel.yaml"] = &fstest.MapFile{Data: []byte(header + "x: y\n")}
	for range 2 {
		set, faults = Load(&cache, fsys)
		if set.Channels["dedicated"].Policy == nil || set.Channels["staging"].Policy != nil || len(faults) != 1 {
			t.Errorf("after it came back, mistyped:\n%s", joinFaults(faults))
		}
	}
}
