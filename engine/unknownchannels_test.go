package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/releases"
)

// R49, R51: what a cell reports raises no channel's sequence: neither of channels that don't exist, of which it can
// name any number, nor of those that do.
func TestReportsRaiseNoSequence(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		claim := func(channel string) {
			a := &cells.Assignment{Channel: channel, Sequence: 1 << 40, Release: "9.9.9",
				Digest: releases.Digest("sha256:" + strings.Repeat("a", 64))}
			if _, err := r.a.Receive(r.t.Context(),
				&cells.Report{Cell: "s1", Boot: "b", State: cells.StateHealthy, Running: a, Applying: a}); err != nil {
				r.t.Fatal(err)
			}
		}
		for n := range 50 {
			claim(fmt.Sprintf("made-up-%d", n))
		}
		claim("staging")
		for name, e := range map[string]*replica{"a": r.a, "b": r.b} {
			o := e.observations
			o.mu.Lock()
			for channel, n := range o.obs.Served {
				if n < 1<<40 {
					continue
				}
				r.t.Errorf("%s keeps a sequence of %s", name, channel)
			}
			o.mu.Unlock()
		}
	})
}
