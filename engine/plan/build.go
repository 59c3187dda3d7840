package plan

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Build makes a Desired from a commit's files, the history and older commits. open returns an older commit's files.
// Faults do not stop Build: the result holds them all, and by release, channel and cell. all loads every release,
// however old. Releases that no decision needs now are read within the budget; nil: there is none.
func Build(
	files fs.FS, h *History, open func(commit string) (fs.FS, error), cache *manifest.Cache, all bool,
	budget *releases.Budget,
) (*Desired, error) {
	tip := files
	files, err := h.Kept.View(tip, open)
	if err == nil {
		files, err = h.Withheld.InForce(files, open)
	}
	if err != nil {
		return nil, err
	}
	set, faults := channels.Load(cache, files)
	faults = append(faults, h.Kept.Faults(tip)...)
	b := &builder{files: files, history: h, open: open, cache: cache, set: set}
	b.desired = &Desired{
		Commit: h.Tip, Pipeline: set.Pipeline, Quarantine: set.Quarantines, Acknowledged: h.Acknowledged,
		Faults: faults, Channels: map[string]*Channel{}, Releases: map[string]*Release{}, Cells: map[string]*Cell{},
		AuditHeads: h.AuditHeads,
		Authority:  h.Authority, Unconfirmed: h.Kept.Unconfirmed(), Ended: h.Kept.Ended,
		Passkeys: h.Passkeys.Clone(),
	}
	if _, withheld := h.Withheld[pipelineFile]; !h.Authority.IsSet() && !withheld &&
		!manifest.Fatal(set.PipelineFaults) {
		b.desired.pipelineText, _ = fs.ReadFile(tip, pipelineFile)
	}
	updates, wrong := infrastructure.Load(cache, files)
	b.desired.Infrastructure, b.desired.Faults = updates, append(b.desired.Faults, wrong...)
	if b.desired.Trust = trust.Read(cache, files); b.desired.Trust != nil {
		b.desired.Faults = append(b.desired.Faults, b.desired.Trust.Faults...)
		b.desired.SignedHeads = b.desired.Trust.ReadHeads(cache, files)
		h.dropOlderHeads(b.desired.SignedHeads)
	}
	b.desired.Withheld = maps.Clone(h.Withheld)
	b.desired.Faults = append(b.desired.Faults, h.Withheld.Faults(h.Authority.Owners)...)
	for _, f := range []*releases.Fault{h.Authority.fault(), b.checkAudit()} {
		if f != nil {
			b.desired.Faults = append(b.desired.Faults, *f)
		}
	}
	b.checkQuarantines()
	for _, name := range slices.Sorted(maps.Keys(set.Channels)) {
		if err := b.addChannel(set.Channels[name]); err != nil {
			return nil, err
		}
	}
	b.linkChannels()
	if err := b.loadReleases(all, budget); err != nil {
		return nil, err
	}
	if all {
		b.checkParameters()
	}
	b.checkHeads()
	b.loadCells()
	b.desired.Faults = manifest.Sort(b.desired.Faults)
	b.desired.sources = sync.OnceValue(b.desired.findSources)
	b.desired.passed = sync.OnceValue(b.desired.findPassedRelease)
	return b.desired, nil
}

// checkAudit returns a fault if the audit's head is not as the engine wrote it.
func (b *builder) checkAudit() *releases.Fault {
	last := b.desired.LastAuditHead()
	data, err := fs.ReadFile(b.files, audithead.File)
	if !b.history.Authority.Enforced() || err != nil && last.Commit == "" ||
		last.Commit != "" && bytes.Equal(data, last.Encode()) {
		return nil
	}
	f := &releases.Fault{File: audithead.File, Code: manifest.Forbidden,
		Message: "the engine did not write it: it does not count; remove it"}
	if last.Commit != "" {
		f.Message = fmt.Sprintf("is not as the engine wrote it in %s, which stands: put it back",
			words.ShortCommit(last.Commit))
	}
	return f
}

type builder struct {
	files   fs.FS
	history *History
	open    func(string) (fs.FS, error)
	cache   *manifest.Cache
	set     channels.Set
	desired *Desired
}

func (b *builder) addChannel(s *channels.State) error {
	past := b.history.pastChannel(s.Name)
	c := &Channel{State: *s, Valid: s.Policy, History: past.Heads, Accepted: past.Accepted, Halted: past.Halted}
	b.desired.Channels[s.Name] = c
	if c.Policy == nil {
		c.Valid = findValidPolicy(s.Name, past.Policies, b.open, b.cache)
	}
	if n := len(past.Heads); n > 0 {
		c.Effective = &past.Heads[n-1]
	}
	if past.Touched != nil {
		c.Request = b.readRequest(c, *past.Touched)
	}
	for _, a := range s.Approvals {
		proven, ok := b.proveApproval(past, a)
		if ok {
			c.Approved = append(c.Approved, proven)
		}
		judged := JudgedApproval{File: a.File, Person: a.Person, Release: a.Release, Digest: a.Digest, Counts: ok,
			Fact: past.Approvals[a.File]}
		if a.Passkey != nil {
			judged.Passkey = a.Passkey.ID
		}
		c.Judged = append(c.Judged, judged)
	}
	return nil
}

