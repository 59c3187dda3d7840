package install_test

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/install"
)

// An agent may read logs of pods only if the cell's owner asked for that, and in the releases' namespaces alone.
func TestLogsNeedTheOwnersWish(t *testing.T) {
	t.Parallel()
	for _, wish := range []bool{false, true} {
		i := install.Agent{Image: "registry.example/sluice:1", Namespace: "sluice", For: []string{"shop", "mail"},
			Logs: wish}
		text, err := i.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if wish {
			want = len(i.For)
		}
		if n := strings.Count(text, "    resources: [pods/log] # for debug sessions that the owner permits\n"+
			"    verbs: [get]\n"); n != want {
			t.Errorf("logs %v: %d rules", wish, n)
		}
	}
}
