package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
)

// removalWorld has n cells in staging, and as many releases and channels.
func removalWorld(t *testing.T, n int) *World {
	t.Helper()
	files := []map[string]string{Policy("staging", ""), Release("1.0.0"), Head("staging", "1.0.0")}
	for i := range n {
		files = append(files, CellFiles("staging", fmt.Sprintf("s%d", i)), Release(fmt.Sprintf("0.%d.0", i)),
			Policy(fmt.Sprintf("c%d", i), "promote: manual\n"), Head(fmt.Sprintf("c%d", i), "1.0.0"))
	}
	w := NewWorld(t, Union(files...)).ReportInstalled()
	w.Settle()
	return w
}

// without returns a change that removes everything below the folders.
func without(w *World, dirs ...string) map[string]string {
	files := map[string]string{}
	for name := range w.Files {
		for _, dir := range dirs {
			if strings.HasPrefix(name, dir+"/") {
				files[name] = ""
			}
		}
	}
	return files
}

func folders(kind string, from, to int) (dirs []string) {
	name := map[string]string{"cells": "cells/s%d", "channels": "channels/c%d", "releases": "releases/0.%d.0"}[kind]
	for i := from; i < to; i++ {
		dirs = append(dirs, fmt.Sprintf(name, i))
	}
	return dirs
}

func count(d *plan.Desired, kind string) int {
	switch kind {
	case "cells":
		return len(d.Cells)
	case "channels":
		return len(d.Channels) - 1
	}
	return len(d.Releases) - 1
}

// R47: what one commit removes beyond the bound stays until a commit confirms it.
func TestManyRemovalsWait(t *testing.T) {
	for _, kind := range []string{"cells", "channels", "releases"} {
		t.Run(kind, func(t *testing.T) {
			w := removalWorld(t, 10)
			w.Commit("eve", "three", without(w, folders(kind, 0, 3)...))
			if n := count(w.Desired(), kind); n != 7 {
				t.Fatalf("%d left after 3 of 10", n)
			}
			w.Now = w.Now.Add(2 * time.Hour)
			removal := w.Commit("eve", "the others", without(w, folders(kind, 3, 10)...))
			w.Commit("eve", "unrelated", Release("1.0.1"))
			if n := count(w.Desired(), kind); n < 7 {
				t.Fatalf("%d left after 7 of 7", n)
			}
			w.WantBlocked("", "removal", "removes 7 of ")
			w.WantBlocked("", "removal", "Confirm-Removal: "+removal)
			if f := w.Desired().Faults; len(f) == 0 || !strings.Contains(fmt.Sprint(f), "Confirm-Removal: "+removal) {
				t.Errorf("faults: %v", f)
			}
			w.Commit("eve", "confirm another\n\nConfirm-Removal: "+strings.Repeat("0", 40), nil)
			if n := count(w.Desired(), kind); n < 7 {
				t.Fatalf("%d left after another's confirmation", n)
			}
			w.Commit("eve", "confirm\n\nConfirm-Removal: "+removal, nil)
			if n := count(w.Desired(), kind); n > 1 { // the release that was cut meanwhile
				t.Errorf("%d left after the confirmation", n)
			}
			for _, v := range w.Plan().Blocked {
				if v.Gate == "removal" {
					t.Errorf("still: %v", v)
				}
			}
		})
	}
}

// R47: the commits of one push count together, by their dates; and a revert ends the wait.
func TestRemovalsInSeveralCommits(t *testing.T) {
	w := removalWorld(t, 10)
	before := Union(w.Files)
	for i := range 10 {
		w.Commit("eve", fmt.Sprint("remove ", i), without(w, fmt.Sprintf("cells/s%d", i)))
	}
	if n := len(w.Desired().Cells); n != 7 {
		t.Errorf("%d cells left", n)
	}
	w.Commit("eve", "revert", before)
	if n := len(w.Desired().Cells); n != 10 {
		t.Errorf("%d cells after the revert", n)
	}
	for _, v := range w.Plan().Blocked {
		if v.Gate == "removal" {
			t.Errorf("still: %v", v)
		}
	}
}

// R47: of 100 cells, 10 may go.
func TestATenthMayGo(t *testing.T) {
	w := removalWorld(t, 100)
	w.Commit("eve", "ten", without(w, folders("cells", 0, 10)...))
	if n := len(w.Desired().Cells); n != 90 {
		t.Errorf("%d cells left", n)
	}
}

// R47: a channel whose removal waits goes on: it is promoted, and follows what is written into it.
func TestChannelGoesOnWhileItsRemovalWaits(t *testing.T) {
	w := removalWorld(t, 5)
	w.Commit("eve", "remove all channels", without(w, append(folders("channels", 0, 5), "channels/staging")...))
	w.WantBlocked("", "removal", "removes 6 of 6 channels")
	w.Commit("bob", "cut", Release("1.1.0"))
	w.InstallAll()
	w.WantHead("staging", "1.1.0")
	w.Commit("bob", "cut", Release("1.2.0"))
	w.InstallAll()
	w.WantHead("staging", "1.2.0")
}
