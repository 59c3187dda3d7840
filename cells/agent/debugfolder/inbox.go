package debugfolder

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/debug"
)

// ErrFull means that as many requests are kept as may be.
var ErrFull = fmt.Errorf("%d requests for debug access wait for the owner, or %d are kept whose records the control "+
	"plane has not: no other is kept meanwhile", MaxOpen, MaxKept)

// Keep keeps a request for the owner, and reports whether it is new. vouched says whose key it is by the
// word of release signers; empty: they were not asked. The caller has checked the request for this cell.
func (f Folder) Keep(s debug.SignedRequest, vouched string, moment debug.Moment, now time.Time) (bool, error) {
	id := s.ID()
	if _, err := s.Open(); err != nil {
		return false, err
	}
	all, err := f.List()
	if err != nil && len(all) == 0 {
		return false, err
	}
	if len(all) >= MaxKept {
		if err := f.Prune(moment, now); err != nil {
			return false, err
		}
		if all, err = f.List(); err != nil && len(all) == 0 {
			return false, err
		}
	}
	open := 0
	for i := range all {
		if all[i].ID == id {
			return false, nil
		}
		if all[i].State(moment, now) == Open {
			open++
		}
	}
	if open >= MaxOpen || len(all) >= MaxKept {
		return false, ErrFull
	}
	if there, err := exists(f.path(id, requestFile)); err != nil || there { // one that can't be read
		return false, err
	}
	if err := os.RemoveAll(f.path(id)); err != nil { // an interrupted removal left it, perhaps with a permission
		return false, fmt.Errorf("keep request %s: %w", id, err)
	}
	for _, dir := range []string{string(f), f.path(id)} {
		if err := disk.MakePrivate(dir); err != nil {
			return false, fmt.Errorf("keep request %s: %w", id, err)
		}
	}
	if err := writeJSON(f.path(id, requestFile), received{s, vouched, now}); err != nil {
		return false, fmt.Errorf("keep request %s: %w", id, err)
	}
	return true, disk.SyncDir(string(f))
}

// Withdraw removes a request that the owner has not answered, and reports whether there was one.
func (f Folder) Withdraw(id string) (bool, error) {
	removed := false
	err := f.change(id, func(e *Entry) error {
		if e.Permission != nil || e.Denied != nil || e.Begun != nil {
			return nil
		}
		removed = true
		return f.remove(id)
	})
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return removed, err
}

// Prune removes requests that are over, with their records: those older than Retention, those that were not answered,
// and the oldest above MaxKept, but for a record that the control plane has not.
func (f Folder) Prune(moment debug.Moment, now time.Time) error {
	all, err := f.List()
	faults := []error{err}
	excess := len(all) - MaxKept
	var over []*Entry // and answered
	for i := range all {
		e := &all[i]
		switch state := e.State(moment, now); {
		case state == Open || state == Permitted || state == Live:
		case state == Expired && e.Permission == nil || now.Sub(e.Received) > Retention && f.mayGo(e):
			excess--
			faults = append(faults, f.remove(e.ID))
		default:
			over = append(over, e)
		}
	}
	for _, e := range over {
		if excess > 0 && f.mayGo(e) {
			excess--
			faults = append(faults, f.remove(e.ID))
		}
	}
	return errors.Join(faults...)
}

// mayGo reports whether there is no record of a request's session that the control plane has not.
func (f Folder) mayGo(e *Entry) bool { return e.Begun == nil || f.Sent(e.ID) }

// remove removes a request's folder, the request itself first: what an interrupted removal leaves is no request.
func (f Folder) remove(id string) error {
	return errors.Join(os.RemoveAll(f.path(id, requestFile)), os.RemoveAll(f.path(id)))
}
