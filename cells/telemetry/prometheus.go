package telemetry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sluice-cd/sluice/releases/export"
)

// AddPrometheus takes in what a target answers to a scrape, in Prometheus' text format. Only lines of metrics that a
// list names are parsed. before is when the target was scraped last: a counter that is new since then began at zero.
func (a *Aggregate) AddPrometheus(target uint64, text io.Reader, before, now time.Time) error {
	wanted, err := a.wantedLines(text)
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(wanted)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			s := Sample{Name: name, Source: target, Start: before}
			for _, l := range m.GetLabel() {
				s.Labels = append(s.Labels, Label{l.GetName(), l.GetValue()})
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				s.Type, s.Value = export.Counter, m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				s.Type, s.Value = export.Gauge, m.GetGauge().GetValue()
			case dto.MetricType_UNTYPED:
				s.Type, s.Value = export.Gauge, m.GetUntyped().GetValue()
			case dto.MetricType_HISTOGRAM:
				s.Type = export.Histogram
				if !s.setHistogram(m.GetHistogram()) {
					a.Drop(Malformed)
					continue
				}
			default:
				a.Drop(WrongType)
				continue
			}
			a.Add(&s, now)
		}
	}
	if err != nil {
		a.Drop(Malformed)
		return fmt.Errorf("the text is not in Prometheus' format: %w", err)
	}
	return nil
}

// setHistogram makes buckets that count on their own of buckets that each count all before. It reports whether they do.
func (s *Sample) setHistogram(h *dto.Histogram) bool {
	s.Count, s.Sum = h.GetSampleCount(), h.GetSampleSum()
	var before uint64
	for _, b := range h.GetBucket() {
		count := b.GetCumulativeCount()
		if count < before {
			return false
		}
		if bound := b.GetUpperBound(); isFinite(bound) {
			s.Bounds = append(s.Bounds, bound)
			s.Buckets = append(s.Buckets, count-before)
			before = count
		}
	}
	if s.Count < before {
		return false
	}
	s.Buckets = append(s.Buckets, s.Count-before)
	return true
}

// wantedLines returns the lines of metrics that the list names.
func (a *Aggregate) wantedLines(text io.Reader) (io.Reader, error) {
	var wanted bytes.Buffer
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, 4<<10), maxMessage)
	for lines.Scan() {
		line := lines.Text()
		name := strings.TrimSpace(line)
		rest, comment := strings.CutPrefix(name, "#")
		if comment {
			word, after, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if word != "TYPE" {
				continue
			}
			name = after
		}
		if name == "" {
			continue
		}
		if i := strings.IndexAny(name, "{ \t"); i >= 0 {
			name = name[:i]
		}
		if !a.wantsLine(name) {
			if !comment {
				a.Drop(Unlisted)
			}
			continue
		}
		wanted.WriteString(line)
		wanted.WriteByte('\n')
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		a.Drop(Malformed)
		return nil, fmt.Errorf("a line has more than %d bytes", maxMessage)
	case err != nil:
		return nil, err
	}
	return &wanted, nil
}

// wantsLine reports whether a line of that name belongs to a metric of the list: those of histograms have endings.
func (a *Aggregate) wantsLine(name string) bool {
	if a.rules.WantsMetric(name) {
		return true
	}
	for _, ending := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, ending); ok && a.rules.WantsMetric(base) {
			return true
		}
	}
	return false
}
