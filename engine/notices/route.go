package notices

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/window"
)

// TargetPrefix begins the names of targets of notices in the outbox.
const TargetPrefix = "notices/"

// Target returns the name under which the outbox keeps messages to a sink, and to one of its recipients.
func Target(sink, recipient string) string {
	if recipient == "" {
		return TargetPrefix + sink
	}
	return TargetPrefix + sink + "/" + recipient
}

// ParseTarget returns the sink and the recipient of a target; ok is false if it is none of notices.
func ParseTarget(target string) (sink, recipient string, ok bool) {
	rest, ok := strings.CutPrefix(target, TargetPrefix)
	sink, recipient, _ = strings.Cut(rest, "/")
	return sink, recipient, ok
}

// Targets returns the names of all targets of a sink: one, or one for each recipient.
func (s *Sink) Targets(name string) []string {
	if s.Type != MailSink {
		return []string{Target(name, "")}
	}
	all := make([]string, len(s.To))
	for i, to := range s.To {
		all[i] = Target(name, to)
	}
	return all
}

// Delivery is a notice on its way to one target.
type Delivery struct {
	Target string
	Notice Notice
	Next   time.Time // when it may be sent: quiet hours end then
}

// Route returns where a notice goes at now. A sink gets it once, at the earliest instant that one of the sink's
// subscriptions gives, and with the cells that any of them is for. labels returns a cell's labels.
func (s *Subscriptions) Route(t WholeNotice, labels func(cell string) map[string]string,
	now time.Time) (all []Delivery) {
	if s == nil {
		return nil
	}
	type routed struct {
		at    time.Time
		cells []string
		every bool
	}
	bySink := map[string]*routed{}
	var order []string
	for i := range s.Subscribe {
		sub := &s.Subscribe[i]
		if !sub.fits(t.Notice) {
			continue
		}
		names := t.All
		if len(sub.Labels) > 0 {
			names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
				return !hasLabels(labels(name), sub.Labels)
			})
			if len(names) == 0 {
				continue
			}
		}
		at := sub.Quiet.endsAt(t.Severity, now)
		r := bySink[sub.Sink]
		if r == nil {
			r = &routed{at: at}
			bySink[sub.Sink] = r
			order = append(order, sub.Sink)
		}
		if at.Before(r.at) {
			r.at = at
		}
		r.every = r.every || len(sub.Labels) == 0
		r.cells = append(r.cells, names...)
	}
	for _, name := range order {
		sink, r := s.Sinks[name], bySink[name]
		if sink == nil {
			continue
		}
		n := t.Notice
		if !r.every {
			slices.Sort(r.cells)
			n = n.withCells(slices.Compact(r.cells))
		}
		for _, target := range sink.Targets(name) {
			all = append(all, Delivery{target, n, r.at})
		}
	}
	return all
}

func (s *Subscription) fits(n Notice) bool {
	return (len(s.Kinds) == 0 || slices.Contains(s.Kinds, n.Kind)) && n.Severity.AtLeast(s.Severity) &&
		(len(s.Channels) == 0 || n.Channel == "" || slices.Contains(s.Channels, n.Channel))
}

func hasLabels(has, want map[string]string) bool {
	for label, value := range want {
		if actual, ok := has[label]; !ok || actual != value {
			return false
		}
	}
	return true
}

// endsAt returns when a message of a severity may be sent: now, or at the end of the quiet hours.
func (q *Quiet) endsAt(severity Severity, now time.Time) time.Time {
	if q == nil {
		return now
	}
	except := q.Except
	if except == "" {
		except = Critical
	}
	if severity.AtLeast(except) || len(q.Windows) == 0 {
		return now
	}
	at := now
	for range window.MaxList {
		open, _, until := window.JudgeAny(q.Windows, at)
		if !open {
			return at
		}
		if until.IsZero() || until.Sub(now) >= maxQuiet {
			return now.Add(maxQuiet) // nothing waits for ever
		}
		at = until
	}
	return at
}
