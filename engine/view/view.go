package view

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// View is what the engine last decided and saw, for everyone who serves or shows it. Immutable; not to be copied.
type View struct {
	Desired  *plan.Desired
	Observed *plan.Observed
	Plan     plan.Plan
	Took     time.Duration // to make the plan
	Flags    *Flags        // as last announced, which may be later than the plan; nil: there is no flags repository, or nothing of it is known yet

	indexOnce   sync.Once
	holds       holds    // once sort ran
	sealedHeads sync.Map // cells.Head → cells.Sealed: many cells are told of few heads
}

// Key is all that decides what a cell is told: equal keys, equal answers (R31). It is cheap to make and to compare, so
// that answers can be carried over from view to view. Values stand in it by their revision.
type Key struct {
	Head       cells.Head // zero: none is told
	Assignment AssignmentKey
	Hold       HoldKey
	Rotate     bool // it is asked for a new key
	Flags      FlagsKey
}

// FlagsKey is what a cell is told of flags, in a Key. The height is not in it: it travels beside, and wakes nobody. Zero: it is told nothing.
type FlagsKey struct {
	Bundle, Orders releases.Digest
	Labels         string // hash
}

// AssignmentKey is an assignment's place in a Key. Zero: there is none.
type AssignmentKey struct {
	Channel, Release, Profile, Revision string
	Digest                              releases.Digest
	Epoch, Sequence                     int64
	Forward                             bool
}

// HoldKey is a hold's place in a Key: what it is, not what is said of it.
type HoldKey struct {
	Gate  string
	Until int64 // Unix minutes, rounded up; 0: not known
}

// Key gives the key of a cell's answer. ok is false if the repository has no such cell.
func (v *View) Key(name string) (k Key, ok bool) {
	_, ok = v.fillKey(name, &k)
	return k, ok
}

// fillKey fills in k, which is zero.
func (v *View) fillKey(name string, k *Key) (held *channels.Verdict, ok bool) {
	cell := v.Desired.Cells[name]
	if cell == nil {
		return nil, false
	}
	given := v.Observed.Cells[name].Last()
	if given != nil {
		k.Assignment = AssignmentKey{
			Channel: given.Channel, Release: given.Release, Profile: given.Profile, Revision: given.Revision,
			Digest: given.Digest, Epoch: given.Epoch, Sequence: given.Sequence, Forward: given.Forward,
		}
	}
	if c := v.Desired.Channels[cell.Channel]; c != nil && c.Effective != nil {
		if e := c.Effective; v.Observed.Diverged == nil { // else it keeps the head that it knows (fault 6)
			k.Head = cells.Head{Channel: c.Name, Release: e.Release, Digest: e.Digest, Sequence: e.Sequence}
		}
		if !isCurrent(given, cell, c.Effective) {
			if held = v.blockingVerdict(cell, c); held != nil {
				k.Hold = HoldKey{Gate: held.Gate, Until: roundUpToMinutes(held.Until)}
			}
		}
	}
	if k.Rotate = cell.Identity.Rotate; len(v.Observed.Registered) > 0 {
		k.Rotate = v.Identity(name).Rotate
	}
	if told := v.Flags.forCell(name); told != nil {
		k.Flags = FlagsKey{Bundle: told.Bundle.Digest, Orders: told.Orders.Digest, Labels: cell.Tags}
	}
	return held, true
}

// Cell is the answer to a cell that asks what is desired of it, and its ETag: it changes exactly when the cell's Key
// does (R31). ok is false if the repository has no such cell.
func (v *View) Cell(name string) (d cells.Desired, etag string, ok bool) {
	var k Key
	held, ok := v.fillKey(name, &k)
	if !ok {
		return d, "", false
	}
	d = cells.Desired{Cell: name, Assignment: v.Observed.Cells[name].Last()}
	if k.Head != (cells.Head{}) {
		d.Head = v.sealedHead(k.Head)
	}
	if held != nil {
		d.Hold = &cells.Hold{Gate: held.Gate, Reason: stableReason(held)}
		if k.Hold.Until != 0 {
			d.Hold.Until = time.Unix(k.Hold.Until*60, 0).UTC()
		}
	}
	if k.Rotate {
		d.Notices = []cells.Notice{{Code: cells.NoticeRotate, Text: "make a new key, and present it"}}
	}
	if told := v.Flags.forCell(name); told != nil {
		own := *told
		own.Labels = v.Desired.Cells[name].Labels
		d.Flags = &own
	}
	return d, k.etag(name), true
}

