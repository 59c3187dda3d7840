package view

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// View holds what the engine last decided and observed, for everything that serves or shows it. Immutable; it must not
// be copied.
type View struct {
	Desired      *plan.Desired
	Observed     *plan.Observed
	Plan         plan.Plan
	PlanDuration time.Duration // how long Make took
	Unread       *Unread       // nil: the release repository can be read
	HostNotes    []string      // what people should know of the git host, though nothing stops for it
	NotObserved  bool          // nothing is known of cells, since no store is named
	// As last announced, which may be later than the plan; nil: there is no flags repository, or nothing of it is known
	// yet.
	Flags *Flags
	// Debug holds, by cell, a hash of the requests for debug access that wait for its owner or for their session.
	Debug map[string]string

	indexOnce   sync.Once
	holds       holds    // set once by indexOnce
	sealedHeads sync.Map // cells.Head → cells.Sealed; many cells share few heads
}

// NotObserved says in words that a View is NotObserved.
const NotObserved = "nothing is known of cells: neither a control plane (--server) nor its store (--data, " +
	"--database) is named"

// Unread says since when the release repository can't be read: what a View shows is as of its commit.
type Unread struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// String says it in one line.
func (u *Unread) String() string {
	return fmt.Sprintf("the release repository can't be read since %s: %s", words.FormatTime(u.Since), u.Reason)
}

// unreadVerdicts returns the verdict that everything stays as it is while the release repository can't be read.
func (v *View) unreadVerdicts() []channels.Verdict {
	if v.Unread == nil {
		return []channels.Verdict{}
	}
	return []channels.Verdict{channels.Blocked("repository", reason.RepositoryUnread, words.FormatTime(v.Unread.Since),
		words.OneLine(v.Unread.Reason))}
}

// Verdicts returns everything that is blocked: the plan's verdicts, and that the release repository can't be read.
func (v *View) Verdicts() []channels.Verdict { return append(v.unreadVerdicts(), v.Plan.Blocked...) }

// Key holds all that the answer to a cell depends on: equal keys have equal answers (R31). Keys are cheap to make and
// to compare, so that answers can be reused from view to view. Revision stands for profile and values.
type Key struct {
	Head       cells.Head // zero: the answer has no head
	Assignment AssignmentKey
	Hold       HoldKey
	Rotate     bool  // the cell is asked to make a new key
	Overdue    int64 // number of the infrastructure update without which the cell is out of support; 0: it is not
	Update     int64 // number of the infrastructure update whose deadline runs; 0: none
	Due        int64 // when that is due, in Unix minutes
	Flags      FlagsKey

	Maintenance maintenance.Policy // of the channel; zero: the defaults
	Texts       string             // hash of the cell's own texts; empty: none
	Debug       string             // as in View; empty: none
}

// FlagsKey is the part of a Key about flags. It leaves out the height, so that a new height alone wakes no cell. Zero:
// the cell gets no flags.
type FlagsKey struct {
	Bundle, Orders releases.Digest
	Labels         string // hash of the labels
}

// AssignmentKey is the part of a Key about the assignment. Zero: there is none.
type AssignmentKey struct {
	Channel, Release, Profile, Revision, Retry string
	Digest                                     releases.Digest
	Epoch, Sequence                            int64
	Forward                                    bool
}

// HoldKey is the part of a Key about the hold. It leaves out the hold's reason, whose words may change.
type HoldKey struct {
	Gate  string
	Until int64 // Unix minutes, rounded up; 0: unknown
}

// Key returns the key of a cell's answer. ok is false if the repository has no such cell.
func (v *View) Key(name string) (k Key, ok bool) {
	_, ok = v.fillKey(name, &k)
	return k, ok
}

// subject is what a View has about one cell, looked up once.
type subject struct {
	cell       *plan.Cell
	assignment *cells.Assignment // as last granted; nil: none
	held       *channels.Verdict // that keeps the cell from its channel's head; nil: none does
	flags      *cells.Flags      // without labels; nil: none
}

