package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
	"github.com/sluice-cd/sluice/releases"
)

// drainTimeout bounds how long a host may go on after it reported a push, with hooks or a repack of its own.
const drainTimeout = 30 * time.Second

// Push makes the drafts, a chain on base, and pushes them if the branch is exactly at base; an empty base makes the
// first commit of a branch that does not exist. It returns the commits' ids in order. The push is all or nothing where
// the host can do that (tags included).
//
// releases.ErrMoved: the branch is elsewhere. *releases.RefusedError: the host refused. After any other error, it is
// not known whether the push landed: fetch, and look.
func (r *Repo) Push(ctx context.Context, base string, chain []releases.Draft) ([]string, error) {
	return r.defaultCommitter().Push(ctx, base, chain)
}

// Committer pushes to a repository in one person's name.
type Committer struct {
	repo      *Repo
	author    releases.Person
	committer releases.Person // who makes the commits for the author
	signer    Signer
}

// CommitterAs returns a Committer with another author and signer than those of Options; a nil signer signs nothing.
func (r *Repo) CommitterAs(author releases.Person, signer Signer) Committer {
	return Committer{repo: r, author: author, committer: author, signer: signer}
}

// CommittedBy returns c with another committer than the author, who made the commit for the author.
func (c Committer) CommittedBy(committer releases.Person) Committer {
	c.committer = committer
	return c
}

func (r *Repo) defaultCommitter() Committer { return r.CommitterAs(r.o.Author, r.o.Signer) }

// Push is Repo.Push in the committer's name.
func (c Committer) Push(ctx context.Context, base string, chain []releases.Draft) ([]string, error) {
	r := c.repo
	if len(chain) == 0 {
		return nil, errors.New("push: there is nothing to push")
	}
	var from objects.ID
	if base != "" {
		var err error
		if from, err = objects.ParseID(base); err != nil {
			return nil, fmt.Errorf("push: %w", err)
		}
	}
	list, ids, err := c.build(from, chain)
	if err != nil {
		return nil, fmt.Errorf("make commit on %.40s: %w", base, err)
	}
	p := pendingPush{branch: r.branch(), base: from, tip: ids[len(ids)-1], pack: objects.EncodePack(list),
		tags: map[string]objects.ID{}}
	if p.branch == "" {
		p.branch = "main"
	}
	for _, d := range chain {
		for name, commit := range d.Tags {
			if p.tags[name], err = objects.ParseID(commit); err != nil {
				return nil, fmt.Errorf("push tag %s: %w", name, err)
			}
		}
	}
	if err := p.validateRefs(); err != nil {
		return nil, err
	}
	if err := r.pushWithRetry(ctx, p); err != nil {
		return nil, err
	}
	r.addToMirror(ctx, p, list)
	commits := make([]string, len(ids))
	for i, id := range ids {
		commits[i] = id.String()
	}
	return commits, nil
}

// pendingPush is one push, ready to be sent.
type pendingPush struct {
	branch    string
	base, tip objects.ID
	tags      map[string]objects.ID
	pack      []byte
}

func (p pendingPush) validateRefs() error {
	names := []plumbing.ReferenceName{plumbing.NewBranchReferenceName(p.branch)}
	for tag := range p.tags {
		names = append(names, plumbing.NewTagReferenceName(tag))
	}
	for _, n := range names {
		if err := n.Validate(); err != nil {
			return fmt.Errorf("push %s: %w", n, err)
		}
	}
	return nil
}

// errRefLocked means that another push held the branch's lock at that moment.
var errRefLocked = errors.New("the branch was locked")

// pushWithRetry sends p. The host holds its lock on a ref for milliseconds: if the lock was in the way, and the branch
// is still at base, pushWithRetry tries again. Refused tags keep no branch from moving: they are left out.
func (r *Repo) pushWithRetry(ctx context.Context, p pendingPush) error {
	limit := r.o.Limits.Exchange
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the host took longer than %v", limit))
	defer cancel()
	without := len(p.tags) > 0 && !r.notes.mayPushTags(time.Now())
	if without {
		p.tags = nil
	}
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := r.pushOnce(ctx, p)
		var tags *tagsRefusedError
		switch {
		case err == nil:
			if without {
				r.recordTags(false)
			} else if len(p.tags) > 0 {
				r.recordTags(true)
			}
			return nil
		case errors.Is(err, releases.ErrMoved):
			return fmt.Errorf("push to %s: %w", p.branch, releases.ErrMoved)
		case errors.As(err, &tags):
			r.notes.suspectTags(tags.reason, time.Now())
			p.tags, without = nil, true
			if tags.branchMoved {
				r.recordTags(false)
				return nil
			}
			if tags.branchToo {
				return fmt.Errorf("push to %s: %w", p.branch, &releases.RefusedError{Reason: tags.reason})
			}
			continue
		case !errors.Is(err, errRefLocked):
			if refused := new(releases.RefusedError); without && errors.As(err, &refused) {
				r.notes.acquitTags()
			}
			return fmt.Errorf("push to %s: %w", p.branch, withCause(ctx, err))
		case wait > time.Second:
			return fmt.Errorf("push to %s: %w", p.branch, &releases.RefusedError{Reason: oneLine(err.Error())})
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("push to %s: %w", p.branch, context.Cause(ctx))
		}
	}
}

