package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// waveProgress says how far a channel's head has come through its waves.
//
// Waves are cumulative. Their sizes are taken of all eligible cells: the ready cells, which could have the head or have
// it already, and the cells that only wait for a window or for their owner's approval. A cell could have the head if it
// is in contact and nothing of its own holds it back.
//
// A wave is through when as many cells as it demands were healthy on the head for its soak or failed the head within
// the budget. Failures alone never make a wave through. No wave waits for a particular cell: where one can't have the
// head, the next in the wave order gets it.
type waveProgress struct {
	waves        []channels.Wave // empty: all cells at once
	order        *waveOrder      // nil: no waves
	sizes        []int           // how many cells may have the head in each wave
	openWave     int             // the wave that is open, from 1; 0: no waves
	allowed      int             // how many cells may have the head now
	ready        int             // cells that could have the head, or have it already
	awaiting     int             // cells that only wait for a window or an approval
	labelled     int             // ready cells that the first wave names by label
	offered      int             // ready cells that were granted the head, or run it
	failed       int             // offered cells that failed the head
	soaks        []cellSoak      // soaks of the offered cells that are healthy on the head
	wavesThrough int             // how many waves are through
	// The earliest instant at which the open wave can be through; zero: unknown, since too few cells are healthy.
	throughAt time.Time
}

// cellSoak is how long a cell was healthy on the head, as of its last report.
type cellSoak struct {
	lasted     time.Duration
	reportedAt time.Time
}

func (s cellSoak) endsAt(asked time.Duration) time.Time { return s.reportedAt.Add(asked - s.lasted) }

// goesByWaves reports whether the head goes out in waves. It does not if it has reached its cells, or if it takes cells
// back to a good release (R19). A head that restateHead wrote anew goes on by its waves.
func (r *rollout) goesByWaves() bool {
	c, e := r.channel, r.channel.Effective
	if len(c.Valid.Rollout.Waves) == 0 || c.isFinished(e) {
		return false
	}
	return e.Kind != Rollback || e.Replaces == e.Release && !e.ReplacedFinished
}

// addClassified adds the cells that have the head already by what is remembered of them.
func (w *waveProgress) addClassified(m *channelMemory, now time.Time) {
	w.offered, w.failed = m.sums.hasHead+m.sums.failedHead, m.sums.failedHead
	w.ready = w.offered
	if w.waves == nil {
		return
	}
	if w.order.labelled != nil {
		for i := range m.cells {
			if class := m.cells[i].class; (class == hasHead || class == failedHead) && w.order.labelled[i] {
				w.labelled++
			}
		}
	}
	w.soaks = m.soaking[:0]
	for i := range m.soakers.All() {
		w.soaks = append(w.soaks, m.cells[i].soak(now))
	}
	m.soaking = w.soaks
}

func (w *waveProgress) addReady(i int) {
	w.ready++
	if w.order != nil && w.order.labelled != nil && w.order.labelled[i] {
		w.labelled++
	}
}

// addOffered adds a waiting cell that has the head already, because it runs it.
func (w *waveProgress) addOffered(i int, cell *cellTally, now time.Time) {
	w.addReady(i)
	w.offered++
	if w.waves != nil && cell.soaks {
		w.soaks = append(w.soaks, cell.soak(now))
	}
}

// findOpenWave finds the open wave: the first that is neither through nor skipped. It learns which waves are through,
// so that cells that join later or turn unhealthy do not reopen one (R14).
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
			c.planner.plan.Learned.Waves = append(c.planner.plan.Learned.Waves, Through{
				Channel: c.Name, Sequence: c.Effective.Sequence, Digest: c.Effective.Digest, Wave: w.openWave,
				At: c.planner.now,
			})
			w.wavesThrough = w.openWave
			continue
		}
		if w.openWave >= skip.Wave {
			break
		}
	}
	last := len(w.waves)
	if w.openWave < last || !w.isThrough(last) {
		// one more cell, if all that had the head failed
		w.allowed = min(max(w.sizes[w.openWave-1], w.failed+1), w.ready)
	}
	w.throughAt = w.soakedAt(w.waves[w.openWave-1].Soak, w.healthyNeeded(w.openWave))
	c.planner.replanAt(w.throughAt)
}