// etag hashes every field, each with its length before it, so that no two keys come to the same bytes.
func (k Key) etag(name string) string {
	b := make([]byte, 0, 512)
	for _, text := range [...]string{
		name, k.Head.Channel, k.Head.Release, string(k.Head.Digest), k.Assignment.Channel, k.Assignment.Release, k.Assignment.Profile,
		k.Assignment.Revision, string(k.Assignment.Digest), k.Hold.Gate, string(k.Flags.Bundle), string(k.Flags.Orders), k.Flags.Labels,
	} {
		b = append(append(strconv.AppendInt(b, int64(len(text)), 10), ':'), text...)
	}
	for _, n := range [...]int64{k.Head.Sequence, k.Assignment.Epoch, k.Assignment.Sequence, k.Hold.Until} {
		b = append(strconv.AppendInt(b, n, 10), ',')
	}
	b = strconv.AppendBool(strconv.AppendBool(b, k.Assignment.Forward), k.Rotate)
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// roundUpToMinutes is t in whole minutes, rounded up: no countdown.
func roundUpToMinutes(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return (t.Unix() + 59) / 60
}

// stableReason is what a cell is told of a verdict that holds it: words that stay while the hold does. People see the verdict
// itself, with its counts.
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

// Held is the first verdict that keeps a cell from its channel's head; nil: none does, or the repository has no such cell.
func (v *View) Held(name string) *channels.Verdict {
	var k Key
	held, _ := v.fillKey(name, &k)
	return held
}

// Identity is what is known of a cell's keys: as git has it, or as a newer registration says.
func (v *View) Identity(name string) cells.Identity {
	return plan.IdentityOf(v.Desired, v.Observed.Registered, name)
}

// Silent tells whether a cell that reported once has not for longer than the stale limit.
func (v *View) Silent(s *plan.CellState) bool {
	return s != nil && !s.LastReport.IsZero() && !v.Plan.Now.Before(s.LastReport.Add(v.Desired.StaleAfter()))
}

// isCurrent tells whether an assignment is what the head means for the cell.
func isCurrent(a *cells.Assignment, cell *plan.Cell, head *plan.EffectiveHead) bool {
	return a != nil && a.Channel == cell.Channel && a.Digest == head.Digest && a.Revision == cell.Revision
}

// holds are the plan's verdicts that keep cells from their heads, the first of each: one walk a view, not one a cell.
type holds struct {
	channels map[string]*channels.Verdict
	cells    map[string]*channels.Verdict
}

// blockingVerdict is the first verdict that keeps a cell from its channel's head. The channel's come before those of its cells.
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
	v.holds = holds{map[string]*channels.Verdict{}, map[string]*channels.Verdict{}}
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

// sealedHead is seal, once for each head.
func (v *View) sealedHead(h cells.Head) cells.Sealed {
	if known, ok := v.sealedHeads.Load(h); ok {
		return known.(cells.Sealed)
	}
	sealed := sealHead(h)
	v.sealedHeads.Store(h, sealed)
	return sealed
}

// sealHead makes what a cell gets of its head: bytes, and their digest, so that signatures can come later (R32).
func sealHead(h cells.Head) cells.Sealed {
	payload, err := json.Marshal(h)
	if err != nil {
		return cells.Sealed{}
	}
	return cells.Sealed{Payload: payload, Digest: releases.Digest(plan.HashOf(payload)), Metadata: []any{}}
}

// Content tells where the bytes of a release are that some cell may be given: the commit and its folder there.
func (v *View) Content(digest releases.Digest) (commit, version string, ok bool) {
	h, ok := v.Desired.Sources()[digest]
	return h.Commit, h.Version, ok
}

// Rollouts returns how far each channel's head has come, upstreams first; with a name, that channel's only.
func Rollouts(v *View, channel string) []plan.Progress {
	return plan.Rollouts(v.Desired, v.Observed, &v.Plan, channel)
}
