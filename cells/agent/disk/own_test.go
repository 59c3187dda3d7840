package disk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells/agent/disk"
)

// What an interrupted write left goes, whatever characters are in the folder's name; what others named alike stays.
func TestOnlyUnfinishedFilesGo(t *testing.T) {
	for _, name := range []string{"plain", "with [a-z] in it", "with * in it", "what?", "[", `back\slash`} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Join(dir, ".new-77", "socket"), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.CreateTemp(dir, disk.UnfinishedPattern)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		others := []string{".new-year.txt", ".new-", ".newer", "new-1"}
		others[1] = ".new-1.bak"
		for _, other := range others {
			if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.RemoveUnfinished(dir); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != len(others) {
			t.Errorf("%s: %v, %v", name, left, err)
		}
	}
}

// Pruning removes only files that are named by a digest.
func TestPruningSparesFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	others := []string{"notes.txt", strings.Repeat("g", 64), strings.Repeat("a", 64) + ".tar.bak", "deadbeef.tar"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, strings.Repeat("b", 64)), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%064x.tar", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.PruneOldest(dir, 2, nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(others)+1+2 {
		t.Errorf("%v, %v", left, err)
	}
}
