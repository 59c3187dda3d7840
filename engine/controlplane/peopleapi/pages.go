package peopleapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/bulletin"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// pageRenderer renders public pages, once for each state of the repositories, however often they are requested.
type pageRenderer struct {
	repository api.Repository
	log        zerolog.Logger
	renderer   *bulletin.Renderer

	mu      sync.Mutex // guards what follows, and is held while rendering
	flags   *view.Flags
	desired *plan.Desired
	pages   map[pageKey]*page
	notes   map[releases.Digest]string
}

// pageKey identifies a page. Keys are few: the channel exists, and the announcement is published.
type pageKey struct {
	feed         bool
	announcement string // empty: all announcements
	channel      string // empty: all channels
}

// page is a rendered page. It is immutable.
type page struct {
	body []byte
	etag string
}

func newPageRenderer(r api.Repository, log zerolog.Logger) *pageRenderer {
	return &pageRenderer{repository: r, log: log, renderer: bulletin.NewRenderer()}
}

var errNotPublished = errors.New("no such announcement is published")

// render returns a page under v.
func (p *pageRenderer) render(v *view.View, what pageKey) (*page, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages == nil || p.flags != v.Flags || p.desired != v.Desired {
		p.flags, p.desired, p.pages = v.Flags, v.Desired, map[pageKey]*page{}
	}
	if known := p.pages[what]; known != nil {
		return known, nil
	}
	read := map[releases.Digest]string{}
	b := bulletin.New(v, what.channel, func(h plan.EffectiveHead) string {
		text, ok := p.notes[h.Digest]
		if !ok {
			var err error
			if text, err = p.readNotes(h); err != nil { // the page has no such notes until the repositories change
				p.log.Error().Err(err).Str("release", h.Release).Msg("read release notes")
				return ""
			}
		}
		read[h.Digest] = text
		return text
	})
	if what.channel != "" { // a page of all channels evicts notes that are no longer shown
		maps.Copy(read, p.notes)
	}
	p.notes = read
	body, err := p.renderBody(b, what)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	done := &page{body: body, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
	p.pages[what] = done
	return done, nil
}

func (p *pageRenderer) renderBody(b bulletin.Bulletin, what pageKey) ([]byte, error) {
	switch {
	case what.announcement != "":
		item, ok := b.FindAnnouncement(what.announcement)
		if !ok {
			return nil, errNotPublished
		}
		return p.renderer.AnnouncementPage(b, item)
	case what.feed:
		return p.renderer.Feed(b)
	}
	return p.renderer.Page(b)
}

// readNotes returns the notes of a release that was a head, or "" if it has none.
func (p *pageRenderer) readNotes(h plan.EffectiveHead) (string, error) {
	files, err := p.repository.FS(h.Commit)
	if err != nil {
		return "", err
	}
	return bulletin.ReadNotes(files, h.Release)
}

// pageHandlers serves the public pages.
type pageHandlers struct {
	views    api.Views
	renderer *pageRenderer
}

func (p *pageHandlers) servePage(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	w.Header().Set("Content-Security-Policy", bulletin.ContentSecurityPolicy())
	p.servePublished(w, r, pageKey{announcement: r.PathValue("id")}, "text/html; charset=utf-8")
}

func (p *pageHandlers) serveFeed(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	p.servePublished(w, r, pageKey{feed: true}, "application/atom+xml; charset=utf-8")
}

// servePublished serves a page.
func (p *pageHandlers) servePublished(w http.ResponseWriter, r *http.Request, what pageKey, kind string) {
	v := p.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	what.channel = queryparam.Get(r.URL.RawQuery, "channel")
	if what.channel != "" && v.Desired.Channels[what.channel] == nil {
		api.WriteProblem(w, http.StatusNotFound, "There is no such channel: leave ?channel= out.")
		return
	}
	done, err := p.renderer.render(v, what)
	switch {
	case errors.Is(err, errNotPublished):
		api.WriteProblem(w, http.StatusNotFound,
			"No announcement of that name is published: /announcements lists the published ones.")
		return
	case err != nil:
		api.WriteError(w, err)
		return
	}
	h := w.Header()
	h.Set("ETag", done.etag)
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("X-Content-Type-Options", "nosniff")
	if api.MatchesETag(r.Header.Get("If-None-Match"), done.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(done.body)))
	_, _ = w.Write(done.body) // an error means that the client has gone
}
