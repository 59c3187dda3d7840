package simulate

import (
	"slices"
	"time"
)

// Comparison says how two simulations of one scenario differ.
type Comparison struct {
	Before, After *Result
	Until         time.Time // what both simulated: up to here they are compared
	Moved         []Moved   // by channel, upstreams first, then as the releases came
}

// Moved says when a release became the head of a channel by promotion, in each of the two simulations; zero: never.
type Moved struct {
	Channel, Release string
	Before, After    time.Time
}

// Compare compares two simulations.
func Compare(before, after *Result) Comparison {
	c := Comparison{Before: before, After: after, Until: before.Until}
	if after.Until.Before(c.Until) {
		c.Until = after.Until
	}
	var names []string
	for _, r := range []*Result{before, after} {
		for _, ch := range r.Channels {
			if !slices.Contains(names, ch.Name) {
				names = append(names, ch.Name)
			}
		}
	}
	for _, name := range names {
		c.addChannel(name)
	}
	return c
}

func (c *Comparison) addChannel(name string) {
	var all []Moved
	add := func(r *Result, at func(*Moved) *time.Time) {
		for _, o := range r.rollouts(name) {
			if o.Kind != "promote" || o.Moved.After(c.Until) {
				continue
			}
			i := slices.IndexFunc(all, func(m Moved) bool { return m.Release == o.Release })
			if i < 0 {
				i = len(all)
				all = append(all, Moved{Channel: name, Release: o.Release})
			}
			if t := at(&all[i]); t.IsZero() {
				*t = o.Moved
			}
		}
	}
	add(c.Before, func(m *Moved) *time.Time { return &m.Before })
	add(c.After, func(m *Moved) *time.Time { return &m.After })
	slices.SortStableFunc(all, func(a, b Moved) int { return a.first().Compare(b.first()) })
	c.Moved = append(c.Moved, all...)
}

// first returns the earlier of both instants, of those that are.
func (m *Moved) first() time.Time {
	if m.Before.IsZero() || !m.After.IsZero() && m.After.Before(m.Before) {
		return m.After
	}
	return m.Before
}

// Later returns how much later the release comes; negative: earlier. ok is false if it does not come in both.
func (m *Moved) Later() (by time.Duration, ok bool) {
	return m.After.Sub(m.Before), !m.Before.IsZero() && !m.After.IsZero()
}

// rollouts returns a channel's rollouts; none if there is no such channel.
func (r *Result) rollouts(name string) []Rollout {
	for i := range r.Channels {
		if r.Channels[i].Name == name {
			return r.Channels[i].Rollouts
		}
	}
	return nil
}
