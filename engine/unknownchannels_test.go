package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// R2: a cell that names any number of channels that don't exist fills neither memory nor the store.
func TestUnknownChannelsFillNothing(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		claim := func(channel string) {
			a := &cells.Assignment{Channel: channel, Sequence: 1 << 40, Release: "9.9.9",
				Digest: releases.Digest("sha256:" + strings.Repeat("a", 64))}
			if _, err := r.a.Receive(r.t.Context(),
				cells.Report{Cell: "s1", Boot: "b", State: cells.StateHealthy, Running: a, Applying: a}); err != nil {
				r.t.Fatal(err)
			}
		}
		for n := range 50 {
			claim(fmt.Sprintf("made-up-%d", n))
		}
		claim("staging") // this channel exists: the planner judges the number
		for name, e := range map[string]*replica{"a": r.a, "b": r.b} {
			o := e.observations
			o.mu.Lock()
			for channel := range o.obs.Served {
				if o.membership.desired.Channels[channel] == nil {
					r.t.Errorf("%s keeps a sequence of %s", name, channel)
				}
			}
			o.mu.Unlock()
		}
		if got := plan.UnknownChannels(r.a.observations.membership.desired,
			r.a.observations.obs.Cells["s1"]); len(got) != 0 {
			r.t.Errorf("strange are %v", got)
		}
	})
}
