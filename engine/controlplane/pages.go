package controlplane

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/bulletin"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// press prints what everyone may read, once for each state of the repositories: anyone may ask, as often as they like.
type press struct {
	repository Repository
	log        zerolog.Logger
	printer    *bulletin.Printer

	mu      sync.Mutex // held while printing; guards what follows
	flags   *view.Flags
	desired *plan.Desired
	printed map[printing]*printed
	notes   map[releases.Digest]string
}

// printing is what was asked for. The channel is one of the repository's, and the announcement is shown: there are few.
type printing struct {
	feed         bool
	announcement string // alone; empty: all
	channel      string // only this one's; empty: all
}

// printed is an answer. Immutable.
type printed struct {
	body []byte
	etag string
}

func newPress(o Options) *press {
	return &press{repository: o.Repository, log: o.Log, printer: bulletin.NewPrinter()}
}

var errNotShown = errors.New("no such announcement is shown")

// print gives what was asked for under v.
func (p *press) print(v *view.View, what printing) (*printed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.printed == nil || p.flags != v.Flags || p.desired != v.Desired {
		p.flags, p.desired, p.printed = v.Flags, v.Desired, map[printing]*printed{}
	}
	if known := p.printed[what]; known != nil {
		return known, nil
	}
	read := map[releases.Digest]string{}
	b := bulletin.Of(v, what.channel, func(h plan.EffectiveHead) string {
		text, ok := p.notes[h.Digest]
		if !ok {
			var err error
			if text, err = p.read(h); err != nil { // the page goes on without it, until the repositories change
				p.log.Error().Err(err).Str("release", h.Release).Msg("read release notes")
				return ""
			}
		}
		read[h.Digest] = text
		return text
	})
	if what.channel != "" { // else what is not shown any more is forgotten
		maps.Copy(read, p.notes)
	}
	p.notes = read
	body, err := p.set(b, what)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	done := &printed{body: body, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
	p.printed[what] = done
	return done, nil
}

func (p *press) set(b bulletin.Bulletin, what printing) ([]byte, error) {
	switch {
	case what.announcement != "":
		item, ok := b.Find(what.announcement)
		if !ok {
			return nil, errNotShown
		}
		return p.printer.Single(b, item)
	case what.feed:
		return p.printer.Feed(b)
	}
	return p.printer.Page(b)
}

// read gives the notes of a release; empty: it has none.
func (p *press) read(h plan.EffectiveHead) (string, error) {
	files, err := p.repository.FS(h.Commit)
	if err != nil {
		return "", err
	}
	f, err := files.Open(path.Join(releases.Dir, h.Release, "notes.md"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, bulletin.MaxNotes+1))
	return bulletin.Shorten(string(text)), err
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", bulletin.Policy())
	s.publish(w, r, printing{announcement: r.PathValue("id")}, "text/html; charset=utf-8")
}

func (s *Server) feed(w http.ResponseWriter, r *http.Request) {
	s.publish(w, r, printing{feed: true}, "application/atom+xml; charset=utf-8")
}

// publish answers everyone with what is published.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, what printing, kind string) {
	v, ok := s.view(w)
	if !ok {
		return
	}
	what.channel = queryparam.Get(r.URL.RawQuery, "channel")
	if what.channel != "" && v.Desired.Channels[what.channel] == nil {
		problem(w, http.StatusNotFound, "There is no such channel: leave ?channel= out.")
		return
	}
	done, err := s.press.print(v, what)
	switch {
	case errors.Is(err, errNotShown):
		problem(w, http.StatusNotFound, "No announcement of that name is published: /announcements shows those that are.")
		return
	case err != nil:
		failed(w, err)
		return
	}
	h := w.Header()
	h.Set("ETag", done.etag)
	h.Set("Cache-Control", "public, max-age=60")
	h.Set("X-Content-Type-Options", "nosniff")
	if matches(r.Header.Get("If-None-Match"), done.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(done.body)))
	_, _ = w.Write(done.body) // an error: the reader has gone
}

// pageRoutes are for everyone.
func (s *Server) pageRoutes() {
	text := &huma.Schema{Type: huma.TypeString}
	channel := param("channel", "query", "only what this channel has", text)
	known := param("If-None-Match", "header", "the ETag of the answer that the reader has", text)
	op := func(id, path, summary, kind string) *huma.Operation {
		return &huma.Operation{
			OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"readers"}, Summary: summary,
			Parameters: []*huma.Param{channel, known},
			Responses:  map[string]*huma.Response{"200": s.answer("What is published", kind, text, "ETag"), "304": {Description: "As before"}},
		}
	}
	s.handle(s.page, op("announcementsPage", "/announcements", "What was announced and released, as a page", "text/html"), 404, 500, 503)
	one := op("announcementPage", "/announcements/{id}", "One announcement, as a page", "text/html")
	one.Parameters = append(one.Parameters, required(param("id", "path", "the announcement", text)))
	s.handle(s.page, one, 404, 500, 503)
	s.handle(s.feed, op("announcementsFeed", "/announcements.atom", "What was announced and released, as an Atom feed", "application/atom+xml"), 404, 500, 503)
}
