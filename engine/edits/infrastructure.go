package edits

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// NotifyInfrastructure records that a cell's contact was notified of an infrastructure update. A delivered notice
// starts the deadline (R62).
type NotifyInfrastructure struct {
	Cell        string
	Number      int       // 0: the newest update
	By          string    // how, and to whom
	At          time.Time // when it was delivered; zero: now
	Undelivered bool      // it was sent, and did not arrive: no deadline runs
}

func (n NotifyInfrastructure) Message() (subject, body string) {
	what := "the newest infrastructure update"
	if n.Number > 0 {
		what = fmt.Sprintf("infrastructure update %d", n.Number)
	}
	if n.Undelivered {
		return fmt.Sprintf("record that the notice of %s did not reach %s", what, n.Cell), n.By
	}
	return fmt.Sprintf("record that %s was notified of %s", n.Cell, what), n.By
}

// Edit adds the notice. A delivered one is never replaced: its deadline is fixed.
func (n NotifyInfrastructure) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	record, err := s.infrastructureRecord(n.Cell)
	if err != nil {
		return Edit{}, err
	}
	if n.Number, err = s.findUpdate(n.Number); err != nil {
		return Edit{}, err
	}
	if record.Exempt != "" {
		return Edit{}, Fail(fmt.Errorf("no update is asked of %s: %s", n.Cell, words.OneLine(record.Exempt)),
			"sluice infra exempt %s --lift ends that", n.Cell)
	}
	was := record.Notice(n.Number)
	if was != nil && !was.Delivered.IsZero() {
		return Edit{Summary: fmt.Sprintf("%s was notified of update %d already, which is due at %s", n.Cell, n.Number,
			words.FormatTime(was.DueAt()))}, nil
	}
	at := n.At
	if at.IsZero() {
		at = now
	}
	at = at.UTC().Truncate(time.Second)
	next := cells.InfrastructureNotice{Number: n.Number, Noticed: at, By: n.By}
	if was != nil && was.Noticed.Before(at) {
		next.Noticed = was.Noticed
	}
	edit := Edit{}
	if n.Undelivered {
		edit.Next = fmt.Sprintf("no deadline runs: reach the customer in another way, and then run "+
			"sluice infra notify %s --delivered HOW", n.Cell)
	} else {
		next.Delivered, next.Due = at, at.Add(s.Desired.Pipeline.Infrastructure.Deadline)
		edit.Next = fmt.Sprintf("update %d is due at %s; after that the cell gets no new release until it is executed",
			n.Number, words.FormatTime(next.Due))
	}
	switch {
	case at.After(now):
		return Edit{}, Fail(fmt.Errorf("%s is in the future", words.FormatTime(at)),
			"say when the notice was delivered")
	case !next.Due.IsZero() && !next.Due.After(now):
		return Edit{}, Fail(fmt.Errorf("a notice of %s would be overdue at once", words.FormatTime(at)),
			"notify the customer now: a deadline begins when a notice is delivered")
	}
	record.Updates = slices.DeleteFunc(record.Updates,
		func(o cells.InfrastructureNotice) bool { return o.Number == n.Number })
	record.Updates = append(record.Updates, next)
	edit.Files, err = infrastructureFile(n.Cell, record)
	return edit, err
}

// ExtendInfrastructure moves the deadline of an infrastructure update in one cell.
type ExtendInfrastructure struct {
	Cell   string
	Number int // 0: the update that was notified and is due first
	Until  time.Time
	Reason string
	As     string // a person of sluice.yaml; empty: the one with the committer's address
}

func (x ExtendInfrastructure) Message() (subject, body string) {
	return fmt.Sprintf("extend the deadline of %s to %s", x.Cell, words.FormatTime(x.Until)), x.Reason
}

// Edit sets the extension, with who granted it. It only ever moves a deadline to a later instant.
func (x ExtendInfrastructure) Edit(s *Releases, by Person, now time.Time) (Edit, error) {
	record, err := s.infrastructureRecord(x.Cell)
	if err != nil {
		return Edit{}, err
	}
	n := record.Notice(x.Number)
	if x.Number == 0 {
		n = firstDue(record, x.Until)
	}
	if n == nil || n.Due.IsZero() {
		return Edit{}, Fail(fmt.Errorf("%s has no such deadline before %s", x.Cell, words.FormatTime(x.Until)),
			"sluice infra show %s", x.Cell)
	}
	approver := by.Name
	if len(s.People()) > 0 {
		if approver, err = s.People().FindApprover(x.As, by); err != nil {
			return Edit{}, err
		}
	}
	x.Until = x.Until.UTC().Truncate(time.Second)
	switch {
	case !x.Until.After(now):
		return Edit{}, Fail(fmt.Errorf("%s is over", words.FormatTime(x.Until)), "name a later instant")
	case !x.Until.After(n.DueAt()):
		return Edit{}, Fail(fmt.Errorf("update %d is due at %s, which is not before %s", n.Number,
			words.FormatTime(n.DueAt()), words.FormatTime(x.Until)), "name a later instant")
	}
	n.Extension = &cells.Extension{Until: x.Until, Reason: words.OneLine(x.Reason), Approver: approver}
	files, err := infrastructureFile(x.Cell, record)
	return Edit{Files: files, Next: fmt.Sprintf("update %d is due at %s in %s", n.Number, words.FormatTime(x.Until),
		x.Cell)}, err
}

