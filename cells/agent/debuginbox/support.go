package debuginbox

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/internal/words"
)

const (
	signersFor   = 20 * time.Second // how long the signers' word is good while a session may begin or lasts
	waitingFor   = time.Minute      // the same, while a request waits for the owner
	signersRetry = 5 * time.Second
	askTimeout   = 15 * time.Second // for one answer of the control plane
	maxWhy       = 400              // bytes of a reason in a report
)

// Signers is what release signers say of who may ask.
type Signers struct {
	Bind bool // the cell has a root of trust: it takes requests by Keys alone
	Keys trust.Support
}

// vouching is what an inbox knows of the signers' word.
type vouching struct {
	ask      func(context.Context) (Signers, error) // nil: no one is asked
	signers  *Signers                               // as verified last; nil: not yet in this process
	err      error                                  // of asking last
	asked    time.Time                              // when they were asked last
	isWarned bool                                   // of err
}

// refresh asks the signers, unless that was done within the time given. What they said before stays where the control
// plane is down, or withholds what is newer.
func (v *vouching) refresh(ctx context.Context, within time.Duration, now time.Time) error {
	if v.ask == nil || now.Before(v.asked.Add(within)) && v.err == nil || now.Before(v.asked.Add(signersRetry)) {
		return v.err
	}
	s, err := v.ask(ctx)
	if err == nil || s.Bind {
		v.signers = &s
	}
	v.asked, v.err, v.isWarned = now, err, v.isWarned && err != nil
	return err
}

// check says why the cell takes no request of a key; nil: it does. by is whose key it is by the signers' word; empty:
// they are not asked.
func (v *vouching) check(r *debug.Request, now time.Time) (by string, err error) {
	if v.signers == nil || !v.signers.Bind {
		return "", nil
	}
	return r.Person, v.signers.Keys.Check(r.Person, r.Key, now)
}

// holdToKnown ends what signers vouch for no more, by what they said last: requests are denied, and sessions end (D2).
// It returns for how long that is good for what goes on; 0: nothing does.
func (i *Inbox) holdToKnown(now time.Time) (within time.Duration) {
	if i.vouching.ask == nil {
		return 0
	}
	all, _ := i.folder.List() // look says what can't be read
	at := moment()
	for n := range all {
		e := &all[n]
		state := e.State(at, now)
		if state != debugfolder.Open && state != debugfolder.Permitted && state != debugfolder.Live {
			continue
		}
		if _, why := i.vouching.check(&e.Request, now); why != nil {
			i.end(e, state, why, now)
			continue
		}
		if within == 0 {
			within = waitingFor
		}
		if state != debugfolder.Open {
			within = signersFor
		}
	}
	return within
}

// askAgain asks the signers who may ask, and ends what they vouch for no more.
func (i *Inbox) askAgain(ctx context.Context, within time.Duration, now time.Time) {
	if err := i.vouching.refresh(ctx, within, now); err != nil && ctx.Err() == nil && !i.vouching.isWarned {
		i.vouching.isWarned = true
		i.options.Log.Warn().Err(err).Msg("who may have debug access could not be verified; the agent retries")
	}
	i.holdToKnown(i.options.Now())
}

// end ends a request that signers vouch for no more. A failure is tried again at the next look.
func (i *Inbox) end(e *debugfolder.Entry, state debugfolder.State, why error, now time.Time) {
	var err error
	switch {
	case e.Stopped:
		return
	case state == debugfolder.Live:
		err = i.folder.Revoke(e.ID, refusal(why))
	default:
		err = i.folder.Deny(e.ID, debugfolder.Denial{Reason: refusal(why), At: now})
	}
	log := i.options.Log.Warn().Str("request", e.ID).Str("why", why.Error())
	if err != nil {
		log.Err(err).Msg("debug access that release signers do not vouch for any more could not be ended")
		return
	}
	log.Msg("debug access was ended: release signers do not vouch for its key any more")
}

// refusal is what the vendor and the owner read where signers do not vouch for a key.
func refusal(why error) string { return words.Clip(cells.DebugRefusal+why.Error(), maxWhy) }

// turnedDown is a request that the cell did not take, for its report: the person waits for an answer.
func turnedDown(id string, why error) cells.DebugState {
	return cells.DebugState{ID: id, State: cells.DebugDenied, Why: refusal(why)}
}
