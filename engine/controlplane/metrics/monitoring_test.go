package metrics_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/view"
)

const docs = "../../../docs"

// exported returns the labels of each metric of the control plane's page, by the metric's name.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	registry := prometheus.NewRegistry()
	_, err := metrics.New(metrics.Options{Registry: registry, View: func() *view.View { return nil }, Flags: true,
		Stats: func() engine.Stats { return engine.Stats{} }, Reads: func() int64 { return 0 },
		Collectors: []prometheus.Collector{new(outbox.Sender).Collector()}})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan *prometheus.Desc)
	go func() { registry.Describe(out); close(out) }()
	form := regexp.MustCompile(`^Desc\{fqName: "(\w+)".* variableLabels: \{(.*)\}\}$`)
	labels := map[string][]string{}
	for desc := range out {
		m := form.FindStringSubmatch(desc.String())
		if m == nil {
			t.Fatalf("a metric describes itself as %s", desc)
		}
		labels[m[1]] = strings.Split(m[2], ",")
	}
	return labels
}

var (
	selector = regexp.MustCompile(`\b(sluice_\w+)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
)

// checkQuery complains about metrics and labels that the page does not have. job and instance are Prometheus's own.
func checkQuery(t *testing.T, where, query string, page map[string][]string) {
	t.Helper()
	found := selector.FindAllStringSubmatch(query, -1)
	if len(found) == 0 {
		t.Errorf("%s asks for no metric: %s", where, query)
	}
	for _, s := range found {
		labels, ok := page[s[1]]
		if !ok {
			if labels, ok = page[strings.TrimSuffix(s[1], "_bucket")]; !ok {
				t.Errorf("%s: there is no metric %s", where, s[1])
				continue
			}
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(labels, m[1]) && m[1] != "job" && m[1] != "instance" {
				t.Errorf("%s: %s has no label %s, only %v", where, s[1], m[1], labels)
			}
		}
	}
}

// Each alert asks for what the metrics page has, and leads to a paragraph about it.
func TestAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(docs, "monitoring", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Expr        string
				Labels      struct{ Severity string }
				Annotations struct {
					Runbook string `yaml:"runbook_url"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile(filepath.Join(docs, "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, alerts := exported(t), map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			checkQuery(t, r.Alert, r.Expr, page)
			if s := r.Labels.Severity; s != "page" && s != "ticket" {
				t.Errorf("%s has the severity %q", r.Alert, s)
			} else if !strings.Contains(string(manual), "\n### "+r.Alert+"\n\n"+strings.ToUpper(s[:1])+s[1:]+".") {
				t.Errorf("operating.md does not say what to do about %s, or whether it is a %s", r.Alert, s)
			}
			if !strings.HasSuffix(r.Annotations.Runbook, "/docs/operating.md#"+strings.ToLower(r.Alert)) {
				t.Errorf("the runbook of %s is %s", r.Alert, r.Annotations.Runbook)
			}
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (Sluice\w+)$`).FindAllStringSubmatch(string(manual), -1) {
		if !alerts[heading[1]] {
			t.Errorf("operating.md explains %s, which is no alert", heading[1])
		}
	}
}

// Each panel of the dashboard asks for what the metrics page has.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(docs, "monitoring", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	page, ids, places := exported(t), map[int]string{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("%q and %q have the same id", p.Title, other)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := places[[2]int{x, y}]; taken {
					t.Fatalf("%q covers %q", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, p.Title, target.Expr, page)
		}
	}
}
