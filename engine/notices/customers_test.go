package notices_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

const day = 24 * time.Hour

// customers is a world of one cell whose customer is told of infrastructure updates.
type customers struct {
	subscriptions notices.Subscriptions
	desired       plan.Desired
	observed      plan.Observed
	now           time.Time
	sent          []notices.Letter
	ids           map[string]bool
}

func customersOf(contacts ...cells.Contact) *customers {
	cell := &plan.Cell{Cell: cells.Cell{Name: "acme", Channel: "dedicated", Contacts: contacts},
		Found: &cells.LoadedCell{Infrastructure: &cells.InfrastructureRecord{}}}
	c := &customers{ids: map[string]bool{}, now: time.Date(2026, 3, 20, 9, 0, 0, 0, time.UTC)}
	c.subscriptions = notices.Subscriptions{Customers: []string{"mail"}, Sinks: map[string]*notices.Sink{
		"mail": {Type: notices.MailSink}, "tickets": {Type: notices.WebhookSink}}}
	c.desired = plan.Desired{Cells: map[string]*plan.Cell{"acme": cell}, Infrastructure: []infrastructure.Update{
		{Number: 7, Notes: "seven", Order: []string{"role"}},
		{Number: 8, Notes: "new nodes", Impact: "none", Order: []string{"role", "instance"}, Link: "https://example.com/8"}}}
	c.desired.Pipeline.Infrastructure.Deadline = 14 * day
	c.observed.Cells = map[string]*plan.CellState{"acme": {Infrastructure: 6}}
	return c
}

func (c *customers) cell() *plan.Cell { return c.desired.Cells["acme"] }

// look returns the letters that were not told before, as an outbox that tells each once.
func (c *customers) look() (fresh []notices.Letter, next time.Time) {
	v := &view.View{Desired: &c.desired, Observed: &c.observed, Plan: plan.Plan{Now: c.now}}
	all, next := c.subscriptions.Letters(v, c.now)
	for _, l := range all {
		if !c.ids[l.Notice.ID] {
			fresh = append(fresh, l)
		}
		c.ids[l.Notice.ID] = true
	}
	c.sent = append(c.sent, fresh...)
	return fresh, next
}

// deliver records a notice as delivered now.
func (c *customers) deliver(number int) {
	r := c.cell().Found.Infrastructure
	r.Updates = append(r.Updates, cells.InfrastructureNotice{Number: number, Noticed: c.now, By: "mail",
		Delivered: c.now, Due: c.now.Add(14 * day)})
}

func targets(all []notices.Letter) (names []string) {
	for _, l := range all {
		names = append(names, fmt.Sprintf("%s %d %t", strings.TrimPrefix(l.Target, "notices/"), l.Number, l.First))
	}
	return names
}

func (c *customers) want(what string, want ...string) {
	got, _ := c.look()
	if !slices.Equal(targets(got), want) {
		panic(fmt.Sprintf("%s: told %v, want %v", what, targets(got), want))
	}
}

// R62: the ladder of one deadline: at once, and 7, 3 and 1 days before, at the contact's time of day though clocks
// change in between; each once, however often it is looked at.
func TestR62LettersToCustomers(t *testing.T) {
	berlin := cells.Contact{Name: "A. Smith", Email: "ops@acme.example", Zone: "Europe/Berlin"}
	c := customersOf(berlin, cells.Contact{Name: "B", Email: "b@acme.example"})
	first, _ := c.look()
	toBoth := []string{"mail/ops@acme.example 8 true", "mail/b@acme.example 8 true"}
	if got := targets(first); !slices.Equal(got, toBoth) {
		t.Fatal(got)
	}
	text := first[0].Notice.Line() + "\n" + strings.Join(first[0].Notice.Text(), "\n")
	for _, want := range []string{"acme: execute infrastructure update 8 within 14 days", "for A. Smith", "new nodes",
		"execute, in this order: role.yaml, instance.yaml", "https://example.com/8",
		"14 days after this message was delivered"} {
		if !strings.Contains(text, want) {
			t.Errorf("the notice lacks %q:\n%s", want, text)
		}
	}
	c.want("again, while nothing is delivered")
	c.deliver(8)
	began := c.now
	var at []string
	for end := c.now.Add(15 * day); c.now.Before(end); {
		fresh, next := c.look()
		for _, l := range fresh {
			at = append(at, fmt.Sprintf("%s %s", l.Target[len("notices/mail/"):], c.now.Sub(began)))
		}
		if next.IsZero() {
			next = end
		}
		if !next.After(c.now) {
			t.Fatal("next is not ahead")
		}
		c.now = next
	}
	// Berlin's clocks go forward on 29 March: there, 7 days before is the same time of day as the deadline.
	want := []string{"b@acme.example 168h0m0s", "ops@acme.example 169h0m0s", "ops@acme.example 264h0m0s",
		"b@acme.example 264h0m0s", "ops@acme.example 312h0m0s", "b@acme.example 312h0m0s"}
	if !slices.Equal(at, want) {
		t.Errorf("reminders after %v, want %v", at, want)
	}
	last := c.sent[len(c.sent)-2]
	if want := "acme: infrastructure update 8 is due on Friday, 3 April 2026, 11:00 CEST"; last.Notice.Line() != want {
		t.Errorf("%s, want %s", last.Notice.Line(), want)
	}
}

