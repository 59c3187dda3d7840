package notices

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const (
	updateGap = 15 * time.Minute // the least time between messages of a thread that only grows
	calm      = 2 * time.Minute  // how long a condition must be gone before its thread is over
)

// Memory is what Make remembers, by channel; the empty channel has what concerns none.
type Memory map[string]Part

// Part is the memory of one channel.
type Part struct {
	// The head that was told of, or that was there when observing began; zero: none yet.
	Sequence int64           `json:"sequence,omitempty"`
	Digest   releases.Digest `json:"digest,omitempty"`
	Release  string          `json:"release,omitempty"`
	// What was quarantined when Make was called last, by release; nil: Make was not called yet.
	Quarantined []string           `json:"quarantined,omitempty"`
	Begun       bool               `json:"begun,omitempty"` // Make was called before
	Threads     map[string]*Thread `json:"threads,omitempty"`
}

// Thread is one thread that goes on.
type Thread struct {
	Since    time.Time `json:"since"` // when it began: part of its notices' IDs
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity"`
	Channel  string    `json:"channel,omitempty"`
	Release  string    `json:"release,omitempty"`
	Number   int       `json:"number,omitempty"` // of the newest notice; 0: none was told
	LastTold time.Time `json:"told,omitzero"`
	Count    int       `json:"count,omitempty"` // of cells, in the newest notice
	Most     int       `json:"most,omitempty"`  // of cells, ever
	Gone     time.Time `json:"gone,omitzero"`   // since when it has not been seen; zero: it goes on
	Over     string    `json:"over,omitempty"`  // the title of its last message
}

// Clone returns a copy that shares nothing with m.
func (m Memory) Clone() Memory {
	c := make(Memory, len(m))
	for name, p := range m {
		p.Quarantined = slices.Clone(p.Quarantined)
		threads := make(map[string]*Thread, len(p.Threads))
		for key, t := range p.Threads {
			own := *t
			threads[key] = &own
		}
		p.Threads = threads
		c[name] = p
	}
	return c
}

// WholeNotice is a notice with all of its cells, which a sink may get a part of.
type WholeNotice struct {
	Notice
	All []string // sorted
}

// Make returns what is to be told now, in order, and the memory for the next call. next is when to call it again though
// nothing changes; zero: never. m is not changed.
func Make(v *view.View, m Memory, now time.Time) (due []WholeNotice, memory Memory, next time.Time) {
	k := &maker{view: v, now: now.UTC().Truncate(time.Millisecond), memory: m.Clone()}
	found := find(v)
	for _, name := range v.Desired.Order {
		k.makeChannel(v.Desired.Channels[name])
	}
	k.tellQuarantines()
	for _, name := range append([]string{""}, v.Desired.Order...) {
		k.foldConditions(name, found[name])
	}
	for name := range k.memory {
		if name != "" && v.Desired.Channels[name] == nil {
			delete(k.memory, name)
		}
	}
	return k.due, k.memory, k.next
}

type maker struct {
	view   *view.View
	now    time.Time
	memory Memory
	due    []WholeNotice
	next   time.Time
}

func (k *maker) wakeAt(t time.Time) {
	if t.After(k.now) && (k.next.IsZero() || t.Before(k.next)) {
		k.next = t
	}
}

func (k *maker) part(channel string) Part {
	p := k.memory[channel]
	if p.Threads == nil {
		p.Threads = map[string]*Thread{}
	}
	return p
}

// recent is how long ago a head may have moved that is told although nothing was observed before.
const recent = 5 * time.Minute

// makeChannel tells of a head that moved. An older head that is there when observing begins is not told.
func (k *maker) makeChannel(c *plan.Channel) {
	p := k.part(c.Name)
	e := c.Effective
	if e == nil || e.Sequence <= p.Sequence {
		p.Begun = true
		k.memory[c.Name] = p
		return
	}
	if p.Begun || k.now.Sub(e.Moved) < recent {
		k.tellHead(c, p)
	}
	p.Begun = true
	p.Sequence, p.Digest, p.Release = e.Sequence, e.Digest, e.Release
	k.memory[c.Name] = p
}

