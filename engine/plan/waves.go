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
	waves        []channels.Wave // none: all at once
	order        *waveOrder      // nil without waves
	sizes        []int           // how many cells each wave lets have it, of those that are eligible
	openWave     int             // the one that is open, 1-based; 0: there are none
	allowed      int             // how many cells may have it by now
	ready        int             // how many cells could have it, or have it already
	awaiting     int             // how many more are eligible, and wait for a window or an approval
	labelled     int             // how many of the ready the first wave names by label
	offered      int             // how many of the ready were granted it or run it
	failed       int             // how many of the offered failed it
	soaks        []cellSoak      // of those of the offered that are healthy on it
	wavesThrough int             // how many waves are through
	throughAt    time.Time       // when the open wave can be through; zero: not known, some are not healthy on it
}

// cellSoak is how long a cell was healthy on the head, as of its last report.
type cellSoak struct {
	lasted     time.Duration
	reportedAt time.Time
}

// endsAt is the instant at which it is as long as asked, if the cell stays healthy.
func (s cellSoak) endsAt(asked time.Duration) time.Time { return s.reportedAt.Add(asked - s.lasted) }

// goesByWaves reports whether the head goes out in waves: not if it reached its cells, nor if it takes them back to what was good
// (R19). A head that was only written anew goes on as it was.
func (r *rollout) goesByWaves() bool {
	c, e := r.channel, r.channel.Effective
	if len(c.Valid.Rollout.Waves) == 0 || c.isFinished(e) {
		return false
	}
	return e.Kind != Rollback || e.Replaces == e.Release && !e.ReplacedFinished
}

// addReady adds a cell, by its index, that could have the head.
func (w *waveProgress) addReady(i int) {
	w.ready++
	if w.order != nil && w.order.labelled != nil && w.order.labelled[i] {
		w.labelled++
	}
}

// addOffered adds a cell that has the head already, by grant or by running it.
func (w *waveProgress) addOffered(c *channelPlan, i int, s *CellState, failed bool) {
	w.addReady(i)
	w.offered++
	if failed {
		w.failed++
	} else if w.waves != nil && s.Digest == c.Effective.Digest && s.State == cells.StateHealthy {
		w.soaks = append(w.soaks, cellSoak{s.Soaked, s.LastReport})
	}
}

// findOpenWave finds the wave that is open: the first that is not through, and was not skipped. What is through is learned:
// nobody who comes later, and nobody who falls ill, closes it again (R14).
func (r *rollout) findOpenWave() {
	c, w := r.channel, &r.progress
	w.allowed = w.ready
	if w.waves == nil {
		return
	}
	w.sizeWaves()
	w.wavesThrough = c.wavesThrough
	skip := c.skipOfHead()
	_, observing := c.observing()
	for w.openWave = 1; w.openWave < len(w.waves); w.openWave++ {
		if w.openWave <= w.wavesThrough {
			continue
		}
		if w.isThrough(w.openWave) && !observing {
			c.planner.plan.Learned.Waves = append(c.planner.plan.Learned.Waves, Through{Channel: c.Name, Sequence: c.Effective.Sequence, Digest: c.Effective.Digest, Wave: w.openWave, At: c.planner.now})
			w.wavesThrough = w.openWave
			continue
		}
		if w.openWave >= skip.Wave {
			break
		}
	}
	last := len(w.waves)
	if w.openWave < last || !w.isThrough(last) {
		w.allowed = min(max(w.sizes[w.openWave-1], w.failed+1), w.ready) // one more, if all failed that had it
	}
	w.throughAt = w.soakedAt(w.waves[w.openWave-1].Soak, w.healthyNeeded(w.openWave))
}

// healthyNeeded is how many healthy cells a wave is through with.
func (w *waveProgress) healthyNeeded(wave int) int {
	if w.sizes[wave-1] == 0 {
		return 0
	}
	return max(w.sizes[wave-1]-w.failed, 1)
}