func (w *waveProgress) healthyNeeded(wave int) int {
	if w.sizes[wave-1] == 0 {
		return 0
	}
	return max(w.sizes[wave-1]-w.failed, 1)
}

// isThrough reports whether a wave is through. No wave is while no cell is eligible.
func (w *waveProgress) isThrough(wave int) bool {
	return w.ready+w.awaiting > 0 && w.countSoaked(w.waves[wave-1].Soak) >= w.healthyNeeded(wave)
}

// sizeWaves computes how many cells may have the head in each wave. If the first wave names cells by label and none of
// these could have the head now, another cell stands in for them: the wave must not be through without any cell.
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

func (w *waveProgress) countSoaked(asked time.Duration) (n int) {
	for _, s := range w.soaks {
		if s.lasted >= asked {
			n++
		}
	}
	return n
}

// soakedAt returns the instant at which n cells will have been healthy on the head for as long as asked, if they stay
// healthy; zero: fewer than n are healthy.
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

// waveAt returns the wave that lets the cell at a place in the queue have the head; one more than there are waves: the
// cell comes after the last.
func (w *waveProgress) waveAt(place int) int {
	i := slices.IndexFunc(w.sizes, func(size int) bool { return place <= size })
	if i < 0 {
		i = len(w.sizes)
	}
	return i + 1
}

// opensAt returns the earliest instant at which a wave can be open; zero: unknown.
func (w *waveProgress) opensAt(wave int) time.Time {
	t := w.throughAt
	for n := w.openWave + 1; n < wave && !t.IsZero(); n++ {
		if w.sizes[n-1] > w.sizes[n-2] { // some of its cells begin only when it opens
			t = t.Add(w.waves[n-1].Soak)
		}
	}
	return t
}

// reasonWriter writes the reasons of thousands of verdicts into one string, to save allocations.
type reasonWriter struct {
	progress *waveProgress
	text     []byte
	ends     []int // pairs: index of a verdict, and the end of its reason in text
	openWave string
}

func newReasonWriter(w *waveProgress, n int) *reasonWriter {
	const usual = 80 // bytes in a reason
	return &reasonWriter{progress: w, text: make([]byte, 0, n*usual), ends: make([]int, 0, 2*n)}
}

// describeTurn returns the reason why the cell at a place in the queue gets nothing: its place or, without one, that no
// slot is free.
func (w *waveProgress) describeTurn(place int, full string) string {
	b := reasonWriter{progress: w}
	switch {
	case place == noPlace:
		return full
	case place > w.allowed:
		b.writeWave(0, place)
	default:
		b.writeCap(0, place, full)
	}
	return string(b.text)
}

func (b *reasonWriter) writeWave(verdict, place int) {
	if b.openWave == "" {
		b.openWave = "; " + b.progress.describeOpenWave()
	}
	b.writePosition(place)
	b.text = append(b.text, b.openWave...)
	b.ends = append(b.ends, verdict, len(b.text))
}

func (b *reasonWriter) writeCap(verdict, place int, limit string) {
	b.writePosition(place)
	b.text = append(append(b.text, "; "...), limit...)
	b.ends = append(b.ends, verdict, len(b.text))
}

func (b *reasonWriter) setReasons(verdicts []channels.Verdict) {
	all, from := string(b.text), 0
	for i := 0; i < len(b.ends); i += 2 {
		verdicts[b.ends[i]].Reason = all[from:b.ends[i+1]]
		from = b.ends[i+1]
	}
}

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

func (w *waveProgress) describeOpenWave() string {
	size, asked := w.healthyNeeded(w.openWave), w.waves[w.openWave-1].Soak
	s := "wave " + strconv.Itoa(w.openWave)
	switch {
	case !w.throughAt.IsZero() && asked > 0:
		return s + " soaks until " + w.throughAt.UTC().Format(time.RFC3339)
	case asked > 0:
		return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") +
			" healthy on it, which is to soak for " + words.FormatElapsed(asked)
	}
	return s + ": " + strconv.Itoa(len(w.soaks)) + " of " + words.Count(size, "cell") + " healthy on it"
}

