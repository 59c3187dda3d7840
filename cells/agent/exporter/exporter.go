package exporter

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
	"github.com/sluice-cd/sluice/releases/export"
)

// Options configures an Exporter.
type Options struct {
	StateDir string
	Cell     string
	To       http.RoundTripper // to the control plane, as this cell, over a connection of its own
	Scrape   []string          // targets on this machine: http://127.0.0.1:PORT/PATH
	Log      zerolog.Logger
	Minute   time.Duration // for tests; default one minute
}

// Exporter collects, holds and sends.
type Exporter struct {
	options Options
	dir     folder
	news    wake.Signal   // the owner's word or the wish changed
	reading chan struct{} // has an entry for each request that is being read

	mu        sync.Mutex
	key       []byte // of hashes; nil: it can't be read or made yet
	aggregate *telemetry.Aggregate
	wish      wished
	consent   *cells.ExportConsent // nil: the owner said nothing
	invalid   bool                 // the owner's word can't be read: nothing leaves, and nothing is removed
	effective []string             // lines of what may leave
	own       own
	purge     bool               // what waits is to be removed
	unsettled bool               // the owner's word is not kept yet, and nothing is collected under it: see settle
	lost      string             // why something that came in is lost; empty: nothing is
	cut       context.CancelFunc // ends the sending in flight

	opened time.Time // its clock that no one sets counts from here

	// Only the goroutine of Run uses these.
	position position
	// what leaves was collected last time: then there is a collectedFile
	collecting bool
	ages       ages
	inFlight   chan outcome // nil: none
	retryAt    time.Time
	failures   int
	differed   int    // answers in a row that named another position
	warned     string // what was logged last; empty: nothing since a batch was taken
}

// Pauses between tries to send.
const (
	minPause     = time.Second
	maxPause     = 5 * time.Minute
	maxAhead     = 2 * time.Minute  // of a file's time, before the clock counts as set back
	noRoutePause = 10 * time.Minute // after an answer that exports are not taken at all
	lookForDrop  = time.Second      // while a file is sent, between two looks whether the owner removed it
)

// Open opens the folder of exports below a state folder that this process has locked. It keeps nothing and sends
// nothing before Run. What it can't read or write, on a full disk say, it logs and tries again: the agent works without
// exports.
func Open(o Options) *Exporter {
	if o.Minute == 0 {
		o.Minute = export.MinEvery
	}
	e := &Exporter{options: o, dir: folderOf(o.StateDir), news: wake.New(), invalid: true,
		reading: make(chan struct{}, maxReading), opened: time.Now(), ages: ages{}}
	e.aggregate = telemetry.NewAggregate(telemetry.Compile(export.List{}, nil), time.Now())
	if err := errors.Join(disk.MakePrivate(string(e.dir)), disk.RemoveUnfinished(string(e.dir))); err != nil {
		e.warn(err, "the folder of the exports can't be prepared")
	}
	e.openKey()
	e.openPosition(time.Now())
	return e
}

// openPosition reads how far the exports are. What was not collected since the last agent did is a gap.
func (e *Exporter) openPosition(now time.Time) {
	var err error
	if e.position, err = loadJSON[position](e.dir, positionFile, maxRecord); err != nil {
		e.warn(err, "it can't be read how far the exports are: the control plane says where to go on")
		if aside, err := disk.PutAside(e.dir.path(positionFile), now); err == nil {
			e.options.Log.Warn().Str("file", aside).Msg("a file of the exports was damaged: the agent put it aside")
		}
		e.position = position{}
		e.position.widen(now.UTC(), "the cell lost how far it was")
	}
	before, err := loadJSON[collected](e.dir, collectedFile, maxRecord)
	if err != nil {
		before = collected{Until: now.UTC()} // not known: at least there is a gap
	}
	e.collecting = !before.Until.IsZero()
	if e.collecting && !(before.Whole && now.Sub(before.Until) < export.MinEvery) {
		e.position.widen(before.Until, notRunning)
		e.widen(now.UTC(), notRunning)
	}
}

// openKey reads the key of hashes, or makes it. Nothing is taken in without it.
func (e *Exporter) openKey() {
	key, err := e.dir.loadKey()
	if err != nil {
		e.warn(err, "the key of the exports can't be kept, and nothing is exported; the agent tries again")
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.key = key
	e.applyLocked()
}

// SetWish says what the release that runs wishes to have exported; nil: nothing.
func (e *Exporter) SetWish(release string, list *export.List) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wish.Release == release && sameLines(e.wish.List, list) {
		return
	}
	e.wish = wished{release, list}
	if err := e.dir.saveJSON(wishFile, e.wish); err != nil {
		e.options.Log.Warn().Err(err).Msg("what the release wishes to have exported can't be shown to the owner")
	}
	e.applyLocked()
}

