// Package disk writes the agent's files so that a power loss leaves the old content or the new, never a mixture. It
// returns from a write only once the write is durable. It knows no file's name or meaning, reads with a limit, and
// never leaves the paths that it is given. Its functions may be called at once for different files.
package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/internal/filelock"
)

// UnfinishedPattern is the pattern, for os.CreateTemp, of files that an interrupted write leaves in a folder: see
// RemoveUnfinished.
const UnfinishedPattern = unfinishedPrefix + "*"

const unfinishedPrefix = ".new-"

// ReplaceFile writes a file's content, all of it or nothing, and returns once it is durable.
func ReplaceFile(name string, content ...[]byte) error {
	return ReplaceFileMode(name, 0o600, content...)
}

// ReplaceFileMode is ReplaceFile for a mode other than 0600.
func ReplaceFileMode(name string, mode fs.FileMode, content ...[]byte) error {
	return ReplaceFileBy(name, mode, writeAll(content))
}

// ReplaceFileBy is ReplaceFileMode for content that is written bit by bit. Nothing of it counts before write returned
// nil.
func ReplaceFileBy(name string, mode fs.FileMode, write func(io.Writer) error) error {
	unfinished, err := writeUnfinished(filepath.Dir(name), mode, write)
	if err != nil {
		return err
	}
	if err := os.Rename(unfinished, name); err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	return SyncDir(filepath.Dir(name))
}

func writeAll(content [][]byte) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, part := range content {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	}
}

// writeUnfinished writes a file of another name, which is durable when it returns. A file that it can't finish is gone.
func writeUnfinished(dir string, mode fs.FileMode, write func(io.Writer) error) (name string, err error) {
	f, err := os.CreateTemp(dir, UnfinishedPattern)
	if err != nil {
		return "", err
	}
	err = write(f)
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// MakePrivate creates a folder that only its owner may enter, whatever the umask; one that is there is made so. A link
// in its place is an error: whoever put it there could read and change what is written.
func MakePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a link, and the agent's own files would be elsewhere: remove it, or name the "+
			"folder that it leads to with --state", dir)
	case info.Mode().Perm() == 0o700:
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) { // another's, as a volume may be
		return err
	}
	return nil
}

