package channels

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/export"
)

// Metric compares numbers with bounds: the one value of a Prometheus instant query, or what cells exported last.
type Metric struct {
	Prometheus string `yaml:"prometheus" json:"prometheus,omitempty" doc:"base URL; this, or exported"`
	Query      string `yaml:"query" json:"query,omitempty" doc:"with prometheus; {release}, {digest} and {channel} are replaced"`

	// The number is that of Recent, as engine/exports keeps it.
	Exported string            `yaml:"exported" json:"exported,omitempty" doc:"instead of prometheus: the name of a metric that cells of the upstream channels export"`
	Where    map[string]string `yaml:"where" json:"where,omitempty" doc:"with exported: only series with these labels"`
	Over     Aggregation       `yaml:"over" json:"over,omitempty" enum:"each,sum,mean" doc:"with exported: what is compared with the bounds: each series of each cell (the default), their sum, or their mean"`
	Within   time.Duration     `yaml:"within" json:"within,omitempty" positive:"true" doc:"with exported: how old a value may be; default 30m"`
	Cells    int               `yaml:"cells" json:"cells,omitempty" minimum:"0" doc:"with exported: at least so many cells; default: all that run the release"`

	Below    *float64      `yaml:"below" json:"below,omitempty"`
	Above    *float64      `yaml:"above" json:"above,omitempty"`
	ValidFor time.Duration `yaml:"validFor" json:"validFor,omitempty" positive:"true" doc:"default 5m"`
	Timeout  time.Duration `yaml:"timeout" json:"timeout,omitempty" positive:"true" doc:"default 10s"`
}

// Aggregation says what of several values a metric gate compares.
type Aggregation string

const (
	OverEach Aggregation = "each"
	OverSum  Aggregation = "sum"
	OverMean Aggregation = "mean"
)

const (
	defaultWithin = 30 * time.Minute
	maxWhere      = export.MaxUses
)

func (m *Metric) applyDefaults() {
	setDefault(&m.ValidFor, 5*time.Minute)
	setDefault(&m.Timeout, 10*time.Second)
	if m.Exported != "" {
		setDefault(&m.Over, OverEach)
		setDefault(&m.Within, defaultWithin)
	}
}

// Compare returns the value in words, or why it is outside the bounds.
func (m *Metric) Compare(value float64) (string, error) {
	text := strconv.FormatFloat(value, 'g', 6, 64)
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return "", errors.New("the value is " + text)
	case m.Below != nil && value >= *m.Below:
		return "", fmt.Errorf("%s is not below %g", text, *m.Below)
	case m.Above != nil && value <= *m.Above:
		return "", fmt.Errorf("%s is not above %g", text, *m.Above)
	}
	return text, nil
}

func checkMetric(fault func(code manifest.FaultCode, field, format string, args ...any), m *Metric, hasUpstream bool) {
	switch {
	case m.Exported != "" && (m.Prometheus != "" || m.Query != ""):
		fault(manifest.Conflict, ".exported", "a metric is asked of prometheus, or was exported: write one of the two")
	case m.Exported != "":
		checkExported(fault, m, hasUpstream)
	case m.Prometheus == "":
		fault(manifest.Missing, "", "prometheus and query are missing, or exported")
	default:
		if err := checkURL(m.Prometheus, "#?"); err != nil {
			fault(manifest.WrongValue, ".prometheus", "%v", err)
		}
		if m.Query == "" {
			fault(manifest.Missing, "", "query is missing")
		}
		if m.Where != nil || m.Over != "" || m.Within != 0 || m.Cells != 0 {
			fault(manifest.Conflict, "", "where, over, within and cells are for exported: a query says that itself")
		}
	}
	if m.Below == nil && m.Above == nil {
		fault(manifest.Missing, "", "a metric needs a bound: below, above, or both")
	}
	for field, bound := range map[string]*float64{".below": m.Below, ".above": m.Above} {
		if bound != nil && (math.IsNaN(*bound) || math.IsInf(*bound, 0)) {
			fault(manifest.WrongValue, field, "a bound must be a finite number")
		}
	}
	if m.Below != nil && m.Above != nil && *m.Above >= *m.Below {
		fault(manifest.Conflict, ".above", "nothing is above %v and below %v", *m.Above, *m.Below)
	}
	checkTimeout(fault, m.Timeout)
}

func checkExported(fault func(code manifest.FaultCode, field, format string, args ...any), m *Metric,
	hasUpstream bool) {
	if !hasUpstream {
		fault(manifest.Missing, ".exported", "cells of upstream channels export it: name a channel in after")
	}
	if !export.ValidName(m.Exported) {
		fault(manifest.WrongValue, ".exported", "%.80q can't be a metric's name: use letters, digits and _.:/-",
			m.Exported)
	}
	if len(m.Where) > maxWhere {
		fault(manifest.TooLarge, ".where", "has more than %d labels", maxWhere)
	}
	if m.Within != 0 && (m.Within < export.MinEvery || m.Within > 2*export.MaxEvery) {
		fault(manifest.WrongValue, ".within", "within is from %s to %s: no value is kept longer", export.MinEvery,
			2*export.MaxEvery)
	}
}