func sameLines(a, b *export.List) bool {
	if a == b || a == nil || b == nil { // most often it is the one that was said before
		return a == b
	}
	return slices.Equal(a.Lines(), b.Lines())
}

// SetConsent brings the owner's word: nil if the owner said nothing. From the return on nothing is sent that it
// forbids, and what waits of it is removed soon.
func (e *Exporter) SetConsent(c *cells.ExportConsent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.invalid, e.consent = false, c
	before, allowed := e.dir.loadAgreed(), e.allowedLocked()
	if len(export.Wider(before, allowed)) > 0 {
		e.purge = true
		if e.cut != nil {
			e.cut()
		}
	}
	e.unsettled = e.purge || !slices.Equal(before.Lines(), allowed.Lines())
	e.applyLocked()
}

// allowedLocked returns what the owner agreed to.
func (e *Exporter) allowedLocked() export.List {
	if e.consent == nil || e.consent.Off {
		return export.List{}
	}
	return e.consent.Allowed
}

// Hold keeps everything in the cell while the owner's word can't be read.
func (e *Exporter) Hold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.invalid = true
	if e.cut != nil {
		e.cut()
	}
	e.applyLocked()
}

// applyLocked makes the rules of what may leave now.
func (e *Exporter) applyLocked() {
	var list export.List
	if e.wish.List != nil && !e.invalid && !e.unsettled && e.key != nil {
		list = e.consent.Effective(*e.wish.List)
	}
	if lines := list.Lines(); !slices.Equal(lines, e.effective) {
		e.effective, e.own.events = lines, nil // as of the rest, nothing from before now counts
		if e.aggregate.SetRules(telemetry.Compile(list, e.key), time.Now()) {
			e.lost = "what may leave changed"
		}
	}
	e.news.Notify()
}

// settle makes the owner's last word the one that what waits is compared with at the next start. It comes after what
// was taken back is removed, and before anything is collected under the new word: a crash between removes more.
func (e *Exporter) settle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.unsettled || e.purge {
		return nil
	}
	if err := e.dir.saveJSON(agreedFile, e.allowedLocked()); err != nil {
		return err
	}
	e.unsettled = false
	e.applyLocked()
	return nil
}

// Run collects, holds and sends until ctx ends.
func (e *Exporter) Run(ctx context.Context) {
	var scraping sync.WaitGroup
	defer scraping.Wait()
	if len(e.options.Scrape) > 0 {
		scraping.Go(func() { e.scrape(ctx) })
	}
	minute := time.NewTimer(untilNext(time.Now(), e.options.Minute))
	defer minute.Stop()
	for ctx.Err() == nil {
		timer := time.NewTimer(e.upkeep(ctx, e.readClocks()))
		select {
		case <-ctx.Done():
		case <-e.news:
		case <-timer.C:
		case o := <-e.inFlight:
			e.inFlight = nil
			e.finish(o, time.Now())
		case <-minute.C:
			e.keepMinute(time.Now(), false)
			minute.Reset(untilNext(time.Now(), e.options.Minute))
		}
		timer.Stop()
	}
	if e.inFlight != nil {
		<-e.inFlight
	}
	e.keepMinute(time.Now(), true)
}

func untilNext(now time.Time, minute time.Duration) time.Duration {
	return now.Truncate(minute).Add(minute).Sub(now)
}

// keepMinute makes a file of what came in, of all of it the last time.
func (e *Exporter) keepMinute(now time.Time, last bool) {
	defer e.noteCollected(now, last)
	e.mu.Lock()
	e.measureLocked(now)
	collect := e.aggregate.Collect
	if last {
		collect = e.aggregate.CollectLast
	}
	lines, lost := collect(now), e.lost
	e.lost = ""
	if e.invalid && e.consent != nil && !e.consent.Off && e.wish.List != nil {
		lost = "the owner's decisions could not be read"
	}
	allowed := len(e.effective) > 0
	e.mu.Unlock()
	if lost != "" {
		e.widen(now, lost)
	}
	if len(lines) == 0 || !allowed {
		return
	}
	left, err := e.dir.keep(lines, now)
	if err != nil {
		e.warn(err, "a minute of the exports can't be kept, and is missing in what leaves")
		e.widen(now, "it could not be written in the cell")
	}
	if left > 0 {
		e.mu.Lock()
		e.aggregate.DropMany(telemetry.TooMany, left)
		e.mu.Unlock()
	}
}

// noteCollected notes until when what leaves was collected, for the next agent. Once nothing may leave, there is no
// such note, and the time is no gap.
func (e *Exporter) noteCollected(now time.Time, last bool) {
	e.mu.Lock()
	leaves, invalid := len(e.effective) > 0, e.invalid
	e.mu.Unlock()
	var err error
	switch {
	case leaves:
		e.collecting, err = true, e.dir.saveJSON(collectedFile, collected{now.UTC(), last})
	case e.collecting && !invalid:
		e.collecting, err = false, remove(e.dir.path(collectedFile))
	}
	if err != nil {
		e.warn(err, "it can't be kept until when exports were collected: after a start, the gap will be wider")
	}
}

