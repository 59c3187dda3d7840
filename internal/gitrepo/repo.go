// Package gitrepo is the release repository, or the flags repository: a commit as an fs.FS, the first-parent history as
// releases.Change, and drafts pushed onto a branch by compare-and-swap.
//
// A Repo works on a bare mirror of its own. git's pack protocol fills the mirror (from a path on disk, ssh or https),
// this package reads it without a child process, and the git command repacks it. Nothing is ever checked out.
//
// What always holds:
//
//   - Refs of the release repository change only by git's push protocol, with the old value named: the host compares
//     and swaps (R3). Not even a repository on the same disk is written otherwise.
//
//   - git index-pack checks what enters the mirror, in a folder of its own. What the objects say is judged when it is
//     read, path by path: no commit keeps others from being read (R48). A damaged or missing object makes the next
//     Fetch set the mirror aside and clone again (fault 7).
//
//   - The mirror loses no commit to a force-push, so that what cells run stays readable.
//
//   - Whatever comes from a host has a limit in size and in time.
//
// Durability is the host's: git-receive-pack wrote a reported push with that repository's core.fsync. The mirror is not
// synced to disk; it can always be cloned again.
//
// A Repo may be used from several goroutines, and a mirror from several processes. The package decides nothing: package
// engine decides what is promoted when. go-git is used only here.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// Options says how a repository is reached and used. Only Mirror is required.
type Options struct {
	Mirror string          // folder of the engine's own bare mirror; made if it is missing
	Branch string          // default: the branch that the repository's HEAD names, else main
	Author releases.Person // author and committer of pushed commits; default: Sluice
	Signer Signer          // signs pushed commits; nil: unsigned
	SSH    SSH             // for ssh:// and host:path
	Web    Web             // for https:// and http://
	Layout Layout          // default: ReleaseLayout
	Limits Limits
	Log    zerolog.Logger // for background work
}

// Limits bounds what a host can make the engine do. A zero value means the default.
type Limits struct {
	Object   int64         // bytes of one object; default 32 MiB
	File     int64         // bytes of one file that FS reads; default 16 MiB
	Entries  int           // names in one folder; default 100,000
	Pack     int64         // bytes received by one fetch; default 1 GiB
	Clone    time.Duration // time of a first fetch; default 10 minutes
	Exchange time.Duration // time of every other exchange with the host; default 2 minutes
}

func (l Limits) orDefaults() Limits {
	l.Object = orDefault(l.Object, 32<<20)
	l.File = orDefault(l.File, 16<<20)
	l.Entries = orDefault(l.Entries, 100_000)
	l.Pack = orDefault(l.Pack, 1<<30)
	l.Clone = orDefault(l.Clone, 10*time.Minute)
	l.Exchange = orDefault(l.Exchange, 2*time.Minute)
	return l
}

func orDefault[T int | int64 | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// Repo is a release repository and its mirror. Close it.
type Repo struct {
	o      Options
	host   host
	mirror mirror
	notes  hostNotes

	mirrorReader
	fetching chan struct{} // has one token, whose holder may change the mirror's refs and location, and tags
	tags     tagFetches

	background sync.WaitGroup // a repack, and reading what hooks write after a reported push
	repacking  atomic.Bool
	closing    context.Context // done once Close is called
	close      context.CancelFunc
}

// Open returns the repository at url: a path, file://, https://, http://, ssh:// or host:path. It makes the mirror's
// folder, but does not contact the host: an engine can start while its host is down.
func Open(ctx context.Context, url string, o Options) (*Repo, error) {
	if o.Mirror == "" {
		return nil, errors.New("open repository: no folder for the mirror is given")
	}
	o.Limits = o.Limits.orDefaults()
	git, err := findGit()
	if err != nil {
		return nil, err
	}
	h, err := newHost(git, url, o)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", cleantext.Address(url), err)
	}
	dir, err := filepath.Abs(o.Mirror)
	if err != nil {
		return nil, fmt.Errorf("open mirror: %w", err)
	}
	r := &Repo{
		o: o, host: h, mirror: mirror{git: git, dir: dir},
		fetching: make(chan struct{}, 1),
		mirrorReader: mirrorReader{
			limits: o.Limits, layout: o.Layout,
			trees: objects.NewCache[objects.ID, []objects.Entry](treeCacheCost),
			raw:   objects.NewCache[objects.ID, []byte](rawTreeCacheCost),
		},
	}
	r.readPrefix = r.mirror.readCommitPrefix
	r.closing, r.close = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.openMirror(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// damagedMark is the name of an empty file in a mirror that was found to be damaged.
const damagedMark = "damaged"

// Close waits for the background work and leaves the mirror as it is. A damaged one is marked, so that the next process
// clones again.
func (r *Repo) Close() error {
	r.close()
	r.background.Wait()
	if !r.damaged.Load() {
		return nil
	}
	if err := os.WriteFile(filepath.Join(r.mirror.dir, damagedMark), nil, 0o600); err != nil {
		return fmt.Errorf("mark the mirror as damaged: %w", err)
	}
	return nil
}

func (r *Repo) openMirror(ctx context.Context) error {
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.mirror.create(ctx); err != nil {
		return err
	}
	return r.openStore()
}

func (r *Repo) openStore() error {
	store, err := objects.Open(filepath.Join(r.mirror.dir, "objects"), r.o.Limits.Object)
	if errors.Is(err, objects.ErrCorrupt) { // the other packs stay readable; the next Fetch clones again
		r.damaged.Store(true)
	} else if err != nil {
		return fmt.Errorf("open mirror %s: %w", r.mirror.dir, err)
	}
	if _, err := os.Stat(filepath.Join(r.mirror.dir, damagedMark)); err == nil {
		r.damaged.Store(true)
	}
	r.store.Store(store)
	return nil
}

// ErrNoGit means that there is no git command to run.
var ErrNoGit = errors.New("git is not installed, or not in PATH")

func findGit() (string, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return "", fmt.Errorf("%w (%s)", ErrNoGit, os.Getenv("PATH"))
	}
	return git, nil
}
