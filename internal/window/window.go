// Package window defines windows of time: each time that a cron line names, in a zone, a window opens for a while.
// Vendors write windows for channels and cells, owners for their cell; the meaning is the same.
//
// The package is pure: now is passed in, and the database of zones is built in. A Window that Ready found valid is
// immutable, and safe for concurrent use.
package window

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// The schedule runs on wall time as if every day had 24 hours. A wall time is then converted to the first instant at
// which the zone's clock shows that time or later. So an opening inside a spring gap happens at the first valid
// instant, and an opening inside an autumn overlap at its first occurrence, each once (faults 18, 19). For is elapsed
// time.

// maxCron is the longest cron line, in bytes.
const maxCron = 256

// daySeconds is the length of a day of wall time.
const daySeconds = 24 * 60 * 60

// maxDaysBetween is the greatest distance of two days that a cron line names: 29 February around a year like 2100.
const maxDaysBetween = 8*366 + 1

// maxLookahead is how far Judge looks for the closing time; a window that closes later has none.
const maxLookahead = 10 * 366 * 24 * time.Hour

// wallTime is the time on a wall clock, in seconds since 1970 as if the zone were UTC.
type wallTime int64

type opening struct {
	shown wallTime
	at    time.Time
}

type Window struct {
	Opens string        `yaml:"opens" json:"opens" required:"true" doc:"cron, five fields: minute hour day-of-month month day-of-week"`
	For   time.Duration `yaml:"for" json:"for" required:"true"`
	Zone  string        `yaml:"zone" json:"zone,omitempty" doc:"IANA zone; default UTC"`

	compiled *compiled // set by Ready
}

// compiled is a valid Window, prepared for Judge. Immutable.
type compiled struct {
	days  *cron.SpecSchedule // for its day, month and weekday sets
	times []wallTime         // the openings of a day, in seconds of the day, sorted, at least one
	// by index in times: the last opening of the day that is reached without a gap longer than span
	runEnds []int
	span    time.Duration // how long the window is open
	// no gap in wall time is longer than span: the window closes, if ever, when clocks go back
	gapless bool
	zone    *time.Location
}

// FieldFault is a mistake in one field of a window.
type FieldFault struct {
	Field  string // opens, for or zone
	Reason string
}

// Compile returns all that is wrong with w (fault 20), or compiles w so that Judge is fast. No other goroutine may use
// w meanwhile.
func (w *Window) Compile() []FieldFault {
	c, wrong := w.compile()
	if len(wrong) > 0 {
		return wrong
	}
	w.compiled = c
	return nil
}