// warn logs a problem once, until another comes.
func (e *Exporter) warn(err error, what string) {
	if err.Error() != e.warned {
		e.warned = err.Error()
		e.options.Log.Warn().Err(err).Msg(what)
	}
}

func (e *Exporter) widen(at time.Time, why string) {
	e.position.widen(at, why)
	if err := e.dir.savePosition(e.position); err != nil {
		e.warn(err, "a gap in the exports can't be kept")
	}
}

// upkeep removes, seals and sends what is due, and returns how long there is nothing to do.
func (e *Exporter) upkeep(ctx context.Context, now instant) time.Duration {
	if e.isWithoutKey() {
		e.openKey()
	}
	wait := time.Minute
	if e.inFlight != nil {
		wait = lookForDrop
		e.cutDropped()
	}
	var age map[string]time.Duration
	files, err := e.dir.files()
	if err == nil {
		age = e.ages.see(files, now)
		files, err = e.removeUnwanted(files, age, now.wall)
	}
	if err != nil {
		e.warn(err, "what waits to be exported can't be kept in order; the agent tries again")
		return minPause
	}
	e.mu.Lock()
	stopped, hold := e.invalid || e.consent == nil || e.consent.Off, e.consent.HeldFor()
	e.mu.Unlock()
	if stopped || len(files) == 0 {
		return wait
	}
	for i, file := range files {
		if left := hold - age[file.Name]; !file.Held || left > 0 {
			if file.Held {
				wait = min(wait, left)
			}
			continue
		}
		if err := e.dir.seal(file); err != nil {
			e.warn(err, "a file of the exports can't be made ready; the agent tries again")
			return minPause
		}
		files[i].Held = false
	}
	if first := files[0]; !first.Held && e.inFlight == nil {
		if now.wall.Before(e.retryAt) {
			return min(wait, e.retryAt.Sub(now.wall))
		}
		e.startSending(ctx, first)
		wait = min(wait, lookForDrop)
	}
	return wait
}

// cutDropped cuts off the sending of a file that the owner removed meanwhile.
func (e *Exporter) cutDropped() {
	if o := e.position.Offered; o == nil || !exists(e.dir.path(o.File+goneEnding)) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut()
}

func (e *Exporter) isWithoutKey() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.key == nil
}

// removeUnwanted removes what the owner forbade, what the owner removed, and what there is no room for. It returns what
// is left.
func (e *Exporter) removeUnwanted(files []File, age map[string]time.Duration, now time.Time) ([]File, error) {
	e.mu.Lock()
	purge := e.purge
	e.mu.Unlock()
	keep, end := 0, len(files) // files before keep go, and those from end on
	why := "the owner removed it"
	var size int64
	for i, f := range files {
		size += f.Size
		if f.gone && i == keep {
			keep++
		}
	}
	switch n := len(files); {
	case purge:
		keep, why = n, "the owner's word changed"
	case n > 0 && files[n-1].At.Sub(now) > maxAhead: // it would wait until the clock is there once more
		why = "the cell's clock was set back"
		end = max(keep, slices.IndexFunc(files, func(f File) bool { return f.At.Sub(now) > maxAhead }))
	case size > MaxWaiting || n > 0 && age[files[0].Name] > MaxAge:
		keep, why = max(keep, (n+1)/2), "it waited for too long, or took too much room"
	}
	unwanted := slices.Concat(files[:keep], files[end:])
	for _, f := range unwanted {
		e.position.widen(f.At, why)
	}
	if len(unwanted) > 0 {
		if err := e.dir.savePosition(e.position); err != nil && !purge { // a full disk must not keep what is to go
			return nil, err
		}
	}
	for _, f := range unwanted {
		if err := e.dir.forget(f); err != nil {
			return nil, err
		}
	}
	if purge {
		e.mu.Lock()
		e.purge = false
		e.mu.Unlock()
	}
	return files[keep:end], e.settle()
}

// loadAgreed returns the list that the owner agreed to, as of the last word.
func (f folder) loadAgreed() export.List {
	l, err := loadJSON[export.List](f, agreedFile, 2*export.MaxFile)
	if err != nil { // not known: anything may have been agreed to
		return export.List{Events: []export.Event{{Kind: "?"}}}
	}
	return l
}

func (e *Exporter) pause(least time.Duration) time.Duration {
	p := backoff.FullJitter(backoff.Exponential(minPause, maxPause, e.failures))
	e.failures++
	return max(p, least)
}
