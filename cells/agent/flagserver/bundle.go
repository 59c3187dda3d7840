package flagserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

const bundleTimeout = 5 * time.Minute

func (s *Server) bundleFile(d releases.Digest) string {
	return filepath.Join(s.bundleDir(), d.Hex()+".json")
}

// loadBundle loads the wanted bundle from disk, or else the last good one. It needs mu.
func (s *Server) loadBundle() {
	for _, d := range []releases.Digest{s.record.Bundle.Digest, s.record.LastGood} {
		if d == "" {
			continue
		}
		b, err := s.readBundle(d)
		var refused *content.RefusedError
		switch {
		case err == nil:
			s.bundle, s.record.LastGood = b, d
			return
		case errors.Is(err, fs.ErrNotExist):
		case !errors.As(err, &refused): // the machine does not let it be read, or it is of another version
			s.log.Warn().Err(err).Msg("a bundle of flags on disk can't be used now, and is kept")
		default:
			s.log.Warn().Err(err).Msg("a bundle of flags on disk is damaged and is fetched again")
			if err := os.Remove(s.bundleFile(d)); err != nil {
				s.log.Warn().Err(err).Msg("the unusable bundle of flags could not be removed")
			}
		}
	}
}

func (s *Server) readBundle(d releases.Digest) (*compiledBundle, error) {
	raw, err := disk.ReadLimited(s.bundleFile(d), flags.MaxBundle)
	if err != nil {
		return nil, err
	}
	loaded, _, err := compileBundle(d, raw)
	return loaded, err
}

// unusableError says that the bytes match their digest, and this agent can't use them.
type unusableError struct{ cause error }

func (e *unusableError) Error() string { return e.cause.Error() }

func compileBundle(d releases.Digest, raw []byte) (*compiledBundle, *flags.Bundle, error) {
	if got := releases.DigestBytes(raw); got != d {
		return nil, nil, &content.RefusedError{Cause: fmt.Errorf("flags %s: the received bytes have digest %s", d, got)}
	}
	b, err := flags.ParseBundle(raw)
	if err != nil {
		return nil, nil, &unusableError{err}
	}
	compiled, err := flags.Compile(b)
	if err != nil {
		return nil, nil, &unusableError{err}
	}
	loaded := &compiledBundle{digest: d, channel: b.Channel, compiled: compiled,
		gates: make(map[string]flags.Gate, len(b.Gates))}
	for _, g := range b.Gates {
		loaded.gates[g.ID] = g
	}
	return loaded, b, nil
}

// FetchBundles fetches the wanted bundle whenever it is not in force, until ctx ends.
func (s *Server) FetchBundles(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		want, fetching, done := s.wantedBundle(ctx)
		if want == "" {
			failures = 0
			select {
			case <-s.bundleWanted:
			case <-ctx.Done():
			}
			continue
		}
		err := s.installBundle(fetching, want)
		superseded := errors.Is(context.Cause(fetching), context.Canceled)
		done()
		if err == nil || superseded {
			failures = 0
			continue
		}
		s.recordMissing(want, err)
		pause := time.NewTimer(s.source.RetryPause(err, failures))
		failures++
		select {
		case <-pause.C:
		case <-s.bundleWanted: // another bundle may be wanted
			failures = 0
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// wantedBundle returns the bundle to fetch, or "", and a context that ends once another bundle is wanted.
func (s *Server) wantedBundle(ctx context.Context) (releases.Digest, context.Context, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.record.Bundle.Digest
	if d == "" || d == s.unusable || s.bundle != nil && s.bundle.digest == d {
		return "", nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bundleTimeout,
		fmt.Errorf("fetch flags %s: not finished after %s", d, bundleTimeout))
	s.cancelFetch = cancel
	return d, ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cancelFetch = nil
	}
}

// takeDelivered returns the bytes of a bundle that came with the desired state, once; nil: it has to be fetched.
func (s *Server) takeDelivered(d releases.Digest) []byte {
	s.mu.Lock()
	raw := s.delivered
	s.delivered = nil
	s.mu.Unlock()
	if len(raw) == 0 || releases.DigestBytes(raw) != d {
		return nil
	}
	return raw
}

// installBundle fetches, verifies, compiles and stores a bundle, and then puts it into force.
func (s *Server) installBundle(ctx context.Context, d releases.Digest) error {
	raw := s.takeDelivered(d)
	if raw == nil {
		var err error
		if raw, err = fetchBundle(ctx, s.source, d); err != nil {
			return err
		}
	}
	loaded, b, err := compileBundle(d, raw)
	if err != nil {
		return err
	}
	if s.verify != nil {
		if err := s.verify(ctx, b, s.labels()); err != nil {
			return err
		}
	}
	if err := disk.MakePrivate(s.bundleDir()); err != nil {
		return err
	}
	if err := disk.ReplaceFile(s.bundleFile(d), raw); err != nil {
		return err
	}
	s.onTestPoint("bundle kept")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Bundle.Digest != d {
		return nil // another bundle is wanted by now
	}
	s.bundle, s.record.LastGood, s.missingReason = loaded, d, ""
	s.fold()
	s.persist()
	s.log.Info().Str("digest", string(d)).Int64("height", s.record.Height).Msg("flags are in force")
	s.pruneBundles()
	return nil
}

// labels returns the cell's labels, as received.
func (s *Server) labels() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Labels
}

func fetchBundle(ctx context.Context, from content.Source, d releases.Digest) ([]byte, error) {
	body, err := from.OpenContent(ctx, content.FlagBundles, d, flags.MaxBundle)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(body, flags.MaxBundle+1))
	switch {
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("fetch flags %s: %w", d, err)
	case len(raw) > flags.MaxBundle:
		return nil, &content.RefusedError{Cause: fmt.Errorf("flags %s: the bundle has more than %d bytes", d,
			flags.MaxBundle)}
	}
	return raw, nil
}

// recordMissing records why a bundle is not in force. A bundle that matches its digest and can't be used is not fetched
// again.
func (s *Server) recordMissing(d releases.Digest, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Bundle.Digest != d {
		return
	}
	text := words.Clip(why.Error(), maxReason)
	if s.missingReason != text {
		s.log.Warn().Err(why).Msg("the newest flags can't be fetched or used; the previous flags stay in force")
	}
	s.missingReason = text
	if _, useless := errors.AsType[*unusableError](why); useless {
		s.unusable = d
	}
	s.persist()
}

// pruneBundles removes bundles that nothing refers to. It needs mu. A failure costs only disk space.
func (s *Server) pruneBundles() {
	entries, err := os.ReadDir(s.bundleDir())
	for _, e := range entries {
		name := filepath.Join(s.bundleDir(), e.Name())
		if name == s.bundleFile(s.record.Bundle.Digest) || name == s.bundleFile(s.record.LastGood) {
			continue
		}
		if failed := os.Remove(name); failed != nil {
			err = failed
		}
	}
	if err != nil {
		s.log.Warn().Err(err).Msg("old bundles of flags could not be removed")
	}
}
