package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// rudeProduct asks a cell's agent, and does as it likes.
type rudeProduct struct {
	t    *testing.T
	http *http.Client
}

func newRudeProduct(t *testing.T, socket string) *rudeProduct {
	return &rudeProduct{t, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}}
}

// send returns the status of an answer.
func (p *rudeProduct) send(method, path, body string) int {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, "http://localhost"+path,
		bytes.NewBufferString(body))
	if err != nil {
		p.t.Fatal(err)
	}
	response, err := p.http.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// begin asks for the start of a workspace, or says that it runs.
func (p *rudeProduct) begin(key string, running bool) int {
	p.t.Helper()
	return p.send(http.MethodPost, "/v1/operations",
		fmt.Sprintf(`{"kind":"start","key":%q,"running":%t}`, key, running))
}

func (p *rudeProduct) end(key string) { p.send(http.MethodDelete, "/v1/operations/start/"+key, "") }

// A product that ignores maintenances: one that never asks is not waited for, and the cell says so. One that runs what
// was refused is waited for all the same while the cell drains, for no longer than that; the cell names what ran, and
// `sluice why` and the metrics count it.
func TestProductThatIgnoresMaintenances(t *testing.T) {
	w := newWorld(t, func(files map[string]string) {
		files["channels/staging/channel.yaml"] += "maintenance: {drain: 5m, maximum: 10m}\n"
	})
	socket := w.path("eu-1.f")
	w.addAgent("eu-1", "--flags-listen", "unix://"+socket)
	w.startAll()
	w.pushFiles("cut 1.0.0", markedRelease("1.0.0", "web:1", "a", "a"))
	w.awaitRelease("eu-1", "1.0.0")
	w.pushFiles("cut 1.1.0", markedRelease("1.1.0", "web:1", "b", "a"))
	w.awaitRelease("eu-1", "1.1.0")
	w.awaitWhy("eu-1", "in 1 maintenance no program of the cell asked whether it may start something")
	if log := w.processLog("eu-1"); !strings.Contains(log, "maintenance-unasked") {
		t.Errorf("the agent does not log it:\n%s", log)
	}

	p := newRudeProduct(t, socket)
	renew := func(keys ...string) {
		for _, key := range keys {
			if got := p.begin(key, true); got != http.StatusOK {
				t.Errorf("renew %s: %d", key, got)
			}
		}
	}
	if got := p.begin("polite", false); got != http.StatusCreated {
		t.Fatal(got)
	}
	w.pushFiles("cut 1.2.0", markedRelease("1.2.0", "web:1", "c", "a"))
	w.eventually(func() (string, bool) {
		renew("polite")
		if got := p.begin("asked", false); got != http.StatusLocked {
			p.end("asked")
			return fmt.Sprint("a start is not refused: ", got), false
		}
		return "", true
	})
	if got := p.begin("rude", false); got != http.StatusLocked {
		t.Errorf("rude is not refused: %d", got)
	}
	if got := p.begin("rude", true); got != http.StatusCreated {
		t.Errorf("what runs is not waited for: %d", got)
	}
	p.end("polite")
	ended := time.Now()
	w.eventually(func() (string, bool) { // the agent has seen that polite ended
		renew("rude")
		c := w.cellStatus("eu-1")
		return fmt.Sprint("no report since ", ended), c.LastReport.After(ended.Add(2 * time.Second))
	})
	if got := w.installedManifests("eu-1"); !strings.Contains(got, "version: 1.1.0") {
		t.Errorf("replaced under an operation: %s", got)
	}
	p.end("rude")
	w.awaitRelease("eu-1", "1.2.0")
	w.awaitWhy("eu-1", "1 operation ran although refused: the product does not heed refusals",
		"in 1 maintenance no program")
	w.eventually(func() (string, bool) {
		metrics := w.metrics()
		return metrics, strings.Contains(metrics, `sluice_cells_refusals_ignored_total{channel="staging"} 1`) &&
			strings.Contains(metrics, `sluice_cells_maintenance_unasked_total{channel="staging"} 1`)
	})
	if log := w.processLog("eu-1"); !strings.Contains(log, "1 operation ran although refused (start rude)") {
		t.Errorf("the agent names none:\n%s", log)
	}
}

// awaitWhy waits until `sluice why` says these texts of a cell.
func (w *world) awaitWhy(cell string, texts ...string) {
	w.t.Helper()
	w.eventually(func() (string, bool) {
		said, err := w.runSluice("why", cell)
		if err != nil {
			return err.Error(), false
		}
		for _, text := range texts {
			if !strings.Contains(strings.Join(strings.Fields(said), " "), text) {
				return fmt.Sprintf("it does not say %q: %s", text, said), false
			}
		}
		return "", true
	})
}
