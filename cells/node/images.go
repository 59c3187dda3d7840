package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// ImagesName returns the name of the Secret in which an agent says where its node parts pull images, beside the
// ConfigMap with a name.
func ImagesName(name string) string { return name + "-images" }

const accessFile = "access.json" // an imagerelay.Access

// AccessSharer returns what writes an imagerelay.Access into the Secret beside the ConfigMap with a name: see
// agent.NodePulls. acting is as for NewPublisher.
func AccessSharer(secrets *kubernetes.ConfigMaps, name string, acting func(context.Context) error) func(context.Context,
	imagerelay.Access) error {

	return func(ctx context.Context, a imagerelay.Access) error {
		if err := acting(ctx); err != nil {
			return err
		}
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		return secrets.Write(ctx, ImagesName(name), map[string][]byte{accessFile: text})
	}
}

// Images passes pulls of programs on a node, such as its containerd, on to the cell's agent. It has no key of the cell.
// Fields without a default are required.
type Images struct {
	Agent      *AgentWay // whoever made it has it followed
	Listen     string    // 127.0.0.1:PORT or [::1]:PORT
	Registries []string  // those whose images come through the agent
	// HostsDir is containerd's config_path, where a hosts.toml is written for each registry; empty: somebody else does.
	HostsDir string
	Log      zerolog.Logger
}

// Run passes pulls on until ctx ends, and then returns nil. An error means that Listen is no address. What is in the
// way is logged and tried again: it must not end what else a node part serves.
func (i Images) Run(ctx context.Context) error {
	address, err := flagserver.ParseAddress(i.Listen)
	if err != nil {
		return fmt.Errorf("node: images: %w", err)
	}
	l, err := i.listen(ctx, address)
	if err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	if i.HostsDir != "" {
		if err := imagerelay.WriteHosts(i.HostsDir, i.Registries, l.Addr().String()); err != nil {
			i.Log.Error().Err(err).Msg("containerd was not told of all registries: mend it, and start this program anew")
		}
	}
	i.Log.Info().Stringer("address", l.Addr()).Msg("images are served")
	imagerelay.New(imagerelay.Options{To: i.Agent, Log: i.Log}).Serve(ctx, l)
	return nil
}

// listen listens, or returns an error once ctx has ended.
func (i Images) listen(ctx context.Context, address flagserver.Address) (net.Listener, error) {
	for failures := 0; ; failures++ {
		l, err := address.Listen(ctx)
		if err == nil {
			return l, nil
		}
		if failures == 0 {
			i.Log.Error().Err(err).Msg("images are not served until this address is free: stop the process that uses it")
		}
		if err := backoff.Sleep(ctx, backoff.Exponential(minReadPause, maxReadPause, failures)); err != nil {
			return nil, err
		}
	}
}
