package plan

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
)

// march is how far a channel's head has come, and who may have it next. Waves are cumulative, over the cells that are
// eligible now: those that could have it, in contact and held back by nothing of their own, or have it already; and those
// that only wait for a window or their owner's approval. A wave is through when as many as it asks for were healthy on it
// for as long as it asks, or failed it within the budget, but never by failures alone. The place of one that can't have it
// is the next one's in the order: a wave waits for no single cell, and is never through on nobody's word.
type march struct {
	waves    []channels.Wave // none: all at once
	turn     *turn           // nil without waves
	sizes    []int           // how many cells each wave lets have it, of those that are eligible
	wave     int             // the one that is open, 1-based; 0: there are none
	open     int             // how many cells may have it by now
	could    int             // how many could have it
	later    int             // how many more are eligible, and wait for a window or an approval
	named    int             // of those, named by the first wave's labels
	given    int             // of those that could, granted it or running it
	failed   int             // of those, failed it
	soaks    []soak          // of those given, healthy on it
	passed   int             // how many waves are through
	earliest time.Time       // when the open wave can be through; zero: not known, some are not healthy on it
}

// soak is how long a cell was healthy on the head, as of its last report.
type soak struct {
	lasted time.Duration
	at     time.Time
}

// ends is the instant at which it is as long as asked, if the cell stays healthy.
func (s soak) ends(asked time.Duration) time.Time { return s.at.Add(asked - s.lasted) }

// waved tells whether c's head goes out in waves: not if it reached its cells, nor if it takes them back to what was good
// (R19). A head that was only written anew goes on as it was.
func (p *planner) waved(c *Channel) bool {
	e := c.Effective
	if len(c.Valid.Rollout.Waves) == 0 || p.done(c.Name, e) {
		return false
	}
	return e.Kind != Rollback || e.Replaces == e.Release && !e.ReplacedFinished
}

// waits adds a cell, by its index, that could have the head.
func (m *march) waits(i int) {
	m.could++
	if m.turn != nil && m.turn.named != nil && m.turn.named[i] {
		m.named++
	}
}

// count adds a cell that has the head already, by grant or by running it.
func (m *march) count(c *Channel, i int, s *CellState, failed bool) {
	m.waits(i)
	m.given++
	if failed {
		m.failed++
	} else if m.waves != nil && s.Digest == c.Effective.Digest && s.State == cells.StateHealthy {
		m.soaks = append(m.soaks, soak{s.Soaked, s.LastReport})
	}
}

// openWave finds the wave that is open: the first that is not through, and was not skipped. What is through is learned:
// nobody who comes later, and nobody who falls ill, closes it again (R14).
func (p *planner) openWave(c *Channel, m *march) {
	m.open = m.could
	if m.waves == nil {
		return
	}
	m.measure()
	m.passed = p.passed[c.Name]
	skip := c.skipped()
	_, observing := p.observing(c)
	for m.wave = 1; m.wave < len(m.waves); m.wave++ {
		if m.wave <= m.passed {
			continue
		}
		if m.through(m.wave) && !observing {
			p.plan.Learned.Waves = append(p.plan.Learned.Waves, Through{Channel: c.Name, Sequence: c.Effective.Sequence, Digest: c.Effective.Digest, Wave: m.wave, At: p.now})
			m.passed = m.wave
			continue
		}
		if m.wave >= skip.Wave {
			break
		}
	}
	last := len(m.waves)
	if m.wave < last || !m.through(last) {
		m.open = min(max(m.sizes[m.wave-1], m.failed+1), m.could) // one more, if all failed that had it
	}
	m.earliest = m.end(m.waves[m.wave-1].Soak, m.needs(m.wave))
}

// needs is how many healthy cells a wave is through with.
func (m *march) needs(wave int) int {
	if m.sizes[wave-1] == 0 {
		return 0
	}
	return max(m.sizes[wave-1]-m.failed, 1)
}

// through tells whether a wave is; none is while nobody is eligible.
func (m *march) through(wave int) bool {
	return m.could+m.later > 0 && m.healthy(m.waves[wave-1].Soak) >= m.needs(wave)
}

