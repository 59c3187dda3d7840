package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// maxClockError is how far clocks may be off before time decides nothing (R10).
const MaxClockError = 60 * time.Second

// Make decides. It is pure: the same values give the same Plan, byte for byte.
func Make(d *Desired, o *Observed, now time.Time) Plan {
	p := newPlanner(d, o, now)
	for _, name := range d.Order {
		p.learn(d.Channels[name])
		p.ended(d.Channels[name])
	}
	for _, name := range d.Order {
		p.channel(d.Channels[name])
	}
	p.identify()
	return p.finish()
}

// planner is one run of Make. Every comparison with a time to come goes through at, so that Next misses none.
type planner struct {
	d   *Desired
	o   *Observed
	now time.Time

	accepted map[acceptKey]Acceptance
	finished map[finishKey]bool
	rollouts map[string]*Rollout         // of each channel's effective head
	passed   map[string]int              // by channel: the waves of its head that are through
	tallies  map[string]*tally           // by channel
	rolls    map[string]*rollout         // by channel: of its head; nil: there is none, or no policy in force
	barriers map[string]barrier          // by channel, once asked for
	versions map[string]releases.Version // by text, once asked for; zero: it is none

	plan Plan
}

type acceptKey struct {
	up, down string
	digest   releases.Digest
}

type finishKey struct {
	channel  string
	sequence int64
	digest   releases.Digest // a branch that was dropped may have had another under the same
}

func newPlanner(d *Desired, o *Observed, now time.Time) *planner {
	p := &planner{
		d: d, o: o, now: now,
		accepted: map[acceptKey]Acceptance{}, finished: map[finishKey]bool{},
		rollouts: map[string]*Rollout{}, passed: map[string]int{}, tallies: map[string]*tally{}, rolls: map[string]*rollout{}, barriers: map[string]barrier{},
		versions: map[string]releases.Version{},
		plan:     Plan{Commit: d.Commit, Now: now, Actions: []Action{}, Blocked: []channels.Verdict{}},
	}
	if o.Flags != nil {
		p.plan.Flags = o.Flags.Commit
	}
	for _, f := range o.Learned.Finished {
		p.finished[finishKey{f.Channel, f.Sequence, f.Digest}] = true
	}
	for i, r := range o.Learned.Rollouts {
		if c := d.Channels[r.Channel]; c != nil && c.Effective != nil && c.Effective.Sequence == r.Sequence {
			p.rollouts[r.Channel] = &o.Learned.Rollouts[i]
		}
	}
	for _, w := range o.Learned.Waves {
		if c := d.Channels[w.Channel]; c != nil && c.Effective != nil && c.Effective.Sequence == w.Sequence && c.Effective.Digest == w.Digest {
			p.passed[w.Channel] = max(p.passed[w.Channel], w.Wave)
		}
	}
	for _, a := range o.Learned.Accepted {
		p.accepted[acceptKey{a.Upstream, a.Downstream, a.Digest}] = a
	}
	for _, c := range d.Channels {
		for _, a := range c.Accepted {
			if key := (acceptKey{a.Upstream, a.Downstream, a.Digest}); p.accepted[key].Evidence == "" {
				p.accepted[key] = a
			}
		}
	}
	return p
}

// at says that the plan may be another from t on.
func (p *planner) at(t time.Time) {
	if t.After(p.now) {
		sooner(&p.plan.Heard, t)
	}
}

// silentAt says the same of a cell that is in contact, if it is not heard of until then.
func (p *planner) silentAt(t time.Time) {
	if t.After(p.now) {
		sooner(&p.plan.Next, t)
	}
}

func sooner(next *time.Time, t time.Time) {
	if next.IsZero() || t.Before(*next) {
		*next = t
	}
}

// block adds a verdict to the plan.
func (p *planner) block(v channels.Verdict) {
	v.Holds = false
	p.at(v.Until)
	p.plan.Blocked = append(p.plan.Blocked, v)
}

func (p *planner) act(a Action) {
	if a.Evidence == nil {
		a.Evidence = []string{}
	}
	p.plan.Actions = append(p.plan.Actions, a)
}

// channel decides about one channel: first whether it must go back, because a person asked or by itself, then
// what else a person asked, then whether it may go on, and last which cells may have its head.
func (p *planner) channel(c *Channel) {
	if p.o.Diverged != nil {
		p.block(p.diverged(c))
		return
	}
	if p.askedBack(c) || p.back(c) {
		return // the head moves: its cells are for the next plan
	}
	moves, waits := p.request(c)
	if moves || !waits && p.advance(c) {
		return
	}
	p.grant(c)
}

