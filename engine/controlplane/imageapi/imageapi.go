// Package imageapi serves container images to cells: the reading half of the OCI distribution specification, by digest
// only. Package images decides what a cell may have, and brings it.
//
// There are no tags, no uploads and no catalogue. A pull ends within two seconds after its cell was shut out.
package imageapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/images"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

const (
	idleTimeout = 2 * time.Minute // without a byte that the client took
	recheck     = time.Second     // between two looks whether the cell is still admitted
	chunk       = 128 << 10       // bytes that are sent at once, and between two looks at the rate
	emptyIndex  = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
)

// Limits bounds the pulls of one cell. Zero fields have a default; negative ones mean no limit.
type Limits struct {
	Pulls int        // at once; default 16
	Bytes limit.Rate // default 256 MiB a second, burst 512 MiB
	// Manifests that are fetched only to find out whether one of them names what the cell asks for; default 1 a second,
	// burst 64.
	Searches limit.Rate
}

// Options configures the routes. All are required.
type Options struct {
	Views  api.Views
	Images *images.Service
	Auth   *auth.Auth
	Limits Limits
}

// API serves images.
type API struct {
	views      api.Views
	images     *images.Service
	auth       *auth.Auth
	limits     Limits
	clockStart time.Time
	cells      sync.Map // name → *cellPulls
	slots      sendSlots
	buffers    sync.Pool // of *[chunk]byte
}

// cellPulls counts what one cell pulls.
type cellPulls struct {
	active   atomic.Int32
	bytes    limit.Bucket
	searches limit.Bucket
}

// New returns an API and starts nothing.
func New(o Options) *API {
	l := o.Limits
	if l.Pulls == 0 {
		l.Pulls = 16
	}
	if l.Bytes.PerSecond == 0 {
		l.Bytes = limit.Rate{PerSecond: 256 << 20, Burst: 512 << 20}
	}
	if l.Searches.PerSecond == 0 {
		l.Searches = limit.Rate{PerSecond: 1, Burst: 64}
	}
	return &API{views: o.Views, images: o.Images, auth: o.Auth, limits: l, clockStart: time.Now(),
		slots: newSendSlots(), buffers: sync.Pool{New: func() any { return new([chunk]byte) }}}
}

// Routes returns the routes, which the OCI distribution specification describes.
func (a *API) Routes(api.Docs) []api.Route {
	hidden := huma.Operation{Hidden: true}
	return []api.Route{
		{Method: http.MethodGet, Path: "/v2/{$}", Audience: api.Cell, Operation: hidden, Handler: a.serveVersion},
		{Method: http.MethodGet, Path: "/v2/{path...}", Audience: api.Cell, Operation: hidden, Handler: a.servePull},
	}
}

// serveVersion says that this is a registry.
func (a *API) serveVersion(w http.ResponseWriter, _ *http.Request, _ *api.Caller) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}") // an error means that the client has gone
}

// An error code of the distribution specification.
const (
	codeBlobUnknown     = "BLOB_UNKNOWN"
	codeManifestUnknown = "MANIFEST_UNKNOWN"
	codeNameUnknown     = "NAME_UNKNOWN"
	codeDigestInvalid   = "DIGEST_INVALID"
	codeUnsupported     = "UNSUPPORTED"
	codeTooMany         = "TOOMANYREQUESTS"
	codeUnavailable     = "UNAVAILABLE"
)

// writeError answers as registries do.
func writeError(w http.ResponseWriter, status int, code, message string) {
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(map[string][]one{"errors": {{code, message}}})
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client has gone
}

// servePull answers GET and HEAD of a manifest or a blob.
func (a *API) servePull(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	kind, wanted, ok := parsePath(w, r)
	if !ok {
		return
	}
	v := a.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	if kind == "referrers" { // none are known here
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = io.WriteString(w, emptyIndex) // an error means that the client has gone
		return
	}
	pulls := a.pullsOf(c.Cell)
	if n := pulls.active.Add(1); a.limits.Pulls > 0 && int(n) > a.limits.Pulls {
		pulls.active.Add(-1)
		api.SetRetryAfter(w, 1)
		writeError(w, http.StatusTooManyRequests, codeTooMany,
			"This cell has "+strconv.Itoa(a.limits.Pulls)+" pulls under way already: wait until one ends.")
		return
	}
	defer pulls.active.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	// Before the answer begins, the registry may take as long as a fill lasts.
	api.SetWriteTimeout(w, 2*idleTimeout)
	content, err := a.images.Open(ctx, images.Client{Offered: v.OfferedReleases(c.Cell), MaySearch: func() bool {
		_, ok := pulls.searches.Allow(a.limits.Searches, time.Since(a.clockStart))
		return ok
	}}, wanted)
	if err != nil {
		writeOpenError(w, err, wanted)
		return
	}
	defer func() { _ = content.Close() }() // only read
	go a.endWhenShutOut(ctx, cancel, w, c)
	a.send(ctx, w, r, content, pulls)
}