// cellCache caches what every plan needs about a channel's cells as the repository has them. Each Desired has its own.
// A nil cellCache caches nothing.
type cellCache struct {
	mu      sync.Mutex
	orders  map[releases.Digest]*waveOrder // by head
	misfits map[string][]string            // by release
}

// waveOrder is the order in which a head reaches a channel's cells: first the cells that the first wave names by label,
// then all others. Within each part, cells are ordered by a hash of cell and digest, so that each release begins with
// other cells.
type waveOrder struct {
	indexes  []int32 // of indexes in Channel.Cells
	labelled []bool  // by index in Channel.Cells: named by the first wave; nil: none is
}

func (c *Channel) waveOrder() *waveOrder {
	build := func() *waveOrder { return newWaveOrder(c) }
	if c.cache == nil {
		return build()
	}
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	order := c.cache.orders[c.Effective.Digest]
	if order == nil || len(order.indexes) != len(c.Cells) {
		order = build()
		c.cache.orders = map[releases.Digest]*waveOrder{c.Effective.Digest: order}
	}
	return order
}

// WaveOrder returns the indexes of c's cells in the order in which they are offered its head.
func (c *Channel) WaveOrder() []int32 { return c.waveOrder().indexes }

func newWaveOrder(c *Channel) *waveOrder {
	order := &waveOrder{indexes: make([]int32, len(c.Cells))}
	var labels map[string]string
	if c.Valid != nil && len(c.Valid.Rollout.Waves) > 0 {
		labels = c.Valid.Rollout.Waves[0].Labels
	}
	if len(labels) > 0 {
		order.labelled = make([]bool, len(c.Cells))
	}
	ranks := make([]uint64, len(c.Cells))
	for i, cell := range c.Cells {
		sum := sha256.Sum256([]byte(cell.Name + "\x00" + string(c.Effective.Digest)))
		ranks[i] = binary.BigEndian.Uint64(sum[:8])>>1 | 1<<63
		if len(labels) > 0 && hasLabels(cell, labels) {
			order.labelled[i] = true
			ranks[i] &^= 1 << 63
		}
		order.indexes[i] = int32(i)
	}
	slices.SortFunc(order.indexes, func(a, b int32) int {
		return cmp.Or(cmp.Compare(ranks[a], ranks[b]), cmp.Compare(a, b))
	})
	return order
}

func hasLabels(cell *Cell, labels map[string]string) bool {
	for k, v := range labels {
		if cell.Labels[k] != v {
			return false
		}
	}
	return true
}

// misfits returns for each cell of c, by index, why its profile or values don't fit a release; empty: they fit.
func (c *Channel) misfits(r *Release) []string {
	if c.cache == nil {
		return findMisfits(c, r)
	}
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	all, known := c.cache.misfits[r.Version.String()]
	if !known || len(all) != len(c.Cells) {
		all = findMisfits(c, r)
		if c.cache.misfits == nil {
			c.cache.misfits = map[string][]string{}
		}
		c.cache.misfits[r.Version.String()] = all
	}
	return all
}

func findMisfits(c *Channel, r *Release) []string {
	all := make([]string, len(c.Cells))
	for i, cell := range c.Cells {
		if _, ok := r.Profile(cell.Profile); !ok {
			all[i] = fmt.Sprintf("%s has no profile %q", r.Version, cell.Profile)
		} else if wrong := releases.CheckValues(&r.Release, cell.Values); len(wrong) > 0 {
			all[i] = strings.Join(wrong, ", ")
		}
	}
	return all
}

// skipOfHead returns the skip by which a person opened a wave of c's head early; zero: none.
func (c *Channel) skipOfHead() (s channels.Skip) {
	for _, skip := range c.Skips {
		if skip.Sequence == c.Effective.Sequence {
			return skip
		}
	}
	return s
}