// findValidPolicy returns the channel's newest policy without faults (R6).
func findValidPolicy(name string, commits []string, open func(string) (fs.FS, error), cache *manifest.Cache,
) *channels.Channel {
	for _, commit := range slices.Backward(commits) {
		files, err := open(commit)
		if err != nil {
			return nil // older than what the mirror has; having no policy is safe
		}
		if policy, _ := channels.ParsePolicy(cache, files, name); policy != nil {
			return policy
		}
	}
	return nil
}

// readRequest completes the request that a person's change of head.yaml makes, or returns nil if the file is as the
// engine wrote it. If the file can't be read, the request says why (R1).
func (b *builder) readRequest(c *Channel, r Request) *Request {
	switch {
	case len(c.HeadFaults) > 0:
		r.Fault = c.HeadFaults[0].String()
	case c.Head == nil && c.Effective == nil:
		return nil
	case c.Head == nil:
		r.Fault = path.Join(channels.Dir, c.Name, "head.yaml") + " was removed"
	default:
		r.Release = c.Head.Release
		if e := c.Effective; e != nil && c.Head.Release == e.Release && c.Head.Digest == e.Digest &&
			c.Head.Sequence == e.Sequence && c.Head.Commit == e.Commit {
			return nil // restored
		}
	}
	return &r
}

// proveApproval returns whose approval a is, and whether the history proves it (R22).
func (b *builder) proveApproval(past *PastChannel, a channels.ApprovalFile) (Approved, bool) {
	fact, ok := past.Approvals[a.File]
	if !ok {
		return Approved{}, false
	}
	if fact.Refused != "" {
		b.desired.Faults = append(b.desired.Faults, manifest.Fault{File: a.File, Warning: true, Code: manifest.Unsigned,
			Message: "does not count: its passkey assertion: " + fact.Refused})
	}
	member := b.set.Pipeline.People[a.Person]
	if member == nil || !fact.ProvenFor(a.Person, member.Email, b.set.Pipeline.TrustAuthors) {
		return Approved{}, false
	}
	return Approved{
		Approver: member.Approver(a.Person),
		Release:  a.Release, Digest: a.Digest,
	}, true
}

// linkChannels sets the channels' downstreams and their order, upstreams first. Channels in a cycle, which
// channels.Load reports, come last.
func (b *builder) linkChannels() {
	d := b.desired
	names := slices.Sorted(maps.Keys(d.Channels))
	waiting := map[string]int{}
	for _, name := range names {
		c := d.Channels[name]
		if c.Valid == nil {
			continue
		}
		for _, up := range c.Valid.After {
			if u := d.Channels[up]; u != nil {
				u.Down = append(u.Down, name)
				waiting[name]++
			}
		}
	}
	for len(names) > 0 {
		i := slices.IndexFunc(names, func(n string) bool { return waiting[n] == 0 })
		if i < 0 {
			break
		}
		name := names[i]
		names = slices.Delete(names, i, i+1)
		d.Order = append(d.Order, name)
		for _, down := range d.Channels[name].Down {
			waiting[down]--
		}
	}
	d.Order = append(d.Order, names...)
}

// loadReleases loads the releases that a decision could be about: those from the oldest head upwards, and those that
// are named.
func (b *builder) loadReleases(all bool, budget *releases.Budget) error {
	set, faults := releases.Load(b.cache, b.files, b.wantedReleases(all), budget)
	b.desired.Faults = append(b.desired.Faults, faults...)
	for name, found := range set.Releases {
		r := &Release{StoredRelease: found.StoredRelease, Loaded: found.Loaded, Unread: found.Unread,
			Bytes: found.Bytes}
		for _, f := range found.Faults {
			if !f.Warning {
				r.Faults = append(r.Faults, f)
			}
		}
		b.desired.Releases[name] = r
		origin := b.history.Releases[name]
		if origin == nil {
			continue
		}
		r.Origin, r.Order, r.Authors, r.Keys = origin.Commit, origin.Order, origin.Authors, origin.Keys
		if b.set.Pipeline.SignedReleases && origin.Unsigned != "" && r.Tombstone == nil {
			f := origin.unsignedFault(name)
			r.Faults = append(r.Faults, f)
			b.desired.Faults = append(b.desired.Faults, f)
		}
		if r.Tombstone == nil && origin.Tree != "" && r.Tree != "" && r.Tree != origin.Tree {
			f := releases.Fault{
				File: path.Join(releases.Dir, name, "release.yaml"),
				Code: manifest.Immutable,
				Message: fmt.Sprintf(
					"release %s was edited after its merge in %s, by %s: releases are immutable; put it back, and cut a new version", name, words.ShortCommit(origin.Commit), words.ShortCommit(origin.Edited)),
			}
			r.Faults = append(r.Faults, f)
			b.desired.Faults = append(b.desired.Faults, f)
		}
	}
	b.restoreWaysBack()
	for _, r := range b.desired.Releases {
		if r.Tombstone == nil {
			b.desired.Versions = append(b.desired.Versions, r)
		}
	}
	slices.SortFunc(b.desired.Versions, func(x, y *Release) int { return x.Version.Compare(y.Version) })
	return nil
}

