package main

import (
	"context"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/swarm"
)

const (
	reportsARound   = 300 // with 5 rounds, 15 take longer than the p99
	pullsBeside     = 4
	betweenReports  = 20 * time.Millisecond
	pullersPriority = 10
)

// cellPuller pulls as each of the cells, by its key.
func cellPuller(address, path string, dialer *swarm.Dialer) puller {
	clients := make([]*http.Client, imageCells)
	for i := range clients {
		clients[i] = &http.Client{Transport: &http.Transport{TLSClientConfig: dialer.StrangerConfig(i, "http/1.1"),
			DisableCompression: true}}
	}
	return puller{"https://" + address, path, func(i int) *http.Client { return clients[i%imageCells] }}
}

// pulls are cells that pull as fast as they can, in a process of their own.
type pulls struct {
	stop    context.CancelFunc
	running sync.WaitGroup
}

type pullOptions struct {
	Plane         swarm.ControlPlane
	Address, Path string
}

func pullCommands() commands {
	p := &pulls{}
	return commands{"start": commandOf(p.start), "end": commandOf(p.end)}
}

func (p *pulls) start(o pullOptions) (any, error) {
	dialer, err := swarm.NewDialer(o.Plane, swarm.Members(cellPrefix, imageCells, keySeed))
	if err != nil {
		return nil, err
	}
	// These cells are on other machines: theirs are not the processors that the server needs.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, pullersPriority); err != nil {
		return nil, err
	}
	from := cellPuller(o.Address, o.Path, dialer)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for i := range pullsBeside {
		p.running.Go(func() {
			for ctx.Err() == nil {
				_, _ = from.pull(ctx, i, 0) // ends with ctx
			}
		})
	}
	return nil, nil
}

func (p *pulls) end(struct{}) (any, error) {
	p.stop()
	p.running.Wait()
	return nil, nil
}

// measureReportsBesidePulls times reports at rest, and while other cells pull as fast as they can: as many, as far
// apart, and by turns, so that whatever else goes on counts for both. The cells that pull are a process of their own:
// in the one that reports, reports would wait for them.
func (b *bench) measureReportsBesidePulls(ctx context.Context, f *fleet, dialer *swarm.Dialer, path string) (
	[]figures.Row, error) {

	others, err := startChild(ctx, "pull")
	if err != nil {
		return nil, err
	}
	defer others.stop()
	var rest, busy []time.Duration
	for range b.rounds {
		took, err := timeReports(ctx, dialer, reportsARound)
		if err != nil {
			return nil, err
		}
		rest = append(rest, took...)
		if err := others.call("start", pullOptions{f.controlPlane(), f.cellAddress, path}, nil); err != nil {
			return nil, err
		}
		if took, err = timeReports(ctx, dialer, reportsARound); err != nil {
			return nil, err
		}
		if err := others.call("end", struct{}{}, nil); err != nil {
			return nil, err
		}
		busy = append(busy, took...)
	}
	return []figures.Row{
		figures.TimeRow("a report's p99 while 4 cells pull", percentile99(busy), "at rest", percentile99(rest), 2),
		figures.NoteRow("  its median", figures.Time(figures.Median(busy)),
			"at rest "+figures.Time(figures.Median(rest))),
	}, nil
}

// timeReports has cells report n times over kept connections.
func timeReports(ctx context.Context, dialer *swarm.Dialer, n int) (all []time.Duration, err error) {
	kept := make([]*swarm.Conn, min(reporterCells, imageCells))
	for i := range kept {
		if kept[i], err = dialer.Dial(ctx, i, 0); err != nil {
			return nil, err
		}
		defer kept[i].Close()
	}
	for begun := time.Now(); len(all) < n; {
		sleep(ctx, time.Until(begun.Add(time.Duration(len(all))*betweenReports)))
		i := len(all) % len(kept)
		took, err := timeReport(kept[i], i)
		if err != nil {
			return nil, err
		}
		all = append(all, took)
	}
	return all, ctx.Err()
}
