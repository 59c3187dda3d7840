package lookcmd

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
)

// observedCell is an element of cells.
type observedCell struct {
	Name           string            `json:"name"`
	Channel        string            `json:"channel"`
	Release        string            `json:"release"`
	Digest         releases.Digest   `json:"digest"`
	State          cells.State       `json:"state"`
	HealthySince   time.Time         `json:"healthySince"`
	LastReport     time.Time         `json:"lastReport"`
	Message        string            `json:"message"`
	Epoch          int64             `json:"epoch"`
	Sequence       int64             `json:"sequence"`
	Infrastructure int               `json:"infrastructure"`
	Granted        *cells.Assignment `json:"granted"`
	Failures       []observedFailure `json:"failures"`
}

type observedFailure struct {
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
	Reason   string          `json:"reason"`
	At       time.Time       `json:"at"`
	Values   bool            `json:"values"`
}

func (r *observedParser) addCell(at int64, c observedCell) {
	known := []cells.State{cells.StatePending, cells.StateApplying, cells.StateHealthy, cells.StateUnhealthy,
		cells.StateFailed, cells.StateStuck}
	switch {
	case c.Name == "":
		r.fault(manifest.Missing, at, "a cell has no name")
		return
	case r.observed.Cells[c.Name] != nil:
		r.fault(manifest.Duplicate, at, "cell %s is there twice", c.Name)
		return
	case !slices.Contains(known, c.State):
		r.fault(manifest.WrongValue, at, "cell %s: state %q is none of %v", c.Name, c.State, known)
	case c.State == cells.StateHealthy && (c.HealthySince.IsZero() || c.LastReport.IsZero()):
		r.fault(manifest.Missing, at, "cell %s: a healthy cell needs healthySince and lastReport", c.Name)
	case c.State == cells.StateHealthy && c.LastReport.Before(c.HealthySince):
		r.fault(manifest.Conflict, at, "cell %s: lastReport lies before healthySince", c.Name)
	case (c.Release == "") != (c.Digest == ""):
		r.fault(manifest.Missing, at, "cell %s: release and digest go together", c.Name)
	}
	s := &plan.CellState{
		Name: c.Name, Channel: c.Channel, Epoch: c.Epoch, Sequence: c.Sequence, Release: c.Release, Digest: c.Digest,
		State: c.State, Message: c.Message, LastReport: c.LastReport, Infrastructure: c.Infrastructure,
		Granted: c.Granted,
	}
	if c.State == cells.StateHealthy {
		s.HealthySince, s.Soaked = c.HealthySince, c.LastReport.Sub(c.HealthySince)
	}
	if g := s.Granted; g != nil && g.Channel == "" {
		g.Channel = c.Channel
	}
	for _, f := range c.Failures {
		failed := cells.Failure{Assignment: cells.Assignment{Channel: c.Channel, Release: f.Release, Digest: f.Digest,
			Sequence: f.Sequence}, Reason: f.Reason, At: f.At, Values: f.Values}
		s.Failures = append(s.Failures, plan.Failure{Failure: failed, Seen: f.At})
	}
	r.observed.Cells[c.Name] = s
}

// observedObservation is an element of observations. Value is any JSON: a number is as good as a string.
type observedObservation struct {
	Channel    string          `json:"channel"`
	Gate       string          `json:"gate"`
	Subject    string          `json:"subject"`
	Holds      *bool           `json:"holds"`
	Value      json.RawMessage `json:"value"`
	Reason     string          `json:"reason"`
	ObservedAt time.Time       `json:"observedAt"`
	ValidUntil time.Time       `json:"validUntil"`
}

func (r *observedParser) addObservation(at int64, a observedObservation) {
	switch {
	case a.Gate == "" || a.Subject == "":
		r.fault(manifest.Missing, at, "an observation needs gate and subject (a release's digest or version)")
		return
	case a.Holds == nil:
		r.fault(manifest.Missing, at, "observation of %s: holds is missing", a.Gate)
		return
	case a.ValidUntil.IsZero():
		r.fault(manifest.Missing, at, "observation of %s: validUntil is missing", a.Gate)
		return
	}
	value := string(a.Value)
	if text := ""; json.Unmarshal(a.Value, &text) == nil {
		value = text
	}
	r.observed.Observations = append(r.observed.Observations, plan.Observation{
		Channel: a.Channel, Gate: a.Gate, Subject: a.Subject, Holds: *a.Holds, Value: value,
		Reason: a.Reason, ObservedAt: a.ObservedAt, ValidUntil: a.ValidUntil,
	})
}