func TestR62WhoIsTold(t *testing.T) {
	a, b := cells.Contact{Name: "A", Email: "a@x.example"}, cells.Contact{Name: "B", Email: "b@x.example"}
	for name, run := range map[string]func(c *customers){
		"a contact that changed": func(c *customers) {
			c.want("at once", "mail/a@x.example 8 true")
			c.cell().Contacts = []cells.Contact{b}
			c.want("the new one", "mail/b@x.example 8 true")
			c.deliver(8)
			c.now = c.now.Add(8 * day)
			c.want("the reminder", "mail/b@x.example 8 false")
			c.cell().Contacts = []cells.Contact{a}
			c.want("the reminder to the next one", "mail/a@x.example 8 false")
		},
		"nobody": func(c *customers) {
			c.cell().Contacts = nil
			c.want("nobody")
			c.subscriptions.Customers = append(c.subscriptions.Customers, "tickets")
			c.want("the ticket system", "tickets 8 true")
		},
		"not delivered": func(c *customers) {
			c.want("at once", "mail/a@x.example 8 true")
			c.cell().Found.Infrastructure.Updates = []cells.InfrastructureNotice{
				{Number: 8, Noticed: c.now, By: "mail"},
			}
			c.now = c.now.Add(10 * day)
			c.want("no reminder of a deadline that does not run")
		},
		"exempt": func(c *customers) {
			c.cell().Found.Infrastructure.Exempt = "theirs"
			c.want("nothing")
		},
		"executed": func(c *customers) {
			c.deliver(8)
			c.now = c.now.Add(8 * day)
			c.observed.Cells["acme"].Infrastructure = 8
			c.want("nothing")
		},
		"a cell that never reported": func(c *customers) {
			delete(c.observed.Cells, "acme")
			c.want("at once", "mail/a@x.example 8 true")
		},
		"a later one in the window": func(c *customers) {
			c.deliver(7)
			c.want("of the newest", "mail/a@x.example 8 true")
			c.now = c.now.Add(7 * day)
			c.deliver(8)
			c.want("of the one that is due first", "mail/a@x.example 7 false")
		},
		"an extension": func(c *customers) {
			c.deliver(8)
			c.now = c.now.Add(13 * day)
			c.want("a day before: the newest alone", "mail/a@x.example 8 false")
			n := &c.cell().Found.Infrastructure.Updates[0]
			n.Extension = &cells.Extension{Until: n.Due.Add(10 * day)}
			c.want("not again")
			c.now = c.now.Add(5 * day)
			c.want("of the later deadline", "mail/a@x.example 8 false")
		},
		"overdue": func(c *customers) {
			c.deliver(8)
			c.now = c.now.Add(14 * day)
			c.want("too late")
		},
		"a faulty update": func(c *customers) {
			c.desired.Infrastructure[1] = infrastructure.Update{Number: 8, Faulty: true}
			c.want("nothing that nobody can read")
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if r := recover(); r != nil {
					t.Fatal(r)
				}
			}()
			run(customersOf(a))
		})
	}
}

// What is recorded of several letters: a delivery to anybody counts, the earliest; a failure only if nothing waits.
func TestR62Outcomes(t *testing.T) {
	at := time.Date(2026, 3, 20, 9, 0, 0, 0, time.UTC)
	ok := notices.Receipt{Target: "t", Delivered: at}
	later := notices.Receipt{Target: "t", Delivered: at.Add(time.Hour)}
	waits := notices.Receipt{Target: "t", Posted: at, Next: at, Why: "busy"}
	long := notices.Receipt{Target: "t", Posted: at.Add(-time.Hour), Next: at, Why: "busy"}
	lost := notices.Receipt{Target: "t", Why: "the mail server answered 550"}
	for name, c := range map[string]struct {
		receipts []notices.Receipt
		want     string
	}{
		"delivered":         {[]notices.Receipt{ok}, "2026-03-20T09:00:00Z how 0"},
		"the earliest":      {[]notices.Receipt{later, ok}, "2026-03-20T09:00:00Z how 0; how 1"},
		"one of two":        {[]notices.Receipt{lost, ok, waits}, "2026-03-20T09:00:00Z how 1"},
		"waiting":           {[]notices.Receipt{waits, lost}, ""},
		"not posted yet":    {[]notices.Receipt{{}, lost}, ""},
		"waiting for long":  {[]notices.Receipt{long}, "0001-01-01T00:00:00Z how 0: busy"},
		"lost":              {[]notices.Receipt{lost}, "0001-01-01T00:00:00Z how 0: the mail server answered 550"},
		"delivered and not": {[]notices.Receipt{ok, lost}, "2026-03-20T09:00:00Z how 0"},
	} {
		var letters []notices.Letter
		for i := range c.receipts {
			letters = append(letters, notices.Letter{Cell: "acme", Number: i/10 + 8, First: true, How: fmt.Sprint("how ", i),
				Delivery: notices.Delivery{Target: fmt.Sprint(i)}})
		}
		letters = append(letters, notices.Letter{Cell: "acme", Number: 7, How: "reminder"})
		got := ""
		for _, o := range notices.Outcomes(letters, func(l notices.Letter) notices.Receipt {
			var i int
			_, _ = fmt.Sscan(l.Target, &i)
			return c.receipts[i]
		}, at) {
			got += o.Delivered.Format(time.RFC3339) + " " + o.By
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
