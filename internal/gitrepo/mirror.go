package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// mirror is the engine's own bare repository. Nothing is pushed to it, and git itself only adds and rewrites packs, so
// the refs are files that are replaced whole.
type mirror struct {
	git string
	dir string
}

// incomingPrefix begins the names of object folders that are not checked yet.
const incomingPrefix = "tmp_objdir-sluice-"

func (m mirror) env() []string { return ownGitEnv(m.dir) }

// lock keeps other processes from changing the mirror's refs and location.
func (m mirror) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o777); err != nil { //nolint:gosec // the umask decides
		return nil, fmt.Errorf("make mirror: %w", err)
	}
	type result struct {
		unlock func()
		err    error
	}
	locked := make(chan result) // unbuffered: the caller receives the lock, or it is released again
	go func() {
		unlock, err := lockedfile.MutexAt(m.dir + ".lock").Lock()
		select {
		case locked <- result{unlock, err}:
		case <-ctx.Done():
			if err == nil {
				unlock()
			}
		}
	}()
	select {
	case r := <-locked:
		if r.err != nil {
			return nil, fmt.Errorf("lock mirror: %w", r.err)
		}
		return r.unlock, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("lock mirror %s, which another process works on: %w", m.dir, ctx.Err())
	}
}

// create makes the mirror if there is none, or what a killed process had not made of it. It removes what a killed fetch
// left behind.
func (m mirror) create(ctx context.Context) error {
	head := filepath.Join(m.dir, "HEAD")
	_, err := readHeadBranch(m.dir)
	if err == nil && isDir(filepath.Join(m.dir, "objects", "info")) { // git init makes HEAD early, and this folder last
		stale, err := filepath.Glob(filepath.Join(m.dir, "objects", incomingPrefix+"*"))
		for _, dir := range stale {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}
	if err != nil { // git init leaves a HEAD that a power loss emptied as it is
		if err := os.Remove(head); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make mirror %s: %w", m.dir, err)
		}
	}
	if _, err := runGit(ctx, m.git, m.env(), nil, "init", "--quiet", "--bare", "--template=",
		"--initial-branch="+unknownBranch, m.dir); err != nil {
		return fmt.Errorf("make mirror %s: %w", m.dir, err)
	}
	return nil
}

// unknownBranch is the mirror's HEAD until the branch is known.
const unknownBranch = "sluice-not-fetched-yet"

// branch returns the branch that the mirror follows; empty: not known yet.
func (m mirror) branch() string {
	b, err := readHeadBranch(m.dir)
	if err != nil || b == unknownBranch {
		return ""
	}
	return b
}

func (m mirror) setBranch(name string) error {
	return replaceFile(filepath.Join(m.dir, "HEAD"), "ref: refs/heads/"+name+"\n")
}

// tip returns the newest commit of the branch in the mirror; zero: none.
func (m mirror) tip(branch string) objects.ID {
	id, err := readRef(m.dir, "refs/heads/"+branch)
	if err != nil {
		return objects.ID{} // after a power loss, for instance: the next fetch writes the ref again
	}
	return id
}

func (m mirror) setTip(branch string, tip objects.ID) error {
	path := filepath.Join(m.dir, "refs", "heads", filepath.FromSlash(branch))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil { //nolint:gosec // the umask decides
		return err
	}
	return replaceFile(path, tip.String()+"\n")
}

// readCommitPrefix returns the first bytes of a commit that is too large to be read whole.
func (m mirror) readCommitPrefix(id objects.ID) ([]byte, error) {
	const enough, limit = 64 << 10, 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := gitCommand(ctx, m.git, m.env(), "cat-file", "commit", id.String())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %v: %w", id, err)
	}
	raw, err := io.ReadAll(io.LimitReader(out, enough))
	cancel() // the rest is not wanted
	_ = waitCommand(ctx, cmd)
	if err != nil || len(raw) < enough {
		return nil, fmt.Errorf("read commit %v: %w", id, errors.Join(err, objects.ErrTooLarge))
	}
	return raw, nil
}

// setAside moves a damaged mirror away, so that a person can examine it. It removes mirrors that were moved before.
func (m mirror) setAside(ctx context.Context, now time.Time) (string, error) {
	const mark = ".damaged-"
	before, err := filepath.Glob(m.dir + mark + "*")
	for _, dir := range before {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	to := m.dir + mark + now.UTC().Format("20060102T150405")
	if err = errors.Join(err, os.Rename(m.dir, to)); err != nil {
		return "", fmt.Errorf("set mirror aside: %w", err)
	}
	return to, m.create(ctx)
}

func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// findGitDir finds a repository's git folder; of a linked worktree, the folder that has the refs.
func findGitDir(path string) (dir string, err error) {
	for _, dir := range []string{filepath.Join(path, ".git"), path, path + ".git"} {
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			text, err := readLine(dir)
			to, ok := strings.CutPrefix(text, "gitdir: ")
			if err != nil || !ok {
				continue
			}
			if dir = to; !filepath.IsAbs(dir) {
				dir = filepath.Join(path, to)
			}
			if common, err := readLine(filepath.Join(dir, "commondir")); err == nil {
				dir = filepath.Join(dir, common)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "objects")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("there is no git repository at %s", path)
}

// readHeadBranch returns the branch that HEAD names.
func readHeadBranch(dir string) (string, error) {
	text, err := readLine(filepath.Join(dir, "HEAD"))
	if err != nil {
		return "", err
	}
	name, ok := strings.CutPrefix(text, "ref: refs/heads/")
	if !ok {
		return "", errors.New("its HEAD names no branch")
	}
	return name, nil
}

// readRef reads a ref as git does: the file, else packed-refs. Git replaces both whole, and packs a ref before removing
// the file, so this order misses no ref. The zero id means that there is no such ref.
func readRef(dir, name string) (objects.ID, error) {
	for range 5 {
		text, err := readLine(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) || err != nil && isDir(filepath.Join(dir, filepath.FromSlash(name))) {
			return readPackedRef(dir, name)
		} else if err != nil {
			return objects.ID{}, err
		}
		to, symbolic := strings.CutPrefix(text, "ref: ")
		if !symbolic {
			return objects.ParseID(text)
		}
		if !strings.HasPrefix(to, "refs/") || slices.Contains(strings.Split(to, "/"), "..") {
			return objects.ID{}, fmt.Errorf("%s names %q", name, to)
		}
		name = to
	}
	return objects.ID{}, fmt.Errorf("%s: too many symbolic refs", name)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

const maxPackedRefs = 64 << 20 // bytes: about a million refs

func readPackedRef(dir, name string) (objects.ID, error) {
	path := filepath.Join(dir, "packed-refs")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return objects.ID{}, nil
	} else if err != nil {
		return objects.ID{}, err
	}
	if info.Size() > maxPackedRefs {
		return objects.ID{}, fmt.Errorf("%s is larger than %d bytes", path, maxPackedRefs)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return objects.ID{}, err
	}
	at := bytes.Index(text, []byte(" "+name+"\n"))
	if at < 40 {
		return objects.ID{}, nil
	}
	return objects.ParseID(string(text[at-40 : at]))
}

// readLine reads a file of one line, at most 4 KiB.
func readLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, err := f.Read(b)
	if n == 0 && err != nil {
		return "", err
	}
	return strings.TrimRight(string(b[:n]), "\r\n"), nil
}
