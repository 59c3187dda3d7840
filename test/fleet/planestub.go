package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/swarm"
)

// planeStub feeds the control plane's own server without an engine or a store. Its views are made by hand, so that the
// instant of each change is known exactly.
type planeStub struct {
	names  []string
	roster *roster.Roster

	mu      sync.Mutex // guards what follows
	view    *view.View
	changed chan struct{}
}

func (s *planeStub) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *planeStub) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *planeStub) Roster() *roster.Roster { return s.roster }

// RosterChanged returns nil: the roster never changes.
func (s *planeStub) RosterChanged() <-chan struct{} { return nil }

func (s *planeStub) CheckFresh() error { return nil }

func (s *planeStub) RetirePreviousKey(context.Context, string, string) error { return errUnsupported }

func (s *planeStub) RegisterKey(context.Context, string, string, string, string) (cells.Identity, error) {
	return cells.Identity{}, errUnsupported
}

func (s *planeStub) ReplaceKey(context.Context, string, string) error { return errUnsupported }

func (s *planeStub) ChangeIdentity(context.Context, string, string, func(*cells.Identity)) error {
	return errUnsupported
}

var errUnsupported = errors.New("there is none here")

// Receive, FS and Decisions always fail.
func (s *planeStub) Receive(context.Context, *cells.Report) (cells.Receipt, error) {
	return cells.Receipt{}, errUnsupported
}
func (s *planeStub) FS(string) (fs.FS, error) { return nil, errUnsupported }
func (s *planeStub) Decisions(context.Context, int64, int) ([]plan.Decided, int64, error) {
	return nil, 0, errUnsupported
}

// stubOptions say which cells a stub has.
type stubOptions struct {
	N    int
	Seed uint64
}

func stubCommands(ctx context.Context) commands {
	s := &planeStub{changed: make(chan struct{})}
	return commands{
		"listen":  commandOf(func(w stubOptions) (any, error) { return s.listen(ctx, w) }),
		"setHead": commandOf(func(n int64) (any, error) { return s.setHead(n), nil }),
	}
}

func (s *planeStub) listen(ctx context.Context, w stubOptions) (any, error) {
	known := map[string]cells.Identity{}
	for _, m := range swarm.Members(cellPrefix, w.N, w.Seed) {
		s.names = append(s.names, m.Name)
		known[m.Name] = cells.Identity{PublicKey: identity.FormatKey(m.Public())}
	}
	s.roster = roster.New(known)
	s.setHead(1)
	dir, err := os.MkdirTemp("", "sluice-fleet-site-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	keys, err := transport.OpenKeys(dir)
	if err != nil {
		return nil, err
	}
	server, err := controlplane.New(controlplane.Options{
		Views: s, Inbox: s, Repository: s, Journal: s, Log: zerolog.New(os.Stderr).Level(zerolog.ErrorLevel),
		Members: s, Keys: keys,
	})
	if err != nil {
		return nil, err
	}
	l, err := transport.ListenCells("127.0.0.1:0", keys)
	if err != nil {
		return nil, err
	}
	go func() { _ = server.Serve(ctx, l) }() // until the process ends
	return swarm.ControlPlane{Addresses: []string{l.Addr().String()}, Pins: keys.Pins}, nil
}

// setHead makes the n-th release the head, and returns the instant just before subscribers can see it.
func (s *planeStub) setHead(n int64) time.Time {
	v := s.makeView(n)
	runtime.GC() // collects the garbage of making the view, which is not part of the fan-out
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := time.Now()
	s.view = v
	close(s.changed)
	s.changed = make(chan struct{})
	return begun
}

// makeView makes a view of one channel with all cells. All run the release before the head, and wait for their wave.
func (s *planeStub) makeView(n int64) *view.View {
	release := func(n int64) (string, releases.Digest) {
		v := fmt.Sprintf("1.%d.0", n)
		return v, releases.DigestBytes([]byte(v))
	}
	now := time.Now()
	head := plan.EffectiveHead{Kind: plan.Promote, Written: fmt.Sprintf("c%d", n), Moved: now}
	head.Release, head.Digest = release(n)
	head.Commit, head.Sequence = head.Written, n
	c := &plan.Channel{State: channels.State{Name: channelName}, Effective: &head, History: []plan.EffectiveHead{head}}
	d := &plan.Desired{Commit: head.Written, Channels: map[string]*plan.Channel{channelName: c},
		Order: []string{channelName}, Cells: map[string]*plan.Cell{}}
	o := &plan.Observed{Cells: map[string]*plan.CellState{}}
	p := plan.Plan{Commit: head.Written, Now: now}
	before, digest := release(n - 1)
	for _, name := range s.names {
		cell := &plan.Cell{}
		cell.Name, cell.Channel = name, channelName
		d.Cells[name] = cell
		c.Cells = append(c.Cells, cell)
		o.Cells[name] = &plan.CellState{
			Name: name, Channel: channelName, Epoch: 1, Sequence: n - 1, Release: before, Digest: digest,
			State: cells.StateHealthy, LastReport: now,
			Granted: &cells.Assignment{Channel: channelName, Epoch: 1, Sequence: n - 1, Release: before, Digest: digest,
				Values: map[string]any{"domain": name + ".example.com", "replicas": 3}, Revision: "r1"},
		}
		p.Blocked = append(p.Blocked, channels.Verdict{Channel: channelName, Cell: name, Release: head.Release,
			Gate: "wave", Reason: "wave 2 opens when all cells of wave 1 are healthy for 2h"})
	}
	return &view.View{Desired: d, Observed: o, Plan: p}
}
