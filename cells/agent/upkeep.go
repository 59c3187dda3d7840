package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/releases"
)

// maxMaintenanceFile bounds maintenance.json, in bytes.
const maxMaintenanceFile = 256 << 10

func maintenanceFile(dir string) string { return filepath.Join(dir, "maintenance.json") }

// LoadMaintenance reads what the product of a state folder's cell is told of maintenances. What is past its end is
// over, whether or not an agent lives.
func LoadMaintenance(stateDir string, now time.Time) (maintenance.State, error) {
	off := maintenance.State{Phase: maintenance.Off}
	text, err := disk.ReadLimited(maintenanceFile(stateDir), maxMaintenanceFile)
	if errors.Is(err, fs.ErrNotExist) {
		return off, nil
	}
	var s maintenance.State
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return off, fmt.Errorf("read the state of maintenance: %w", err)
	}
	return s.At(now), nil
}

// take takes the control plane's word on maintenances. It holds for the next one; nil: the defaults.
func (u *upkeep) take(m *cells.Maintenance) {
	if m == nil {
		m = &cells.Maintenance{}
	}
	if len(m.Policy.Check()) == 0 {
		u.Policy = m.Policy
	}
	if len((releases.Maintenance{Texts: m.Texts}).Check()) == 0 {
		u.Texts = m.Texts
	}
}

// isWriting reports whether the target is being written.
func (l *loop) isWriting() bool { return l.inFlight != nil && l.inFlight.Task == taskApply }

// busy returns the operations under way. Without a listener nobody can ask for one.
func (l *loop) busy() maintenance.Busy {
	b := maintenance.Busy{Quiet: l.maintenance.Refuses(), Unasked: true}
	if l.agent.options.FlagsListen != "" {
		b = l.maintenance.BusyAt(l.flags.Sockets)
	}
	for _, t := range l.tellers {
		b = t.judge(b)
	}
	return b
}

// restore takes up what the journal says, in a process that starts at now. Every instant is anchored anew.
func (u *upkeep) restore(now time.Time) {
	u.Record, u.Owner = u.Record.Restore(u.Policy, now), u.Owner.Restore(now)
	u.After = u.Policy.RestorePause(u.After, now)
}

// openMaintenance takes up what the journal says of maintenances, before anybody may ask for an operation.
func (l *loop) openMaintenance(now time.Time) {
	l.maintenance = server.New(l.operationEnded.Notify)
	l.tellers = newTellers(l.agent.options, l.operationEnded.Notify)
	u := &l.state.Upkeep
	u.restore(now)
	l.maintenance.Set(maintenance.Combine(u.Record, u.Owner, u.Texts, now))
	_, err := os.Stat(maintenanceFile(l.agent.options.StateDir))
	l.toldBefore = err == nil
}

// publishMaintenance tells the product of the maintenances, which the journal has. The file is for the owner's verbs
// and for nodes.
func (l *loop) publishMaintenance() error {
	u, now := &l.state.Upkeep, time.Now()
	s := maintenance.Combine(u.Record, u.Owner, u.Texts, now)
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if !bytes.Equal(text, l.savedState) {
		if l.savedState != nil || s.Phase != maintenance.Off {
			if err := disk.ReplaceFile(maintenanceFile(l.agent.options.StateDir), text); err != nil {
				return fmt.Errorf("write the state of maintenance: %w", err)
			}
		}
		if l.savedState != nil || s.Phase != maintenance.Off || l.toldBefore {
			for _, t := range l.tellers {
				t.set(s)
			}
		}
		l.savedState = text
	}
	l.maintenance.Set(s)
	l.agent.testPoint("maintenance " + string(s.Phase))
	return nil
}
