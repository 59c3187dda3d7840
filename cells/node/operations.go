package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/internal/wake"
)

const (
	maxPublished = 512 << 10 // bytes of a maintenance.PublishedState
	// saysEvery is how long a node part waits at least before it says more of what is under way.
	saysEvery = time.Second
	// looksEvery is how often it looks whether the last operation has ended while there is a maintenance.
	looksEvery = 200 * time.Millisecond
	// Bounds of the pauses after the API server could not be asked.
	minSayPause = 100 * time.Millisecond
	maxSayPause = 2 * time.Second
)

// operations keeps the right of a node part to grant operations, as maintenance.Nodes has it, and tells the agent what
// is under way. One goroutine runs it.
type operations struct {
	options *Options
	beat    string // name of the Lease
	server  *server.Server
	sockets server.Sockets // where pods ask
	log     zerolog.Logger
	hint    wake.Signal // the ConfigMap changed
	look    wake.Signal // an operation ended
	unread  bool        // a hint, or the start: the ConfigMap is to be read

	published []byte            // that the server goes by
	phase     maintenance.Phase // of it
	said      maintenance.NodeReport
	at        time.Time // when said was sent; zero: nothing was said
	fault     string    // why it can't be said, as logged; empty: it can
}

func newOperations(o *Options) *operations {
	p := &operations{options: o, log: o.Log, hint: wake.New(), look: wake.New(), unread: true,
		beat: heartbeatName(o.Node)}
	p.server = server.NewForNode(p.look.Notify)
	return p
}

// heartbeatName returns the name of a node's Lease, which Kubernetes bounds as it does a node's own.
func heartbeatName(node string) string {
	if name := heartbeatPrefix + node; len(name) <= 253 {
		return name
	}
	return heartbeatPrefix + publishedID([]byte(node))
}

func (p *operations) file() string { return filepath.Join(p.options.StateDir, stateFile) }

// restore goes by what the process before knew, until its end.
func (p *operations) restore() {
	text, err := disk.ReadChecksummed(p.file(), maxPublished)
	if err == nil && len(text) > 0 {
		err = p.set(text)
	}
	if err != nil {
		p.log.Warn().Err(err).Msg("what was known of a maintenance can't be read: operations wait for the API server")
	}
	p.published = nil // it is read anew before anything is granted
}

// run says that the node part is there, again and again, and takes what the agent tells, until ctx ends.
func (p *operations) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		err := p.step(ctx)
		if ctx.Err() != nil {
			return
		}
		p.note(err)
		pause := p.pause(time.Now())
		if err != nil {
			pause = backoff.FullJitter(backoff.Exponential(minSayPause, maxSayPause, failures))
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.hint:
			p.unread = true
		case <-p.look:
		}
		timer.Stop()
	}
}

// pause returns how long nothing is to be done unless something happens.
func (p *operations) pause(now time.Time) time.Duration {
	rest := max(time.Millisecond, p.at.Add(maintenance.NodeRenews).Sub(now))
	if p.phase == maintenance.Draining {
		return min(looksEvery, rest)
	}
	return rest
}

// step reads what the agent published where that may have changed, and then says what there is to say.
func (p *operations) step(ctx context.Context) error {
	if p.unread {
		if err := p.read(ctx); err != nil {
			return err
		}
	}
	for range 2 { // the second time after a state was read
		asked := time.Now()
		report := maintenance.NodeReport{Published: publishedID(p.published), At: asked,
			Busy: p.server.BusyAt(p.sockets)}
		if !p.isDue(report, asked) {
			return nil
		}
		text, err := json.Marshal(report)
		if err != nil {
			return err
		}
		if err := p.options.Heartbeats.Write(ctx, p.beat, string(text), asked); err != nil {
			return err
		}
		p.said, p.at = report, asked
		// While there is a maintenance, its end may have been moved: a watch alone may be late.
		if p.server.Renewed(asked) || p.phase != maintenance.Off {
			if err := p.read(ctx); err != nil {
				return err
			}
			p.server.Confirm(asked)
		}
	}
	return nil
}

// isDue reports whether a report is worth saying now: at once, what a drain waits for.
func (p *operations) isDue(r maintenance.NodeReport, now time.Time) bool {
	since, said := now.Sub(p.at), p.said.Busy
	switch {
	case p.at.IsZero() || since >= maintenance.NodeRenews || r.Published != p.said.Published:
		return true
	case p.phase == maintenance.Off:
		return false
	case r.Busy.Quiet != said.Quiet:
		return true
	}
	return since >= saysEvery && (r.Busy.Names != said.Names || r.Busy.Count != said.Count ||
		r.Busy.Unasked != said.Unasked || r.Busy.Ignored != said.Ignored || !maps.Equal(r.Busy.Refused, said.Refused))
}

// read takes what the ConfigMap has now; what a watch brings may be old. While operations are refused, a ConfigMap that
// somebody removed changes nothing.
func (p *operations) read(ctx context.Context) error {
	files, err := p.options.Maps.Read(ctx, MaintenanceName(p.options.Name))
	if err != nil {
		return err
	}
	text := files[stateFile]
	if len(text) > 0 || !p.server.Refuses() {
		if err := p.set(text); err != nil {
			return err
		}
	}
	p.unread = false
	return nil
}

// set goes by a PublishedState from now on, and then makes it durable: a refusal does not wait for the disk. Without a
// text the agent has published nothing yet.
func (p *operations) set(text []byte) error {
	w := maintenance.PublishedState{State: maintenance.State{Phase: maintenance.Off}}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &w); err != nil {
			return fmt.Errorf("what the agent tells of maintenances can't be read: %w", err)
		}
	}
	if bytes.Equal(text, p.published) && len(text) > 0 {
		return nil // it is anchored already
	}
	p.server.Set(w.Anchor(time.Now()))
	changed := !bytes.Equal(text, p.published)
	p.published, p.phase = text, w.State.Phase
	if !changed {
		return nil
	}
	if err := disk.WriteChecksummed(p.file(), text); err != nil {
		p.log.Error().Err(err).Msg("what is known of a maintenance holds but can't be saved")
	}
	return nil
}

// note logs once that the agent can't be told, and once that it can again.
func (p *operations) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == p.fault:
		return
	case err != nil:
		p.log.Warn().Err(err).Msg("the agent can't be told what is under way here: after a while no operation is granted")
	default:
		p.log.Info().Msg("operations are granted")
	}
	p.fault = text
}
