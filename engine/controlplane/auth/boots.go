package auth

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
)

const (
	// BootHeader has the boot id of the agent that sends a request (R27). Agents of older versions send none.
	BootHeader = "Sluice-Boot"

	maxBoot  = 64 // bytes of a boot id that count
	maxBoots = 4  // of a cell, the newest

	// inFlight is how long requests of an agent that ended may still arrive after the first one of its successor.
	inFlight = 2 * time.Second
	// reportDelay is how long a report to another replica may take until this one hears of it.
	reportDelay = 10 * time.Second
	// returnPeriod is how long a boot may be silent before its return counts as that of a machine that was put back.
	returnPeriod = time.Hour
	// minReturns is how often each of two boots returns before both are held to be alive.
	minReturns = 2
)

// bootWatch finds two machines that use one key by the boot ids of their requests, reads included (R27). It keeps the
// requests to this replica in memory, and takes the boots of reports to all replicas from the view: a request costs
// lookups, and the store hears of evidence alone.
type bootWatch struct {
	clockStart time.Time

	mu    sync.Mutex
	cells map[string]*sightings
}

// sightings are the boots of one cell's requests, by the last one, newest last.
type sightings struct {
	epoch int64         // of the identity whose keys the boots used
	first time.Duration // when the newest boot was first seen
	boots []sighting

	reported time.Time // when the newest report came that was taken into account
}

type sighting struct {
	id      string // empty: a request without a boot id
	last    time.Duration
	returns int // how often it sent requests again after another boot did
}

// bind makes boot the first one of a cell that was just registered.
func (b *bootWatch) bind(cell string, epoch int64, boot string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Since(b.clockStart)
	b.cells[cell] = &sightings{epoch: epoch, first: now, boots: []sighting{{id: boot, last: now}}}
}

// lastReport is a cell's newest report to any replica.
type lastReport struct {
	boot string // empty: there is none
	at   time.Time
}

// see takes a request of a cell into account, and the cell's last report. It returns the evidence that two machines use
// its key; empty: none.
func (b *bootWatch) see(cell string, epoch int64, boot string, last lastReport) (evidence string) {
	now := time.Since(b.clockStart)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.cells[cell]
	if s == nil || s.epoch != epoch {
		s = &sightings{epoch: epoch}
		b.cells[cell] = s
	}
	if boot != "" { // else its reports may have an id that its requests lack, as those of older agents do
		evidence = s.seeReport(last, now)
	}
	if found := s.see(boot, now); found != "" {
		evidence = found
	}
	return evidence
}

// seeReport counts a report that is news as a request of its boot. Nothing is learned from one that is overtaken by a
// restart of the agent. Pure but for s.
func (s *sightings) seeReport(r lastReport, now time.Duration) (evidence string) {
	if r.boot == "" || !r.at.After(s.reported) {
		return ""
	}
	s.reported = r.at
	boot := r.boot[:min(len(r.boot), maxBoot)]
	if n := len(s.boots); n > 0 && s.boots[n-1].id != boot && now-s.first < reportDelay {
		return ""
	}
	return s.see(boot, now)
}

// see is pure but for s: now is passed in.
func (s *sightings) see(boot string, now time.Duration) (evidence string) {
	n := len(s.boots)
	i := slices.IndexFunc(s.boots, func(k sighting) bool { return k.id == boot })
	switch {
	case i < 0:
		s.first = now
		s.boots = append(s.boots, sighting{id: boot, last: now})
		s.boots = s.boots[max(0, n+1-maxBoots):]
		return ""
	case i == n-1:
		s.boots[i].last = now
		return ""
	case now-s.first < inFlight:
		s.boots[i].last = now
		return ""
	}
	k, other := s.boots[i], &s.boots[n-1]
	if now-k.last <= returnPeriod {
		k.returns++
	} else {
		k.returns, other.returns = 0, 0
	}
	if k.returns >= minReturns && other.returns >= minReturns {
		evidence = fmt.Sprintf("requests %s and %s come in turns", bootText(other.id), bootText(k.id))
	}
	k.last = now
	s.boots = append(slices.Delete(s.boots, i, i+1), k)
	return evidence
}

// bootText names a boot. The rest of its id stays secret: who knows it all can pass for that boot.
func bootText(id string) string {
	if id == "" {
		return "without a boot id"
	}
	return "of boot " + id[:min(len(id), 16)]
}

// foundClone reports whether a request shows that two machines use the cell's key, whose identity has that epoch. Then
// the key is shut out (R27).
func (a *Auth) foundClone(ctx context.Context, c *api.Caller, epoch int64) bool {
	if c.Listener != api.Cells || a.members == nil {
		return false
	}
	var last lastReport
	last.boot, last.at = a.view().ReportedBoot(c.Cell, epoch)
	evidence := a.boots.see(c.Cell, epoch, c.Boot, last)
	if evidence == "" {
		return false
	}
	a.log.Warn().Str("cell", c.Cell).Str("clone", evidence).Str("from", c.RemoteAddr).
		Msg("the cell's key is used from two places: both are shut out until a new token is used")
	err := a.members.ChangeIdentity(ctx, c.Cell, "clone found", func(i *cells.Identity) {
		if i.Epoch == epoch && i.Quarantined == "" {
			i.Quarantined = evidence
		}
	})
	if err != nil {
		a.log.Error().Err(err).Str("cell", c.Cell).
			Msg("a clone could not be shut out: the next request triggers another attempt")
		return false
	}
	return true
}

// BindBoot notes the boot that registered a cell.
func (a *Auth) BindBoot(c *api.Caller, epoch int64) { a.boots.bind(c.Cell, epoch, c.Boot) }
