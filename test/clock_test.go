package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
)

// Fault 14, R10: the engine's clock and the clocks of cells differ by more than a minute. Status shows the difference,
// and no time decides anything until the clocks agree. (With SQLite the database has no clock of its own.) Faults 16
// and 17: soak counts by receipt, whatever a cell's clock says.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.server.start()
	w.cutRelease("1.0.0", "fine")
	skew := 2 * time.Minute
	w.eventually(func() (string, bool) {
		w.reportAsCell("eu-1", skew)
		return "status does not show that clocks differ", w.status().Clock.SkewSeconds > 100
	})
	w.eventually(func() (string, bool) {
		w.reportAsCell("eu-1", skew)
		c := w.cellStatus("eu-1")
		return fmt.Sprintf("it does not soak: %+v", c), c.SoakSeconds > 1.2
	})
	w.awaitVerdict("dedicated", "clock", "check its time service")
	if got := w.headRelease("dedicated"); got != "" {
		t.Fatalf("dedicated got %s", got)
	}
	w.eventually(func() (string, bool) {
		w.reportAsCell("eu-1", 0)
		return "dedicated did not get 1.0.0", w.headRelease("dedicated") == "1.0.0"
	})
}

// reportAsCell reports once as a cell that runs its assignment at once and whose clock is off.
func (w *world) reportAsCell(name string, off time.Duration) {
	w.t.Helper()
	// More than ten reports a second would be refused on a slow machine.
	time.Sleep(100 * time.Millisecond)
	if status, err := w.tryReport(name, off); err != nil {
		w.t.Fatal(err)
	} else if status != "" && !strings.HasPrefix(status, "200") {
		w.t.Errorf("report: %s", status)
	}
}

// tryReport is reportAsCell for a control plane that may not answer. It returns the status; empty: there is no plan
// yet.
func (w *world) tryReport(name string, off time.Duration) (status string, err error) {
	var d cells.Desired
	if err := w.getJSON("/v1/desired?cell="+name, &d); err != nil {
		return "", nil //nolint:nilerr // the engine has no plan yet
	}
	r := cells.Report{Cell: name, Boot: "b", Sent: time.Now().Add(off), State: cells.StateHealthy,
		Running: d.Assignment, Acknowledged: d.Assignment}
	if d.Assignment == nil {
		r.State = cells.StatePending
	}
	body, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	response, err := w.request(http.MethodPost, "/v1/reports", body, http.Header{"Content-Type": {"application/json"}})
	if err != nil {
		return "", err
	}
	response.Body.Close()
	return response.Status, nil
}
