package plan

import (
	"maps"
	"slices"
)

// Carry brings o to what it is once a plan that was made on it is carried out, commits apart: what the plan learned is
// known, and every offer is granted. Of what o holds, maps are changed in place, and states and lists are replaced.
func Carry(o *Observed, p *Plan) {
	o.Remember(p.Learned)
	o.Lapse(p.Learned.Lapsed)
	for _, f := range p.Learned.Freed {
		o.Free(f)
	}
	o.Grant(p.Offers())
}

// Offers returns what the plan's grants offer.
func (p *Plan) Offers() (all []Offer) {
	for _, a := range p.Actions {
		all = append(all, a.Offers...)
	}
	return all
}

// Remember adds what a plan learned for good. Of a channel's rollouts only the newest head's is kept.
func (o *Observed) Remember(l Learned) {
	all := &o.Learned
	all.Accepted = appendNew(all.Accepted, l.Accepted, func(a, b Acceptance) bool {
		return a.Upstream == b.Upstream && a.Downstream == b.Downstream && a.Digest == b.Digest
	})
	all.Finished = appendNew(all.Finished, l.Finished, func(a, b Finish) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest
	})
	all.Waves = appendNew(all.Waves, l.Waves, func(a, b Through) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest && a.Wave == b.Wave
	})
	rollouts := slices.DeleteFunc(slices.Clone(all.Rollouts), func(old Rollout) bool {
		return slices.ContainsFunc(l.Rollouts, func(r Rollout) bool { return r.Channel == old.Channel && r.Sequence >= old.Sequence })
	})
	all.Rollouts = append(rollouts, l.Rollouts...)
}

// appendNew returns all with those of fresh that it lacks.
func appendNew[T any](all, fresh []T, same func(a, b T) bool) []T {
	all = slices.Clip(all)
	for _, f := range fresh {
		if !slices.ContainsFunc(all, func(a T) bool { return same(a, f) }) {
			all = append(all, f)
		}
	}
	return all
}

// Lapse forgets the offers to cells that did not take them (R14).
func (o *Observed) Lapse(names []string) {
	for _, name := range names {
		if s := o.Cells[name]; s != nil && s.Granted != nil && !s.tookGrant() {
			o.Cells[name] = WithoutGrant(s)
		}
	}
}

// Free ends slots of a channel.
func (o *Observed) Free(f Freed) {
	o.setSlots(f.Channel, slices.DeleteFunc(slices.Clone(o.Slots[f.Channel]), func(name string) bool { return slices.Contains(f.Cells, name) }))
}

// Grant makes offers the newest grants of their cells.
func (o *Observed) Grant(offers []Offer) {
	if o.Served == nil {
		o.Served = map[string]int64{}
	}
	for _, g := range offers {
		o.Cells[g.Cell] = Give(o.Cells[g.Cell], g.Granted)
		a := g.Assignment
		o.Served[a.Channel] = max(o.Served[a.Channel], a.Sequence)
		if used := o.Slots[a.Channel]; g.Cap > 0 && !slices.Contains(used, g.Cell) {
			o.setSlots(a.Channel, append(slices.Clone(used), g.Cell))
		}
	}
}

// setSlots replaces the slots of a channel in a map of its own: a snapshot may still have the one before.
func (o *Observed) setSlots(channel string, names []string) {
	o.Slots = maps.Clone(o.Slots)
	if o.Slots == nil {
		o.Slots = map[string][]string{}
	}
	o.Slots[channel] = names
}

// MergeAnswers replaces older answers to the same question.
func MergeAnswers(old, fresh []Observation) []Observation {
	out := make([]Observation, 0, len(old)+len(fresh))
	same := func(a, b Observation) bool {
		return a.Channel == b.Channel && a.Gate == b.Gate && a.Subject == b.Subject && a.Policy == b.Policy
	}
	for _, o := range old {
		replaced := false
		for _, f := range fresh {
			replaced = replaced || same(o, f)
		}
		if !replaced {
			out = append(out, o)
		}
	}
	return append(out, fresh...)
}
