package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// place is where a repository is, as it was named.
type place struct {
	address string // a folder or a URL
	branch  string // empty: the one that its HEAD names
	layout  gitrepo.Layout
	mirror  string // its mirror's name in --data
	flag    string // that names it
}

// releasePlace is where a release repository at address is.
func (a *app) releasePlace(address string) place {
	return place{address: address, branch: a.branch, mirror: "mirror", flag: "--repo"}
}

// locate finds the release repository: --repo, $SLUICE_REPO, or the repository around the working folder.
func (a *app) locate(ctx context.Context, cmd *cobra.Command) (place, error) {
	if a.repo == "" {
		a.repo = a.getenv("SLUICE_REPO")
	}
	if a.repo != "" {
		return a.releasePlace(a.repo), nil
	}
	address := a.aroundHere(ctx)
	if address == "" {
		return place{}, fail(fmt.Errorf("%sthere is no git repository around the working folder", verb(cmd)), "name it: --repo FOLDER-OR-URL, or set SLUICE_REPO")
	}
	return a.releasePlace(address), nil
}

// aroundHere is the repository around the working folder; empty: there is none. A clone stands for the one that it is a
// clone of (its origin): that is the one which the engine reads.
func (a *app) aroundHere(ctx context.Context) (address string) {
	dir, err := a.git(ctx, "", "rev-parse", "--absolute-git-dir")
	if err != nil {
		return ""
	}
	top := dir
	if inside, err := a.git(ctx, "", "rev-parse", "--show-toplevel"); err == nil && inside != "" {
		top = inside
	}
	if origin, err := a.git(ctx, top, "config", "remote.origin.url"); err == nil && origin != "" {
		if !isRemote(origin) && !filepath.IsAbs(origin) {
			origin = filepath.Join(top, origin)
		}
		return origin
	}
	return top
}

// opened is an open repository. Close it.
type opened struct {
	*gitrepo.Repo
	place
	by      releases.Person // in whose name commits are made
	signs   ssh.PublicKey   // by which what is pushed gets signed; nil: it does not
	loader  engine.Loader
	cleanup func()
}

func (o *opened) Close() {
	_ = o.Repo.Close() // nothing of the mirror can be lost
	o.cleanup()
}

// committer is in whose name commits are made. The zero value reads only.
type committer struct {
	person releases.Person
	signer *gitrepo.SSHSigner // nil: nothing is signed
}

// open opens the release repository with the mirror in --data or, without one, in the user's cache.
func (a *app) open(ctx context.Context, cmd *cobra.Command, as committer) (*opened, error) {
	at, err := a.locate(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return a.openAt(ctx, at, as)
}

func (a *app) openAt(ctx context.Context, at place, as committer) (*opened, error) {
	mirror, cleanup, err := a.mirror(at)
	if err != nil {
		return nil, err
	}
	var signer gitrepo.Signer
	var signs ssh.PublicKey
	if as.signer != nil {
		signer, signs = as.signer, as.signer.Key.PublicKey()
	}
	repo, err := gitrepo.Open(ctx, at.address, gitrepo.Options{
		Mirror: mirror, Branch: at.branch, Layout: at.layout, Author: as.person, Signer: signer, Log: a.logger(),
		Web: gitrepo.Web{Username: a.getenv("SLUICE_GIT_USERNAME"), Password: a.getenv("SLUICE_GIT_TOKEN"), CAFile: a.getenv("SLUICE_GIT_CA_FILE")},
		SSH: gitrepo.SSH{Key: a.getenv("SLUICE_SSH_KEY"), KnownHosts: a.getenv("SLUICE_SSH_KNOWN_HOSTS")},
	})
	if err != nil {
		cleanup()
		return nil, fail(err, "is %s %s right? A folder, https://…, ssh://… or host:path", at.flag, at.address)
	}
	return &opened{Repo: repo, place: at, by: as.person, signs: signs, loader: engine.Loader{Repo: repo}, cleanup: cleanup}, nil
}

// mirror names the folder of the mirror, apart for each branch that is named, and what to do with it at the end.
func (a *app) mirror(at place) (dir string, cleanup func(), err error) {
	keep := func() {}
	if a.data != "" {
		dir := filepath.Join(a.data, at.mirror)
		if at.branch != "" {
			dir += "-" + strings.ReplaceAll(at.branch, "/", "-")
		}
		return dir, keep, nil
	}
	address := at.address
	if !isRemote(address) {
		if address, err = filepath.Abs(address); err != nil {
			return "", nil, err
		}
	}
	cache := a.getenv("XDG_CACHE_HOME")
	if home := a.getenv("HOME"); cache == "" && home != "" {
		cache = filepath.Join(home, ".cache")
	}
	passing := strings.HasPrefix(address, filepath.Clean(os.TempDir())+string(filepath.Separator)) // not worth keeping
	if cache != "" && !passing {
		sum := sha256.Sum256([]byte(address + "\x00" + at.branch))
		dir = filepath.Join(cache, "sluice", "mirrors", hex.EncodeToString(sum[:8]))
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err == nil {
			return dir, keep, nil
		}
	}
	dir, err = os.MkdirTemp("", "sluice-mirror-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for the mirror: %w", err)
	}
	return filepath.Join(dir, "mirror"), func() { _ = os.RemoveAll(dir) }, nil
}

