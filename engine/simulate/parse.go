package simulate

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

const (
	maxAdded    = 100_000 // cells that a scenario adds
	maxReleases = 1_000
	leastReport = 5 * time.Second
)

// Parse parses a scenario strictly: unknown fields, wrong types and contradictions are faults, each with its line. Run
// checks that the channels, people and releases which the scenario names exist.
func Parse(file string, data []byte) (*Scenario, []manifest.Fault) {
	doc, faults := manifest.Decode[Scenario](file, data)
	if len(faults) > 0 {
		return nil, manifest.Sort(faults)
	}
	s := &doc.Value
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, doc.Fault(code, at, format, args...))
	}
	s.validateCells(fault)
	if s.Cells.Report == 0 && doc.HasField("cells.report") {
		fault(manifest.WrongValue, "cells.report", "cells report at most every %s", leastReport)
	}
	s.validateReleases(fault)
	s.validateOwners(fault)
	s.validateNotices(fault)
	for i, o := range s.Outages {
		if o.For <= 0 {
			fault(manifest.WrongValue, fmt.Sprintf("outages[%d].for", i), "for must be more than 0")
		}
	}
	for i := range s.People {
		s.People[i].validate(fmt.Sprintf("people[%d]", i), fault)
	}
	if len(faults) > 0 {
		return nil, manifest.Sort(faults)
	}
	s.setDefaults(doc.HasField)
	return s, nil
}

func (s *Scenario) validateCells(fault func(code manifest.FaultCode, at, format string, args ...any)) {
	added := 0
	for channel, n := range s.Cells.Add {
		if n < 0 || n > maxAdded {
			fault(manifest.WrongValue, "cells.add["+channel+"]", "from 0 to %d cells can be added, not %d", maxAdded, n)
			continue
		}
		if added += n; added > maxAdded {
			fault(manifest.TooLarge, "cells.add", "more than %d cells", maxAdded)
			break
		}
	}
	if r := s.Cells.Report; r != 0 && r < leastReport {
		fault(manifest.WrongValue, "cells.report", "cells report at most every %s", leastReport)
	}
	for name, span := range map[string]Span{"cells.apply": s.Cells.Apply, "cells.hear": s.Cells.Hear} {
		if span.Max != 0 && span.Max < span.Min {
			fault(manifest.Conflict, name, "max is less than min")
		}
	}
}

func (s *Scenario) validateReleases(fault func(code manifest.FaultCode, at, format string, args ...any)) {
	if len(s.Releases) > maxReleases {
		fault(manifest.TooLarge, "releases", "more than %d releases", maxReleases)
	}
	seen := map[string]bool{}
	for i, r := range s.Releases {
		at := fmt.Sprintf("releases[%d]", i)
		if seen[r.Version.String()] {
			fault(manifest.Duplicate, at+".version", "%s is there twice", r.Version)
		}
		seen[r.Version.String()] = true
		if r.Fails+r.Stalls > 1 {
			fault(manifest.Conflict, at, "fails and stalls are more than 1 together")
		}
		if r.Requires.From != "" {
			if _, err := releases.ParseVersion(r.Requires.From); err != nil {
				fault(manifest.WrongValue, at+".requires.from", "%v", err)
			}
		}
	}
}

func (a *Act) validate(at string, fault func(code manifest.FaultCode, at, format string, args ...any)) {
	missing := func(field string) { fault(manifest.Missing, at, "%s needs %s", a.Do, field) }
	if a.Channel == "" && a.Do != "quarantine" {
		missing("channel")
	}
	if a.Release == "" && a.Do != "hold" && a.Do != "lift" {
		missing("release")
	}
	if a.By == "" && a.Do == "approve" {
		missing("by: a person of sluice.yaml")
	}
	if a.Release == "*" {
		if a.Do != "approve" {
			fault(manifest.Conflict, at+".release", "only approve takes \"*\"")
		}
		if !a.At.At.IsZero() {
			fault(manifest.Conflict, at+".at", "for every release, say how long after its cut: 2h")
		}
	}
}

func (s *Scenario) setDefaults(isGiven func(path string) bool) {
	span := func(at string, is *Span, least, most time.Duration) {
		if !isGiven(at+".min") && !isGiven(at+".max") { // 0s is a length too
			*is = Span{least, most}
		}
		is.Max = max(is.Max, is.Min)
	}
	span("cells.apply", &s.Cells.Apply, 2*time.Minute, 8*time.Minute)
	span("cells.hear", &s.Cells.Hear, 0, 30*time.Second)
	if s.Cells.Report == 0 {
		s.Cells.Report = time.Minute
	}
	for i := range s.Releases {
		span(fmt.Sprintf("releases[%d].unhealthyIn", i), &s.Releases[i].UnhealthyIn, 10*time.Minute, 2*time.Hour)
	}
	for i := range s.People {
		if a := &s.People[i]; a.Do == "hold" && a.Hold == "" {
			a.Hold = fmt.Sprintf("scenario-%d", i+1)
		}
	}
}

// pick returns the length at luck, from 0 to 1, between the bounds.
func (s Span) pick(luck float64) time.Duration {
	return s.Min + time.Duration(luck*float64(s.Max-s.Min))
}
