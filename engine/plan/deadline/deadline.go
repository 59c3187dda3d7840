// Package deadline says where a cell stands with its infrastructure updates: which update is open, by when it is due,
// and whether the cell is out of support. The plan, why, status and simulate all ask Judge.
//
// It is pure: it reads no clock, and an instant in a record is compared with the one that is passed. A deadline is an
// instant in UTC that was fixed when the notice was delivered; only reminders go by a contact's zone. Judge may be
// called at once.
package deadline

import (
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// State is where a cell stands with its infrastructure updates.
type State string

const (
	Current    State = "current"    // no update is open
	Unnotified State = "unnotified" // an update is open, and no notice of it was delivered: no deadline runs
	Notified   State = "notified"   // a deadline runs
	DueSoon    State = "due-soon"   // a deadline is SoonBefore away or less
	Overdue    State = "overdue"    // a deadline has passed
	Applying   State = "applying"   // the customer executes an update; a deadline goes on
	Failed     State = "failed"     // the last execution failed, or what it made drifted; a deadline goes on
	Exempt     State = "exempt"     // no update is asked of the cell
)

// SoonBefore is how long before a deadline a cell is due soon.
const SoonBefore = 3 * 24 * time.Hour

// Phase is what a cell's infrastructure is doing, as the cell reports it.
type Phase string

const (
	Settled     Phase = ""         // nothing
	PhaseApply  Phase = "applying" // an update is being executed
	PhaseFailed Phase = "failed"   // an update failed or was rolled back, or what it made drifted
)

// Actual is the infrastructure that a cell reports.
type Actual struct {
	Number int // of the newest update that is executed; 0: none
	Phase  Phase
}

// Standing is where a cell stands.
type Standing struct {
	State  State `json:"state" enum:"current,unnotified,notified,due-soon,overdue,applying,failed,exempt"`
	Has    int   `json:"has" doc:"number of the newest update that the cell has executed; 0: none"`
	Newest int   `json:"newest,omitempty" doc:"number of the newest update that the repository has; none: there is none"`
	// The open update whose deadline counts: of several, the one that is due first. If no deadline runs, the newest
	// open update.
	Number       int              `json:"number,omitempty" doc:"the open update whose deadline counts; none: no update is open"`
	Noticed      time.Time        `json:"noticed,omitzero" doc:"when the notice of it was delivered"`
	By           string           `json:"by,omitempty" doc:"how it was delivered, and to whom"`
	Due          time.Time        `json:"due,omitzero" doc:"when it is due, with an extension; none: no deadline runs"`
	Extension    *cells.Extension `json:"extension,omitempty"`
	Undelivered  bool             `json:"undelivered,omitempty" doc:"a notice of the newest open update was sent, and not delivered"`
	OutOfSupport bool             `json:"outOfSupport,omitempty" doc:"the deadline has passed: the cell gets no new release"`
	Hotfixes     bool             `json:"hotfixes,omitempty" doc:"it gets hotfixes although it is out of support"`
	Exempt       string           `json:"exempt,omitempty" doc:"why no update is asked of it"`
	Next         time.Time        `json:"-"` // the earliest instant at which time alone changes this; zero: never
}

// Judge says where a cell stands at an instant. updates are those of the repository, sorted by number; record may be
// nil. hotfixes is the policy: whether cells that are out of support still get hotfixes.
func Judge(updates []infrastructure.Update, record *cells.InfrastructureRecord, actual Actual, hotfixes bool,
	now time.Time) Standing {
	s := Standing{State: Current, Has: actual.Number}
	if n := len(updates); n > 0 {
		s.Newest = updates[n-1].Number
	}
	if record == nil {
		record = &cells.InfrastructureRecord{}
	}
	if record.Exempt != "" {
		s.State, s.Exempt = Exempt, record.Exempt
		return s
	}
	if s.Newest > actual.Number {
		s.judgeOpen(updates, record, hotfixes, now)
	}
	switch actual.Phase {
	case PhaseApply:
		s.State = Applying
	case PhaseFailed:
		s.State = Failed
	case Settled:
	}
	return s
}

// judgeOpen sets what follows from the updates that the cell lacks, of which there are some.
func (s *Standing) judgeOpen(updates []infrastructure.Update, record *cells.InfrastructureRecord, hotfixes bool,
	now time.Time) {
	var counts *cells.InfrastructureNotice
	for i := range updates {
		u := &updates[i]
		if u.Number <= s.Has { // a later number implies all before it
			continue
		}
		n := record.Notice(u.Number)
		if n == nil || n.DueAt().IsZero() {
			continue
		}
		if counts == nil || n.DueAt().Before(counts.DueAt()) {
			counts, s.Hotfixes = n, hotfixes || u.Security
		}
	}
	newest := record.Notice(s.Newest)
	s.Undelivered = newest != nil && newest.Delivered.IsZero()
	if counts == nil {
		s.State, s.Number = Unnotified, s.Newest
	} else {
		s.runDeadline(counts, now)
	}
}

// runDeadline sets what follows from the deadline that counts.
func (s *Standing) runDeadline(n *cells.InfrastructureNotice, now time.Time) {
	s.Number, s.Noticed, s.By, s.Due, s.Extension = n.Number, n.Delivered, n.By, n.DueAt(), n.Extension
	switch soon := s.Due.Add(-SoonBefore); {
	case !now.Before(s.Due):
		s.State, s.OutOfSupport = Overdue, true
	case !now.Before(soon):
		s.State, s.Next = DueSoon, s.Due
	default:
		s.State, s.Next = Notified, soon
	}
	s.Hotfixes = s.Hotfixes && s.OutOfSupport
}

// Reminders returns when a contact in a zone is reminded of a deadline: 7, 3 and 1 days before, at the same time of
// day there, as far as that is after the notice.
func Reminders(noticed, due time.Time, zone *time.Location) (all []time.Time) {
	for _, days := range []int{7, 3, 1} {
		if at := due.In(zone).AddDate(0, 0, -days); at.After(noticed) {
			all = append(all, at)
		}
	}
	return all
}