// fillKey fills in k, which must be zero.
func (v *View) fillKey(name string, k *Key) (s subject, ok bool) {
	cell := v.Desired.Cells[name]
	if cell == nil {
		return s, false
	}
	state := v.Observed.Cells[name]
	s.cell, s.assignment, s.flags = cell, state.Last(), v.Flags.forCell(name)
	a := s.assignment
	if a != nil {
		k.Assignment = AssignmentKey{
			Channel: a.Channel, Release: a.Release, Profile: a.Profile, Revision: a.Revision, Digest: a.Digest,
			Epoch: a.Epoch, Sequence: a.Sequence, Forward: a.ForwardOnly, Retry: a.Retry,
		}
	}
	c := v.Desired.Channels[cell.Channel]
	if c != nil && c.Effective != nil {
		if e := c.Effective; v.Observed.Diverged == nil { // else the cell keeps the head that it knows (fault 6)
			k.Head = cells.Head{Channel: c.Name, Release: e.Release, Digest: e.Digest, Sequence: e.Sequence}
		}
		if !isCurrent(a, cell, c.Effective) {
			if s.held = v.blockingVerdict(cell, c); s.held != nil {
				k.Hold = HoldKey{Gate: s.held.Gate, Until: roundUpToMinutes(s.held.Until)}
			}
		}
	}
	k.Texts, k.Debug = cell.TextsHash, v.Debug[name]
	if c != nil && c.Valid != nil {
		k.Maintenance = c.Valid.Maintenance
	}
	if k.Rotate = cell.Identity.Rotate; len(v.Observed.Registered) > 0 {
		k.Rotate = v.Identity(name).Rotate
	}
	if cell.Found != nil && cell.Found.Infrastructure != nil {
		if is := v.Desired.Standing(cell, state, v.Plan.Now); is.OutOfSupport {
			k.Overdue = int64(is.Number)
		} else if !is.Due.IsZero() {
			k.Update, k.Due = int64(is.Number), roundUpToMinutes(is.Due)
		}
	}
	if s.flags != nil {
		k.Flags = FlagsKey{Bundle: s.flags.Bundle.Digest, Orders: s.flags.Orders.Digest, Labels: cell.LabelsHash}
	}
	return s, true
}

// Cell returns the answer to a cell that requests what is desired of it, with its ETag, which changes exactly when the
// cell's Key does (R31). ok is false if the repository has no such cell.
func (v *View) Cell(name string) (d cells.Desired, etag string, ok bool) {
	var k Key
	s, ok := v.fillKey(name, &k)
	if !ok {
		return d, "", false
	}
	return v.answer(&s, &k), k.etag(name), true
}

// CellUnlike is Cell, and sets known to the cell's Key. It leaves d as it is, and returns no ETag, if that key was
// known.
func (v *View) CellUnlike(known *Key, name string, d *cells.Desired) (etag string, ok bool) {
	var k Key
	s, ok := v.fillKey(name, &k)
	if !ok || k == *known {
		return "", ok
	}
	*known, *d = k, v.answer(&s, &k)
	return k.etag(name), true
}

// answer returns the answer by a key. s is what fillKey returned with it.
func (v *View) answer(s *subject, k *Key) cells.Desired {
	d := cells.Desired{Cell: s.cell.Name, Assignment: s.assignment}
	if k.Head != (cells.Head{}) {
		d.Head = v.sealedHead(k.Head)
	}
	if s.held != nil {
		d.Hold = &cells.Hold{Gate: s.held.Gate, Reason: stableReason(s.held)}
		if k.Hold.Until != 0 {
			d.Hold.Until = time.Unix(k.Hold.Until*60, 0).UTC()
		}
	}
	if k.Rotate {
		d.Notices = []cells.Notice{{Code: cells.NoticeRotate, Text: "make a new key, and present it"}}
	}
	if k.Overdue != 0 {
		d.Notices = append(d.Notices, cells.Notice{Code: cells.NoticeOutOfSupport,
			Text: fmt.Sprintf("out of support: execute infrastructure update %d; until then nothing new comes", k.Overdue)})
	}
	if k.Update != 0 {
		d.Notices = append(d.Notices, cells.Notice{Code: cells.NoticeInfrastructure,
			Text: fmt.Sprintf("infrastructure update %d is due at %s: execute it before", k.Update,
				words.FormatTime(time.Unix(k.Due*60, 0)))})
	}
	if k.Maintenance != (maintenance.Policy{}) || k.Texts != "" {
		d.Maintenance = &cells.Maintenance{Policy: k.Maintenance, Texts: s.cell.Texts}
	}
	if s.flags != nil {
		own := *s.flags
		own.Labels = s.cell.Labels
		d.Flags = &own
	}
	d.Debug = k.Debug
	return d
}