func (k *maker) tellHead(c *plan.Channel, p Part) {
	e := c.Effective
	n := Notice{Channel: c.Name, Release: e.Release, At: k.now, Over: true, Number: 1,
		Thread: fmt.Sprintf("head/%s/%d", c.Name, e.Sequence)}
	was := cmp.Or(e.Replaces, "nothing")
	switch e.Kind {
	case plan.Promote:
		n.Kind, n.Severity = Promotion, Info
		n.Title = fmt.Sprintf("%s is now at %s, from %s", c.Name, e.Release, was)
		if e.Hotfix {
			n.Lines = append(n.Lines, "it is a hotfix")
		}
	case plan.Rollback:
		k.tellRollback(c, p, n, was)
		return
	default:
		return
	}
	if between := e.Sequence - p.Sequence - 1; between > 0 && p.Sequence > 0 {
		n.Lines = append(n.Lines, words.Count(int(between), "decision")+" in between: sluice log "+c.Name)
	}
	n.Lines = append(n.Lines, "sequence "+fmt.Sprint(e.Sequence)+", commit "+words.ShortCommit(e.Written))
	k.addNotice(n, nil, time.Time{})
}

// tellRollback tells of a head that went back, as the last message of the thread of the rollout that failed.
func (k *maker) tellRollback(c *plan.Channel, p Part, n Notice, was string) {
	e := c.Effective
	n.Kind, n.Severity = Rollback, Critical
	n.Title = fmt.Sprintf("%s went back from %s to %s", c.Name, was, e.Release)
	failed := []string{}
	var before *plan.EffectiveHead
	if len(c.History) > 1 {
		before = &c.History[len(c.History)-2]
	}
	since := time.Time{}
	if before != nil {
		for _, cell := range c.Cells {
			if s := k.view.Observed.Cells[cell.Name]; s != nil && failedHead(s, before) {
				failed = append(failed, cell.Name)
			}
		}
		key := rolloutThread(c.Name, before.Sequence)
		if t := p.Threads[key]; t != nil {
			n.Thread, n.Number, since = key, t.Number+1, t.Since
			delete(p.Threads, key)
		}
		if len(failed) > 0 {
			n.Lines = append(n.Lines, fmt.Sprintf("%d of %s failed %s", len(failed), words.Count(len(c.Cells), "cell"), was))
		}
		for _, q := range k.view.Desired.Quarantine {
			if q.Digest == before.Digest {
				n.Lines = append(n.Lines, fmt.Sprintf("%s is quarantined: %s", q.Release, q.Reason))
			}
		}
	}
	n.Lines = append(n.Lines, "next step: sluice why "+c.Name)
	slices.Sort(failed)
	k.addNotice(n, failed, since)
}

// tellQuarantines tells of quarantines that are new, unless a rollback that is told now names them.
func (k *maker) tellQuarantines() {
	p := k.part("")
	var names []string
	for _, q := range k.view.Desired.Quarantine {
		names = append(names, q.Release)
		if !p.Begun || slices.Contains(p.Quarantined, q.Release) || k.isRolledBack(q.Release) {
			continue
		}
		by := ""
		if q.By != "" {
			by = ", by " + q.By
		}
		k.addNotice(Notice{Kind: Quarantine, Severity: Warning, Release: q.Release, At: k.now, Number: 1, Over: true,
			Thread: fmt.Sprintf("quarantine/%s/%08x", q.Release, hashText(string(q.Digest), by, q.Reason)),
			Title:  fmt.Sprintf("%s is quarantined%s: %s", q.Release, by, q.Reason)}, nil, time.Time{})
	}
	slices.Sort(names)
	p.Quarantined, p.Begun = names, true
	k.memory[""] = p
}

// hashText tells apart quarantines of one release.
func hashText(parts ...string) uint32 {
	h := fnv.New32a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part + "\x00")) // it never fails
	}
	return h.Sum32()
}

