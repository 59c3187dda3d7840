package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/plane"
)

// maxJournal bounds the size of journal.json, in bytes.
const maxJournal = 16 << 20

// journal holds the state that must survive a power loss: one small file, replaced as a whole before anything that
// depends on it is done. The values behind its pointers are immutable.
type journal struct {
	Cell string `json:"cell"`
	// Accepted is the newest accepted assignment, whatever its outcome. None older is accepted (R2).
	Accepted *cells.Assignment `json:"accepted,omitempty"`
	// Order is where the order of assignments began; nil: the cell has no key, or registered under a version that did
	// not keep it.
	Order *plane.Order `json:"order,omitempty"`
	// Offer is Accepted until the control plane knows of it. It may not begin before (R14).
	Offer *cells.Assignment `json:"offer,omitempty"`
	// Attempt is the assignment in progress; nil: LastGood runs, or nothing does.
	Attempt *attempt `json:"attempt,omitempty"`
	// LastGood is the last assignment whose health held for long enough.
	LastGood *cells.Assignment `json:"lastGood,omitempty"`
	// Dirty says that the target may hold something other than LastGood.
	Dirty bool `json:"dirty,omitempty"`
	// NoReturn says that a forward-only release began and nothing was good since, so that no rollback is possible
	// (R20).
	NoReturn bool `json:"noReturn,omitempty"`
	// Features are those of LastGood; nil: not known.
	Features []string `json:"features"`
	// Contents are those of LastGood's release; nil: not known.
	Contents *contents `json:"contents,omitempty"`
	Upkeep   upkeep    `json:"maintenance,omitzero"`
	// Contained holds the features that every release contains that may be running now (R38).
	Contained []string `json:"contained,omitempty"`
	// Failures holds remembered failures, newest last, at most cells.MaxFailures.
	Failures []cells.Failure `json:"failures,omitempty"`
}

type attempt struct {
	Assignment cells.Assignment `json:"assignment"`
	Phase      phase            `json:"phase"`
	Rollback   bool             `json:"back,omitempty"`     // this is the rollback to LastGood
	Applied    bool             `json:"applied,omitempty"`  // the target has taken all of it
	Features   []string         `json:"features"`           // of its release; nil: not known
	Contents   *contents        `json:"contents,omitempty"` // of its release; nil: not known
}

// phase is the progress of an attempt. Each phase is journalled before the agent acts on it.
type phase string

const (
	phasePreparing phase = "taken"    // fetching and rendering; the target is untouched
	phasePrepared  phase = "prepared" // it waits for a maintenance; the target is untouched
	phaseApplying  phase = "begun"    // the target may be written
	phaseApplied   phase = "applied"  // all is written; health is watched
	phaseStuck     phase = "stuck"    // forward-only, and it failed
)

// isUntouched reports whether the attempt has not begun to write.
func (a *attempt) isUntouched() bool { return a.Phase == phasePreparing || a.Phase == phasePrepared }

func assignmentKey(a *cells.Assignment) string {
	if a == nil {
		return ""
	}
	return a.Key()
}

func (j *journal) hasFailed(a *cells.Assignment) bool {
	k := assignmentKey(a)
	return slices.ContainsFunc(j.Failures, func(f cells.Failure) bool { return f.Assignment.Key() == k })
}

// isInstalled reports whether the target may hold anything: half an install counts, too.
func (j *journal) isInstalled() bool { return j.LastGood != nil || j.Attempt != nil || j.Dirty }

func journalFile(dir string) string { return filepath.Join(dir, "journal.json") }

// damagedJournal says that the journal's content can't be used. The control plane can tell it again.
type damagedJournal struct{ reason string }

func (e *damagedJournal) Error() string { return "read the journal: " + e.reason }

// loadJournal reads the journal of a cell's state folder; a fresh folder has an empty one. A damaged one is put aside,
// under the name that is returned: what the target holds is then not known. hadName reports whether the cell had a name
// before.
func loadJournal(dir, cell string, hadName func(string) bool) (_ journal, aside string, err error) {
	j, err := readJournal(dir)
	var damaged *damagedJournal
	switch {
	case errors.As(err, &damaged):
		aside, err = disk.PutAside(journalFile(dir), time.Now())
		return journal{Cell: cell, Dirty: true}, aside, err
	case err != nil:
		return journal{}, "", err
	case j.Cell == "":
		return journal{Cell: cell}, "", nil
	case hadName(j.Cell):
		j.Cell = cell
	case j.Cell != cell:
		return journal{}, "", fmt.Errorf("the state folder %s belongs to cell %s, not to %s", dir, j.Cell, cell)
	}
	return j, "", nil
}

// readJournal reads the journal of whichever cell the folder belongs to; without a file it is empty.
func readJournal(dir string) (journal, error) {
	name := journalFile(dir)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return journal{}, nil
	}
	if err != nil {
		return journal{}, fmt.Errorf("read the journal: %w", err)
	}
	if !info.Mode().IsRegular() {
		return journal{}, &damagedJournal{name + " is no file"}
	}
	if info.Size() > maxJournal {
		return journal{}, &damagedJournal{fmt.Sprintf("%s is larger than %d bytes", name, maxJournal)}
	}
	text, err := os.ReadFile(name) //nolint:gosec // below the state folder
	if err != nil {
		// It is the machine's trouble: what the file says may be well.
		return journal{}, fmt.Errorf("read the journal: %w", err)
	}
	var j journal
	if err := json.Unmarshal(text, &j); err != nil {
		return journal{}, &damagedJournal{fmt.Sprintf("%s: %v", name, err)}
	}
	if j.Cell == "" {
		return journal{}, &damagedJournal{name + " names no cell"}
	}
	return j, nil
}

func (j *journal) save(dir string) error {
	text, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := disk.ReplaceFile(journalFile(dir), text); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// StateDirCell returns the cell that a state folder belongs to, or "" if none does yet. keyed reports whether it has a
// key, or is registering one.
func StateDirCell(stateDir string) (cell string, keyed bool, err error) {
	c, err := plane.LoadCredentials(stateDir, "", nil)
	if err != nil {
		return "", false, err
	}
	if cell = c.Cell(); cell != "" {
		return cell, true, nil
	}
	keyed = c.Damaged() != nil // Run goes on with what runs
	j, err := readJournal(stateDir)
	var damaged *damagedJournal
	if errors.As(err, &damaged) { // Run puts it aside
		err = nil
	}
	return j.Cell, keyed, err
}
