package controlplane

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// bundle answers GET /v1/flagbundles/{digest}: the bytes of a bundle of flags, for ever the same. A cell gets what it is told,
// and what this server told it before that. Of anything else it does not learn whether there is such a bundle: another
// replica may know more than this one, so that it should ask again (R34, R39).
func (s *Server) bundle(w http.ResponseWriter, r *http.Request) {
	at := s.board.now()
	if at.view == nil {
		notYet(w)
		return
	}
	digest, err := releases.ParseDigest(r.PathValue("digest"))
	name := cellOf(r)
	if f := at.view.Flags; err != nil || f == nil || name != "" && f.Told[name] == nil {
		problem(w, http.StatusNotFound, "This cell is told of no flags, or this is no digest: ask /v1/desired for the bundle to ask for.")
		return
	}
	p := at.places[name]
	if p != nil {
		if !s.within(w, &p.bundles, s.opts.Limits.Polls, "bundles") || !s.enter(w, p.hash) {
			return
		}
		defer s.flights.leave()
	}
	bytes := at.view.Flags.Bundles[digest]
	if bytes == nil || name != "" && !toldOf(at.view.Flags, p, name, digest) {
		retryAfter(w, 1)
		problem(w, http.StatusServiceUnavailable, "This replica has not told the cell of such a bundle: ask /v1/desired anew, or another replica in a moment.")
		return
	}
	packed, err := s.bundles.get(digest, func() ([]byte, error) { return bytes, nil })
	if err != nil {
		failed(w, fmt.Errorf("bundle of flags: %w", err))
		return
	}
	give(w, r, packed, "application/json")
}

// toldOf tells whether a cell is told of a bundle now, or was before that.
func toldOf(f *view.Flags, p *place, name string, digest releases.Digest) bool {
	if told := f.Told[name]; told != nil && told.Bundle.Digest == digest {
		return true
	}
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.bundled[:], digest)
}
