package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// Fetch updates the mirror and returns the branch's tip; empty: the repository has no commits yet. A damaged mirror is
// set aside and cloned again first. After an error the mirror is as it was, and usable.
func (r *Repo) Fetch(ctx context.Context) (tip string, err error) {
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return "", fmt.Errorf("fetch: %w", ctx.Err())
	}
	if id, ok := r.knownTip(); ok {
		return id.String(), nil
	}
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if r.damaged.Load() {
		if err := r.replaceMirror(ctx); err != nil {
			return "", err
		}
	}
	id, err := r.fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch: %w", r.explainFetch(ctx, err))
	}
	r.repackIfDue()
	return idOrNone(id), nil
}

// LastTip returns the branch's tip as of the last fetch, also of an earlier process; empty: the mirror has none.
func (r *Repo) LastTip() string {
	branch := r.branch()
	if branch == "" || r.damaged.Load() {
		return ""
	}
	id := r.mirror.tip(branch)
	if id.IsZero() || !r.store.Load().Has(id) {
		return ""
	}
	return id.String()
}

// knownTip returns the branch's tip if the mirror has it, where the host's refs are files that are cheap to read.
func (r *Repo) knownTip() (objects.ID, bool) {
	d, ok := r.host.(*diskHost)
	branch := r.branch()
	if !ok || branch == "" || r.damaged.Load() || !d.hasRefFiles() {
		return objects.ID{}, false
	}
	remoteTip, err := readRef(d.dir, "refs/heads/"+branch)
	if err != nil || remoteTip.IsZero() {
		return objects.ID{}, false // fetch reports what is wrong
	}
	return remoteTip, remoteTip == r.mirror.tip(branch) && r.store.Load().Has(remoteTip)
}

// branch returns the branch that the Repo works with; empty: not known before the first fetch.
func (r *Repo) branch() string {
	if r.o.Branch != "" {
		return r.o.Branch
	}
	return r.mirror.branch()
}

func (r *Repo) replaceMirror(ctx context.Context) error {
	to, err := r.mirror.setAside(ctx, time.Now())
	if err != nil {
		return err
	}
	r.damaged.Store(false)
	r.o.Log.Warn().Str("mirror", r.mirror.dir).Str("aside", to).Msg("the mirror is damaged: set aside, cloning again")
	return r.openStore()
}

// fetch brings the branch, and then the tags, which whoever may push makes as large as they like: what is wrong with
// them stops no branch.
func (r *Repo) fetch(ctx context.Context) (tip objects.ID, err error) {
	limit := r.o.Limits.Exchange
	if r.mirror.tip(r.branch()).IsZero() {
		limit = r.o.Limits.Clone
	}
	var tags []string
	err = r.exchange(ctx, limit, func(ctx context.Context, c conn, adv advertisedRefs) error {
		branch := ""
		if branch, tip, err = r.chooseBranch(adv); err != nil || tip.IsZero() {
			return err
		}
		known := r.mirror.tip(branch)
		if len(adv.Shallows) > 0 && known.IsZero() {
			return errShallow()
		}
		if !r.store.Load().Has(tip) {
			if err := r.fetchPack(ctx, c, adv, []plumbing.Hash{plumbing.Hash(tip)}, r.listHaves(known)); err != nil {
				return withCause(ctx, err)
			}
		}
		if _, _, err := r.readNamedCommit(tip.String()); err != nil {
			return fmt.Errorf("branch %s: %w", branch, err)
		}
		tags = r.tags.choose(r.missingTags(adv), time.Now())
		return r.mirror.setTip(branch, tip)
	})
	if err != nil || len(tags) == 0 {
		return tip, err
	}
	failed := r.exchange(ctx, limit/4, func(ctx context.Context, c conn, adv advertisedRefs) error {
		return withCause(ctx, r.fetchTags(ctx, c, adv, tags, tip))
	})
	if ctx.Err() != nil { // it says nothing of the tags
		return tip, nil
	}
	if r.tags.note(tags, failed, time.Now()); failed != nil {
		r.o.Log.Warn().Err(failed).Int("tags", len(tags)).Str("first", tags[0]).
			Msg("tags could not be fetched: the branch is read without them")
	}
	return tip, nil
}

