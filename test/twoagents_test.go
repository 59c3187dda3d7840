package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/test/cluster"
)

// Two agents are in one cluster: the second has lost its volume, or comes from another machine. One acts, and the other
// says why not. When the first and its node are gone, the other acts by itself.
func TestTwoAgentsInOneCluster(t *testing.T) {
	w := newWorld(t, nil)
	c := cluster.New(t, 1)
	for _, name := range []string{"eu-1", "acme"} {
		w.agents[name] = w.process(name, "agent", "--cell", name, "--server", w.socket(), "--target", "kubernetes",
			"--kubeconfig", c.Kubeconfig, "--state", w.path("states", name), "--health-timeout", "1m",
			"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms")
	}
	w.server.start()
	w.agents["eu-1"].start()
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1"))
	w.awaitHealthyOn("eu-1", "1.0.0")
	w.agents["acme"].start()
	w.awaitSaid("acme", "the agent of cell eu-1 on host ", " acts in this cluster since 20",
		"stop the one that is not to act")
	w.awaitHealthyOn("eu-1", "1.0.0")
	w.agents["eu-1"].kill()
	w.awaitHealthyOn("acme", "1.0.0")
	w.agents["eu-1"].start()
	w.awaitSaid("eu-1", "the agent of cell acme on host ")
}

// awaitSaid waits until a cell reports a message with these texts.
func (w *world) awaitSaid(cell string, texts ...string) {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		said := w.cellStatus(cell).Message
		for _, text := range texts {
			if !strings.Contains(said, text) {
				return fmt.Sprintf("%s lacks %q: %s", cell, text, said), false
			}
		}
		return "", true
	})
}

// awaitHealthyOn waits until a cell that is a cluster reports that a release works.
func (w *world) awaitHealthyOn(cell, version string) {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		c := w.cellStatus(cell)
		return fmt.Sprintf("%s is %s on %s, want %s: %s", cell, c.State, c.Release, version, c.Message),
			c.Release == version && c.State == "healthy"
	})
}
