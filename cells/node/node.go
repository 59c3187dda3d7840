package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/kubernetes"
)

// Options configure Run. Fields without a default are required.
type Options struct {
	Maps       *kubernetes.ConfigMaps
	Heartbeats *kubernetes.Heartbeats // where it says that it is there
	Name       string                 // of the ConfigMap that the agent writes
	Node       string                 // name of the node, which no other has

	StateDir string   // the node part's own folder; created if needed
	Listen   []string // where pods ask: see flagserver.ParseAddress
	Origins  []string // of web pages that may ask; none: no page may
	// Agent is where OTLP of programs on this node goes; nil: none is taken
	Agent http.RoundTripper
	Log   zerolog.Logger
}

const maxShared = 2 << 20 // bytes of what an agent shares: a ConfigMap has less

// part is a running node part.
type part struct {
	options Options
	flags   *flagserver.Server
	grants  *operations
}

// Run serves flags and grants operations until ctx ends, and then returns nil. An error means that it can't serve at
// all.
func Run(ctx context.Context, o Options) error {
	if err := run(ctx, o); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

func run(ctx context.Context, o Options) error {
	if err := disk.MakePrivate(o.StateDir); err != nil {
		return err
	}
	lock, err := disk.LockDir(o.StateDir, "sluice node")
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := disk.RemoveUnfinished(o.StateDir); err != nil {
		return err
	}
	served, err := flagserver.New(flagserver.Options{
		StateDir: o.StateDir, Source: &bundles{o.Maps, o.Name}, Clock: clock.New(o.StateDir, clock.Machine{}),
		Log: o.Log, OnReport: func() {}, OnTestPoint: func(string) {},
	})
	if err != nil {
		return err
	}
	p := &part{options: o, flags: served, grants: newOperations(&o)}
	p.grants.sockets = p.flags.Sockets
	p.restore()
	p.grants.restore()
	listeners, err := listen(ctx, o.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	handler := p.localHandler()
	for _, l := range listeners {
		o.Log.Info().Str("network", l.Addr().Network()).Stringer("address", l.Addr()).Msg("flags are served")
		all.Go(func() { p.flags.Serve(ctx, l, o.Origins, handler) })
	}
	all.Go(func() { p.grants.run(ctx) })
	all.Go(func() {
		o.Maps.Follow(ctx, MaintenanceName(o.Name), func(map[string][]byte) { p.grants.hint.Notify() }, func(error) {})
	})
	all.Go(func() { p.flags.RefoldOnTime(ctx) })
	all.Go(func() { p.flags.FetchBundles(ctx) })
	all.Go(func() { o.Maps.Follow(ctx, o.Name, p.take, noteTrouble(o.Log)) })
	all.Wait()
	return nil
}

func listen(ctx context.Context, where []string) (all []net.Listener, err error) {
	for _, w := range where {
		address, parseErr := flagserver.ParseAddress(w)
		err = parseErr
		if err == nil {
			var l net.Listener
			if l, err = address.Listen(ctx); err == nil {
				all = append(all, l)
			}
		}
		if err != nil {
			for _, l := range all {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
	}
	return all, nil
}

func (p *part) file() string { return filepath.Join(p.options.StateDir, sharedFile) }

// restore puts into force what the process before had taken last.
func (p *part) restore() {
	text, err := disk.ReadChecksummed(p.file(), maxShared)
	if err == nil && text != nil {
		var s flagserver.Shared
		if err = json.Unmarshal(text, &s); err == nil {
			s.Time = time.Time{} // the clock has a file of its own
			err = p.flags.Take(s)
		}
	}
	if err != nil {
		p.options.Log.Warn().Err(err).Msg("what was known last can't be read: flags are off until the ConfigMap is read")
	}
}

// take puts into force what the ConfigMap has now, and then makes it durable: a kill does not wait for the disk.
func (p *part) take(files map[string][]byte) {
	text, ok := files[sharedFile]
	if !ok {
		return // the agent has not written it yet
	}
	var s flagserver.Shared
	err := json.Unmarshal(text, &s)
	if err == nil {
		err = p.flags.Take(s)
	}
	if err != nil {
		p.options.Log.Warn().Err(err).Msg("what the ConfigMap has is refused: what was known before stays in force")
		return
	}
	if err := disk.WriteChecksummed(p.file(), text); err != nil {
		p.options.Log.Error().Err(err).Msg("the flags are in force but can't be saved")
	}
}

// noteTrouble returns what logs once that the ConfigMap can't be watched, and once that it can again. One goroutine
// calls it.
func noteTrouble(log zerolog.Logger) func(error) {
	logged := "" // why it can't be watched; empty: it can
	return func(err error) {
		text := ""
		if err != nil {
			text = err.Error()
		}
		switch {
		case text == logged:
			return
		case err != nil:
			log.Warn().Err(err).Msg("the agent's ConfigMap can't be watched: what is known stays in force")
		default:
			log.Info().Str("before", cmp.Or(logged, "-")).Msg("the agent's ConfigMap is watched")
		}
		logged = text
	}
}
