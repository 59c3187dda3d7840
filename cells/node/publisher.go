package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

// MaxParts is how many ConfigMaps a compressed bundle may take.
const MaxParts = 8

// Names of files in the ConfigMaps.
const (
	sharedFile = "shared.json" // a flagserver.Shared
	digestFile = "digest"      // of the bundle that a part belongs to
	partsFile  = "parts"       // how many there are
	partFile   = "part.gz"
)

// PartName returns the name of the ConfigMap with the n-th part of the bundle, from 1.
func PartName(name string, n int) string { return name + "-bundle-" + strconv.Itoa(n) }

// Publisher writes what an agent shares into ConfigMaps. Its method is called by one goroutine at a time.
type Publisher struct {
	maps    *kubernetes.ConfigMaps
	name    string
	acting  func(context.Context) error
	written releases.Digest // of the bundle whose parts this process wrote
	at      time.Time       // when it did last
}

// partsEvery is the time after which parts are written again with a share, so that what somebody changed or deleted is
// there again. An agent shares more rarely while nothing changes.
const partsEvery = 5 * time.Minute

// NewPublisher returns a publisher that writes into the ConfigMap with a name, and into those for the bundle's parts.
// acting says whether this agent is the one that acts in the cluster: see kubernetes.Target.Acting.
func NewPublisher(maps *kubernetes.ConfigMaps, name string, acting func(context.Context) error) *Publisher {
	return &Publisher{maps: maps, name: name, acting: acting}
}

// Share writes s: see flagserver.Sharer. A new bundle comes first, so that nodes find it; one that is written again
// comes last, so that no order waits for it.
func (p *Publisher) Share(ctx context.Context, s flagserver.Shared, bundle func() ([]byte, error)) error {
	if err := p.acting(ctx); err != nil {
		p.written = "" // the agent that acts may write another
		return err
	}
	if s.Bundle != p.written {
		if err := p.writeParts(ctx, s.Bundle, bundle); err != nil {
			return err
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := p.maps.Write(ctx, p.name, map[string][]byte{sharedFile: text}); err != nil {
		return err
	}
	if time.Since(p.at) < partsEvery {
		return nil
	}
	return p.writeParts(ctx, s.Bundle, bundle)
}

// writeParts writes the parts of a bundle.
func (p *Publisher) writeParts(ctx context.Context, digest releases.Digest, bundle func() ([]byte, error)) error {
	raw, err := bundle()
	if err != nil {
		return err
	}
	parts, err := split(raw, kubernetes.MaxConfigMap, MaxParts)
	if err != nil {
		return err
	}
	for i, part := range parts {
		err := p.maps.Write(ctx, PartName(p.name, i+1), map[string][]byte{digestFile: []byte(digest),
			partsFile: []byte(strconv.Itoa(len(parts))), partFile: part})
		if err != nil {
			return err
		}
	}
	p.written, p.at = digest, time.Now()
	return nil
}

// split compresses a bundle, and cuts it into parts of at most size bytes.
func split(raw []byte, size, most int) (parts [][]byte, err error) {
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if compressed.Len() > size*most {
		return nil, fmt.Errorf("the bundle of flags has %d bytes when compressed, and the cell's nodes take %d: "+
			"announce fewer flags to one cell", compressed.Len(), size*most)
	}
	for compressed.Len() > 0 {
		parts = append(parts, bytes.Clone(compressed.Next(size)))
	}
	return parts, nil
}

// bundles reads bundles from the ConfigMaps of a Publisher: see flagserver.Source.
type bundles struct {
	maps *kubernetes.ConfigMaps
	name string
}

func (b *bundles) OpenContent(ctx context.Context, _ content.Kind, digest releases.Digest, _ int64) (
	content.Stream, error,
) {
	var parts []io.Reader
	for n, count := 1, 1; n <= count; n++ {
		files, err := b.maps.Read(ctx, PartName(b.name, n))
		if err != nil {
			return nil, err
		}
		if got := string(files[digestFile]); got != string(digest) {
			return nil, fmt.Errorf("ConfigMap %s has a part of bundle %q, not of %s: the agent is about to write it, or "+
				"somebody changed it", PartName(b.name, n), got, digest)
		}
		if count, err = strconv.Atoi(string(files[partsFile])); err != nil || count < 1 || count > MaxParts {
			return nil, fmt.Errorf("ConfigMap %s: %q is no number of parts", PartName(b.name, n), files[partsFile])
		}
		parts = append(parts, bytes.NewReader(files[partFile]))
	}
	r, err := gzip.NewReader(io.MultiReader(parts...))
	if err != nil {
		return nil, fmt.Errorf("bundle %s in the ConfigMaps: %w", digest, err)
	}
	return stream{io.LimitReader(r, flags.MaxBundle+1)}, nil
}

// Bounds of the pauses after a bundle could not be read.
const (
	minReadPause = 100 * time.Millisecond
	maxReadPause = 5 * time.Second
)

func (b *bundles) RetryPause(_ error, failures int) time.Duration {
	return backoff.FullJitter(backoff.Exponential(minReadPause, maxReadPause, failures))
}

// stream is content that is in memory by now.
type stream struct{ io.Reader }

func (stream) Close() error           { return nil }
func (stream) ConnectionError() error { return nil }
