package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/cells/agent/disk"
)

// The agent's own files are for its user alone, whatever the umask, and no link leads them elsewhere (R54).
func TestStateIsPrivate(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o755)); err != nil {
		t.Fatal(err)
	}
	before := syscall.Umask(0)
	defer syscall.Umask(before)
	for _, name := range []string{open, filepath.Join(dir, "new", "below")} {
		if err := disk.MakePrivate(name); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		file := filepath.Join(name, "key")
		if err := disk.ReplaceFile(file, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if err := disk.MakePrivate(link); err == nil {
		t.Error("a link counts as the folder")
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(open, "lock")); err != nil {
		t.Fatal(err)
	}
	if f, err := disk.LockDir(open, "a test"); err == nil {
		f.Close()
		t.Error("a lock was made through a link")
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("a file was made elsewhere")
	}
}