// recentHeads is how many of a channel's newest heads stay loaded as rollback targets.
const recentHeads = 32

// wantedReleases returns which releases are worth parsing; nil: all. Those that a channel's state or a person's request
// is about come first: revocations and rollbacks wait for no other (R48).
func (b *builder) wantedReleases(all bool) *releases.Wanted {
	if all {
		return nil
	}
	first, named := map[string]bool{}, map[string]bool{}
	var oldest releases.Version
	everything := false // a channel has no head yet
	for _, c := range b.desired.Channels {
		if c.Request != nil {
			first[c.Request.Release] = true
		}
		for _, f := range c.Hotfixes {
			first[f.Release] = true
		}
		if c.Effective == nil {
			everything = true
			continue
		}
		first[c.Effective.Release] = true
		heads := c.History[max(0, len(c.History)-recentHeads):]
		for _, h := range heads {
			named[h.Release] = true
		}
		v, err := releases.ParseVersion(c.Effective.Release)
		if everything = everything || err != nil; err == nil && (oldest.IsZero() || v.Less(oldest)) {
			oldest = v
		}
	}
	return &releases.Wanted{
		First: func(v releases.Version) bool { return first[v.String()] },
		Then:  func(v releases.Version) bool { return everything || named[v.String()] || !v.Less(oldest) },
	}
}

// checkQuarantines reads a quarantine that names the channel that the release failed in, and that the engine did not
// write, as a person's: failedIn is the engine's evidence (R46).
func (b *builder) checkQuarantines() {
	if !b.history.Authority.Enforced() {
		return
	}
	b.desired.Quarantine = slices.Clone(b.desired.Quarantine)
	for i := range b.desired.Quarantine {
		q := &b.desired.Quarantine[i]
		if b.history.Quarantines[q.File] || q.FailedIn == "" {
			continue
		}
		q.FailedIn = ""
		b.desired.Faults = append(b.desired.Faults, releases.Fault{
			File: q.File, Code: manifest.Forbidden,
			Message: "failedIn is the engine's to write, and the engine did not sign this file: it is read without; remove the field",
		})
	}
}

// RollbackReach is how many of a channel's newest heads a rollback may go back to: their releases can't be removed.
const RollbackReach = 10

// restoreWaysBack restores releases that a channel may go back to and that a commit removed, by a tombstone or whole.
// Their bytes are where the head has them (R24).
func (b *builder) restoreWaysBack() {
	for _, c := range b.desired.Channels {
		for _, h := range c.History[max(0, len(c.History)-RollbackReach):] {
			if r := b.desired.Releases[h.Release]; r != nil && r.Tombstone == nil {
				continue
			}
			entry := b.readRelease(h.Commit, h.Release)
			if entry == nil || entry.Digest != h.Digest {
				continue
			}
			f := releases.Fault{
				File: path.Join(releases.Dir, h.Release), Code: manifest.Immutable,
				Message: fmt.Sprintf(
					"was removed, and %s may go back to it: the release stays as it was in %s; put it back",
					c.Name, words.ShortCommit(h.Commit)),
			}
			kept := &Release{StoredRelease: entry.StoredRelease, Loaded: true, Origin: h.Commit,
				Faults: []releases.Fault{f}}
			if origin := b.history.Releases[h.Release]; origin != nil {
				kept.Origin, kept.Authors, kept.Keys = origin.Commit, origin.Authors, origin.Keys
			}
			b.desired.Releases[h.Release] = kept
			b.desired.Faults = append(b.desired.Faults, f)
		}
	}
}

// readRelease reads a release as a commit has it; nil: the commit has none that can be read.
func (b *builder) readRelease(commit, release string) *releases.Entry {
	v, err := releases.ParseVersion(release)
	if err != nil {
		return nil
	}
	files, err := b.open(commit)
	if err != nil {
		return nil
	}
	entry := releases.ReadRelease(b.cache, files, v)
	if entry.Tombstone != nil {
		return nil
	}
	return entry
}

