package telemetry

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// What each program measures. The owner agrees to all that the release wishes.
const (
	secrets    = 5000 // of each program
	starts     = 7
	workspaces = 3
	attempts   = 2
	dropped    = "sluice_export_dropped" // how much was kept back
	wish       = `apiVersion: sluice/v1
kind: Export
metrics:
  - {name: starts, type: counter, labels: {sdk: {as: enum, values: [go, js]}, class: {as: enum, values: [small]}}}
  - {name: workspaces, type: gauge, labels: {sdk: {as: enum, values: [go, js]}}}
  - {name: seconds, type: histogram, labels: {sdk: {as: enum, values: [go, js]}}}
events:
  - kind: workspace.start.failed
    fields: {sdk: {as: enum, values: [go, js]}, attempts: {as: number}, release: {as: version}}
`
)

// agreed is what may arrive of both programs: series with their values, and events with how often they occur.
func agreed() (series map[string]float64, events map[string]int) {
	series, events = map[string]float64{"workspaces sdk=other": workspaces}, map[string]int{}
	for _, sdk := range []string{"go", "js"} {
		series["starts class=small sdk="+sdk] = starts
		series["workspaces sdk="+sdk] = workspaces
		series["seconds sdk="+sdk] = secrets / 8
		events[fmt.Sprintf("workspace.start.failed attempts=%d sdk=%s", attempts, sdk)] = (secrets + 9) / 16
	}
	return series, events
}

// Programs with OpenTelemetry's SDKs for Go and JavaScript measure through the agent's socket. What was agreed to
// arrives at the collector's own receiver, and none of 10,000 secrets in names, units, descriptions, labels, exemplars,
// bodies, severities, scopes, and attributes of events and resources does (E2).
func TestE2SDKsToCollector(t *testing.T) {
	p := newPlace(t)
	address := freeAddress(t)
	v := startVendor(t, address)
	p.installJavaScript()
	p.startCell(address)
	toAgent := startTap(t, p.path("tap"), p.path("f"))
	defer p.startJavaScript(p.path("tap"))()
	defer startGo(t, p.path("tap"))()
	p.await(func() bool { return toAgent.count() == 2*secrets },
		func() string { return fmt.Sprintf("%d of %d secrets came to the agent", toAgent.count(), 2*secrets) })
	sent := time.Now()

	series, events := agreed()
	p.await(func() bool {
		got := v.values()
		maps.DeleteFunc(got, func(series string, _ float64) bool { return strings.HasPrefix(series, dropped) })
		return v.hasAllUntil(sent) && maps.Equal(got, series) && maps.Equal(v.counted(), events)
	}, func() string {
		return fmt.Sprintf("%v and %v; the receiver has %v and %v", series, events, v.values(), v.counted())
	})

	all := v.received()
	if left := canaries.FindAllString(all, -1); len(left) > 0 || strings.Contains(all, "canary") {
		slices.Sort(left)
		t.Errorf("%d of %d secrets left the cell: %.300v", len(slices.Compact(left)), 2*secrets, left)
	}
	if !strings.Contains(all, `{"key":"sluice.cell","value":{"stringValue":"acme"}}`) {
		t.Errorf("what arrived names no cell: %.500s", all)
	}
	if kept := v.values()[dropped+" reason=unlisted"]; kept < secrets/4 {
		t.Errorf("%v points and events were kept back", kept)
	}
	p.awaitSaid("exports: 1 of 1 cell", "status")
}

// startCell starts a control plane that passes exports on to an endpoint, and a cell whose owner agrees to the wish.
func (p *place) startCell(endpoint string) {
	p.t.Helper()
	p.write("app/kustomization.yaml", "resources: [app.yaml]\n")
	p.write("app/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n")
	p.write("app/export.yaml", wish)
	p.sluice("init", "--bare", "releases.git")
	p.start("serve", "--data", "data", "--listen", "unix://"+p.path("s"), "--cells", "127.0.0.1:0", "--poll", "500ms",
		"--otlp", "http://"+endpoint)
	p.awaitSaid("staging", "status")
	p.sluice("release", "cut", "1.0.0", "--from", "app")
	p.sluice("cell", "add", "acme", "--channel", "staging", "--token-file", "join.token")
	p.start("agent", "--join", "@join.token", "--dir", "product", "--healthy-for", "0s", "--report-every", "500ms",
		"--flags-listen", "unix://"+p.path("f"))
	p.awaitSaid("1.0.0 asks for", "cell", "export", "list", "--state", p.path("product", ".agent"))
	p.export("approve")
	p.export("hold", "1m")
	// The agent notes here, durably, what it lets through from now on.
	p.await(func() bool {
		text, err := os.ReadFile(p.path("product", ".agent", "export", "agreed.json"))
		return err == nil && strings.Contains(string(text), "starts")
	}, func() string { return "what the owner agreed to" })
}

// freeAddress returns an address of loopback where nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