// fetchTags brings the tags that the host still has.
func (r *Repo) fetchTags(ctx context.Context, c conn, adv advertisedRefs, tags []string, tip objects.ID) error {
	var wants []plumbing.Hash
	for _, name := range tags {
		if id, ok := adv.References[name]; ok {
			wants = append(wants, id)
		}
	}
	if len(wants) == 0 {
		return nil
	}
	return r.fetchPack(ctx, c, adv, wants, r.listHaves(tip))
}

// exchange connects to the host for one fetch.
func (r *Repo) exchange(ctx context.Context, limit time.Duration,
	do func(context.Context, conn, advertisedRefs) error) error {

	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the host took longer than %v", limit))
	defer cancel()
	c, err := r.host.dial(ctx, uploadPack)
	if err != nil {
		return withCause(ctx, err)
	}
	defer c.close()
	adv, err := readAdvertisement(c)
	if err != nil {
		return withCause(ctx, err)
	}
	return do(ctx, c, adv)
}

// withCause adds to err the cause of ctx's end, such as an exceeded time limit.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// chooseBranch finds the branch and its tip in the host's advertisement, and stores the branch's name in the mirror. A
// branch that nobody named is the one that HEAD named first, until that is gone: then it was renamed to HEAD's.
func (r *Repo) chooseBranch(adv advertisedRefs) (branch string, tip objects.ID, err error) {
	head, _ := adv.headBranch()
	if branch = r.branch(); branch == "" {
		if branch = head; branch == "" {
			branch = "main"
			if d, ok := r.host.(*diskHost); ok { // an empty repository does not advertise HEAD
				if name, err := readHeadBranch(d.dir); err == nil && name != "" {
					branch = name
				}
			}
		}
	}
	tip = adv.tip(branch)
	if newTip := adv.tip(head); r.o.Branch == "" && tip.IsZero() && !newTip.IsZero() {
		r.o.Log.Warn().Str("branch", branch).Str("now", head).Msg("the default branch was renamed: following it")
		r.notes.noteRename(branch, time.Now())
		branch, tip = head, newTip
	}
	others := adv.branches()
	switch {
	case !tip.IsZero():
	case len(others) > 0:
		return branch, tip, fmt.Errorf("the repository has no branch %q; it has %s: name one by --branch", branch,
			strings.Join(others, ", "))
	case !r.mirror.tip(branch).IsZero():
		return branch, tip, fmt.Errorf(
			"the repository has lost its branch %q, and all others: push it again from a clone", branch)
	}
	moved := ""
	if r.o.Branch == "" && head != branch {
		moved = head
	}
	r.notes.setHeadBranch(moved)
	if r.mirror.branch() != branch {
		err = r.mirror.setBranch(branch)
	}
	return branch, tip, err
}

