package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

const (
	relayedSessions = 100
	relayedCells    = 20 // a cell has at most 8 open requests
	relayedBytes    = 4 << 20
	relayedMemory   = 3 // MiB of each session
	relayTimeout    = 5 * time.Minute
)

// measureRelay measures the memory that sessions take at the control plane, while all of them pass bytes on. Both ends
// are this process's: the relay knows nothing of what passes.
func (p *support) measureRelay(ctx context.Context) (figures.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	dialer, err := swarm.NewDialer(swarm.ControlPlane{Addresses: []string{p.cells}}, p.members)
	if err != nil {
		return figures.Row{}, err
	}
	before, err := settledMemory(ctx, p.server.Process.Pid)
	if err != nil {
		return figures.Row{}, err
	}
	var joining errgroup.Group
	joining.SetLimit(10)
	sessions := make([]relayed, relayedSessions)
	defer func() {
		for _, s := range sessions {
			s.close()
		}
	}()
	for i := range sessions {
		joining.Go(func() (err error) {
			sessions[i], err = p.join(ctx, dialer, i%relayedCells)
			return err
		})
	}
	if err := joining.Wait(); err != nil {
		return figures.Row{}, err
	}
	most, err := p.memoryWhile(ctx, func() error {
		var passing errgroup.Group
		for _, s := range sessions {
			passing.Go(func() error { return s.pass(ctx) })
		}
		return passing.Wait()
	})
	if err != nil {
		return figures.Row{}, err
	}
	const limit = relayedMemory * (1 << 20) / 1e6
	each := (most - before) / relayedSessions
	return figures.Row{What: fmt.Sprintf("memory of each of %d debug sessions at the control plane", relayedSessions),
		Got: fmt.Sprintf("%.2f MB", each), Base: fmt.Sprintf("limit %d MiB; %.0f MB before", relayedMemory, before),
		Ratio: each / limit, Limit: 1}, nil
}

// memoryWhile returns the most memory that the control plane had while something was done, in MB.
func (p *support) memoryWhile(ctx context.Context, do func() error) (most float64, err error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		now, err := residentMemory(p.server.Process.Pid)
		if err != nil {
			return 0, errors.Join(err, <-done)
		}
		most = max(most, now)
		select {
		case err := <-done:
			return most, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// relayed is a session of which both ends are here.
type relayed struct{ cell, person net.Conn }

func (s relayed) close() {
	for _, end := range []net.Conn{s.cell, s.person} {
		if end != nil {
			_ = end.Close()
		}
	}
}

// join has both ends of a session come to the control plane: the cell by TLS with its key, the person by the socket.
func (p *support) join(ctx context.Context, dialer *swarm.Dialer, member int) (s relayed, err error) {
	cell := p.members[member].Name
	id, err := p.request(ctx, cell)
	if err != nil {
		return s, err
	}
	hello, err := upgrade.Encode(debug.HostKey{})
	if err != nil {
		return s, err
	}
	var ends sync.WaitGroup
	var failed [2]error
	ends.Go(func() {
		s.person, _, failed[0] = upgrade.Dial(ctx, p.people, "http://localhost"+debug.PersonPath(cell, id), nil)
	})
	ends.Go(func() {
		own := &http.Transport{TLSClientConfig: dialer.StrangerConfig(member, "http/1.1")}
		failed[1] = p.await(ctx, func() (err error) { // the person may not be there yet
			s.cell, _, err = upgrade.Dial(ctx, own, "https://"+p.cells+debug.AgentPath(id),
				http.Header{debug.HostKeyHeader: {hello}})
			return err
		})
	})
	ends.Wait()
	if err := errors.Join(failed[:]...); err != nil {
		s.close()
		return relayed{}, fmt.Errorf("a session of %s: %w", cell, err)
	}
	return s, nil
}

// pass has the cell send to the person, who answers once all has come.
func (s relayed) pass(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.close)()
	var both errgroup.Group
	both.Go(func() error {
		if _, err := s.cell.Write(make([]byte, relayedBytes)); err != nil {
			return err
		}
		_, err := io.ReadFull(s.cell, make([]byte, 1))
		return err
	})
	both.Go(func() error {
		if _, err := io.CopyN(io.Discard, s.person, relayedBytes); err != nil {
			return err
		}
		_, err := s.person.Write([]byte{1})
		return err
	})
	return both.Wait()
}