// Position returns the sequence of the head of a cell's channel and the height of its flags; 0: there is none.
func (v *View) Position(name string) (sequence, height int64) {
	cell := v.Desired.Cells[name]
	if cell == nil {
		return 0, 0
	}
	if c := v.Desired.Channels[cell.Channel]; c != nil && c.Effective != nil {
		sequence = c.Effective.Sequence
	}
	if flags := v.Flags.forCell(name); flags != nil {
		height = flags.Height
	}
	return sequence, height
}

// etag hashes all fields. Each text follows its length, so that different keys hash different bytes.
func (k Key) etag(name string) string {
	b := make([]byte, 0, 512)
	for _, text := range [...]string{
		name, k.Head.Channel, k.Head.Release, string(k.Head.Digest), k.Assignment.Channel, k.Assignment.Release,
		k.Assignment.Profile, k.Assignment.Revision, k.Assignment.Retry, string(k.Assignment.Digest), k.Hold.Gate,
		string(k.Flags.Bundle), string(k.Flags.Orders), k.Flags.Labels, string(k.Maintenance.Overdue),
		k.Texts, k.Debug,
	} {
		b = append(append(strconv.AppendInt(b, int64(len(text)), 10), ':'), text...)
	}
	for _, n := range [...]int64{k.Head.Sequence, k.Assignment.Epoch, k.Assignment.Sequence, k.Hold.Until, k.Overdue,
		k.Update, k.Due,
		int64(k.Maintenance.Lead), int64(k.Maintenance.Drain), int64(k.Maintenance.Again), int64(k.Maintenance.Maximum),
	} {
		b = append(strconv.AppendInt(b, n, 10), ',')
	}
	b = strconv.AppendBool(strconv.AppendBool(b, k.Assignment.Forward), k.Rotate)
	sum := sha256.Sum256(b)
	text := append(hex.AppendEncode(append(b[:0], '"'), sum[:12]), '"')
	return string(text)
}

// roundUpToMinutes returns t in Unix minutes, rounded up, so that answers do not change every second.
func roundUpToMinutes(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return (t.Unix() + 59) / 60
}

// stableReason returns the reason that a cell gets for a hold: words that stay the same while the hold does. People see
// the verdict itself, with its counts.
func stableReason(v *channels.Verdict) string {
	switch v.Gate {
	case "wave":
		return "waits for its wave of the rollout"
	case "maxInFlight":
		return "waits for others to be through: so many cells may update at once"
	case "clock":
		return "the control plane's clocks differ: nothing moves until they agree"
	}
	return v.Reason
}

// Held returns the first verdict that keeps a cell from its channel's head; nil: none does, or the repository has no
// such cell.
func (v *View) Held(name string) *channels.Verdict {
	var k Key
	s, _ := v.fillKey(name, &k)
	return s.held
}

// Identity returns a cell's identity: git's, or that of a newer registration.
func (v *View) Identity(name string) cells.Identity {
	return plan.IdentityOf(v.Desired, v.Observed.Registered, name)
}

// ReportedBoot returns the boot of a cell's newest report to any replica, and when it came; empty: there is none under
// the identity of this epoch.
func (v *View) ReportedBoot(cell string, epoch int64) (boot string, at time.Time) {
	if v == nil {
		return "", time.Time{}
	}
	s := v.Observed.Cells[cell]
	if s == nil || s.Joined != epoch || len(s.Boots) == 0 {
		return "", time.Time{}
	}
	newest := &s.Boots[len(s.Boots)-1]
	return newest.ID, newest.Last
}

// Silent reports whether a cell that has reported is out of contact.
func (v *View) Silent(s *plan.CellState) bool {
	return s != nil && !s.LastReport.IsZero() && !v.Plan.Now.Before(s.LastReport.Add(v.Desired.StaleAfter()))
}

func isCurrent(a *cells.Assignment, cell *plan.Cell, head *plan.EffectiveHead) bool {
	return a != nil && a.Channel == cell.Channel && a.Digest == head.Digest && a.Revision == cell.Revision
}

// holds has the first verdict that keeps each channel's and each cell's head back. Indexing them costs one walk over
// the plan's verdicts for each view, not one for each cell.
type holds struct {
	channels map[string]*channels.Verdict
	cells    map[string]*channels.Verdict
}