func (w *Window) compile() (c *compiled, wrong []FieldFault) {
	add := func(field, format string, args ...any) {
		wrong = append(wrong, FieldFault{field, fmt.Sprintf(format, args...)})
	}
	zone, err := LoadZone(w.Zone)
	if err != nil {
		add("zone", "%v", err)
	}
	spec, err := parseCron(w.Opens)
	if err != nil {
		add("opens", "%v", err)
	}
	if w.For <= 0 {
		add("for", "for must be more than 0, else the window never opens")
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	c = &compiled{days: spec, span: w.For, zone: zone}
	for minute := wallTime(0); minute < 24*60; minute++ {
		if spec.Hour&(1<<(minute/60)) != 0 && spec.Minute&(1<<(minute%60)) != 0 {
			c.times = append(c.times, minute*60)
		}
	}
	if _, ok := c.nextOpening(0); !ok {
		add("opens", "never opens: no day matches %q", w.Opens)
		return nil, wrong
	}
	c.runEnds = make([]int, len(c.times))
	for i := len(c.times) - 1; i >= 0; i-- {
		c.runEnds[i] = i
		if i+1 < len(c.times) && wallDuration(c.times[i+1]-c.times[i]) <= c.span {
			c.runEnds[i] = c.runEnds[i+1]
		}
	}
	c.gapless = c.isGapless()
	return c, nil
}

// parseCron reads a cron line of five fields. It refuses zones and descriptors inside the line: Zone is the place for a
// zone.
func parseCron(line string) (*cron.SpecSchedule, error) {
	if len(line) > maxCron {
		return nil, fmt.Errorf("cron line of %d bytes: at most %d are read", len(line), maxCron)
	}
	if strings.Contains(line, "=") || strings.HasPrefix(strings.TrimSpace(line), "@") {
		return nil, fmt.Errorf("cron line %q: write five fields: minute hour day-of-month month day-of-week", line)
	}
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	schedule, err := parser.Parse(line)
	if err != nil {
		return nil, fmt.Errorf("cron line %q: %w", line, err)
	}
	spec, ok := schedule.(*cron.SpecSchedule)
	if !ok || spec.Minute == 0 || spec.Hour == 0 {
		return nil, fmt.Errorf("cron line %q never fires", line)
	}
	return spec, nil
}

// cronFields are the fields of a cron line, with how many values each has.
var cronFields = [...]struct {
	name   string
	values int
}{{"minute", 60}, {"hour", 24}, {"day of month", 31}, {"month", 12}, {"day of week", 7}}

// Warnings returns what in the cron line probably does not mean what its author expects.
func (w *Window) Warnings() (warnings []FieldFault) {
	add := func(format string, args ...any) {
		warnings = append(warnings, FieldFault{"opens", fmt.Sprintf(format, args...)})
	}
	fields := strings.Fields(w.Opens)
	if len(fields) != len(cronFields) {
		return nil // Compile refuses the line
	}
	for i, f := range fields {
		for item := range strings.SplitSeq(f, ",") {
			if item == "" {
				add("%s %q has an empty item, which names nothing", cronFields[i].name, f)
				continue
			}
			_, step, _ := strings.Cut(item, "/")
			if n, err := strconv.Atoi(step); err == nil && n >= cronFields[i].values {
				add("%s %q names only its first value: a step of %d is beyond the field", cronFields[i].name, f, n)
			}
		}
	}
	const dom, dow = 2, 4
	for _, pair := range [][2]int{{dom, dow}, {dow, dom}} {
		step, other := fields[pair[0]], fields[pair[1]]
		if strings.HasPrefix(step, "*/") && other != "*" && other != "?" {
			add("%s %q beside %s %q: a day that matches either of them counts; some crons ask for both",
				cronFields[pair[0]].name, step, cronFields[pair[1]].name, other)
			break
		}
	}
	return warnings
}

// Judge reports whether the window is open at now. Open: until is the closing time, where openings that meet count as
// one, or zero if the window never closes. Shut: until is the next opening, and why names it, or a fault of the window.
// Time alone changes nothing before until.
func (w *Window) Judge(now time.Time) (open bool, why string, until time.Time) {
	c := w.compiled
	if c == nil {
		var wrong []FieldFault
		if c, wrong = w.compile(); c == nil {
			return false, wrong[0].Reason, time.Time{}
		}
	}
	since, opens := c.opensAt(now)
	switch {
	case since != nil:
		return true, "", c.closingTime(*since)
	case opens.IsZero():
		return false, "never opens", opens
	}
	return false, "opens " + opens.Format("Mon 15:04") + " " + c.zone.String(), opens
}

// next returns the first instant from now on at which the window is open; zero: never.
func (w *Window) next(now time.Time) time.Time {
	c := w.compiled
	if c == nil {
		if c, _ = w.compile(); c == nil {
			return time.Time{}
		}
	}
	_, opens := c.opensAt(now)
	return opens
}

// opensAt returns the first instant from now on at which the window is open; zero: never. If that is now, since is the
// opening that lasts.
func (c *compiled) opensAt(now time.Time) (since *opening, opens time.Time) {
	reach := c.latestWallTime(now)
	if o, ok := c.latestOpening(reach); ok && now.Before(o.at.Add(c.span)) {
		return &o, now
	}
	if shown, ok := c.nextOpening(reach); ok {
		return nil, c.instantOf(shown)
	}
	return nil, time.Time{}
}

// closingTime returns the end of the open time that begins at o; zero: never, or after maxLookahead.
func (c *compiled) closingTime(o opening) time.Time {
	for limit := o.at.Add(maxLookahead); o.at.Before(limit); {
		_, shift := OffsetBounds(o.at)
		last := o
		if c.gapless {
			if shift.IsZero() {
				return time.Time{}
			}
			last, _ = c.latestOpening(c.latestWallTime(shift.Add(-time.Second)))
		} else if run := c.lastOfRun(o.shown); shift.IsZero() || o.at.Add(wallDuration(run-o.shown)).Before(shift) {
			last = opening{run, o.at.Add(wallDuration(run - o.shown))}
		}
		end := last.at.Add(c.span)
		o, _ = c.latestOpening(c.latestWallTime(end))
		if o.at.Equal(last.at) {
			return end
		}
	}
	return time.Time{}
}

// lastOfRun returns the last opening of the same day that is reached from w without a gap longer than the span.
func (c *compiled) lastOfRun(w wallTime) wallTime {
	midnight := w - floorMod(w, daySeconds)
	i, _ := slices.BinarySearch(c.times, w-midnight)
	return midnight + c.times[c.runEnds[i]]
}

// latestOpening returns the last opening whose wall time is reach or earlier.
func (c *compiled) latestOpening(reach wallTime) (opening, bool) {
	midnight := reach - floorMod(reach, daySeconds)
	i := sort.Search(len(c.times), func(i int) bool { return c.times[i] > reach-midnight })
	for range maxDaysBetween {
		if i > 0 && c.opensOn(midnight) {
			shown := midnight + c.times[i-1]
			return opening{shown, c.instantOf(shown)}, true
		}
		midnight -= daySeconds
		i = len(c.times)
	}
	return opening{}, false
}

// nextOpening returns the first wall time after reach that the schedule names.
func (c *compiled) nextOpening(reach wallTime) (wallTime, bool) {
	midnight := reach - floorMod(reach, daySeconds)
	i := sort.Search(len(c.times), func(i int) bool { return c.times[i] > reach-midnight })
	for range maxDaysBetween {
		if i < len(c.times) && c.opensOn(midnight) {
			return midnight + c.times[i], true
		}
		midnight += daySeconds
		i = 0
	}
	return 0, false
}

// opensOn reports whether the schedule names the day that begins at midnight. As in every cron, day of the month and
// day of the week are alternatives if both are restricted.
func (c *compiled) opensOn(midnight wallTime) bool {
	const star = 1 << 63 // cron's mark of an unrestricted field
	date := time.Unix(int64(midnight), 0).UTC()
	_, month, dom := date.Date()
	if c.days.Month&(1<<uint(month)) == 0 {
		return false
	}
	inMonth := c.days.Dom&(1<<uint(dom)) != 0
	inWeek := c.days.Dow&(1<<uint(date.Weekday())) != 0
	if c.days.Dom&star != 0 || c.days.Dow&star != 0 {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

// isGapless reports whether no two successive openings are farther apart in wall time than the span.
func (c *compiled) isGapless() bool {
	first, last := c.times[0], c.times[len(c.times)-1]
	night := wallDuration(daySeconds - last + first)
	if c.lastOfRun(first) != last || night > c.span {
		return false
	}
	// 28 years show every pair of a weekday and a place in the leap cycle, 2096 to 2105 the longest wait for a 29
	// February.
	for _, years := range [][2]int{{2000, 2029}, {2096, 2106}} {
		midnight := wallTime(time.Date(years[0], 1, 1, 0, 0, 0, 0, time.UTC).Unix())
		end := wallTime(time.Date(years[1], 1, 1, 0, 0, 0, 0, time.UTC).Unix())
		for before := wallTime(0); midnight < end; midnight += daySeconds {
			if !c.opensOn(midnight) {
				continue
			}
			if before != 0 && wallDuration(midnight-before-daySeconds)+night > c.span {
				return false
			}
			before = midnight
		}
	}
	return true
}

// instantOf returns the first instant at which the zone's clock shows w or later.
func (c *compiled) instantOf(w wallTime) time.Time {
	const west = 16 * 60 * 60 // no zone was ever farther from UTC
	for t := time.Unix(int64(w)-west, 0).In(c.zone); ; {
		_, offset := t.Zone()
		_, end := OffsetBounds(t)
		shown := time.Unix(int64(w)-int64(offset), 0).In(c.zone)
		if shown.Before(t) { // w was skipped when this offset began
			shown = t
		}
		if end.IsZero() || shown.Before(end) {
			return shown
		}
		t = end
	}
}

// latestWallTime returns the latest wall time that the zone's clock had shown by now: after clocks went back, later
// than what the clock shows.
func (c *compiled) latestWallTime(now time.Time) wallTime {
	const overlap = 32 * time.Hour // no clock ever went back farther
	t := now.In(c.zone)
	_, offset := t.Zone()
	reach := t.Unix() + int64(offset)
	for {
		start, _ := OffsetBounds(t)
		if start.IsZero() || now.Sub(start) > overlap {
			return wallTime(reach)
		}
		t = start.Add(-time.Second)
		_, offset = t.Zone()
		reach = max(reach, t.Unix()+int64(offset))
	}
}

// OffsetBounds returns a period around t, end excluded, in which the zone's offset does not change; zero: no bound. It
// corrects ZoneBounds, which returns an end in the past on 31 December of a leap year that the zone's data say no more
// about (Go 1.26).
func OffsetBounds(t time.Time) (start, end time.Time) {
	start, end = t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		end = time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).In(t.Location())
	}
	return start, end
}

func wallDuration(w wallTime) time.Duration { return time.Duration(w) * time.Second }

// floorMod returns a modulo b, never negative.
func floorMod(a, b wallTime) wallTime { return (a%b + b) % b }
