package exports

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/words"
)

// namedCells is how many cells a verdict names.
const namedCells = 5

// JudgeMetric judges a metric of a gate by what cells exported last: see Judge.
func (k *Keeper) JudgeMetric(ctx context.Context, m *channels.Metric, of []plan.ProbedCell, now time.Time) (string,
	error) {
	values := map[string][]LastValue{}
	for _, cell := range of {
		v, _, err := load[Last](ctx, k, valuesKind, cell.Name)
		if err != nil {
			return "", err
		}
		values[cell.Name] = slices.DeleteFunc(v.Values, func(v LastValue) bool { return !matches(m, v) })
	}
	return Judge(m, of, values, now)
}

func matches(m *channels.Metric, v LastValue) bool {
	if v.Metric != m.Exported {
		return false
	}
	for name, value := range m.Where {
		if v.Labels[name] != value {
			return false
		}
	}
	return true
}

// Judge compares what cells exported last with a gate's bounds, and returns it in words; an error says why the gate
// does not hold, and which cells are why. It is pure. A value counts if the cell measured it while it ran the release,
// and not longer ago than the gate allows.
func Judge(m *channels.Metric, of []plan.ProbedCell, values map[string][]LastValue, now time.Time) (string, error) {
	var missing, outside []string
	var sum float64
	count := 0
	for _, cell := range of {
		fresh, why := freshValues(m, cell, values[cell.Name], now)
		if len(fresh) == 0 {
			missing = append(missing, cell.Name+" "+why)
			continue
		}
		for _, value := range fresh {
			sum += value
			count++
			if m.Over != channels.OverEach {
				continue
			}
			if _, err := m.Compare(value); err != nil {
				outside = append(outside, fmt.Sprintf("%s: %s", cell.Name, err))
				break
			}
		}
	}
	have, need := len(of)-len(missing), m.Cells
	if need == 0 {
		need = len(of)
	}
	base := fmt.Sprintf("%d of %s", have, words.Count(len(of), "cell"))
	switch {
	case have < need:
		text := fmt.Sprintf("%s exported %s of late on it, needs %d", base, m.Exported, need)
		if len(missing) > 0 {
			text += ": " + words.Some(missing, namedCells)
		}
		return "", errors.New(text)
	case len(outside) > 0:
		return "", errors.New(words.Some(outside, namedCells))
	case m.Over == channels.OverEach:
		return m.Exported + " within the bounds in " + base, nil
	case m.Over == channels.OverMean:
		sum /= float64(count)
	}
	text, err := m.Compare(sum)
	if err != nil {
		return "", fmt.Errorf("the %s over %s: %w", m.Over, base, err)
	}
	return fmt.Sprintf("%s %s over %s", m.Over, text, base), nil
}

// freshValues returns the values of a cell that count, or why there are none.
func freshValues(m *channels.Metric, cell plan.ProbedCell, values []LastValue, now time.Time) (fresh []float64,
	why string) {
	var newest, newestBegan time.Time
	for _, v := range values {
		at := v.At.Add(-cell.Skew)
		if at.After(newest) {
			newest = at
		}
		if v.Recent == nil || v.From.IsZero() {
			continue
		}
		began := v.From.Add(-cell.Skew)
		if began.After(newestBegan) {
			newestBegan = began
		}
		// None of it is of the release before, or of a time when the cell's clock was ahead.
		if age := now.Sub(at); !began.Before(cell.Since) && age <= m.Within && age >= -maxAhead {
			fresh = append(fresh, *v.Recent)
		}
	}
	switch {
	case len(fresh) > 0:
		return fresh, ""
	case newest.IsZero():
		return nil, "(none)"
	case newestBegan.Before(cell.Since):
		return nil, "(none since it is healthy on it)"
	}
	return nil, "(of " + words.FormatTime(newest) + ")"
}