// blockingVerdict returns the first verdict that keeps a cell from its channel's head. Verdicts about the channel come
// before those about the cell.
func (v *View) blockingVerdict(cell *plan.Cell, c *plan.Channel) *channels.Verdict {
	v.indexOnce.Do(v.indexHolds)
	if b := v.holds.channels[c.Name]; b != nil {
		return b
	}
	if b := v.holds.cells[cell.Name]; b != nil && b.Channel == c.Name {
		return b
	}
	return nil
}

func (v *View) indexHolds() {
	v.holds = holds{map[string]*channels.Verdict{}, make(map[string]*channels.Verdict, len(v.Plan.Blocked))}
	for i := range v.Plan.Blocked {
		b := &v.Plan.Blocked[i]
		c := v.Desired.Channels[b.Channel]
		if c == nil || c.Effective == nil || b.Release != c.Effective.Release && b.Gate != "diverged" {
			continue
		}
		of, name := v.holds.cells, b.Cell
		if name == "" {
			of, name = v.holds.channels, b.Channel
		}
		if of[name] == nil {
			of[name] = b
		}
	}
}

// sealedHead returns sealHead's result. It seals each head once.
func (v *View) sealedHead(h cells.Head) cells.Sealed {
	if known, ok := v.sealedHeads.Load(h); ok {
		return known.(cells.Sealed)
	}
	sealed := sealHead(h)
	v.sealedHeads.Store(h, sealed)
	return sealed
}

// sealHead returns a head as cells get it: its bytes and their digest, so that signatures can be added later (R32).
func sealHead(h cells.Head) cells.Sealed {
	payload, err := json.Marshal(h)
	if err != nil {
		return cells.Sealed{}
	}
	return cells.Sealed{Payload: payload, Digest: releases.Digest(plan.HashOf(payload)), Metadata: []any{}}
}

// Content returns where the bytes of a release are that some cell may be granted: the commit, and the version that
// names its folder there.
func (v *View) Content(digest releases.Digest) (commit, version string, ok bool) {
	h, ok := v.Desired.Sources()[digest]
	return h.Commit, h.Version, ok
}

// OfferedReleases returns the releases that a cell may download (R34): the present and former heads of its channel,
// newest first, and what it was granted, also in channels that it has left. Its own reports prove nothing. Without a
// name it returns those of all cells, for callers on this machine.
func (v *View) OfferedReleases(cell string) iter.Seq[releases.Digest] {
	return func(yield func(releases.Digest) bool) {
		if cell == "" {
			maps.Keys(v.Desired.Sources())(yield)
			return
		}
		c := v.Desired.Cells[cell]
		if c == nil {
			return
		}
		if channel := v.Desired.Channels[c.Channel]; channel != nil {
			for _, h := range slices.Backward(channel.History) {
				if !yield(h.Digest) {
					return
				}
			}
		}
		state := v.Observed.Cells[cell]
		if state == nil || state.Granted != nil && !yield(state.Granted.Digest) {
			return
		}
		slices.Values(state.Left)(yield)
	}
}

// formerHeads is how many heads back cells may go at most, with their images at hand.
const formerHeads = 3

// Heads returns the releases of all channels' heads, and those before them that cells may go back to.
func (v *View) Heads() (current, former []releases.Digest) {
	for _, name := range v.Desired.Order {
		history := v.Desired.Channels[name].History
		if len(history) == 0 {
			continue
		}
		last := len(history) - 1
		current = append(current, history[last].Digest)
		for _, h := range history[max(0, last-formerHeads):last] {
			former = append(former, h.Digest)
		}
	}
	return current, former
}

// Offers reports whether a cell may download a release.
func (v *View) Offers(cell string, release releases.Digest) bool {
	if cell == "" {
		_, _, ok := v.Content(release)
		return ok
	}
	for digest := range v.OfferedReleases(cell) {
		if digest == release {
			return true
		}
	}
	return false
}

// Rollouts returns how far each channel's head has come, upstreams first; with a channel's name, only that channel's.
func Rollouts(v *View, channel string) []plan.Progress {
	all := plan.Rollouts(v.Desired, v.Observed, &v.Plan, channel)
	for i := range all {
		all[i].Blocked = append(v.unreadVerdicts(), all[i].Blocked...)
	}
	return all
}
