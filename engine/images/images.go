// Package images serves the container images of releases to cells, so that a cell needs no connection but the one to
// the control plane.
//
// What a cell may pull follows from git alone: the references with a digest in the files of the releases that it was
// offered, and what their manifests name (Find, Reference). Everything is asked for by digest, so that nothing is ever
// outdated; tags are not known here. Content comes from the vendor's registries (Registries, upstream), is fetched once
// for all cells and for all replicas that share a folder, and is kept on disk (Cache). Bytes are passed on while they
// arrive, but never the last ones before length and SHA-256 are right: a body whose digest is wrong does not end.
//
// Package imageapi has the routes. All methods may be called from any goroutine.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/releases"
)

// Errors of Open that are not a registry's.
var (
	// ErrNotNamed says that no release that the cell was offered names the content.
	ErrNotNamed = errors.New("no release that this cell was offered names it")
	// ErrUnread says that manifests which may name the content were not read yet: ask again later.
	ErrUnread = errors.New("manifests that may name it were not read yet")
)

const (
	maxManifest  = 4 << 20 // bytes of a manifest, as registries take at most
	maxManifests = 1024    // manifests that are looked through for one request
	maxFetched   = 16      // of these, those that are not here and have to be fetched
	maxDepth     = 4       // an index of indexes of manifests, and their content
	maxReleases  = 4096    // releases whose references are kept in memory: more than a channel has heads
	// maxRemembered bounds the manifests whose content is kept in memory.
	maxRemembered = 1 << 16
)

// Options configures a Service. Dir, Registries and Files are required.
type Options struct {
	Dir        string      // folder for content; replicas may share it
	Quota      int64       // bytes of content on disk; default 20 GiB
	Registries *Registries // where content may come from
	// Files returns the folder of a release. fs.ErrNotExist: no head ever had the digest.
	Files func(release releases.Digest) (files fs.FS, dir string, err error)
	// Heads returns the heads of all channels, and those that cells may go back to; nil: none. What they name is never
	// evicted, and what heads name is fetched before it is asked for.
	Heads func() (current, former []releases.Digest)
	Log   zerolog.Logger
}

// Service finds out what may be pulled, and opens it.
type Service struct {
	files    func(releases.Digest) (fs.FS, string, error)
	heads    func() (current, former []releases.Digest)
	log      zerolog.Logger
	cache    *Cache
	upstream *upstream

	mu       sync.Mutex
	named    map[releases.Digest][]Reference  // by a release
	children map[releases.Digest][]Descriptor // of a manifest
	warm     map[releases.Digest]Warm         // by a channel's head
}

// New opens the folder and starts nothing but what Run does.
func New(o Options) (*Service, error) {
	cache, err := openCache(o)
	if err != nil {
		return nil, err
	}
	s := &Service{files: o.Files, heads: o.Heads, log: o.Log, cache: cache, upstream: newUpstream(o.Registries, o.Log),
		named: map[releases.Digest][]Reference{}, children: map[releases.Digest][]Descriptor{},
		warm: map[releases.Digest]Warm{}}
	cache.counters = newCounters(cache.usage, s.lacking)
	if s.heads == nil {
		s.heads = func() (current, former []releases.Digest) { return nil, nil }
		cache.inUse.Store(&map[releases.Digest]bool{})
	}
	return s, nil
}

// Run fetches what the channels' heads name and checks the kept content now and then, until ctx ends, and then stops
// all fills.
func (s *Service) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.warmHeads(ctx) })
	return s.cache.run(ctx)
}

// Collector returns the metrics.
func (s *Service) Collector() prometheus.Collector { return s.cache.counters }

// Wanted is what a client asks for.
type Wanted struct {
	Registry   string // empty: any registry with this repository
	Repository string
	Digest     releases.Digest
	Manifest   bool // a manifest, not a blob
}

// Client is who asks.
type Client struct {
	Offered iter.Seq[releases.Digest] // releases that it was offered
	// MaySearch is asked before a manifest is fetched from a registry only to find out whether it names what the client
	// wants, so that made-up digests cost little there; nil: it always may.
	MaySearch func() bool
}

// Open opens content for a client. It returns ErrNotNamed if no release that it was offered names the content,
// ErrUnread if that is not known yet, and an *UpstreamError if the registry does not have it or can't be asked.
func (s *Service) Open(ctx context.Context, c Client, w Wanted) (*Content, error) {
	d, from, err := s.find(ctx, c, w)
	if err != nil {
		return nil, err
	}
	kept := s.cache.has(d.Digest)
	content, err := s.openFound(ctx, d, from, w)
	if err == nil {
		s.cache.counters.pulls.Inc()
		if kept {
			s.cache.counters.hits.Inc()
		}
	}
	return content, err
}

func (s *Service) openFound(ctx context.Context, d Descriptor, from Reference, w Wanted) (*Content, error) {
	if !w.Manifest {
		return s.open(ctx, d, from)
	}
	text, m, err := s.loadManifest(ctx, source{from: from, manifest: d})
	if err != nil {
		return nil, err
	}
	s.remember(d.Digest, m) // its content is asked for next
	d.MediaType = m.MediaType
	return inMemory(d, text), nil
}

