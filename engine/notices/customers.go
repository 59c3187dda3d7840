package notices

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// Letter is a message to a cell's customer about an infrastructure update, or about a maintenance.
type Letter struct {
	Delivery
	Cell   string
	Number int    // of the update; 0: it is about a maintenance
	How    string // for the record: how it is sent, and to whom
	// First says that the deadline begins with the letter's delivery. No other letter starts anything.
	First bool
}

// Letters returns what the customers of cells are to be told at now, in each contact's zone: of maintenances ahead of
// time, and of infrastructure updates. The same letters come again and again; each has an ID of its own, by which an
// outbox sends it once. next is when there may be others though nothing changes; zero: never.
func (s *Subscriptions) Letters(v *view.View, now time.Time) (all []Letter, next time.Time) {
	if s == nil || len(s.Customers) == 0 {
		return nil, next
	}
	all, next = s.infrastructureLetters(v, now)
	return append(all, s.maintenanceLetters(v, now)...), next
}

// infrastructureLetters returns what is told of infrastructure updates: of an open update at once, until a notice of it
// was delivered, and then 7, 3 and 1 days before the deadline that counts.
func (s *Subscriptions) infrastructureLetters(v *view.View, now time.Time) (all []Letter, next time.Time) {
	if len(v.Desired.Infrastructure) == 0 {
		return nil, next
	}
	for _, name := range slices.Sorted(maps.Keys(v.Desired.Cells)) {
		cell := v.Desired.Cells[name]
		is := v.Desired.Standing(cell, v.Observed.Cells[name], now)
		if is.State == deadline.Exempt || is.Newest <= is.Has {
			continue
		}
		w := writer{subscriptions: s, view: v, cell: cell, now: now}
		newest := &v.Desired.Infrastructure[len(v.Desired.Infrastructure)-1]
		if !newest.Faulty && !w.isNotified(newest.Number) {
			all = append(all, w.first(newest)...)
		}
		if is.Due.IsZero() || is.OutOfSupport {
			continue
		}
		reminders, at := w.reminders(is)
		all = append(all, reminders...)
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return all, next
}

// writer writes the letters about one cell.
type writer struct {
	subscriptions *Subscriptions
	view          *view.View
	cell          *plan.Cell
	now           time.Time
}

func (w *writer) isNotified(number int) bool {
	if w.cell.Found == nil || w.cell.Found.Infrastructure == nil {
		return false
	}
	n := w.cell.Found.Infrastructure.Notice(number)
	return n != nil && !n.Delivered.IsZero()
}

// recipient is one place that letters go to.
type recipient struct {
	target, how string
	contact     cells.Contact // zero: of a sink that is told once, whoever the contacts are
}

// greet says whom a letter is for.
func (r recipient) greet() []string {
	if r.contact.Name == "" {
		return nil
	}
	return []string{"for " + words.OneLine(r.contact.Name)}
}

// localTime returns an instant as the recipient's clock shows it.
func (r recipient) localTime(t time.Time) string {
	return t.In(r.contact.Location()).Format("Monday, 2 January 2006, 15:04 MST")
}

func (w *writer) recipients() (all []recipient) {
	for _, name := range w.subscriptions.Customers {
		sink := w.subscriptions.Sinks[name]
		switch {
		case sink == nil:
		case sink.Type != MailSink:
			all = append(all, recipient{Target(name, ""), "message to " + name, cells.Contact{}})
		default:
			for _, c := range w.cell.Contacts {
				all = append(all, recipient{Target(name, c.Email), "mail to " + c.Email, c})
			}
		}
	}
	return all
}

func (w *writer) first(u *infrastructure.Update) (all []Letter) {
	days := daysOf(w.view.Desired.Pipeline.Infrastructure.Deadline)
	for _, to := range w.recipients() {
		title := fmt.Sprintf("%s: execute infrastructure update %d within %s", w.cell.Name, u.Number, days)
		lines := append(w.describe(u, to), fmt.Sprintf("deadline: %s after this message was delivered", days),
			afterDeadline)
		n := Notice{Severity: Warning, Title: title, Lines: lines}
		all = append(all, w.letter(u.Number, "notice", to, n, true))
	}
	return all
}

// daysOf says a policy's duration in days, if it is of whole days.
func daysOf(d time.Duration) string {
	if day := 24 * time.Hour; d%day == 0 {
		return words.Count(int(d/day), "day")
	}
	return d.String()
}

const afterDeadline = "after it the cell gets no new release and is out of support, until the update is executed; what " +
	"runs goes on running"

// reminders returns, for each recipient, the newest reminder whose time has come, and when the next one does.
func (w *writer) reminders(is deadline.Standing) (all []Letter, next time.Time) {
	at := slices.IndexFunc(w.view.Desired.Infrastructure,
		func(u infrastructure.Update) bool { return u.Number == is.Number })
	if at < 0 {
		return nil, next
	}
	u := &w.view.Desired.Infrastructure[at]
	for _, to := range w.recipients() {
		var due time.Time
		for _, t := range deadline.Reminders(is.Noticed, is.Due, to.contact.Location()) {
			if !t.After(w.now) {
				due = t
			} else if next.IsZero() || t.Before(next) {
				next = t
			}
		}
		if due.IsZero() {
			continue
		}
		title := fmt.Sprintf("%s: infrastructure update %d is due on %s", w.cell.Name, u.Number,
			to.localTime(is.Due))
		lines := append(w.describe(u, to), "in UTC: "+words.FormatTime(is.Due), afterDeadline)
		step := fmt.Sprintf("%d/%d", is.Due.Unix(), due.Unix())
		n := Notice{Severity: Warning, Title: title, Lines: lines}
		all = append(all, w.letter(u.Number, step, to, n, false))
	}
	return all, next
}

// describe says what the update is, and what to do.
func (w *writer) describe(u *infrastructure.Update, to recipient) (lines []string) {
	lines = to.greet()
	if u.Faulty {
		return lines
	}
	lines = append(lines, words.OneLine(u.Notes), "impact: "+string(u.Impact))
	for _, q := range u.Quotas {
		lines = append(lines, fmt.Sprintf("quota: at least %g of %s (%s, %s)", q.Least, words.OneLine(q.Name),
			q.Service, q.Code))
	}
	var files []string
	for _, file := range u.Templates() {
		files = append(files, path.Base(file))
	}
	lines = append(lines, "execute, in this order: "+strings.Join(files, ", "))
	if u.Link != "" {
		lines = append(lines, "you find them at "+u.Link)
	}
	return lines
}

func (w *writer) letter(number int, step string, to recipient, n Notice, first bool) Letter {
	n.Kind, n.Thread = Infrastructure, fmt.Sprintf("infrastructure/%s/%d", w.cell.Name, number)
	return Letter{Delivery: w.deliver(n, step, to), Cell: w.cell.Name, Number: number, How: to.how, First: first}
}

// deliver addresses a notice, which has its kind and thread. Equal steps of one thread are sent once to a recipient.
func (w *writer) deliver(n Notice, step string, to recipient) Delivery {
	sum := sha256.Sum256([]byte(n.Thread + "\x00" + step + "\x00" + to.target))
	n.ID, n.Number = string(n.Kind)+"-"+hex.EncodeToString(sum[:12]), 1
	n.At, n.Channel = w.now.UTC().Truncate(time.Millisecond), w.cell.Channel
	return Delivery{Target: to.target, Notice: n, Next: w.now}
}

// Outcome is what came of the first letters about one update to one cell.
type Outcome struct {
	Cell      string
	Number    int
	By        string    // how they were sent and to whom, and why they did not arrive
	Delivered time.Time // when the first of them was; zero: none arrived, and none is tried again
}

// Receipt says what came of a notice at one target.
type Receipt struct {
	Target    string    `json:"target"`
	Delivered time.Time `json:"delivered,omitzero" doc:"when the target accepted it: HTTP 2xx, or SMTP 250"`
	Next      time.Time `json:"next,omitzero" doc:"when it is tried again"`
	Posted    time.Time `json:"posted,omitzero"`
	Why       string    `json:"why,omitempty" doc:"why it has not arrived"`
}

// Outcomes returns what is to be recorded of first letters: of an update that was delivered to somebody, or to nobody.
// While a letter waits and none was delivered there is nothing to record. receipt returns a zero Receipt of a letter
// that was not posted yet.
func Outcomes(letters []Letter, receipt func(Letter) Receipt, now time.Time) (all []Outcome) {
	at := map[string]int{}
	open := map[string]bool{}
	for _, l := range letters {
		if !l.First {
			continue
		}
		key := fmt.Sprintf("%s/%d", l.Cell, l.Number)
		i, known := at[key]
		if !known {
			i, at[key] = len(all), len(all)
			all = append(all, Outcome{Cell: l.Cell, Number: l.Number})
		}
		o, r := &all[i], receipt(l)
		switch {
		case !r.Delivered.IsZero():
			if o.Delivered.IsZero() {
				o.By = ""
			}
			if o.Delivered.IsZero() || r.Delivered.Before(o.Delivered) {
				o.Delivered = r.Delivered
			}
			o.By = joinHow(o.By, l.How)
		case r.Target == "" || !r.Next.IsZero() && now.Sub(r.Posted) < patience:
			open[key] = true
		case o.Delivered.IsZero():
			o.By = joinHow(o.By, l.How+": "+words.OneLine(r.Why))
		}
	}
	return slices.DeleteFunc(all, func(o Outcome) bool {
		return o.Delivered.IsZero() && open[fmt.Sprintf("%s/%d", o.Cell, o.Number)]
	})
}

// patience is how long a letter may wait before operators hear of it. It is tried again nevertheless.
const patience = time.Hour

func joinHow(before, more string) string {
	if before == "" {
		return more
	}
	return words.Clip(before+"; "+more, 1000)
}

// infrastructureConditions are what operators are told of cells' infrastructure updates.
func infrastructureConditions(v *view.View) (found []condition) {
	if len(v.Desired.Infrastructure) == 0 {
		return nil
	}
	var undelivered, overdue []string
	for _, name := range slices.Sorted(maps.Keys(v.Desired.Cells)) {
		is := v.Desired.Standing(v.Desired.Cells[name], v.Observed.Cells[name], v.Plan.Now)
		if is.OutOfSupport {
			overdue = append(overdue, name)
		}
		if is.Undelivered {
			undelivered = append(undelivered, name)
		}
	}
	if len(undelivered) > 0 {
		found = append(found, condition{thread: "infrastructure/undelivered", cells: undelivered,
			notice: Notice{Kind: Infrastructure, Severity: Warning,
				Title: fmt.Sprintf("the notice of an infrastructure update did not reach %s: no deadline runs there",
					words.Count(len(undelivered), "cell")),
				Lines: []string{"next step: reach the customer in another way, then sluice infra notify " +
					undelivered[0] + " --delivered HOW"}},
			over: "every notice of an infrastructure update was delivered"})
	}
	if len(overdue) > 0 {
		found = append(found, condition{thread: "infrastructure/overdue", cells: overdue,
			notice: Notice{Kind: Infrastructure, Severity: Warning,
				Title: fmt.Sprintf("%s out of support: an infrastructure update is overdue",
					words.Count(len(overdue), "cell")),
				Lines: []string{"next step: sluice infra status"}},
			over: "no cell is out of support any more"})
	}
	return found
}
