package gitrepo

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/sluice-cd/sluice/internal/cleantext"
)

// Watch reports changes of the refs of a repository on a local disk: the channel receives a value soon after a push,
// sometimes without a change, and one value for several changes. For any other repository the channel is nil. The
// channel is closed when ctx ends or the watch is lost. Fetch once after Watch returned: earlier pushes are not
// reported.
func Watch(ctx context.Context, url string) (<-chan struct{}, error) {
	git, err := findGit()
	if err != nil {
		return nil, err
	}
	h, err := newHost(git, url, Options{Limits: Limits{}.orDefaults()})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", cleantext.Address(url), err)
	}
	d, ok := h.(*diskHost)
	if !ok {
		return nil, nil
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", d.path, err)
	}
	if err := watchRefs(w, d.dir); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("watch %s: %w", d.path, err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer w.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.Events:
				if !ok {
					return
				}
				if !isBranchFile(d.dir, e.Name) {
					continue
				}
				if e.Has(fsnotify.Create) && isDir(e.Name) {
					_ = watchTree(w, e.Name) // the folder may be gone again
				}
			case _, ok := <-w.Errors:
				if !ok {
					return
				}
				_ = watchRefs(w, d.dir) // events were lost, perhaps of new folders: watch all again
			}
			select {
			case changed <- struct{}{}:
			default: // a value is pending already
			}
		}
	}()
	return changed, nil
}

// watchRefs watches the files that git stores refs in: packed-refs, the folders below refs/heads, reftables.
func watchRefs(w *fsnotify.Watcher, dir string) error {
	if err := w.Add(dir); err != nil {
		return err
	}
	if tables := filepath.Join(dir, "reftable"); isDir(tables) {
		return w.Add(tables)
	}
	if err := w.Add(filepath.Join(dir, "refs")); err != nil {
		return err
	}
	return watchTree(w, filepath.Join(dir, "refs", "heads"))
}

func watchTree(w *fsnotify.Watcher, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // removed meanwhile
		}
		return w.Add(path)
	})
}

// isBranchFile reports whether a change of that path in the git folder may be a change of a branch.
func isBranchFile(dir, path string) bool {
	name, err := filepath.Rel(dir, path)
	if err != nil || strings.HasSuffix(name, ".lock") {
		return false
	}
	name = filepath.ToSlash(name)
	return name == "packed-refs" || name == "HEAD" || name == "refs" || name == "refs/heads" ||
		strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "reftable/")
}