func (p *planner) diverged(c *Channel) channels.Verdict {
	return channels.Verdict{Channel: c.Name, Gate: "diverged", Reason: fmt.Sprintf(
		"the branch was force-pushed, or merged the wrong way round: %s was acted upon and is not among its first parents. Look at it, then accept the branch as it is: git commit --allow-empty -m 'accept the branch' -m '%s: %s'",
		words.Short(p.o.Diverged.Seen), AcknowledgeTrailer, p.o.Diverged.Seen)}
}

// refused tells whether a push for c was turned down lately; it is waited for, whatever the push would be.
func (p *planner) refused(c *Channel, release string) bool {
	r, ok := p.o.Refused[c.Name]
	if !ok || !r.Until.After(p.now) {
		return false
	}
	p.block(channels.Verdict{Channel: c.Name, Release: release, Gate: "push", Reason: r.Reason, Until: r.Until})
	return true
}

// maxAhead is how far above git a sequence may be to be believed: one cell's word must not use them up.
const MaxAhead = 1 << 20

// sequence is the next one of c: above every one in git, granted, served or reported (R2).
func (p *planner) sequence(c *Channel) int64 {
	git := int64(0)
	if c.Effective != nil {
		git = c.Effective.Sequence
	}
	highest := git
	rise := func(n int64) {
		if n <= git+MaxAhead {
			highest = max(highest, n)
		}
	}
	served := p.o.Served[c.Name] // every grant's too, if it can be believed
	rise(served)
	for _, cell := range c.Cells {
		s := p.o.Cells[cell.Name]
		if s == nil {
			continue
		}
		if s.Channel == c.Name {
			rise(s.Sequence)
		}
		if served > git+MaxAhead && s.Granted != nil && s.Granted.Channel == c.Name {
			rise(s.Granted.Sequence)
		}
	}
	return highest + 1
}

// unread adds a verdict for each reporting cell that is in no channel because its file has faults.
func (p *planner) unread() {
	last := ""
	for _, f := range p.d.Faults {
		parts := strings.Split(f.File, "/")
		if f.Warning || len(parts) < 2 || parts[0] != cells.Dir || parts[1] == last {
			continue
		}
		last = parts[1]
		s := p.o.Cells[last]
		if p.lost(last) && s != nil && s.Channel != "" {
			p.block(channels.Verdict{Channel: s.Channel, Cell: last, Gate: "invalid", Reason: f.String()})
		}
	}
}

// lost tells whether a cell is there, and in no channel: its file can't be read, or names one that does not exist.
func (p *planner) lost(name string) bool {
	cell := p.d.Cells[name]
	return cell != nil && p.d.Channels[cell.Channel] == nil
}

func (p *planner) finish() Plan {
	p.unread()
	p.abandoned()
	p.plan.Blocked = inOrder(p.plan.Blocked)
	if !p.plan.Heard.IsZero() {
		sooner(&p.plan.Next, p.plan.Heard)
	}
	slices.SortFunc(p.plan.Learned.Accepted, func(a, b Acceptance) int {
		return cmp.Or(cmp.Compare(a.Upstream, b.Upstream), cmp.Compare(a.Downstream, b.Downstream), cmp.Compare(a.Digest, b.Digest))
	})
	return p.plan
}

// inOrder sorts verdicts by channel and cell, those about the whole channel first. Within a channel they mostly are.
func inOrder(all []channels.Verdict) []channels.Verdict {
	before := func(a, b *channels.Verdict) bool {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Cell, b.Cell)) <= 0
	}
	sorted := true
	for i := 1; i < len(all) && sorted; i++ {
		sorted = before(&all[i-1], &all[i])
	}
	if sorted {
		return all
	}
	byChannel := map[string][]channels.Verdict{}
	for _, v := range all {
		byChannel[v.Channel] = append(byChannel[v.Channel], v)
	}
	all = all[:0]
	for _, name := range slices.Sorted(maps.Keys(byChannel)) {
		of := byChannel[name]
		slices.SortStableFunc(of, func(a, b channels.Verdict) int { return cmp.Compare(a.Cell, b.Cell) })
		all = append(all, of...)
	}
	return all
}
