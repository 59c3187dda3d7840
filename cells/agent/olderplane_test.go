package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/maintenance"
)

// refusesField answers as a control plane does that does not know a field of reports. location is where it says that
// the fault is.
func refusesField(field, location string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/reports" {
			return false
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var report map[string]json.RawMessage
		if err != nil || json.Unmarshal(body, &report) != nil || report[field] == nil {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"title":"Bad Request","status":400,"errors":[{"location":%q,"message":"no such field"}]}`,
			location)
		return true
	}
}

// R35: an agent that is newer than its control plane reports all that the control plane knows, with its history: also
// through a maintenance, which an older control plane knows nothing of.
func TestR35AnAgentNewerThanItsControlPlane(t *testing.T) {
	t.Parallel()
	for name, location := range map[string]string{"it names the field": "body.maintenance",
		"it names a field inside": "body.totals"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			p.update(func() {
				p.refuse = refusesField("maintenance", location)
				p.desired.Maintenance = &cells.Maintenance{
					Policy: maintenance.Policy{Drain: time.Minute, Maximum: 5 * time.Minute}}
			})
			p.assign(p.addRelease(t, "1.0.0", 1, releaseWithServer("1.0.0", "a")))
			start(t, s)
			p.await(t, "1.0.0", runsHealthy("1.0.0"))
			p.assign(p.addRelease(t, "1.1.0", 2, releaseWithServer("1.1.0", "b")))
			p.await(t, "1.1.0", runsHealthy("1.1.0"))
			wantEvents(t, p, "1.1.0", "started", "maintenance-announced", "maintenance-entered", "applied", "healthy",
				"maintenance-left")
			p.assign(p.addRelease(t, "1.2.0", 3, agenttest.Release("1.2.0", nil)))
			p.await(t, "1.2.0", runsHealthy("1.2.0"))
			for _, r := range p.received() {
				if r.Maintenance != nil {
					t.Errorf("%+v", r)
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.eventConflicts) > 0 {
				t.Error(p.eventConflicts)
			}
			for _, e := range p.events {
				if e.Kind == "rejected" {
					t.Errorf("%+v: no event was at fault", e)
				}
			}
		})
	}
}
