package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/words"
)

// Bounds of reported.json.
const (
	maxReported      = 256 << 10 // bytes
	maxReportedTexts = 30        // events
	maxReportedText  = 300       // bytes of one event's detail
)

// Reported is what the agent tells the vendor of its cell, as it stores that for the cell's owner to see.
type Reported struct {
	State          cells.State                `json:"state,omitempty"` // empty: nothing was reported yet
	Message        string                     `json:"message,omitempty"`
	Running        *cells.Assignment          `json:"running,omitempty"`
	Applying       *cells.Assignment          `json:"applying,omitempty"`
	Unhealthy      *cells.Unhealthy           `json:"unhealthy,omitempty"`
	Failures       []cells.Failure            `json:"failures,omitempty"` // newest last
	Infrastructure cells.ActualInfrastructure `json:"infrastructure,omitzero"`
	Events         []cells.Event              `json:"events,omitempty"` // the newest, oldest first; unnumbered
	Since          time.Time                  `json:"since,omitzero"`   // of State, by the machine's clock
}

func reportedFile(dir string) string { return filepath.Join(dir, "reported.json") }

// LoadReported reads what the agent of a state folder reports. Without a file it is zero.
func LoadReported(stateDir string) (Reported, error) {
	var r Reported
	text, err := disk.ReadLimited(reportedFile(stateDir), maxReported)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Reported{}, fmt.Errorf("read what the agent reports: %w", err)
	}
	return r, nil
}

// add notes events that are reported.
func (r *Reported) add(events []cells.Event, now time.Time) {
	for _, e := range events {
		e.At, e.Detail = now, words.Clip(e.Detail, maxReportedText)
		r.Events = append(r.Events, e)
	}
	r.Events = r.Events[max(0, len(r.Events)-maxReportedTexts):]
}

// saveReported stores what is reported, if it changed.
func (l *loop) saveReported(report cells.Report) error {
	r := &l.reported
	if r.State != report.State {
		r.State, r.Since = report.State, time.Now()
	}
	r.Message, r.Running, r.Applying = report.Message, report.Running, report.Applying
	r.Unhealthy, r.Failures, r.Infrastructure = report.Unhealthy, report.Failures, l.actual()
	text, err := json.Marshal(r)
	if err != nil || bytes.Equal(text, l.savedReport) || len(text) > maxReported {
		return err
	}
	if err := disk.ReplaceFile(reportedFile(l.agent.options.StateDir), text); err != nil {
		return fmt.Errorf("write what the agent reports: %w", err)
	}
	l.savedReport = text
	return nil
}