// measure says how many cells each wave lets have the head. A first wave that names cells by label, of which none could
// have it now, waits for one, whichever: it must not be through without any.
func (m *march) measure() {
	m.sizes = make([]int, len(m.waves))
	eligible := m.could + m.later
	for i, w := range m.waves {
		size := w.Cells
		if w.Percent > 0 {
			size = int(math.Ceil(w.Percent * float64(eligible) / 100))
		}
		if i > 0 {
			size = max(size, m.sizes[i-1])
		} else if size = max(size, m.named); size == 0 && slices.Contains(m.turn.named, true) {
			size = 1
		}
		m.sizes[i] = min(size, eligible)
	}
}

// healthy counts the cells that have been healthy on the head for so long.
func (m *march) healthy(asked time.Duration) (n int) {
	for _, s := range m.soaks {
		if s.lasted >= asked {
			n++
		}
	}
	return n
}

// end gives the instant at which n cells will have been healthy on the head for so long, if they stay so; zero: fewer are.
func (m *march) end(asked time.Duration, n int) time.Time {
	if n == 0 || len(m.soaks) < n {
		return time.Time{}
	}
	ends := make([]time.Time, len(m.soaks))
	for i, s := range m.soaks {
		ends[i] = s.ends(asked)
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[n-1]
}

// waveOf gives the wave that lets the cell at a place have the head; one more than there are: all are before it.
func (m *march) waveOf(place int) int {
	i := slices.IndexFunc(m.sizes, func(size int) bool { return place <= size })
	if i < 0 {
		i = len(m.sizes)
	}
	return i + 1
}

// until is the earliest instant at which a wave can be open; zero: not known.
func (m *march) until(wave int) time.Time {
	t := m.earliest
	for w := m.wave + 1; w < wave && !t.IsZero(); w++ {
		if m.sizes[w-1] > m.sizes[w-2] { // somebody in it begins only then
			t = t.Add(m.waves[w-1].Soak)
		}
	}
	return t
}

// wording makes the reasons of thousands of verdicts, in one piece of memory.
type wording struct {
	m    *march
	text []byte
	of   []int // index of the verdict, and where its reason ends in text
	open string
}

func newWording(m *march, n int) *wording {
	const usual = 80 // bytes of a reason
	return &wording{m: m, text: make([]byte, 0, n*usual), of: make([]int, 0, 2*n)}
}

// waits says of a verdict that its cell's wave is not open.
func (w *wording) waits(verdict, place int) {
	if w.open == "" {
		w.open = "; " + w.m.awaits()
	}
	w.place(place)
	w.text = append(w.text, w.open...)
	w.of = append(w.of, verdict, len(w.text))
}

// capped says of a verdict that all slots are in use.
func (w *wording) capped(verdict, place int, limit string) {
	w.place(place)
	w.text = append(append(w.text, "; "...), limit...)
	w.of = append(w.of, verdict, len(w.text))
}

// put gives the verdicts their reasons.
func (w *wording) put(verdicts []channels.Verdict) {
	all, from := string(w.text), 0
	for i := 0; i < len(w.of); i += 2 {
		verdicts[w.of[i]].Reason = all[from:w.of[i+1]]
		from = w.of[i+1]
	}
}

// place says where a cell is in the queue.
func (w *wording) place(place int) {
	m, text, of := w.m, w.text, w.m.could
	if m.waves != nil {
		wave := m.waveOf(place)
		if wave > len(m.sizes) {
			text = append(text, "after the last wave, "...)
		} else {
			text = strconv.AppendInt(append(text, "in wave "...), int64(wave), 10)
			text = strconv.AppendInt(append(text, " of "...), int64(len(m.waves)), 10)
			text, of = append(text, ", "...), m.sizes[wave-1]
		}
	}
	text = strconv.AppendInt(append(text, "place "...), int64(place), 10)
	w.text = strconv.AppendInt(append(text, " of "...), int64(of), 10)
}

// awaits says what the open wave waits for.
func (m *march) awaits() string {
	size, asked := m.needs(m.wave), m.waves[m.wave-1].Soak
	s := "wave " + strconv.Itoa(m.wave)
	switch {
	case !m.earliest.IsZero() && asked > 0:
		return s + " soaks until " + m.earliest.UTC().Format(time.RFC3339)
	case asked > 0:
		return s + ": " + strconv.Itoa(len(m.soaks)) + " of " + words.Count(size, "cell") + " healthy on it, which is to soak for " + channels.Elapsed(asked)
	}
	return s + ": " + strconv.Itoa(len(m.soaks)) + " of " + words.Count(size, "cell") + " healthy on it"
}
