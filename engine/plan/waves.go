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

// waveProgress is how far a channel's head has come, and who may have it next. Waves are cumulative, over the cells that are
// eligible now: those that could have it, in contact and held back by nothing of their own, or have it already; and those
// that only wait for a window or their owner's approval. A wave is through when as many as it asks for were healthy on it
// for as long as it asks, or failed it within the budget, but never by failures alone. The place of one that can't have it
// is the next one's in the order: a wave waits for no single cell, and is never through on nobody's word.
type waveProgress struct {
	waves    []channels.Wave // none: all at once
	order    *waveOrder      // nil without waves
	sizes    []int           // how many cells each wave lets have it, of those that are eligible
	wave     int             // the one that is open, 1-based; 0: there are none
	open     int             // how many cells may have it by now
	ready    int             // how many cells could have it, or have it already
	awaiting int             // how many more are eligible, and wait for a window or an approval
	labelled int             // how many of the ready the first wave names by label
	offered  int             // how many of the ready were granted it or run it
	failed   int             // how many of the offered failed it
	soaks    []soak          // of those of the offered that are healthy on it
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

// waved reports whether the head goes out in waves: not if it reached its cells, nor if it takes them back to what was good
// (R19). A head that was only written anew goes on as it was.
func (r *rollout) waved() bool {
	c, e := r.c, r.c.Effective
	if len(c.Valid.Rollout.Waves) == 0 || c.done(e) {
		return false
	}
	return e.Kind != Rollback || e.Replaces == e.Release && !e.ReplacedFinished
}

// waits adds a cell, by its index, that could have the head.
func (w *waveProgress) waits(i int) {
	w.ready++
	if w.order != nil && w.order.labelled != nil && w.order.labelled[i] {
		w.labelled++
	}
}

// count adds a cell that has the head already, by grant or by running it.
func (w *waveProgress) count(c *channelPlan, i int, s *CellState, failed bool) {
	w.waits(i)
	w.offered++
	if failed {
		w.failed++
	} else if w.waves != nil && s.Digest == c.Effective.Digest && s.State == cells.StateHealthy {
		w.soaks = append(w.soaks, soak{s.Soaked, s.LastReport})
	}
}

// openWave finds the wave that is open: the first that is not through, and was not skipped. What is through is learned:
// nobody who comes later, and nobody who falls ill, closes it again (R14).
func (r *rollout) openWave() {
	c, w := r.c, &r.progress
	w.open = w.ready
	if w.waves == nil {
		return
	}
	w.measure()
	w.passed = c.passed
	skip := c.skipped()
	_, observing := c.observing()
	for w.wave = 1; w.wave < len(w.waves); w.wave++ {
		if w.wave <= w.passed {
			continue
		}
		if w.through(w.wave) && !observing {
			c.p.plan.Learned.Waves = append(c.p.plan.Learned.Waves, Through{Channel: c.Name, Sequence: c.Effective.Sequence, Digest: c.Effective.Digest, Wave: w.wave, At: c.p.now})
			w.passed = w.wave
			continue
		}
		if w.wave >= skip.Wave {
			break
		}
	}
	last := len(w.waves)
	if w.wave < last || !w.through(last) {
		w.open = min(max(w.sizes[w.wave-1], w.failed+1), w.ready) // one more, if all failed that had it
	}
	w.earliest = w.end(w.waves[w.wave-1].Soak, w.needs(w.wave))
}

// needs is how many healthy cells a wave is through with.
func (w *waveProgress) needs(wave int) int {
	if w.sizes[wave-1] == 0 {
		return 0
	}
	return max(w.sizes[wave-1]-w.failed, 1)
}

// through tells whether a wave is; none is while nobody is eligible.
func (w *waveProgress) through(wave int) bool {
	return w.ready+w.awaiting > 0 && w.healthy(w.waves[wave-1].Soak) >= w.needs(wave)
}

// measure says how many cells each wave lets have the head. A first wave that names cells by label, of which none could
// have it now, waits for one, whichever: it must not be through without any.
func (w *waveProgress) measure() {
	w.sizes = make([]int, len(w.waves))
	eligible := w.ready + w.awaiting
	for i, wave := range w.waves {
		size := wave.Cells
		if wave.Percent > 0 {
			size = int(math.Ceil(wave.Percent * float64(eligible) / 100))
		}
		if i > 0 {
			size = max(size, w.sizes[i-1])
		} else if size = max(size, w.labelled); size == 0 && slices.Contains(w.order.labelled, true) {
			size = 1
		}
		w.sizes[i] = min(size, eligible)
	}
}

// healthy counts the cells that have been healthy on the head for so long.
func (w *waveProgress) healthy(asked time.Duration) (n int) {
	for _, s := range w.soaks {
		if s.lasted >= asked {
			n++
		}
	}
	return n
}

// end gives the instant at which n cells will have been healthy on the head for so long, if they stay so; zero: fewer are.
func (w *waveProgress) end(asked time.Duration, n int) time.Time {
	if n == 0 || len(w.soaks) < n {
		return time.Time{}
	}
	ends := make([]time.Time, len(w.soaks))
	for i, s := range w.soaks {
		ends[i] = s.ends(asked)
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[n-1]
}

// waveOf gives the wave that lets the cell at a place have the head; one more than there are: all are before it.
func (w *waveProgress) waveOf(place int) int {
	i := slices.IndexFunc(w.sizes, func(size int) bool { return place <= size })
	if i < 0 {
		i = len(w.sizes)
	}
	return i + 1
}

// until is the earliest instant at which a wave can be open; zero: not known.
func (w *waveProgress) until(wave int) time.Time {
	t := w.earliest
	for n := w.wave + 1; n < wave && !t.IsZero(); n++ {
		if w.sizes[n-1] > w.sizes[n-2] { // somebody in it begins only then
			t = t.Add(w.waves[n-1].Soak)
		}
	}
	return t
}

// reasonWriter makes the reasons of thousands of verdicts, in one piece of memory.
type reasonWriter struct {
	progress *waveProgress
	text     []byte
	of       []int // index of the verdict, and where its reason ends in text
	open     string
}

func newReasonWriter(w *waveProgress, n int) *reasonWriter {
	const usual = 80 // bytes of a reason
	return &reasonWriter{progress: w, text: make([]byte, 0, n*usual), of: make([]int, 0, 2*n)}
}

// waits says of a verdict that its cell's wave is not open.
func (b *reasonWriter) waits(verdict, place int) {
	if b.open == "" {
		b.open = "; " + b.progress.awaits()
	}
	b.place(place)
	b.text = append(b.text, b.open...)
	b.of = append(b.of, verdict, len(b.text))
}

// capped says of a verdict that all slots are in use.
func (b *reasonWriter) capped(verdict, place int, limit string) {
	b.place(place)
	b.text = append(append(b.text, "; "...), limit...)
	b.of = append(b.of, verdict, len(b.text))
}

// put gives the verdicts their reasons.
func (b *reasonWriter) put(verdicts []channels.Verdict) {
	all, from := string(b.text), 0
	for i := 0; i < len(b.of); i += 2 {
		verdicts[b.of[i]].Reason = all[from:b.of[i+1]]
		from = b.of[i+1]
	}
}

// place says where a cell is in the queue.
func (b *reasonWriter) place(place int) {
	w, text, of := b.progress, b.text, b.progress.ready
	if w.waves != nil {
		wave := w.waveOf(place)
		if wave > len(w.sizes) {
			text = append(text, "after the last wave, "...)
		} else {
			text = strconv.AppendInt(append(text, "in wave "...), int64(wave), 10)
			text = strconv.AppendInt(append(text, " of "...), int64(len(w.waves)), 10)
			text, of = append(text, ", "...), w.sizes[wave-1]
		}
	}
	text = strconv.AppendInt(append(text, "place "...), int64(place), 10)
	b.text = strconv.AppendInt(append(text, " of "...), int64(of), 10)
}

// awaits says what the open wave waits for.
func (w *waveProgress) awaits() string {
	size, asked := w.needs(w.wave), w.waves[w.wave-1].Soak
	s := "wave " + strconv.Itoa(w.wave)
	switch {
	case !w.earliest.IsZero() && asked > 0:
		return s + " soaks until " + w.earliest.UTC().Format(time.RFC3339)
	case asked > 0:
		return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") + " healthy on it, which is to soak for " + channels.Elapsed(asked)
	}
	return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") + " healthy on it"
}
