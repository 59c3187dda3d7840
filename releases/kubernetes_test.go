package releases_test

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/releases"
)

// Rules for clusters are checked where the release is written, not first in a cell.
func TestKubernetesRules(t *testing.T) {
	for rules, says := range map[string]string{
		"{health: [{kind: Database, group: db.example.com, ready: \"object.status.up\"}], takeOver: [helm]}": "",
		"{health: [{kind: A, ready: \"object.x ==\"}]}":                                                      "health of A: ready: column",
		"{health: [{kind: A, ready: \"true\", failed: \"1\"}]}":                                              "must be a bool",
		"{health: [{kind: A, ready: \"true\"}, {kind: A, ready: \"false\"}]}":                                "two rules",
		"{health: [{kind: A}]}":    "ready",
		"{takeOver: [argo]}":       "kubectl or helm",
		"{takeOver: [helm, helm]}": "twice",
		"{prune: [Secret]}":        "Namespace",
	} {
		m := repositoryFS([]string{"1.0.0"}, nil)
		file := m["releases/1.0.0/release.yaml"]
		file.Data = append(file.Data, "kubernetes: "+rules+"\n"...)
		set, _ := releases.Load(nil, m, nil, nil)
		text := strings.Join(messagesOf(set.Releases["1.0.0"].Faults), "\n")
		if says == "" && strings.Contains(text, "kubernetes") || says != "" && !strings.Contains(text, says) {
			t.Errorf("%s: %q, want %q", rules, text, says)
		}
	}
}
