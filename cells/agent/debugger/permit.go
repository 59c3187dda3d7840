package debugger

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
)

// folderPermit is the permission in the debug folder, which the owner's commands change.
type folderPermit struct {
	folder  debugfolder.Folder
	id      string
	onBegin func()            // called once it was begun
	entry   debugfolder.Entry // once it was begun
	asked   int
}

// moment reads the machine's monotonic clock.
func moment() (debug.Moment, error) {
	boot, since, ok := clock.ReadMonotonic()
	if !ok {
		return debug.Moment{}, errors.New("the machine has no clock by which a session could end")
	}
	return debug.Moment{Boot: boot, Since: since}, nil
}

func (p *folderPermit) begin() error {
	now, err := moment()
	if err != nil {
		return err
	}
	if p.entry, err = p.folder.Begin(p.id, now, time.Now()); err != nil {
		return err
	}
	p.onBegin()
	return nil
}

func (p *folderPermit) left() time.Duration {
	now, err := moment()
	if err != nil {
		return 0
	}
	return p.entry.Permission.Left(p.entry.Begun.Moment, now)
}

func (p *folderPermit) mustEnd() error { return p.folder.MustEnd(p.id) }

func (p *folderPermit) ask(ctx context.Context, command []string) (bool, error) {
	p.asked++
	pending := debugfolder.Pending{Number: p.asked, Command: command, Asked: time.Now()}
	if err := p.folder.Ask(p.id, pending); err != nil {
		return false, err
	}
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		allow, answered, err := p.folder.Answered(p.id, p.asked)
		if answered || err != nil {
			return allow, errors.Join(err, p.folder.Settle(p.id))
		}
		select {
		case <-ctx.Done():
			return false, errors.Join(context.Cause(ctx), p.folder.Settle(p.id))
		case <-ticker.C:
		}
	}
}
