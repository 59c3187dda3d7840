package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
)

// R47: with a damaged file of its state the agent starts, puts the file aside, and is told again what it should run.
func TestR47DamagedStateIsPutAside(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]struct{ file, content string }{
		"journal of zeros":      {"journal.json", string(make([]byte, 300))},
		"journal cut short":     {"journal.json", `{"cell":"acme","accep`},
		"journal of another":    {"journal.json", "{}"},
		"outbox begins wrongly": {"outbox", "garbage\n"},
		"outbox of zeros":       {"outbox", string(make([]byte, 300)) + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			p.assign(one)
			c := start(t, s)
			p.await(t, "healthy", healthyOn(one))
			c.stop()
			must(t, os.WriteFile(filepath.Join(s.State, damage.file), []byte(damage.content), 0o600))
			since := p.reportCount()
			start(t, s)
			p.awaitAfter(t, since, "healthy again", func(r cells.Report) bool { return healthyOn(one)(r) })
			aside, err := filepath.Glob(filepath.Join(s.State, damage.file+".damaged-*"))
			must(t, err)
			if len(aside) != 1 {
				t.Fatalf("put aside: %v", aside)
			}
			if text, err := os.ReadFile(aside[0]); err != nil || string(text) != damage.content {
				t.Errorf("put aside: %q, %v", text, err)
			}
		})
	}
}
