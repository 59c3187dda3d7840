package cellapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

const (
	idleTimeout      = 2 * time.Minute // for a cell to take the bytes between two looks
	releaseCacheSize = 32 << 20        // bytes in memory
	bundleCacheSize  = 16 << 20        // bytes in memory
	diskCacheSize    = 2 << 30         // bytes of each cache
	downloadChunk    = 64 << 10        // bytes between two looks at the rate, and at whether the cell is still admitted
)

// contentHandlers serves releases and flag bundles by digest.
type contentHandlers struct {
	answers    *answerCache
	auth       *auth.Auth
	repository api.Repository
	throttle   *throttle
	releases   *packedCache
	bundles    *packedCache
}

// serveRelease answers GET /v1/releases/{digest} with the canonical tar. All downloads of a release share one copy.
func (h *contentHandlers) serveRelease(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	snap := h.answers.latest()
	v := snap.view
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	digest, err := releases.ParseDigest(r.PathValue("digest"))
	if err != nil || !v.Offers(c.Cell, digest) {
		api.WriteProblem(w, http.StatusNotFound,
			"No release with this digest is offered: ask /v1/desired for the offered one.")
		return
	}
	e := snap.entries[c.Cell]
	if e != nil {
		if !h.throttle.allow(w, &e.releaseBucket, h.throttle.limits.Polls, h.throttle.now(), "downloads") ||
			!h.throttle.startDownload(w, e) {
			return
		}
		defer e.downloads.Add(-1)
	}
	h.serveContent(w, r, &download{h.releases, c, e, digest, h.packRelease(v, digest), "application/x-tar"})
}

// download is one response with content.
type download struct {
	cache  *packedCache
	caller *api.Caller
	entry  *cellEntry // whose rate it counts against; nil: no cell's
	digest releases.Digest
	write  func(io.Writer) error // writes the content, if the cache lacks it
	kind   string                // media type
}

// serveContent serves immutable content, at the cell's rate. A request that needs no bytes, or a range of the plain
// ones, has nothing compressed.
func (h *contentHandlers) serveContent(w http.ResponseWriter, r *http.Request, d *download) {
	plainTag, zstdTag := `"`+string(d.digest)+`"`, `"`+string(d.digest)+`-zstd"`
	header := w.Header()
	header.Set("Cache-Control", "private, max-age=31536000, immutable")
	header.Set("Vary", "Accept-Encoding")
	for _, tag := range []string{plainTag, zstdTag} {
		if api.MatchesETag(r.Header.Get("If-None-Match"), tag) {
			header.Set("ETag", tag)
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	p, packed, err := d.cache.get(d.digest, d.write)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	defer d.cache.release(p)
	if packed && d.entry != nil { // packing costs as much as sending, and is charged, but never stalls a download
		rate := h.throttle.limits.Bytes
		d.entry.contentBucket.Take(rate, min(p.plain.size, int64(rate.Burst)/2), h.throttle.now())
	}
	body, tag := p.plain, plainTag
	// A range is always of the plain bytes: compressed bytes may differ between versions of this server.
	if acceptsZstd(r.Header.Get("Accept-Encoding")) && r.Header.Get("Range") == "" {
		smaller, err := d.cache.compress(p)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		if smaller != nil {
			body, tag = smaller, zstdTag
			header.Set("Content-Encoding", "zstd")
			header.Set("Content-Length", strconv.FormatInt(smaller.size, 10))
		}
	}
	api.SetWriteTimeout(w, idleTimeout)
	header.Set("Content-Type", d.kind)
	header.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{},
		&pacedReader{SectionReader: body.reader(), handlers: h, download: d, request: r, writer: w})
}

// pacedReader reads content at a cell's rate, while the cell is admitted (R29), and gives it time for each part.
type pacedReader struct {
	*io.SectionReader
	handlers *contentHandlers
	download *download
	request  *http.Request
	writer   http.ResponseWriter
}

// errShutOut ends the download of a cell that was shut out meanwhile.
var errShutOut = errors.New("the cell is no longer admitted")

// Read waits until the cell may have the bytes that it returns.
func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.SectionReader.Read(b[:min(len(b), downloadChunk)])
	if n == 0 {
		return n, err
	}
	if e, t := p.download.entry, p.handlers.throttle; e != nil {
		if wait := e.contentBucket.Take(t.limits.Bytes, int64(n), t.now()); wait > 0 {
			if stopped := backoff.Sleep(p.request.Context(), wait); stopped != nil {
				return 0, stopped
			}
		}
	}
	if !p.handlers.auth.StillAllowsCell(p.download.caller) {
		return 0, errShutOut
	}
	api.SetWriteTimeout(p.writer, idleTimeout)
	return n, err
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

// packRelease returns a function that writes a release's canonical tar from git.
func (h *contentHandlers) packRelease(v *view.View, digest releases.Digest) func(io.Writer) error {
	return func(w io.Writer) error {
		commit, version, ok := v.Content(digest)
		if !ok {
			return errors.New("no head ever had this digest")
		}
		files, err := h.repository.FS(commit)
		if err == nil {
			err = releases.Pack(w, files, path.Join(releases.Dir, version))
		}
		if err != nil {
			return fmt.Errorf("%s of %.12s: %w", version, commit, err)
		}
		return nil
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
			!h.throttle.startDownload(w, e) {
			return
		}
		defer e.downloads.Add(-1)
	}
	bytes := snap.view.Flags.Bundles[digest]
	if bytes == nil || name != "" && !bundleOffered(snap.view.Flags, e, name, digest) {
		api.SetRetryAfter(w, 1)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"This replica has not offered the cell such a bundle: ask /v1/desired again, or another replica.")
		return
	}
	h.serveContent(w, r, &download{h.bundles, c, e, digest, func(w io.Writer) error {
		_, err := w.Write(bytes)
		return err
	}, "application/json"})
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
