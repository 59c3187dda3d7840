package deadline_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan/deadline"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

const day = 24 * time.Hour

var begin = time.Date(2026, 3, 20, 9, 0, 0, 0, time.UTC) // summer time begins in Europe on 29 March

func numbers(all ...int) (updates []infrastructure.Update) {
	for _, n := range all {
		updates = append(updates, infrastructure.Update{Number: n})
	}
	return updates
}

func notice(number int, at time.Time) cells.InfrastructureNotice {
	return cells.InfrastructureNotice{Number: number, Noticed: at, By: "mail ops@acme.example", Delivered: at,
		Due: at.Add(14 * day)}
}

func record(all ...cells.InfrastructureNotice) *cells.InfrastructureRecord {
	return &cells.InfrastructureRecord{Updates: all}
}

// R62: every transition of the ladder, by what happens.
func TestR62Transitions(t *testing.T) {
	extended := notice(8, begin)
	extended.Extension = &cells.Extension{Until: begin.Add(20 * day), Reason: "freeze", Approver: "ada"}
	undelivered := cells.InfrastructureNotice{Number: 8, Noticed: begin, By: "mail ops@acme.example"}
	secure := []infrastructure.Update{{Number: 7}, {Number: 8, Security: true}}
	for _, c := range []struct {
		what    string
		updates []infrastructure.Update
		record  *cells.InfrastructureRecord
		actual  deadline.Actual
		policy  bool
		after   time.Duration
		want    string // state, number, due in days, next in days, out of support, hotfixes
	}{
		{"no update at all", nil, nil, deadline.Actual{}, false, 0, "current 0"},
		{"newest executed", numbers(7, 8), nil, deadline.Actual{Number: 8}, false, 0, "current 0"},
		{"beyond the newest", numbers(7, 8), nil, deadline.Actual{Number: 9}, false, 0, "current 0"},
		{"new number", numbers(7, 8), nil, deadline.Actual{Number: 7}, false, 0, "unnotified 8"},
		{"never reported", numbers(7, 8), nil, deadline.Actual{}, false, 0, "unnotified 8"},
		{"not delivered", numbers(7, 8), record(undelivered), deadline.Actual{Number: 7}, false, 99 * day,
			"unnotified 8 undelivered"},
		{"delivered", numbers(7, 8), record(notice(8, begin)), deadline.Actual{Number: 7}, false, 0,
			"notified 8 due 14 next 11"},
		{"a second before due soon", numbers(8), record(notice(8, begin)), deadline.Actual{}, false,
			11*day - time.Second, "notified 8 due 14 next 11"},
		{"due soon", numbers(8), record(notice(8, begin)), deadline.Actual{}, false, 11 * day,
			"due-soon 8 due 14 next 14"},
		{"13 d 23:59:59", numbers(8), record(notice(8, begin)), deadline.Actual{}, false, 14*day - time.Second,
			"due-soon 8 due 14 next 14"},
		{"14 d", numbers(8), record(notice(8, begin)), deadline.Actual{}, false, 14 * day,
			"overdue 8 due 14 out of support"},
		{"executed after the deadline", numbers(8), record(notice(8, begin)), deadline.Actual{Number: 8}, false,
			15 * day, "current 0"},
		{"skipped over", numbers(7, 8, 9), record(notice(7, begin), notice(8, begin)), deadline.Actual{Number: 9},
			false, 15 * day, "current 0"},
		{"lower than before", numbers(7, 8), record(notice(8, begin)), deadline.Actual{Number: 7}, false, 15 * day,
			"overdue 8 due 14 out of support"},
		{"the oldest of two", numbers(7, 8), record(notice(7, begin), notice(8, begin.Add(5*day))),
			deadline.Actual{Number: 6}, false, 15 * day, "overdue 7 due 14 out of support"},
		{"the oldest is executed", numbers(7, 8), record(notice(7, begin), notice(8, begin.Add(5*day))),
			deadline.Actual{Number: 7}, false, 15 * day, "notified 8 due 19 next 16"},
		{"the first one due, not the lower number", numbers(7, 8),
			record(notice(7, begin.Add(5*day)), notice(8, begin)), deadline.Actual{}, false, 15 * day,
			"overdue 8 due 14 out of support"},
		{"one open without a notice beside one with", numbers(7, 8), record(notice(7, begin)), deadline.Actual{},
			false, day, "notified 7 due 14 next 11"},
		{"withdrawn by the vendor", numbers(7), record(notice(8, begin)), deadline.Actual{Number: 7}, false, 15 * day,
			"current 0"},
		{"extended", numbers(8), record(extended), deadline.Actual{}, false, 15 * day, "notified 8 due 20 next 17"},
		{"extension soon over", numbers(8), record(extended), deadline.Actual{}, false, 18 * day,
			"due-soon 8 due 20 next 20"},
		{"extension expired", numbers(8), record(extended), deadline.Actual{}, false, 20 * day,
			"overdue 8 due 20 out of support"},
		{"an extension is of one number", numbers(8, 9), record(extended, notice(9, begin)), deadline.Actual{}, false,
			15 * day, "overdue 9 due 14 out of support"},
		{"applying", numbers(8), record(notice(8, begin)), deadline.Actual{Phase: deadline.PhaseApply}, false, day,
			"applying 8 due 14 next 11"},
		{"applying does not stop the clock", numbers(8), record(notice(8, begin)),
			deadline.Actual{Phase: deadline.PhaseApply}, false, 15 * day, "applying 8 due 14 out of support"},
		{"rolled back", numbers(8), record(notice(8, begin)), deadline.Actual{Phase: deadline.PhaseFailed}, false,
			15 * day, "failed 8 due 14 out of support"},
		{"executed again", numbers(8), record(notice(8, begin)),
			deadline.Actual{Number: 8, Phase: deadline.PhaseApply}, false, 15 * day, "applying 0"},
		{"drifted after it was executed", numbers(8), record(notice(8, begin)),
			deadline.Actual{Number: 8, Phase: deadline.PhaseFailed}, false, 15 * day, "failed 0"},
		{"failed before a notice", numbers(8), nil, deadline.Actual{Number: 7, Phase: deadline.PhaseFailed}, false, 0,
			"failed 8"},
		{"hotfixes by policy", numbers(8), record(notice(8, begin)), deadline.Actual{}, true, 15 * day,
			"overdue 8 due 14 out of support hotfixes"},
		{"hotfixes before the deadline are no exception", numbers(8), record(notice(8, begin)), deadline.Actual{},
			true, day, "notified 8 due 14 next 11"},
		{"hotfixes by the update", secure, record(notice(8, begin)), deadline.Actual{Number: 7}, false, 15 * day,
			"overdue 8 due 14 out of support hotfixes"},
		{"another update's word", secure, record(notice(7, begin)), deadline.Actual{}, false, 15 * day,
			"overdue 7 due 14 out of support"},
		{"exempt", numbers(8), &cells.InfrastructureRecord{Exempt: "their own cluster",
			Updates: []cells.InfrastructureNotice{notice(8, begin)}}, deadline.Actual{Phase: deadline.PhaseFailed},
			false, 15 * day, "exempt 0"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := deadline.Judge(c.updates, c.record, c.actual, c.policy, begin.Add(c.after))
			if got := describe(s); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func describe(s deadline.Standing) string {
	text := fmt.Sprintf("%s %d", s.State, s.Number)
	if !s.Due.IsZero() {
		text += fmt.Sprintf(" due %g", s.Due.Sub(begin).Hours()/24)
	}
	if !s.Next.IsZero() {
		text += fmt.Sprintf(" next %g", s.Next.Sub(begin).Hours()/24)
	}
	for _, flag := range []struct {
		is   bool
		name string
	}{{s.Undelivered, " undelivered"}, {s.OutOfSupport, " out of support"}, {s.Hotfixes, " hotfixes"}} {
		if flag.is {
			text += flag.name
		}
	}
	return text
}

// R62: the deadline is an instant: summer time, which begins within the window, moves neither it nor the last second
// before. Reminders are at one time of day where the contact is.
func TestR62SummerTime(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		n := notice(8, begin.In(zone))
		for _, now := range []time.Time{begin.In(zone), begin} {
			almost := deadline.Judge(numbers(8), record(n), deadline.Actual{}, false, now.Add(14*day-time.Second))
			over := deadline.Judge(numbers(8), record(n), deadline.Actual{}, false, now.Add(14*day))
			if almost.OutOfSupport || !over.OutOfSupport {
				t.Errorf("%s: out of support %t a second before, %t at 14 days", name, almost.OutOfSupport,
					over.OutOfSupport)
			}
		}
		all := deadline.Reminders(n.Delivered, n.Due, zone)
		if len(all) != 3 {
			t.Fatalf("%s: %d reminders", name, len(all))
		}
		for _, at := range all {
			if at.Format("15:04") != n.Due.In(zone).Format("15:04") {
				t.Errorf("%s: a reminder at %s for a deadline at %s", name, at, n.Due.In(zone))
			}
		}
	}
}

// A deadline of three days has no reminder before its notice.
func TestRemindersComeAfterTheNotice(t *testing.T) {
	if got := deadline.Reminders(begin, begin.Add(3*day), time.UTC); len(got) != 1 || !got[0].Equal(begin.Add(2*day)) {
		t.Errorf("reminders at %v", got)
	}
}

// R62: 200 cells on virtual time. Judged only when Next says that time changes something, and when something happens,
// they are in the same state as if they were judged every hour; nobody is out of support before 14 days, and everybody
// is after them until the report of the executed update.
func TestR62LadderOf200Cells(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	updates := numbers(7, 8)
	visited := map[deadline.State]int{}
	for range 200 {
		noticed := begin.Add(time.Duration(random.IntN(5*24*60)) * time.Minute)
		r := record(notice(7, noticed), notice(8, noticed.Add(time.Duration(random.IntN(10*24))*time.Hour)))
		if random.IntN(4) == 0 {
			until := r.Updates[0].Due.Add(4 * day)
			r.Updates[0].Extension = &cells.Extension{Until: until, Reason: "x", Approver: "ada"}
		}
		executes := begin.Add(time.Duration(random.IntN(40*24*60)) * time.Minute)
		number := func(at time.Time) int {
			if at.Before(executes) {
				return 6
			}
			return 8
		}
		lastDue := r.Updates[0].DueAt()
		if d := r.Updates[1].DueAt(); d.Before(lastDue) {
			lastDue = d
		}
		held := deadline.Judge(updates, r, deadline.Actual{Number: 6}, false, noticed)
		wake := held.Next
		for at := noticed; at.Before(begin.Add(45 * day)); at = at.Add(time.Minute * 20) {
			if !wake.IsZero() && !at.Before(wake) || number(at) != held.Has {
				held = deadline.Judge(updates, r, deadline.Actual{Number: number(at)}, false, at)
				wake = held.Next
			}
			fresh := deadline.Judge(updates, r, deadline.Actual{Number: number(at)}, false, at)
			if fresh != held {
				t.Fatalf("at %s: %+v, and judged by Next %+v", at, fresh, held)
			}
			if out := !at.Before(lastDue) && number(at) == 6; fresh.OutOfSupport != out {
				t.Fatalf("at %s, due %s: out of support %t", at, lastDue, fresh.OutOfSupport)
			}
			visited[fresh.State]++
		}
	}
	for _, is := range []deadline.State{deadline.Notified, deadline.DueSoon, deadline.Overdue, deadline.Current} {
		if visited[is] == 0 {
			t.Errorf("no cell was ever %s", is)
		}
	}
}