// recordTags records that a push landed with its tags, or without those that the host refuses.
func (r *Repo) recordTags(pushed bool) {
	if reason := r.notes.judgeTags(pushed); reason != "" {
		r.o.Log.Warn().Str("reason", reason).Msg("the git host refuses tags: the branch is pushed without them")
	}
}

func (r *Repo) pushOnce(ctx context.Context, p pendingPush) error {
	connCtx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx after the host's report
	stop := context.AfterFunc(ctx, cancel)
	c, err := r.host.dial(connCtx, receivePack)
	if err != nil {
		stop()
		cancel()
		return err
	}
	done := func() {
		stop()
		c.close()
		cancel()
	}
	adv, err := readAdvertisement(c)
	if err == nil && adv.tip(p.branch) != p.base {
		err = releases.ErrMoved
	}
	if err != nil {
		done()
		return err
	}
	q, err := p.buildRequest(adv)
	if err != nil {
		done()
		return err
	}
	report, rest, progress, err := exchangePush(c, q)
	if err != nil {
		done()
		return fmt.Errorf("no report from the host: %w: %s", err, progress)
	}
	if !stop() {
		done()
	} else {
		r.background.Go(func() { // let hooks finish that run after the report
			defer done()
			defer time.AfterFunc(drainTimeout, cancel).Stop()
			_, _ = io.Copy(io.Discard, rest)
		})
	}
	return r.interpretReport(ctx, p, report, progress)
}

// buildRequest makes the request: the compare-and-swap of the branch, the tags that the host lacks, and the pack.
func (p pendingPush) buildRequest(adv advertisedRefs) (*packp.ReferenceUpdateRequest, error) {
	q := packp.NewReferenceUpdateRequest()
	for _, want := range []capability.Capability{capability.ReportStatus, capability.Sideband64k, capability.Atomic,
		capability.Quiet} {
		if !adv.Capabilities.Supports(want) {
			continue
		}
		if err := q.Capabilities.Set(want); err != nil {
			return nil, err
		}
	}
	if !q.Capabilities.Supports(capability.ReportStatus) {
		return nil, errors.New("the host does not report what becomes of a push: it is too old")
	}
	q.Commands = []*packp.Command{{Name: plumbing.NewBranchReferenceName(p.branch), Old: plumbing.Hash(p.base),
		New: plumbing.Hash(p.tip)}}
	for name, id := range p.tags {
		ref := plumbing.NewTagReferenceName(name)
		if _, exists := adv.References[ref.String()]; !exists {
			q.Commands = append(q.Commands, &packp.Command{Name: ref, New: plumbing.Hash(id)})
		}
	}
	q.Packfile = io.NopCloser(bytes.NewReader(p.pack))
	return q, nil
}

// maxReport bounds a host's report, in bytes.
const maxReport = 1 << 20

// exchangePush sends q and reads the report; rest is the host's output after the report.
func exchangePush(c conn, q *packp.ReferenceUpdateRequest) (report *packp.ReportStatus, rest io.Reader,
	progress *tailBuffer, err error) {
	progress = &tailBuffer{limit: maxMessage}
	var b bytes.Buffer
	if err := q.Encode(&b); err != nil {
		return nil, nil, progress, err
	}
	response, err := c.sendRequest(b.Bytes())
	if err != nil {
		return nil, nil, progress, err
	}
	rest = response
	if q.Capabilities.Supports(capability.Sideband64k) {
		d := sideband.NewDemuxer(sideband.Sideband64k, response)
		d.Progress = progress
		rest = d
	}
	report = packp.NewReportStatus()
	if err := report.Decode(io.LimitReader(rest, maxReport)); err != nil {
		c.close()
		_, _ = io.WriteString(progress, "\n"+c.message())
		return nil, nil, progress, err
	}
	return report, rest, progress, nil
}

