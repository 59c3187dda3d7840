package images

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

const (
	lookPause  = time.Second      // between two looks for a new head
	retryPause = 30 * time.Second // after a release's images could not be fetched
)

// Warm says how much of a release's images is here.
type Warm struct {
	Images, Ready int       // references, and how many are here with all they name
	Bytes, Here   int64     // as far as manifests are here
	Since         time.Time // when fetching began
	Problem       string    // why the newest try failed; empty: it did not
	retry         time.Time
}

// Complete reports whether all is here.
func (w Warm) Complete() bool { return w.Ready == w.Images && w.Problem == "" }

// Warming returns how much is here of the images of a channel's head; ok is false if fetching has not begun.
func (s *Service) Warming(release releases.Digest) (w Warm, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok = s.warm[release]
	return w, ok
}

// warmHeads fetches what channels' heads name, a release at a time, until ctx ends.
func (s *Service) warmHeads(ctx context.Context) {
	for backoff.Sleep(ctx, lookPause) == nil {
		current, former := s.heads()
		s.forgetWarm(current)
		s.protect(ctx, slices.Concat(current, former))
		for _, release := range current {
			w, known := s.Warming(release)
			if known && (w.Complete() || time.Now().Before(w.retry)) {
				continue
			}
			since := w.Since
			if !known {
				since = time.Now()
			}
			tell := func(w Warm) {
				w.Since = since
				s.mu.Lock()
				defer s.mu.Unlock()
				s.warm[release] = w
			}
			if err := s.Fetch(ctx, release, tell); err != nil && ctx.Err() == nil {
				w, _ = s.Warming(release)
				w.Problem, w.retry = err.Error(), time.Now().Add(retryPause)
				tell(w)
				s.log.Warn().Err(err).Str("release", release.Short()).Msg("the images of a channel's head were not all fetched")
			}
			s.protect(ctx, slices.Concat(current, former)) // what came, before others make room for more
		}
	}
}

// forgetWarm forgets releases that are no channel's head any more.
func (s *Service) forgetWarm(current []releases.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for release := range s.warm {
		if !slices.Contains(current, release) {
			delete(s.warm, release)
		}
	}
}

// protect keeps from eviction what releases name, as far as manifests are here. Without any head, such as before the
// release repository was read, what is in use is not known.
func (s *Service) protect(ctx context.Context, all []releases.Digest) {
	if len(all) == 0 {
		return
	}
	inUse := map[releases.Digest]bool{}
	for _, release := range all {
		named, err := s.references(release)
		if err != nil { // whoever pulls hears of it
			continue
		}
		for _, r := range named {
			s.addKept(ctx, inUse, source{r, r.root(), 0})
		}
	}
	s.cache.inUse.Store(&inUse)
}

// addKept adds what a manifest names. After a restart it is read from disk.
func (s *Service) addKept(ctx context.Context, to map[releases.Digest]bool, m source) {
	digest := m.manifest.Digest
	if to[digest] || m.depth > maxDepth {
		return
	}
	to[digest] = true
	s.mu.Lock()
	children, known := s.children[digest]
	s.mu.Unlock()
	if !known && m.manifest.isManifest() && s.cache.has(digest) {
		children, _ = s.readManifest(ctx, m) // whoever pulls hears of its error
	}
	for _, child := range children {
		s.addKept(ctx, to, source{m.from, child, m.depth + 1})
	}
}

// Fetch fetches all images of a release, and tells progress at least once a second. It returns when all are here.
func (s *Service) Fetch(ctx context.Context, release releases.Digest, progress func(Warm)) error {
	named, err := s.references(release)
	if err != nil {
		return err
	}
	w := Warm{Images: len(named)}
	for _, r := range named {
		progress(w)
		all, err := s.closure(ctx, r)
		if err != nil {
			return err
		}
		for _, d := range all {
			w.Bytes += max(d.Size, 0)
		}
		for _, d := range all {
			if err := s.fetchOne(ctx, d, r, func(n int64) { w.Here += n; progress(w) }); err != nil {
				return err
			}
		}
		w.Ready++
	}
	progress(w)
	return nil
}

// closure returns what a reference names, manifests first. Content that several manifests name is there once.
func (s *Service) closure(ctx context.Context, r Reference) ([]Descriptor, error) {
	var all []Descriptor
	seen := map[releases.Digest]bool{}
	for next := []source{{r, r.root(), 0}}; len(next) > 0; next = next[1:] {
		m := next[0]
		if seen[m.manifest.Digest] || len(seen) > maxRemembered {
			continue
		}
		seen[m.manifest.Digest] = true
		all = append(all, m.manifest)
		if !m.manifest.isManifest() || m.depth == maxDepth {
			continue
		}
		children, err := s.readManifest(ctx, m)
		if err != nil {
			return nil, err
		}
		for _, child := range children {
			next = append(next, source{r, child, m.depth + 1})
		}
	}
	return all, nil
}

func (s *Service) fetchOne(ctx context.Context, d Descriptor, from Reference, here func(int64)) error {
	c, err := s.open(ctx, d, from)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // only read
	buffer := make([]byte, 256<<10)
	for last, n := time.Now(), int64(0); ; {
		got, err := c.Read(buffer)
		n += int64(got)
		if err == nil && time.Since(last) < time.Second {
			continue
		}
		here(n)
		last, n = time.Now(), 0
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
