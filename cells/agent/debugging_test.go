package agent

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// What a cell's workloads log can be read without a word in the release, and nothing that is no workload.
func TestWorkloadLogs(t *testing.T) {
	t.Parallel()
	logs := workloadLogs([]cells.Object{
		{APIVersion: "v1", Kind: "Secret", Name: "key"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
		{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: "shop", Name: "queue"},
		{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly"},
		{APIVersion: "v1", Kind: "Pod", Name: "one"},
		{APIVersion: "example.com/v1", Kind: "Deployment", Name: "foreign"},
		{APIVersion: "apps/v2", Kind: "Deployment", Name: "later"},
		{APIVersion: "v1", Kind: "Pod", Name: "../secrets/key"},
		{APIVersion: "v1", Kind: "Pod", Namespace: "..", Name: "one"},
		{APIVersion: "apps/v1", Kind: "Deployment", Name: strings.Repeat("a", 254)},
	})
	var names []string
	for _, l := range logs {
		names = append(names, l.Name)
	}
	if got := strings.Join(names, " "); got != "deployment/web shop/statefulset/queue cronjob/nightly pod/one" {
		t.Error(got)
	}
	declared := diagnostics.Logs{{Name: "deployment/web", File: "/var/log/web.log"}}
	if all := declared.With(logs).With(logs); len(all) != 4 || all[0].File == "" {
		t.Errorf("%+v", all)
	}
	var many diagnostics.Logs
	for range 2 * diagnostics.MaxLogs {
		many = append(many, diagnostics.Log{Name: strings.Repeat("a", len(many)+1)})
	}
	if all := declared.With(many); len(all) != diagnostics.MaxLogs {
		t.Errorf("there are %d logs", len(all))
	}
}
