package engine

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/view"
)

// Fault 45: why names miscounts.
func TestWhyNamesMiscounts(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		for _, n := range []int64{1, 5} {
			_, err := r.a.Receive(context.Background(),
				&cells.Report{Cell: "s1", Boot: "b", State: cells.StatePending, Confirmed: n / 2,
					Events: []cells.Event{{Number: n, Kind: "healthy"}}})
			if err != nil {
				r.t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		for _, e := range []*replica{r.a, r.b} {
			why, _ := view.Why(e.View(), "s1", time.Time{})
			if !slices.ContainsFunc(why.Lines, func(l string) bool {
				return strings.Contains(l,
					"events 3 to 4 never came")
			}) {
				r.t.Errorf("why says %q", why.Lines)
			}
		}
	})
}