// snapshot is what the repository says at one commit.
type snapshot struct {
	files   fs.FS
	desired *plan.Desired
}

// snapshot reads the branch's tip.
func (o *opened) snapshot(ctx context.Context) (*snapshot, error) {
	tip, files, err := o.tip(ctx, "sluice init --repo "+o.address)
	if err != nil {
		return nil, err
	}
	if err := o.right(files); err != nil {
		return nil, err
	}
	d, err := o.loader.Load(ctx, tip)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.address, err)
	}
	return &snapshot{files: files, desired: d}, nil
}

// tip is the branch's newest commit, and its files. begin is what to do where there is none.
func (o *opened) tip(ctx context.Context, begin string) (commit string, files fs.FS, err error) {
	commit, err = o.Fetch(ctx)
	if err != nil {
		return "", nil, fail(fmt.Errorf("read %s: %w", o.address, err), "is %s right, and the host reachable?", o.flag)
	}
	if commit == "" {
		return "", nil, fail(fmt.Errorf("read %s: it has no commits yet", o.address), "%s", begin)
	}
	if files, err = o.FS(commit); err != nil {
		return "", nil, fmt.Errorf("read %s: %w", o.address, err)
	}
	return commit, files, nil
}

// channel gives a channel by name, or says which there are.
func (s *snapshot) channel(name string) (*plan.Channel, error) {
	if c := s.desired.Channels[name]; c != nil {
		return c, nil
	}
	if len(s.desired.Order) == 0 {
		return nil, fail(fmt.Errorf("there is no channel %q, nor any other", name), "add channels/%s/channel.yaml", name)
	}
	return nil, fail(fmt.Errorf("there is no channel %q", name), "the channels are %s", strings.Join(s.desired.Order, ", "))
}

// release gives a release by version, or says which is near. It must be there, not pruned, and read.
func (s *snapshot) release(version string) (*plan.Release, error) {
	r := s.desired.Releases[version]
	switch {
	case r == nil && len(s.desired.Versions) == 0:
		return nil, fail(fmt.Errorf("there is no release %q, nor any other", version), "sluice release cut %s --from FOLDER", version)
	case r == nil:
		newest := s.desired.Versions[len(s.desired.Versions)-1]
		return nil, fail(fmt.Errorf("there is no release %q", version), "sluice release list; the newest is %s", newest.Version)
	case r.Tombstone != nil:
		return nil, fail(fmt.Errorf("release %s was pruned", version), "cut a new version; this number is not used again")
	case len(fatal(r.Faults)) > 0:
		return nil, fail(fmt.Errorf("release %s has faults: %s", version, fatal(r.Faults)[0]), "sluice validate tells all of them")
	}
	return r, nil
}

// fatal is faults without the warnings.
func fatal(faults []releases.Fault) []releases.Fault {
	var out []releases.Fault
	for _, f := range faults {
		if !f.Warning {
			out = append(out, f)
		}
	}
	return out
}

// errUnchanged ends change without a commit: what is asked for is so already.
var errUnchanged = errors.New("nothing to change")