// firstDue returns the notice that is due first, of those that are due before an instant; nil: there is none.
func firstDue(record *cells.InfrastructureRecord, before time.Time) (first *cells.InfrastructureNotice) {
	for i := range record.Updates {
		n := &record.Updates[i]
		if !n.Due.IsZero() && n.DueAt().Before(before) && (first == nil || n.DueAt().Before(first.DueAt())) {
			first = n
		}
	}
	return first
}

// ExemptInfrastructure says that no infrastructure update is asked of a cell.
type ExemptInfrastructure struct {
	Cell, Reason string
	Lift         bool // ends the exemption
}

func (x ExemptInfrastructure) Message() (subject, body string) {
	if x.Lift {
		return "ask infrastructure updates of " + x.Cell + " again", x.Reason
	}
	return "ask no infrastructure updates of " + x.Cell, x.Reason
}

// Edit sets or removes the exemption. Notices stay: once it ends, their deadlines count.
func (x ExemptInfrastructure) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	record, err := s.infrastructureRecord(x.Cell)
	if err != nil {
		return Edit{}, err
	}
	reason := words.OneLine(x.Reason)
	if x.Lift {
		reason = ""
	}
	if record.Exempt == reason {
		return Edit{}, nil
	}
	record.Exempt = reason
	files, err := infrastructureFile(x.Cell, record)
	return Edit{Files: files}, err
}

// infrastructureRecord returns a copy of a cell's record, to be changed; an empty one if it has none.
func (s *Releases) infrastructureRecord(cell string) (*cells.InfrastructureRecord, error) {
	c, err := s.Cell(cell)
	if err != nil {
		return nil, err
	}
	file := path.Join(cells.Dir, cell, cells.InfrastructureFile)
	if c.Found == nil || c.Found.Infrastructure == nil {
		if exists(s.Files, file) {
			return nil, Fail(fmt.Errorf("%s can't be read", file), "correct it first: sluice validate lists its faults")
		}
		return &cells.InfrastructureRecord{APIVersion: releases.APIVersion, Kind: "InfrastructureRecord"}, nil
	}
	record := *c.Found.Infrastructure
	record.Updates = slices.Clone(record.Updates)
	return &record, nil
}

// findUpdate returns the number of an update that the repository has; 0 asks for the newest.
func (s *Releases) findUpdate(number int) (int, error) {
	all := s.Desired.Infrastructure
	var known []string
	for _, u := range all {
		if u.Number == number {
			return number, nil
		}
		known = append(known, fmt.Sprint(u.Number))
	}
	switch {
	case len(all) == 0:
		return 0, Fail(errors.New("the repository has no infrastructure updates"),
			"add infrastructure/N (docs/formats.md)")
	case number == 0:
		return all[len(all)-1].Number, nil
	}
	return 0, Fail(fmt.Errorf("there is no infrastructure update %d", number), "there are %s",
		strings.Join(known, ", "))
}

func infrastructureFile(cell string, record *cells.InfrastructureRecord) (map[string][]byte, error) {
	slices.SortFunc(record.Updates, func(a, b cells.InfrastructureNotice) int { return a.Number - b.Number })
	data, err := yaml.Marshal(record)
	return singleFile(path.Join(cells.Dir, cell, cells.InfrastructureFile), data), err
}

// NotifyAll records what came of several notices in one commit: the engine's own record. What can't be recorded any
// more, such as that of a cell which was removed meanwhile, is left out.
type NotifyAll []NotifyInfrastructure

func (n NotifyAll) Message() (subject, body string) {
	if len(n) == 1 {
		return n[0].Message()
	}
	var lines []string
	for _, one := range n {
		line, how := one.Message()
		lines = append(lines, line+": "+how)
	}
	return fmt.Sprintf("record what came of %d notices of infrastructure updates", len(n)), strings.Join(lines, "\n")
}

// Edit adds all notices. One that would be overdue at once, since its delivery was recorded so late, counts from now.
func (n NotifyAll) Edit(s *Releases, by Person, now time.Time) (Edit, error) {
	edit := Edit{Files: map[string][]byte{}}
	for _, one := range n {
		if !one.At.IsZero() && !one.At.Add(s.Desired.Pipeline.Infrastructure.Deadline).After(now) || one.At.After(now) {
			one.At = now
		}
		if e, err := one.Edit(s, by, now); err == nil {
			maps.Copy(edit.Files, e.Files)
		}
	}
	return edit, nil
}
