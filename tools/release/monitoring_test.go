package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const monitoring = "../../docs/monitoring"

// installPromtool installs Prometheus's own checker if it is missing: on Debian, as root.
func installPromtool(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err == nil {
		return
	}
	for _, args := range [][]string{{"update", "-q"},
		{"install", "-y", "-q", "--no-install-recommends", "prometheus"}} {
		run := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
		run.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("this test needs promtool, and it can't be installed here: %v\n%s", err, out)
		}
	}
}

// Each alert fires where its cause is there, and none where all is well (testdata/alerts_test.yaml).
func TestAlerts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	installPromtool(ctx, t)
	rules := filepath.Join(monitoring, "alerts.yaml")
	runProgram(ctx, t, "promtool", "check", "rules", rules)
	runProgram(ctx, t, "promtool", "test", "rules", "testdata/alerts_test.yaml")

	defined, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	fired, err := os.ReadFile("testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(defined), -1)
	for _, alert := range alerts {
		if !strings.Contains(string(fired), `{alertname="`+alert[1]+`"}`) {
			t.Errorf("no test lets %s fire", alert[1])
		}
	}
	if len(alerts) < 20 {
		t.Errorf("found %d alerts", len(alerts))
	}
}

// Prometheus reads each query of the dashboard, with values for Grafana's variables.
func TestDashboard(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	installPromtool(ctx, t)
	text, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string            `yaml:"record"`
		Expr   string            `yaml:"expr"`
		Labels map[string]string `yaml:"labels"`
	}
	var rules []rule
	values := strings.NewReplacer("$__rate_interval", "5m", "$job", "sluice")
	for _, panel := range dashboard.Panels {
		for _, query := range panel.Targets {
			// promtool refuses two equal rules, so that each has its query as a label.
			rules = append(rules, rule{"query", values.Replace(query.Expr), map[string]string{"text": query.Expr}})
		}
	}
	file, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	runProgram(ctx, t, "promtool", "check", "rules", path)
}
