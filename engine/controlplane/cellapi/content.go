package cellapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

const (
	downloadTimeout  = 10 * time.Minute // for a cell on a slow line
	releaseCacheSize = 32 << 20         // bytes
	bundleCacheSize  = 16 << 20         // bytes
)

// contentHandlers serves releases and flag bundles by digest.
type contentHandlers struct {
	answers    *answerCache
	repository api.Repository
	throttle   *throttle
	releases   *packedCache
	bundles    *packedCache
}

// serveRelease answers GET /v1/releases/{digest} with the canonical tar. All downloads of a release share one copy in
// memory.
func (h *contentHandlers) serveRelease(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	snap := h.answers.latest()
	v := snap.view
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	digest, err := releases.ParseDigest(r.PathValue("digest"))
	if err != nil || !releaseOffered(v, digest, c.Cell) {
		api.WriteProblem(w, http.StatusNotFound,
			"No release with this digest is offered: ask /v1/desired for the offered one.")
		return
	}
	if e := snap.entries[c.Cell]; e != nil {
		if !h.throttle.startDownload(w, e) {
			return
		}
		defer e.downloads.Add(-1)
	}
	packed, err := h.releases.get(digest, h.packRelease(v, digest))
	if err != nil {
		api.WriteError(w, err)
		return
	}
	serveContent(w, r, packed, "application/x-tar")
}

// serveContent serves immutable content.
func serveContent(w http.ResponseWriter, r *http.Request, p *packedContent, kind string) {
	api.SetWriteTimeout(w, downloadTimeout)
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body, etag := p.plain, `"`+string(p.digest)+`"`
	// A range is always of the plain bytes: compressed bytes may differ between versions of this server.
	if acceptsZstd(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" && p.zstd != nil {
		h.Set("Content-Encoding", "zstd")
		h.Set("Content-Length", fmt.Sprint(len(p.zstd)))
		body, etag = p.zstd, `"`+string(p.digest)+`-zstd"`
	}
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// releaseOffered reports whether a cell may download a release (R34): a present or former head of its channel, or what
// it was granted, also in channels that it has left. Its own reports prove nothing. For callers on this machine that
// name no cell, any cell's releases count.
func releaseOffered(v *view.View, digest releases.Digest, name string) bool {
	if name == "" {
		_, _, ok := v.Content(digest)
		return ok
	}
	cell := v.Desired.Cells[name]
	if cell == nil {
		return false
	}
	if c := v.Desired.Channels[cell.Channel]; c != nil {
		if slices.ContainsFunc(c.History, func(h plan.EffectiveHead) bool { return h.Digest == digest }) {
			return true
		}
	}
	state := v.Observed.Cells[name]
	if state == nil {
		return false
	}
	return state.Granted != nil && state.Granted.Digest == digest || slices.Contains(state.Left, digest)
}

// acceptsZstd reports whether an Accept-Encoding header allows zstd.
func acceptsZstd(header string) bool {
	for one := range strings.SplitSeq(header, ",") {
		coding, parameter, weighted := strings.Cut(one, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "zstd") {
			continue
		}
		if !weighted {
			return true
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		return ok && err == nil && weight > 0
	}
	return false
}

// packRelease returns a function that packs a release's canonical tar from git.
func (h *contentHandlers) packRelease(v *view.View, digest releases.Digest) func() ([]byte, error) {
	return func() ([]byte, error) {
		commit, version, ok := v.Content(digest)
		if !ok {
			return nil, errors.New("no head ever had this digest")
		}
		files, err := h.repository.FS(commit)
		if err != nil {
			return nil, fmt.Errorf("%s of %.12s: %w", version, commit, err)
		}
		var tar bytes.Buffer
		if err := releases.Pack(&tar, files, path.Join(releases.Dir, version)); err != nil {
			return nil, fmt.Errorf("%s of %.12s: %w", version, commit, err)
		}
		return tar.Bytes(), nil
	}
}

// serveBundle answers GET /v1/flagbundles/{digest}. A cell may download the bundle in its answer to GET /v1/desired,
// and the bundle before. For any other digest the response is 503 whether or not the bundle exists, since another
// replica may have a newer view (R34, R39).
func (h *contentHandlers) serveBundle(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	snap := h.answers.latest()
	if snap.view == nil {
		api.WriteNotReady(w)
		return
	}
	digest, err := releases.ParseDigest(r.PathValue("digest"))
	name := c.Cell
	if f := snap.view.Flags; err != nil || f == nil || name != "" && f.ByCell[name] == nil {
		api.WriteProblem(w, http.StatusNotFound,
			"This cell has no flags, or this is not a digest: ask /v1/desired for the cell's bundle.")
		return
	}
	e := snap.entries[name]
	if e != nil {
		if !h.throttle.allow(w, &e.bundleBucket, h.throttle.limits.Polls, h.throttle.now(), "bundles") ||
			!h.throttle.admit(w, e.hash) {
			return
		}
		defer h.throttle.inFlight.Release()
	}
	bytes := snap.view.Flags.Bundles[digest]
	if bytes == nil || name != "" && !bundleOffered(snap.view.Flags, e, name, digest) {
		api.SetRetryAfter(w, 1)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"This replica has not offered the cell such a bundle: ask /v1/desired again, or another replica.")
		return
	}
	packed, err := h.bundles.get(digest, func() ([]byte, error) { return bytes, nil })
	if err != nil {
		api.WriteError(w, fmt.Errorf("bundle of flags: %w", err))
		return
	}
	serveContent(w, r, packed, "application/json")
}

// bundleOffered reports whether a bundle is, or was before the latest, in the cell's answer.
func bundleOffered(f *view.Flags, e *cellEntry, name string, digest releases.Digest) bool {
	if told := f.ByCell[name]; told != nil && told.Bundle.Digest == digest {
		return true
	}
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.recentBundles[:], digest)
}