// CountServed counts bytes that were sent to a cell.
func (s *Service) CountServed(n int64) { s.cache.counters.served.Add(n) }

func (s *Service) open(ctx context.Context, d Descriptor, from Reference) (*Content, error) {
	return s.cache.open(ctx, d, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return s.upstream.fetch(ctx, from, d, offset)
	})
}

// find returns the descriptor of wanted content and the reference that leads to it.
func (s *Service) find(ctx context.Context, c Client, w Wanted) (Descriptor, Reference, error) {
	var unread []source
	for release := range c.Offered {
		named, err := s.references(release)
		if err != nil {
			return Descriptor{}, Reference{}, err
		}
		for _, r := range named {
			if r.Repository != w.Repository || w.Registry != "" && r.Registry != w.Registry {
				continue
			}
			d, found := s.search(r, r.root(), w, 0, &unread)
			if found {
				return d, r, nil
			}
		}
	}
	if len(unread) == 0 {
		return Descriptor{}, Reference{}, ErrNotNamed
	}
	return s.readOn(ctx, c, w, unread)
}

// readOn looks for wanted content in manifests that were not read yet, and in those that these name: first in what is
// here, then in a few that it fetches. A manifest that can't be had hides no other.
func (s *Service) readOn(ctx context.Context, c Client, w Wanted, unread []source) (Descriptor, Reference, error) {
	var absent []source
	var failed error
	seen, cut := map[releases.Digest]bool{}, false
	for fetched := 0; len(unread)+len(absent) > 0; {
		var next source
		if len(unread) > 0 {
			next, unread = unread[0], unread[1:]
			if seen[next.manifest.Digest] {
				continue
			}
			if cut = len(seen) == maxManifests; cut {
				continue // by the next request, others were read
			}
			seen[next.manifest.Digest] = true
			if !s.cache.has(next.manifest.Digest) {
				absent = append(absent, next)
				continue
			}
		} else {
			if fetched++; fetched > maxFetched || c.MaySearch != nil && !c.MaySearch() {
				return Descriptor{}, Reference{}, ErrUnread
			}
			next, absent = absent[0], absent[1:]
		}
		if _, err := s.readManifest(ctx, next); err != nil {
			failed = err
			continue
		}
		if d, found := s.search(next.from, next.manifest, w, next.depth, &unread); found {
			return d, next.from, nil
		}
	}
	if cut {
		return Descriptor{}, Reference{}, ErrUnread
	}
	var refused *UpstreamError
	if failed == nil || errors.As(failed, &refused) && refused.Status == http.StatusNotFound {
		return Descriptor{}, Reference{}, ErrNotNamed // what a manifest names that the registry lacks can't be pulled
	}
	return Descriptor{}, Reference{}, failed
}

// source is a manifest, the reference that leads to it, and over how many others.
type source struct {
	from     Reference
	manifest Descriptor
	depth    int
}

// search looks for wanted content at d and below, as far as manifests were read, and appends those that were not.
func (s *Service) search(from Reference, d Descriptor, w Wanted, depth int, unread *[]source) (Descriptor, bool) {
	if d.Digest == w.Digest && d.isManifest() == w.Manifest {
		return d, true
	}
	if !d.isManifest() || depth == maxDepth {
		return Descriptor{}, false
	}
	s.mu.Lock()
	children, known := s.children[d.Digest]
	s.mu.Unlock()
	if !known {
		*unread = append(*unread, source{from, d, depth})
		return Descriptor{}, false
	}
	for _, child := range children {
		if found, ok := s.search(from, child, w, depth+1, unread); ok {
			return found, true
		}
	}
	return Descriptor{}, false
}

// references returns what a release names. No reference of a release that no head ever had counts.
func (s *Service) references(release releases.Digest) ([]Reference, error) {
	s.mu.Lock()
	named, known := s.named[release]
	s.mu.Unlock()
	if known {
		return named, nil
	}
	files, dir, err := s.files(release)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		named, err = Find(files, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("find the images of %s: %w", release.Short(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.named) >= maxReleases { // what is still asked for is soon back
		clear(s.named)
	}
	s.named[release] = named
	return named, nil
}

// readManifest returns what a manifest names, and remembers it.
func (s *Service) readManifest(ctx context.Context, m source) ([]Descriptor, error) {
	_, parsed, err := s.loadManifest(ctx, m)
	if err != nil {
		return nil, err
	}
	return s.remember(m.manifest.Digest, parsed), nil
}

// remember keeps in memory what a manifest names, and returns it.
func (s *Service) remember(digest releases.Digest, m *manifest) []Descriptor {
	children := m.children()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.children) >= maxRemembered {
		clear(s.children)
	}
	s.children[digest] = children
	return children
}

// loadManifest reads a manifest, from the registry if it is not here.
func (s *Service) loadManifest(ctx context.Context, m source) ([]byte, *manifest, error) {
	c, err := s.open(ctx, m.manifest, m.from)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(c)
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, nil, err
	}
	parsed, err := parseManifest(text)
	if err != nil {
		return nil, nil, &UpstreamError{Reference: m.from, Problem: err.Error()}
	}
	return text, parsed, nil
}
