package plan

import (
	"maps"
	"slices"
)

// Carry changes o to what it is after plan p, which was made on o, is carried out, except for p's commits. It stores
// what p learned and grants p's offers. It changes o's maps in place, and replaces cell states and lists.
func Carry(o *Observed, p *Plan) {
	o.AddLearned(p.Learned)
	o.LapseOffers(p.Learned.Lapsed)
	for _, f := range p.Learned.Freed {
		o.FreeSlots(f)
	}
	o.RecordGrants(p.Offers())
}

// Offers returns all offers of the plan's grants.
func (p *Plan) Offers() (all []Offer) {
	for _, a := range p.Actions {
		all = append(all, a.Offers...)
	}
	return all
}

// AddLearned adds what a plan learned. Of a channel's rollouts it keeps only the newest head's.
func (o *Observed) AddLearned(l Learned) {
	if len(l.Accepted)+len(l.Finished)+len(l.Waves)+len(l.Cohorts) == 0 {
		return
	}
	all := &o.Learned
	accepted := slices.DeleteFunc(slices.Clone(all.Accepted), func(old Acceptance) bool {
		return slices.ContainsFunc(l.Accepted, func(a Acceptance) bool {
			return a.Upstream == old.Upstream && a.Downstream == old.Downstream && a.Digest == old.Digest
		})
	})
	all.Accepted = append(accepted, l.Accepted...)
	all.Finished = appendNew(all.Finished, l.Finished, func(a, b Finish) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest
	})
	all.Waves = appendNew(all.Waves, l.Waves, func(a, b Through) bool {
		return a.Channel == b.Channel && a.Sequence == b.Sequence && a.Digest == b.Digest && a.Wave == b.Wave
	})
	rollouts := slices.DeleteFunc(slices.Clone(all.Cohorts), func(old Cohort) bool {
		return slices.ContainsFunc(l.Cohorts, func(r Cohort) bool {
			return r.Channel == old.Channel && r.Sequence >= old.Sequence
		})
	})
	all.Cohorts = append(rollouts, l.Cohorts...)
}

// appendNew returns all with the items of fresh that it lacks.
func appendNew[T any](all, fresh []T, same func(a, b T) bool) []T {
	all = slices.Clip(all)
	for _, f := range fresh {
		if !slices.ContainsFunc(all, func(a T) bool { return same(a, f) }) {
			all = append(all, f)
		}
	}
	return all
}

// LapseOffers removes the grants of the named cells that did not take them (R14).
func (o *Observed) LapseOffers(names []string) {
	for _, name := range names {
		if s := o.Cells[name]; s != nil && s.Granted != nil && !s.tookGrant() {
			o.SetCell(name, WithoutGrant(s))
		}
	}
}

// FreeSlots ends the slots of a channel that f names.
func (o *Observed) FreeSlots(f Freed) {
	o.setSlots(f.Channel, slices.DeleteFunc(slices.Clone(o.Slots[f.Channel]), func(name string) bool {
		return slices.Contains(f.Cells, name)
	}))
}

// RecordGrants makes each offer the newest grant of its cell.
func (o *Observed) RecordGrants(offers []Offer) {
	if o.Served == nil {
		o.Served = map[string]int64{}
	}
	for _, g := range offers {
		o.SetCell(g.Cell, WithGrant(o.Cells[g.Cell], g.Granted))
		a := g.Assignment
		o.Served[a.Channel] = max(o.Served[a.Channel], a.Sequence)
		if used := o.Slots[a.Channel]; g.Cap > 0 && !slices.Contains(used, g.Cell) {
			o.setSlots(a.Channel, append(slices.Clone(used), g.Cell))
		}
	}
}

// AddDecided adds decisions that were recorded. Of each channel it keeps the newest, and replaces the map.
func (o *Observed) AddDecided(found []Decided) {
	o.Decided = maps.Clone(o.Decided)
	if o.Decided == nil {
		o.Decided = map[string]Decided{}
	}
	for _, d := range found {
		o.Served[d.Channel] = max(o.Served[d.Channel], d.Sequence)
		if d.Sequence > o.Decided[d.Channel].Sequence {
			o.Decided[d.Channel] = d
		}
	}
}

// setSlots replaces the slots of a channel. It clones the map, which a snapshot may still hold.
func (o *Observed) setSlots(channel string, names []string) {
	o.Slots = maps.Clone(o.Slots)
	if o.Slots == nil {
		o.Slots = map[string][]string{}
	}
	o.Slots[channel] = names
}

// MergeObservations returns old and fresh observations, without the old ones whose question fresh answers again.
func MergeObservations(old, fresh []Observation) []Observation {
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