// interpretReport returns the error that a report means. If the branch is elsewhere by now, ErrMoved is the reason.
func (r *Repo) interpretReport(ctx context.Context, p pendingPush, report *packp.ReportStatus,
	progress *tailBuffer) error {
	v := readVerdict(p.branch, report)
	message := func() string { return oneLine(strings.Join(v.reasons, "; ") + "\n" + progress.text()) }
	switch {
	case v.landed && v.tags: // the host can't push all or nothing
		return &tagsRefusedError{reason: message(), branchMoved: true}
	case v.landed:
		return nil
	}
	if len(v.reasons) == 0 {
		return errors.New("the host's report does not name the branch")
	}
	tip, err := r.hostTip(ctx, p.branch)
	if err != nil {
		return fmt.Errorf("%s (and then: %w)", v.reasons[0], err)
	}
	switch {
	case tip != p.base:
		return releases.ErrMoved
	case v.tags:
		// A hook that judges a push as a whole refuses the branch in the same words: the next try, without tags, shows
		// which of the two it minds. Where it speaks of tags, that try need not wait.
		text := message()
		return &tagsRefusedError{reason: text, branchToo: v.branch && !strings.Contains(strings.ToLower(text), "tag")}
	case !v.branch:
		return fmt.Errorf("%w: %s", errRefLocked, message())
	}
	return &releases.RefusedError{Reason: message()}
}

// reportVerdict is what a host's report says of a push.
type reportVerdict struct {
	landed       bool     // the branch moved
	branch, tags bool     // refused for a reason of their own, other than a lock
	reasons      []string // of the refs that were refused
}

func readVerdict(branch string, report *packp.ReportStatus) (v reportVerdict) {
	unpacked := report.UnpackStatus == "ok"
	if !unpacked {
		v.branch, v.reasons = true, []string{"unpack: " + report.UnpackStatus}
	}
	var others []string
	for _, s := range report.CommandStatuses {
		isBranch := s.ReferenceName == plumbing.NewBranchReferenceName(branch)
		switch {
		case s.Error() == nil:
			v.landed = v.landed || isBranch
			continue
		case s.Status == refusedWithOthers:
			others = append(others, s.Status)
			continue
		case !unpacked || isRefLockStatus(s.Status):
		case isBranch:
			v.branch = true
		default:
			v.tags = true
		}
		v.reasons = append(v.reasons, s.Status)
	}
	if len(v.reasons) == 0 {
		v.reasons = others
	}
	v.reasons = slices.Compact(v.reasons)
	return v
}

// refusedWithOthers is git-receive-pack's status of a ref that was refused only because another one was.
const refusedWithOthers = "atomic push failure"

// isRefLockStatus knows git-receive-pack's words for a lock, or a value, that was in the way.
func isRefLockStatus(status string) bool {
	for _, known := range []string{"failed to update ref", "failed to lock", "cannot lock ref",
		"atomic transaction failed", "reference already exists", "incorrect old value"} {
		if strings.Contains(status, known) {
			return true
		}
	}
	return false
}

// hostTip asks the host for the branch's tip.
func (r *Repo) hostTip(ctx context.Context, branch string) (objects.ID, error) {
	if d, ok := r.host.(*diskHost); ok && d.hasRefFiles() {
		return readRef(d.dir, "refs/heads/"+branch)
	}
	c, err := r.host.dial(ctx, uploadPack)
	if err != nil {
		return objects.ID{}, err
	}
	defer c.close()
	adv, err := readAdvertisement(c)
	if err != nil {
		return objects.ID{}, err
	}
	return adv.tip(branch), nil
}

// followWait is how long a push that landed waits for a fetch, or for another process, that works on the mirror.
const followWait = time.Second

// addToMirror adds what was pushed to the mirror, so that reading it takes no fetch. The next fetch repairs a failure
// here.
func (r *Repo) addToMirror(ctx context.Context, p pendingPush, list []objects.NewObject) {
	err := r.store.Load().Write(list)
	if err == nil {
		err = r.followPush(ctx, p)
	}
	if err != nil {
		r.o.Log.Warn().Err(err).Str("mirror",
			r.mirror.dir).Msg("what was pushed is not in the mirror: the next fetch brings it")
	}
}

// followPush moves the mirror's branch from a push's base to its tip, also if the push's own time is over.
func (r *Repo) followPush(ctx context.Context, p pendingPush) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), followWait)
	defer cancel()
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return errors.New("a fetch takes long")
	}
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !r.store.Load().Has(p.tip) {
		return errors.New("the mirror was replaced meanwhile")
	}
	if r.mirror.branch() == "" {
		err = r.mirror.setBranch(p.branch)
	}
	if err == nil && r.mirror.tip(p.branch) == p.base {
		err = r.mirror.setTip(p.branch, p.tip)
	}
	return err
}