// missingTags returns the tags that the mirror lacks, sorted: tags keep commits that a force-push dropped and that
// cells still run (R24).
func (r *Repo) missingTags(adv advertisedRefs) []string {
	var list []string
	store := r.store.Load()
	for name, id := range adv.References {
		if strings.HasPrefix(name, "refs/tags/") && !store.Has(objects.ID(id)) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// tagFetches remembers which tags could not be fetched. The holder of Repo.fetching uses it.
type tagFetches struct {
	atOnce  int                  // how many are fetched together; zero: all
	leftOut map[string]time.Time // until when a tag that failed alone is not tried
}

// choose returns which of the missing tags to fetch now.
func (f *tagFetches) choose(missing []string, now time.Time) []string {
	list := slices.DeleteFunc(missing, func(name string) bool { return now.Before(f.leftOut[name]) })
	if f.atOnce > 0 && f.atOnce < len(list) {
		list = list[:f.atOnce]
	}
	return list
}

// note notes how fetching tags ended. After a failure half as many are tried, until the one that fails is found: it is
// left out for a while.
func (f *tagFetches) note(tags []string, failed error, now time.Time) {
	maps.DeleteFunc(f.leftOut, func(_ string, until time.Time) bool { return !now.Before(until) })
	switch {
	case failed == nil:
		f.atOnce *= 2
	case len(tags) > 1:
		f.atOnce = len(tags) / 2
	case f.leftOut == nil:
		f.leftOut = map[string]time.Time{tags[0]: now.Add(tagsRetry)}
	default:
		f.leftOut[tags[0]] = now.Add(tagsRetry)
	}
}

// maxHaves is how far back listHaves looks: after a force-push that drops more commits, the whole history is fetched
// again.
const maxHaves = 256

// listHaves returns commits of the mirror at growing distances: after a force-push the branch's history still has one
// of them.
func (r *Repo) listHaves(tip objects.ID) []plumbing.Hash {
	var list []plumbing.Hash
	id := tip
	for step, gap := 0, 1; !id.IsZero(); step++ {
		c, err := r.readCommit(id)
		if err != nil {
			return nil // fetch everything
		}
		if step == 0 || step == gap {
			list = append(list, plumbing.Hash(id))
			gap *= 2
		}
		if id = (objects.ID{}); len(c.Parents) > 0 && step < maxHaves {
			id = c.Parents[0]
		}
	}
	return list
}

// fetchPack requests wants and adds the received objects to the mirror, all or none.
func (r *Repo) fetchPack(ctx context.Context, c conn, adv advertisedRefs, wants, haves []plumbing.Hash) error {
	q := packp.NewUploadPackRequest()
	for _, want := range []capability.Capability{capability.Sideband64k, capability.OFSDelta, capability.ThinPack,
		capability.NoProgress, capability.Agent} {
		if !adv.Capabilities.Supports(want) {
			continue
		}
		var value []string
		if want == capability.Agent {
			value = []string{"git/sluice"}
		}
		if err := q.Capabilities.Set(want, value...); err != nil {
			return err
		}
	}
	q.Wants, q.Haves = wants, haves
	var b bytes.Buffer
	err := errors.Join(q.UploadRequest.Encode(&b), q.UploadHaves.Encode(&b, false),
		pktline.NewEncoder(&b).EncodeString("done\n"))
	if err != nil {
		return err
	}
	response, err := c.sendRequest(b.Bytes())
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(response, 64<<10)
	progress := &tailBuffer{limit: maxMessage}
	if err := new(packp.ServerResponse).Decode(in, false); err != nil {
		return fmt.Errorf("the host refuses to send: %w: %s", err, c.message())
	}
	var pack io.Reader = in
	if q.Capabilities.Supports(capability.Sideband64k) {
		d := sideband.NewDemuxer(sideband.Sideband64k, in)
		d.Progress = progress
		pack = d
	}
	return r.indexPack(ctx, &stickyReader{r: io.LimitReader(pack, r.o.Limits.Pack+1)})
}

// stickyReader remembers why reading failed: a child process that reads would only report the end of its input.
type stickyReader struct {
	r   io.Reader
	err error
}

func (s *stickyReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// indexPack checks a pack in a folder of its own and, if the pack is sound, adds it to the mirror's objects.
func (r *Repo) indexPack(ctx context.Context, pack *stickyReader) error {
	main := filepath.Join(r.mirror.dir, "objects")
	aside, err := os.MkdirTemp(main, incomingPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(aside) }() // openMirror removes a folder that is left
	env := append(r.mirror.env(), "GIT_OBJECT_DIRECTORY="+aside, "GIT_ALTERNATE_OBJECT_DIRECTORIES="+main)
	_, err = runGit(ctx, r.mirror.git, env, pack, "index-pack", "--stdin", "--fix-thin",
		fmt.Sprintf("--max-input-size=%d", r.o.Limits.Pack))
	switch {
	case pack.err != nil:
		return fmt.Errorf("the host broke off: %w", pack.err)
	case err != nil:
		r.fsckMirror(ctx)
		return fmt.Errorf("check what the host sent: %w", err)
	}
	for _, kind := range []string{".pack", ".rev", ".idx"} { // the index last: a pack counts only with its index
		files, err := filepath.Glob(filepath.Join(aside, "pack", "pack-*"+kind))
		for _, f := range files {
			err = errors.Join(err, os.Rename(f, filepath.Join(main, "pack", filepath.Base(f))))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fsckMirror checks whether a damaged mirror is the reason why a pack could not be added. What git holds against the
// content of sound objects is no damage.
func (r *Repo) fsckMirror(ctx context.Context) {
	if ctx.Err() != nil || r.mirror.tip(r.branch()).IsZero() {
		return
	}
	const missing, badPack = 2, 4 // bits of git fsck's exit status
	_, err := runGit(ctx, r.mirror.git, r.mirror.env(), nil, "fsck", "--no-dangling", "--no-progress")
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		return
	}
	if exit.ExitCode() > 0 && exit.ExitCode()&(missing|badPack) == 0 {
		if err = r.store.Load().CheckLoose(); err == nil {
			return
		}
	}
	r.o.Log.Warn().Err(err).Str("mirror", r.mirror.dir).Msg("the mirror is damaged: the next fetch clones again")
	r.damaged.Store(true)
}