// isRolledBack reports whether a release's quarantine belongs to a rollback that was told now, or to a rollout whose
// halt is told.
func (k *maker) isRolledBack(release string) bool {
	if slices.ContainsFunc(k.due, func(t WholeNotice) bool {
		return t.Kind == Rollback && slices.ContainsFunc(t.Lines, func(line string) bool {
			return strings.HasPrefix(line, release+" is quarantined")
		})
	}) {
		return true
	}
	return slices.ContainsFunc(slices.Collect(maps.Values(k.view.Desired.Channels)), func(c *plan.Channel) bool {
		return c.Effective != nil && c.Effective.Release == release && c.IsHalted()
	})
}

// addNotice adds a notice. since tells apart threads of one name; zero: the name is never used again.
func (k *maker) addNotice(n Notice, all []string, since time.Time) {
	n.ID = "notice/" + n.Thread
	if !since.IsZero() {
		n.ID += fmt.Sprintf("/%d", since.Unix())
	}
	n.ID += fmt.Sprintf("/%d", n.Number)
	n.At = n.At.UTC().Truncate(time.Second)
	if len(all) > 0 {
		n = n.withCells(all)
	}
	k.due = append(k.due, WholeNotice{n, all})
}

// foldConditions folds what goes on in a channel into its threads.
func (k *maker) foldConditions(channel string, found []condition) {
	p := k.part(channel)
	seen := map[string]bool{}
	for i := range found {
		seen[found[i].thread] = true
		k.foldCondition(p, &found[i])
	}
	for _, key := range slices.Sorted(maps.Keys(p.Threads)) {
		t := p.Threads[key]
		if seen[key] {
			continue
		}
		if t.Gone.IsZero() {
			t.Gone = k.now
		}
		switch {
		case t.Number == 0 || t.Over == "":
			delete(p.Threads, key)
		case k.now.Sub(t.Gone) >= calm:
			k.tellOver(key, t)
			delete(p.Threads, key)
		default:
			k.wakeAt(t.Gone.Add(calm))
		}
	}
	k.memory[channel] = p
}

func (k *maker) foldCondition(p Part, c *condition) {
	t := p.Threads[c.thread]
	if t == nil {
		t = &Thread{Since: k.now.UTC().Truncate(time.Second)}
		p.Threads[c.thread] = t
	}
	count := max(len(c.cells), c.notice.Count)
	t.Gone, t.Over, t.Most = time.Time{}, c.over, max(t.Most, count)
	if !k.isDue(t, c, count) {
		return
	}
	t.Number++
	t.LastTold, t.Count, t.Kind, t.Severity = k.now, count, c.notice.Kind, c.notice.Severity
	t.Channel, t.Release = c.notice.Channel, c.notice.Release
	n := c.notice
	n.Thread, n.Number, n.At = c.thread, t.Number, k.now
	k.addNotice(n, c.cells, t.Since)
}

// minSettle lets the memory have a thread before it is told, so that a crash in between does not begin another.
const minSettle = time.Second

// isDue reports whether a thread is to be told of now: when it has lasted, when it matters more than before, and when
// twice as many cells are concerned as the last message said.
func (k *maker) isDue(t *Thread, c *condition, count int) bool {
	var at time.Time
	switch {
	case t.Number == 0:
		at = t.Since.Add(max(c.settle, minSettle))
	case c.notice.Severity.rank() > t.Severity.rank():
		return true
	case count >= 2*max(t.Count, 1):
		at = t.LastTold.Add(updateGap)
	default:
		return false
	}
	if k.now.Before(at) {
		k.wakeAt(at)
		return false
	}
	return true
}

func (k *maker) tellOver(key string, t *Thread) {
	n := Notice{Kind: t.Kind, Severity: Info, Channel: t.Channel, Release: t.Release, At: k.now, Thread: key,
		Number: t.Number + 1, Over: true, Title: t.Over,
		Lines: []string{fmt.Sprintf("it went on from %s to %s", words.FormatTime(t.Since), words.FormatTime(t.Gone))}}
	if t.Most > 0 {
		n.Lines = append(n.Lines, "at its height it concerned "+words.Count(t.Most, "cell"))
	}
	k.addNotice(n, nil, t.Since)
}
