package install_test

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/install"
)

// An agent may read logs of pods, or run shells in them, only if the cell's owner asked for that, and in the releases'
// namespaces alone.
func TestDebugRightsNeedTheOwnersWish(t *testing.T) {
	t.Parallel()
	for _, logs := range []bool{false, true} {
		for _, shells := range []bool{false, true} {
			i := install.Agent{Image: "registry.example/sluice:1", Namespace: "sluice", For: []string{"shop", "mail"},
				Logs: logs, Shells: shells}
			text, err := i.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			for rule, wish := range map[string]bool{
				"    resources: [pods/log] # for debug sessions that the owner permits\n    verbs: [get]\n": logs,
				"    resources: [pods/exec] # for shells of debug sessions that the owner permits\n" +
					"    verbs: [get, create]\n": shells,
			} {
				want := 0
				if wish {
					want = len(i.For)
				}
				if n := strings.Count(text, rule); n != want {
					t.Errorf("logs %v, shells %v: %d times %s", logs, shells, n, rule)
				}
			}
		}
	}
}
