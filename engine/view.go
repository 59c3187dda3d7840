package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/releases"
)

// View is what the engine last decided and saw, for everyone who serves or shows it. Immutable.
type View struct {
	Desired  *Desired
	Observed *Observed
	Plan     Plan
	Took     time.Duration // to make the plan
}

// Cell is the answer to a cell that asks what is desired of it, and its ETag: it changes exactly when the
// answer does (R31). ok is false if the repository has no such cell.
func (v *View) Cell(name string) (d cells.Desired, etag string, ok bool) {
	cell := v.Desired.Cells[name]
	if cell == nil {
		return d, "", false
	}
	d = cells.Desired{Cell: name, Assignment: v.Observed.Cells[name].last()}
	if c := v.Desired.Channels[cell.Channel]; c != nil && c.Effective != nil {
		if e := c.Effective; v.Observed.Diverged == nil { // else it keeps the head that it knows (fault 6)
			d.Head = seal(cells.Head{Channel: c.Name, Release: e.Release, Digest: e.Digest, Sequence: e.Sequence})
		}
		if !current(d.Assignment, cell, c.Effective) {
			d.Hold = v.hold(cell, c)
		}
	}
	data, err := json.Marshal(d)
	if err != nil {
		return d, "", false // values that came from YAML always encode
	}
	sum := sha256.Sum256(data)
	return d, `"` + hex.EncodeToString(sum[:12]) + `"`, true
}

// current tells whether an assignment is what the head means for the cell.
func current(a *cells.Assignment, cell *Cell, head *EffectiveHead) bool {
	return a != nil && a.Channel == cell.Channel && a.Digest == head.Digest && a.Revision == cell.Revision
}

// hold is the first verdict that keeps a cell from its channel's head.
func (v *View) hold(cell *Cell, c *Channel) *cells.Hold {
	for _, b := range v.Plan.Blocked {
		if b.Channel == c.Name && (b.Release == c.Effective.Release || b.Gate == "diverged") && (b.Cell == "" || b.Cell == cell.Name) {
			return &cells.Hold{Gate: b.Gate, Reason: b.Reason, Until: b.Until}
		}
	}
	return nil
}

// seal makes what a cell gets of its head: bytes, and their digest, so that signatures can come later (R32).
func seal(h cells.Head) cells.Sealed {
	payload, err := json.Marshal(h)
	if err != nil {
		return cells.Sealed{}
	}
	return cells.Sealed{Payload: payload, Digest: releases.Digest(hashOf(payload)), Metadata: []any{}}
}

// Content tells where the bytes of a release are that some cell may be given: the commit and its folder there.
func (v *View) Content(digest releases.Digest) (commit, version string, ok bool) {
	for _, name := range v.Desired.Order {
		history := v.Desired.Channels[name].History
		for _, h := range slices.Backward(history) {
			if h.Digest == digest {
				return h.Commit, h.Release, true
			}
		}
	}
	return "", "", false
}

// Blocked gives the verdicts about a channel, those about single cells apart.
func (v *View) Blocked(channel string) (about, cells []channels.Verdict) {
	for _, b := range v.Plan.Blocked {
		switch {
		case b.Channel != channel:
		case b.Cell == "":
			about = append(about, b)
		default:
			cells = append(cells, b)
		}
	}
	return about, cells
}