// parsePath reads what is asked for, or answers that it can't be.
func parsePath(w http.ResponseWriter, r *http.Request) (kind string, wanted images.Wanted, ok bool) {
	path := r.PathValue("path")
	for _, k := range []string{"manifests", "blobs", "referrers"} {
		at := strings.LastIndex(path, "/"+k+"/")
		if at < 0 {
			continue
		}
		repository, reference := path[:at], path[at+len(k)+2:]
		digest, err := releases.ParseDigest(reference)
		switch {
		case err == nil:
			namespace := r.URL.Query().Get("ns")
			return k, images.Wanted{Registry: images.CanonicalRegistry(namespace), Repository: repository,
				Digest: digest, Manifest: k == "manifests"}, true
		case k == "manifests" && !strings.Contains(reference, ":"):
			writeError(w, http.StatusNotFound, codeManifestUnknown,
				"Images are here by digest only, not by tag: releases name them as NAME@sha256:…")
		default:
			writeError(w, http.StatusBadRequest, codeDigestInvalid, "A digest here is sha256: and 64 lower-case hex digits.")
		}
		return "", images.Wanted{}, false
	}
	if strings.HasSuffix(path, "/tags/list") {
		writeError(w, http.StatusNotFound, codeUnsupported, "There are no tags here: images are by digest only.")
	} else {
		writeError(w, http.StatusNotFound, codeNameUnknown, "There is nothing at this path.")
	}
	return "", images.Wanted{}, false
}

func writeOpenError(w http.ResponseWriter, err error, wanted images.Wanted) {
	unknown := codeBlobUnknown
	if wanted.Manifest {
		unknown = codeManifestUnknown
	}
	var refused *images.UpstreamError
	switch {
	case errors.Is(err, images.ErrNotNamed):
		writeError(w, http.StatusNotFound, unknown, "No release that this cell was offered names this.")
	case errors.Is(err, images.ErrUnread):
		api.SetRetryAfter(w, 1)
		writeError(w, http.StatusTooManyRequests, codeTooMany,
			"The manifests of this cell's releases are still being read: ask for the image's manifest, or ask again.")
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		writeError(w, http.StatusNotFound, unknown, "The registry does not have it: "+refused.Error())
	case errors.As(err, &refused):
		api.SetRetryAfter(w, max(1, limit.CeilSeconds(refused.RetryAfter)))
		writeError(w, http.StatusBadGateway, codeUnavailable, "The registry did not serve it: "+refused.Error())
	case errors.Is(err, context.Canceled):
		api.NoteStatus(w, 499) // the client has gone
	default:
		api.NoteError(w, err)
		writeError(w, http.StatusBadGateway, codeUnavailable, "It could not be fetched: the control plane's log says why.")
	}
}

func (a *API) pullsOf(cell string) *cellPulls {
	if p, ok := a.cells.Load(cell); ok {
		return p.(*cellPulls) //nolint:forcetypeassert // only this is stored
	}
	p, _ := a.cells.LoadOrStore(cell, new(cellPulls))
	return p.(*cellPulls) //nolint:forcetypeassert // only this is stored
}

// endWhenShutOut ends a pull whose cell is no longer admitted.
func (a *API) endWhenShutOut(ctx context.Context, cancel func(), w http.ResponseWriter, c *api.Caller) {
	for backoff.Sleep(ctx, recheck) == nil {
		if !a.auth.StillAllowsCell(c) {
			cancel()
			api.SetWriteTimeout(w, 0) // a write that the client does not take
			return
		}
	}
}

// send writes content, or the range that was asked for. An answer that can't be completed is broken off, so that no
// client takes it for complete.
func (a *API) send(ctx context.Context, w http.ResponseWriter, r *http.Request, content *images.Content,
	pulls *cellPulls) {

	header := w.Header()
	header.Set("Docker-Content-Digest", string(content.Digest))
	header.Set("ETag", `"`+string(content.Digest)+`"`)
	header.Set("Cache-Control", "private, max-age=31536000, immutable")
	header.Set("Content-Type", "application/octet-stream")
	if content.MediaType != "" {
		header.Set("Content-Type", content.MediaType)
	}
	paced := &pacedContent{Content: content, ctx: ctx, writer: w, pulls: pulls, api: a}
	http.ServeContent(&slotWriter{w, paced}, r, "", time.Time{}, paced)
	a.images.CountServed(paced.sent)
	if paced.err != nil {
		api.NoteError(w, paced.err)
		panic(http.ErrAbortHandler)
	}
}

// pacedContent reads content at a cell's rate, and gives the client time for each part.
type pacedContent struct {
	*images.Content
	ctx    context.Context
	writer http.ResponseWriter
	pulls  *cellPulls
	api    *API
	sent   int64
	err    error
}

func (p *pacedContent) Read(b []byte) (int, error) {
	n, err := p.Content.Read(b[:min(len(b), chunk)])
	p.sent += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
		return n, err
	}
	wait := p.pulls.bytes.Take(p.api.limits.Bytes, int64(n), time.Since(p.api.clockStart))
	if wait > 0 {
		if p.err = backoff.Sleep(p.ctx, wait); p.err != nil {
			return 0, p.err
		}
	}
	if p.err = p.ctx.Err(); p.err != nil {
		return 0, p.err
	}
	api.SetWriteTimeout(p.writer, idleTimeout)
	return n, err
}

// slotWriter writes content while it holds a slot.
type slotWriter struct {
	http.ResponseWriter
	of *pacedContent
}

// ReadFrom implements io.ReaderFrom. It waits for bytes of a fill before it asks for a slot.
func (w *slotWriter) ReadFrom(from io.Reader) (n int64, err error) {
	buffer := w.of.api.buffers.Get().(*[chunk]byte) //nolint:forcetypeassert // only this is put
	defer w.of.api.buffers.Put(buffer)
	for {
		got, readErr := from.Read(buffer[:])
		if got > 0 {
			release, err := w.of.api.slots.acquire(w.of.ctx)
			if err != nil {
				w.of.err = err
				return n, err
			}
			sent, err := w.ResponseWriter.Write(buffer[:got])
			release()
			n += int64(sent)
			if err != nil {
				return n, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}
