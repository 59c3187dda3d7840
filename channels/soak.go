package channels

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/internal/words"
)

// Sample is one cell of an upstream channel, as a soak gate sees it. Soaked and LastReport are computed from receipt
// times, never from the cell's clock or a commit's (R9).
type Sample struct {
	Cell string
	// counts in Percent: eligible when the upstream's head moved, and not removed, moved or paused since
	Counts     bool
	OnDigest   bool          // runs exactly the judged digest
	Healthy    bool          // reports itself healthy
	Silent     bool          // no report within the stale limit
	Failed     bool          // the digest failed there
	Soaked     time.Duration // unbroken healthy time on the digest, up to LastReport
	LastReport time.Time
}

func (s Sample) isSoaking() bool { return s.OnDigest && s.Healthy && !s.Silent && !s.Failed }

// maxNamedFailures is the number of failed cells that a reason names.
const maxNamedFailures = 3

// Judge reports whether a release soaked in upstream (R9): at least Cells cells, later ones included, and Percent
// percent of the counting cells, rounded up, were healthy for For. Blocked: Until is when the gate would hold if every
// soaking cell stays healthy; zero: too few cells soak. An Until in the past means that the next report decides.
func (s *Soak) Judge(upstream string, samples []Sample) Verdict {
	least, percent := max(s.Cells, 1), 100.0
	if s.Percent != nil {
		percent = *s.Percent
	}
	if len(samples) < least {
		return Blocked("", reason.SoakImpossible, countCells(least), upstream, len(samples))
	}
	var counted, done, doneCounted int
	// the least time among the cells that soaked enough
	var soaked, soakedCounted time.Duration = math.MaxInt64, math.MaxInt64
	for _, sample := range samples {
		if sample.Counts {
			counted++
		}
		if !sample.isSoaking() || sample.Soaked < s.For {
			continue
		}
		done++
		soaked = min(soaked, sample.Soaked)
		if sample.Counts {
			doneCounted++
			soakedCounted = min(soakedCounted, sample.Soaked)
		}
	}
	share := int(math.Ceil(percent*float64(counted)/100 - 1e-9)) // minus the rounding error of binary fractions
	if done >= least && doneCounted >= share {
		if doneCounted < least { // only later cells complete the number
			doneCounted, counted, soakedCounted = done, len(samples), soaked
		}
		return Held("", reason.SoakHeld, doneCounted, countCells(counted), words.FormatElapsed(soakedCounted))
	}
	healthy, of, needs := done, len(samples), least
	if doneCounted < share && share >= least || done >= least {
		healthy, of, needs = doneCounted, counted, share
	}
	v := Blocked("", reason.SoakShort, upstream, healthy, countCells(of), words.ExactDuration(s.For), needs,
		describeFailures(samples))
	return v.WithUntil(s.earliestPass(samples, least, share))
}

// earliestPass returns the first instant at which least cells and share of the counting cells can have soaked; zero:
// not with these samples.
func (s *Soak) earliestPass(samples []Sample, least, share int) time.Time {
	var all, counted []time.Time
	for _, sample := range samples {
		if !sample.isSoaking() {
			continue
		}
		at := sample.LastReport.Add(s.For - sample.Soaked)
		all = append(all, at)
		if sample.Counts {
			counted = append(counted, at)
		}
	}
	if len(all) < least || len(counted) < share {
		return time.Time{}
	}
	slices.SortFunc(all, time.Time.Compare)
	slices.SortFunc(counted, time.Time.Compare)
	until := all[least-1]
	if share > 0 && counted[share-1].After(until) {
		until = counted[share-1]
	}
	return until
}

// describeFailures names the cells where the release failed; "" if there are none.
func describeFailures(samples []Sample) string {
	var names []string
	for _, sample := range samples {
		if sample.Failed {
			names = append(names, sample.Cell)
		}
	}
	slices.Sort(names)
	switch n := len(names); {
	case n == 0:
		return ""
	case n > maxNamedFailures:
		return fmt.Sprintf("; failed in %s and %d more", strings.Join(names[:maxNamedFailures], ", "),
			n-maxNamedFailures)
	default:
		return "; failed in " + strings.Join(names, ", ")
	}
}

func countCells(n int) string {
	if n == 1 {
		return "1 cell"
	}
	return fmt.Sprintf("%d cells", n)
}
