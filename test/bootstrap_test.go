package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/test/cluster"
)

// From nothing to a running cell in a cluster by the one command that sluice cell bootstrap prints. No container runs
// here, so what the pod would run is run as a process, with the pod's own arguments, token and rights.
func TestBootstrapOfACluster(t *testing.T) {
	w := newWorld(t, nil)
	c := cluster.New(t, 1)
	w.server.args = append(w.server.args, "--cells", freePort(t))
	w.server.start()
	w.awaitFirstRead()
	said := w.mustRunSluice("cell", "bootstrap", "beta", "--channel", "staging", "--target", "kubernetes", "--image",
		"registry.example/sluice:1", "--for", "shop", "--out", w.path("beta"))
	var command []string
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(line, "  kubectl "); ok {
			command = strings.Fields(strings.ReplaceAll(text, "'", ""))
		}
	}
	if len(command) == 0 {
		t.Fatalf("no command of kubectl: %s", said)
	}
	c.Run(t, "", command...)
	c.Run(t, "", command...) // it may be repeated

	token, err := base64.StdEncoding.DecodeString(c.Run(t, "", "-n", "sluice", "get", "secret", "sluice-join", "-o",
		"jsonpath={.data.token}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.path("token"), token, 0o600); err != nil {
		t.Fatal(err)
	}
	var args []string
	text := c.Run(t, "", "-n", "sluice", "get", "statefulset", "sluice-agent", "-o",
		"jsonpath={.spec.template.spec.containers[0].args}")
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		t.Fatal(err)
	}
	for pod, here := range map[string]string{"@/run/secrets/sluice/token": "@" + w.path("token"),
		"/var/lib/sluice/agent": w.path("states", "beta")} {
		at := slices.Index(args, pod)
		if at < 0 {
			t.Fatalf("the pod's arguments lack %s: %v", pod, args)
		}
		args[at] = here
	}
	w.agents["beta"] = w.process("beta", append(args, "--kubeconfig", w.kubeconfigOf(c, "sluice-agent"),
		"--healthy-for", "1s", "--health-every", "500ms", "--report-every", "500ms")...).start()
	w.pushFiles("cut 1.0.0", clusterRelease("1.0.0", "web:1"))
	w.eventually(func() (string, bool) {
		s := w.cellStatus("beta")
		return fmt.Sprintf("beta is %s on %s: %s", s.State, s.Release, s.Message), s.Release == "1.0.0" && s.State == "healthy"
	})
}
