package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// NodePulls is where the node parts of a cell's cluster pull images.
type NodePulls struct {
	Listen string                                               // IP:PORT of the agent's pod
	Share  func(ctx context.Context, a imagerelay.Access) error // tells node parts how to get in there
}

const (
	sharePause      = time.Minute     // somebody may have removed what was shared
	shareRetryPause = 5 * time.Second // after it was not shared
)

// pulls passes on pulls of images.
type pulls struct {
	relay        *imagerelay.Relay
	local, nodes net.Listener // nil: not asked for
	door         *imagerelay.Door
	share        func(context.Context, imagerelay.Access) error
	log          zerolog.Logger
}

// openPulls listens for pulls; nil: nobody asked for it.
func (a *Agent) openPulls(ctx context.Context) (p *pulls, err error) {
	local, err := a.listen(ctx, "images", a.options.ImagesListen, false)
	if err != nil {
		return nil, err
	}
	opened := []net.Listener{local}
	defer func() {
		if err != nil {
			closeListeners(opened...)
		}
	}()
	p = &pulls{local: local, log: a.options.Log, relay: imagerelay.New(imagerelay.Options{
		To: a.client.Transport(imagerelay.Connections), Rate: a.options.ImagesRate, Log: a.options.Log})}
	if n := a.options.NodePulls; n != nil {
		if p.nodes, err = new(net.ListenConfig).Listen(ctx, "tcp", n.Listen); err != nil {
			return nil, fmt.Errorf("images of nodes: %w", err)
		}
		opened = append(opened, p.nodes)
		p.share = n.Share
		if p.door, err = imagerelay.NewDoor(p.nodes.Addr().String(), time.Now()); err != nil {
			return nil, err
		}
	}
	if p.local == nil && p.nodes == nil {
		return nil, nil
	}
	return p, nil
}

// run passes pulls on until ctx ends. OTLP that node parts pass on goes to telemetry.
func (p *pulls) run(ctx context.Context, telemetry http.Handler) {
	var all sync.WaitGroup
	defer all.Wait()
	if p.local != nil {
		all.Go(func() { p.relay.Serve(ctx, p.local) })
	}
	if p.nodes != nil {
		all.Go(func() { p.relay.ServeNodes(ctx, p.nodes, p.door, telemetry) })
		all.Go(func() { p.keepSharing(ctx) })
	}
}

// keepSharing tells node parts how to get in, again and again.
func (p *pulls) keepSharing(ctx context.Context) {
	told := ""
	for pause := time.Duration(0); backoff.Sleep(ctx, pause) == nil; {
		pause = sharePause
		now := ""
		if err := p.share(ctx, p.door.Access()); err != nil {
			pause, now = shareRetryPause, err.Error()
		}
		if now != told && now != "" && ctx.Err() == nil {
			p.log.Warn().Str("problem", now).Msg("the nodes do not know where the agent is: it is tried again")
		}
		told = now
	}
}