// checkHeads compares heads with the bytes of their releases. A head with another digest does not count, whoever wrote
// it (R46, fault 42).
func (b *builder) checkHeads() {
	for _, c := range b.desired.Channels {
		e := c.Effective
		if e == nil {
			continue
		}
		r := b.desired.Releases[e.Release]
		if r != nil && r.Tombstone == nil && (!r.Loaded && e.Kind == Adopted || r.Digest == e.Digest) {
			continue
		}
		why := ""
		switch entry := b.readRelease(e.Commit, e.Release); {
		case r == nil && entry == nil:
			why = fmt.Sprintf("head.yaml names release %s, which does not exist", e.Release)
		case entry != nil && entry.Digest == e.Digest:
			continue
		case entry != nil:
			why = fmt.Sprintf("head.yaml says that release %s has digest %s, and it has %s", e.Release, e.Digest,
				entry.Digest)
		case e.Kind != Adopted:
			continue // the commit can't be read any more: the decision stands
		default:
			why = fmt.Sprintf("head.yaml says that release %s has digest %s, and it has %s", e.Release, e.Digest,
				r.Digest)
		}
		c.Request = &Request{Release: e.Release, Commit: e.Written, Fault: why}
		n := len(c.History) - 1
		if c.History, c.Effective = c.History[:n], nil; n > 0 {
			c.Effective = &c.History[n-1]
		}
	}
}

func (b *builder) loadCells() {
	found, faults := cells.Load(b.cache, b.files)
	b.desired.Faults = append(b.desired.Faults, faults...)
	for name, f := range found {
		cell := &Cell{Cell: f.Cell, Found: f, KeyChanges: b.history.KeyChanges[name]}
		var ignored *releases.Fault
		cell.Former = strings.Fields(b.history.Identities[name].Former)
		if cell.Identity, ignored = b.identity(name, f); ignored != nil {
			b.desired.Faults = append(b.desired.Faults, *ignored)
		}
		for _, fault := range f.Faults {
			if !fault.Warning {
				cell.Faults = append(cell.Faults, fault)
			}
		}
		if len(cell.Faults) > 0 { // the cell stays what it was, and is granted nothing
			if valid, _ := findValidCell(name, b.history.CellFiles[name], b.open); valid != nil {
				cell.Cell = valid.Cell
			}
		}
		c := b.desired.Channels[cell.Channel]
		if c == nil && len(cell.Faults) == 0 {
			fault := releases.Fault{File: path.Join(cells.Dir, name, "cell.yaml"), Code: manifest.UnknownReference,
				Message: fmt.Sprintf("cell %s names channel %q, which does not exist", name, cell.Channel)}
			cell.Faults = append(cell.Faults, fault)
			b.desired.Faults = append(b.desired.Faults, fault)
		}
		b.desired.Cells[name] = cell
		if c != nil {
			c.Cells = append(c.Cells, cell)
		}
	}
	for _, c := range b.desired.Channels {
		slices.SortFunc(c.Cells, func(x, y *Cell) int { return strings.Compare(x.Name, y.Name) })
		c.cache = new(cellCache)
	}
}

// WithCells returns d with the observed cells if the repository has none, so that a policy can be tried against a file
// of observations.
func (d *Desired) WithCells(o *Observed) *Desired {
	if len(d.Cells) > 0 {
		return d
	}
	e := *d
	e.Cells, e.Channels = map[string]*Cell{}, maps.Clone(d.Channels)
	for name, c := range e.Channels {
		clone := *c
		clone.cache = new(cellCache)
		e.Channels[name] = &clone
	}
	for _, name := range slices.Sorted(maps.Keys(o.Cells)) {
		cell := &Cell{Cell: cells.Cell{Name: name, Channel: o.Cells[name].Channel}}
		e.Cells[name] = cell
		if c := e.Channels[cell.Channel]; c != nil {
			c.Cells = append(c.Cells, cell)
		}
	}
	return &e
}

// StaleAfter returns for how long a cell may be silent before it is out of contact.
func (d *Desired) StaleAfter() time.Duration { return d.Pipeline.StaleAfter }

// checkParameters finds what unsigned values could decide in releases that signers have not signed yet. A release that
// they have is theirs to know.
func (b *builder) checkParameters() {
	l := b.desired.Trust
	if len(l.Channels()) == 0 {
		return
	}
	for _, r := range b.desired.Versions {
		if _, listed := l.Listed[r.Version.String()]; listed || l.Policy.Refuses(r.Version) != "" {
			continue
		}
		b.desired.Faults = append(b.desired.Faults,
			trust.CheckParameters(b.files, path.Join(releases.Dir, r.Version.String()), r.Parameters)...)
	}
}