// isThrough tells whether a wave is; none is while nobody is eligible.
func (w *waveProgress) isThrough(wave int) bool {
	return w.ready+w.awaiting > 0 && w.countSoaked(w.waves[wave-1].Soak) >= w.healthyNeeded(wave)
}

// sizeWaves says how many cells each wave lets have the head. A first wave that names cells by label, of which none could
// have it now, waits for one, whichever: it must not be through without any.
func (w *waveProgress) sizeWaves() {
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

// countSoaked counts the cells that have been healthy on the head for so long.
func (w *waveProgress) countSoaked(asked time.Duration) (n int) {
	for _, s := range w.soaks {
		if s.lasted >= asked {
			n++
		}
	}
	return n
}

// soakedAt gives the instant at which n cells will have been healthy on the head for so long, if they stay so; zero: fewer are.
func (w *waveProgress) soakedAt(asked time.Duration, n int) time.Time {
	if n == 0 || len(w.soaks) < n {
		return time.Time{}
	}
	ends := make([]time.Time, len(w.soaks))
	for i, s := range w.soaks {
		ends[i] = s.endsAt(asked)
	}
	slices.SortFunc(ends, time.Time.Compare)
	return ends[n-1]
}

// waveAt gives the wave that lets the cell at a place have the head; one more than there are: all are before it.
func (w *waveProgress) waveAt(place int) int {
	i := slices.IndexFunc(w.sizes, func(size int) bool { return place <= size })
	if i < 0 {
		i = len(w.sizes)
	}
	return i + 1
}

// opensAt is the earliest instant at which a wave can be open; zero: not known.
func (w *waveProgress) opensAt(wave int) time.Time {
	t := w.throughAt
	for n := w.openWave + 1; n < wave && !t.IsZero(); n++ {
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
	ends     []int // index of the verdict, and where its reason ends in text
	openWave string
}

func newReasonWriter(w *waveProgress, n int) *reasonWriter {
	const usual = 80 // bytes of a reason
	return &reasonWriter{progress: w, text: make([]byte, 0, n*usual), ends: make([]int, 0, 2*n)}
}

// writeWave says of a verdict that its cell's wave is not open.
func (b *reasonWriter) writeWave(verdict, place int) {
	if b.openWave == "" {
		b.openWave = "; " + b.progress.describeOpenWave()
	}
	b.writePosition(place)
	b.text = append(b.text, b.openWave...)
	b.ends = append(b.ends, verdict, len(b.text))
}

// writeCap says of a verdict that all slots are in use.
func (b *reasonWriter) writeCap(verdict, place int, limit string) {
	b.writePosition(place)
	b.text = append(append(b.text, "; "...), limit...)
	b.ends = append(b.ends, verdict, len(b.text))
}

// setReasons gives the verdicts their reasons.
func (b *reasonWriter) setReasons(verdicts []channels.Verdict) {
	all, from := string(b.text), 0
	for i := 0; i < len(b.ends); i += 2 {
		verdicts[b.ends[i]].Reason = all[from:b.ends[i+1]]
		from = b.ends[i+1]
	}
}

// writePosition says where a cell is in the queue.
func (b *reasonWriter) writePosition(place int) {
	w, text, of := b.progress, b.text, b.progress.ready
	if w.waves != nil {
		wave := w.waveAt(place)
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

// describeOpenWave says what the open wave waits for.
func (w *waveProgress) describeOpenWave() string {
	size, asked := w.healthyNeeded(w.openWave), w.waves[w.openWave-1].Soak
	s := "wave " + strconv.Itoa(w.openWave)
	switch {
	case !w.throughAt.IsZero() && asked > 0:
		return s + " soaks until " + w.throughAt.UTC().Format(time.RFC3339)
	case asked > 0:
		return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") + " healthy on it, which is to soak for " + channels.Elapsed(asked)
	}
	return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") + " healthy on it"
}