// RefusesWrites reports whether an error says that nothing new can be written to a disk: it is full or read-only. What
// is there can be read, and what runs from it goes on.
func RefusesWrites(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// SyncDir makes the names in a folder durable.
func SyncDir(name string) error {
	d, err := os.Open(name) //nolint:gosec // below the state folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockWait is how long LockDir waits for a lock that may be about to be freed.
const lockWait = 2 * time.Second

// LockDir ensures that only one agent uses a state folder, until the returned file is closed or the process ends. who
// describes this agent to another one that finds the folder locked.
func LockDir(dir, who string) (*os.File, error) {
	f, err := filelock.Open(func(flags int) (*os.File, error) {
		//nolint:gosec // the owner names the folder
		return os.OpenFile(filepath.Join(dir, "lock"), flags|syscall.O_NOFOLLOW, 0o600)
	})
	if err != nil {
		return nil, err
	}
	err = filelock.Lock(f, lockWait, who)
	if err == nil {
		return f, nil
	}
	if held := new(filelock.HeldError); errors.As(err, &held) {
		err = fmt.Errorf("another agent uses the state folder %s: %w: stop it, or give each cell a state folder of its "+
			"own", dir, err)
	}
	return nil, errors.Join(err, f.Close())
}

// digestName matches the names of files that are named by a digest, which the agent made.
var digestName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}(\.[a-z]+)?$`) })

// PruneOldest removes the oldest files of a folder that are named by a digest, so that at most n are left, but none of
// keep, which count too. What has another name is not the agent's, and stays.
func PruneOldest(dir string, n int, keep map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !e.Type().IsRegular() || !digestName().MatchString(e.Name())
	})
	if len(entries) <= n {
		return nil
	}
	type used struct {
		name string
		at   int64
	}
	var others []used
	for _, e := range entries {
		if keep[e.Name()] {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		others = append(others, used{e.Name(), info.ModTime().UnixNano()})
	}
	slices.SortFunc(others, func(a, b used) int { return int(min(1, max(-1, b.at-a.at))) })
	for _, o := range others[min(len(others), max(0, n-len(keep))):] {
		if err := os.Remove(filepath.Join(dir, o.name)); err != nil {
			return err
		}
	}
	return nil
}

// WriteChecksummed writes a file for ReadChecksummed, all of it or nothing, and returns once it is durable.
func WriteChecksummed(name string, content []byte) error {
	return ReplaceFile(name, checksumLine(content), content)
}

func checksumLine(content []byte) []byte {
	sum := sha256.Sum256(content)
	return []byte(hex.EncodeToString(sum[:]) + "\n")
}

// WriteCopies is WriteChecksummed for several files of a folder that get the same content, and waits for the disk once.
// Each file has its old content or the new one, whatever happens. written, unless it is nil, is called after each file
// got its name, in the order of names.
func WriteCopies(dir string, names []string, content []byte, written func(name string)) error {
	write := writeAll([][]byte{checksumLine(content), content})
	unfinished, faults := make([]string, len(names)), make([]error, len(names))
	var writes sync.WaitGroup
	for i := range names {
		writes.Go(func() { unfinished[i], faults[i] = writeUnfinished(dir, 0o600, write) })
	}
	writes.Wait()
	err := errors.Join(faults...)
	for i, name := range names {
		switch {
		case err == nil:
			if err = os.Rename(unfinished[i], filepath.Join(dir, name)); err != nil {
				err = errors.Join(err, os.Remove(unfinished[i]))
			} else if written != nil {
				written(name)
			}
		case unfinished[i] != "":
			err = errors.Join(err, os.Remove(unfinished[i]))
		}
	}
	return errors.Join(err, SyncDir(dir))
}

var errDamaged = errors.New("its checksum does not match")

// ReadChecksummed reads a file of WriteChecksummed of at most limit bytes; nil: there is none. A file that does not
// match its checksum is an error.
func ReadChecksummed(name string, limit int64) ([]byte, error) {
	text, err := ReadLimited(name, limit+sha256.Size*2+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sum, content, _ := bytes.Cut(text, []byte("\n"))
	if got := sha256.Sum256(content); hex.EncodeToString(got[:]) != string(sum) {
		return nil, fmt.Errorf("read %s: %w", name, errDamaged)
	}
	return content, nil
}

// ReadLimited reads a file of at most limit bytes.
func ReadLimited(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && info.Size() > limit {
		err = fmt.Errorf("read %s: it is larger than %d bytes", name, limit)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(name) //nolint:gosec // below the state folder
}

// IsDamage reports whether an error of reading a file is about its content. What the machine did not let the agent
// read, by its rights, its limits or its disk, may be well, and is read another time.
func IsDamage(err error) bool {
	_, isMachines := errors.AsType[*fs.PathError](err)
	return err != nil && !isMachines
}

// PutAside renames a damaged file, so that another can take its place and nothing is lost, and returns its new name.
func PutAside(name string, now time.Time) (aside string, err error) {
	return moveAside(name, now, os.Rename)
}

// KeepAside is PutAside for a file of which a part is still good: it keeps its name too, until it is replaced.
func KeepAside(name string, now time.Time) (aside string, err error) {
	return moveAside(name, now, os.Link)
}

func moveAside(name string, now time.Time, move func(from, to string) error) (aside string, err error) {
	aside = name + ".damaged-" + now.UTC().Format("20060102T150405.000")
	if err := move(name, aside); err != nil {
		return "", err
	}
	return aside, SyncDir(filepath.Dir(name))
}

// RemoveUnfinished removes what interrupted writes left in the folders, as far as they are there and can be written.
func RemoveUnfinished(dirs ...string) error {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			random, unfinished := strings.CutPrefix(e.Name(), unfinishedPrefix)
			if !unfinished || strings.Trim(random, "0123456789") != "" {
				continue
			}
			err := os.RemoveAll(filepath.Join(dir, e.Name())) // the socket for flags began in a folder
			if err != nil && !RefusesWrites(err) {
				return err
			}
		}
	}
	return nil
}
