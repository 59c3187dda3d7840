package ownerpage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/internal/markdown"
	"github.com/sluice-cd/sluice/internal/ui"
	"github.com/sluice-cd/sluice/releases"
)

// Bounds of requests.
const (
	maxHeaders     = 32 << 10 // bytes
	maxBody        = 64 << 10 // bytes
	maxAddress     = 8 << 10  // bytes
	readTimeout    = 10 * time.Second
	compareTimeout = time.Minute
	maxTabs        = 16
	livePace       = time.Second
	maxOutcomes    = 32
)

// Options are what a Site needs.
type Options struct {
	Folder string // the agent's state folder
	// Compare returns what a release that is offered would change, and for an error what to do next.
	Compare func(ctx context.Context, o agent.Offer, c owner.Candidate) (d *Difference, next string, err error)
	Now     func() time.Time // nil: time.Now
	// Open lets everyone who reaches the listener decide: a unix socket, whose permissions say who does.
	Open bool
}

// Site serves the owner's pages.
type Site struct {
	options Options
	at      place
	reader  *reader
	guard   *guard
	routes  *http.ServeMux
	compare chan struct{} // has one place: a comparison takes a processor and memory
	tabs    chan struct{}
	ending  chan struct{} // closed when the site ends
	end     sync.Once

	mu       sync.Mutex
	outcomes map[string]outcome // by a number that addresses have
	order    []string           // of outcomes, the oldest first
}

// New returns a Site.
func New(o Options) *Site {
	if o.Now == nil {
		o.Now = time.Now
	}
	g := newGuard(o.Open)
	s := &Site{options: o, at: place{base: g.base, folder: o.Folder}, guard: g,
		reader:  &reader{folder: o.Folder, notes: markdown.NewRenderer(), kept: map[releases.Digest]keptFile{}},
		compare: make(chan struct{}, 1), tabs: make(chan struct{}, maxTabs), ending: make(chan struct{}),
		outcomes: map[string]outcome{}}
	s.routes = s.newRoutes()
	return s
}

// Address returns the address to open in a browser, for a listener on host:port. It works once, unless the
// site is open.
func (s *Site) Address(hostPort string) string { return s.guard.address(hostPort) }

// Serve serves until ctx ends.
func (s *Site) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		WriteTimeout: compareTimeout + readTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeaders}
	stopped := context.AfterFunc(ctx, func() {
		s.end.Do(func() { close(s.ending) })
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // what is still open is cut
		}
	})
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the owner's page: %w", err)
	}
	return nil
}

// ServeHTTP serves a request that the guard admits.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if len(r.URL.String()) > maxAddress {
		s.say(w, http.StatusRequestURITooLong, "The address is too long", "Nothing was read.",
			"Write less into the form.")
		return
	}
	switch refused := s.guard.admit(w, r); {
	case refused == nil:
	case refused.status == http.StatusSeeOther:
		http.Redirect(w, r, s.at.base, http.StatusSeeOther)
		return
	default:
		s.say(w, refused.status, refused.title, refused.text, refused.next)
		return
	}
	s.routes.ServeHTTP(w, r)
}

func (s *Site) newRoutes() *http.ServeMux {
	routes := http.NewServeMux()
	routes.HandleFunc("GET "+s.at.base+"{$}", s.serveOverview)
	routes.HandleFunc("GET "+s.at.base+"live", s.serveLive)
	routes.HandleFunc("GET "+s.at.base+"difference/{digest}", s.serveDifference)
	routes.HandleFunc("GET "+s.at.base+"export/{name}", s.serveExport)
	routes.HandleFunc("GET "+s.at.base+"do/{action}", s.serveForm)
	routes.HandleFunc("POST "+s.at.base+"do/{action}", s.decide)
	routes.HandleFunc("GET "+s.at.base+ui.AssetPath+"{version}/{name}", serveAsset)
	routes.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.say(w, http.StatusNotFound, "There is no such page", "It was moved, or the address is mistyped.",
			"The name at the top left leads to the first page.")
	})
	return routes
}

// takeTime lifts the bound on reading: the request was read, and the answer takes longer than that.
func takeTime(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // without one there is nothing to lift
}

// secure sets the headers that every answer to a browser has.
func secure(h http.Header) {
	maps.Copy(h, ui.SecurityHeaders())
	h.Set("Cache-Control", "no-store")
}

func (s *Site) write(w http.ResponseWriter, status int, f *ui.Frame) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(f.Document()) // an error means that the browser has gone
}

func (s *Site) say(w http.ResponseWriter, status int, title, text, next string) {
	s.write(w, status, messagePage(s.at, title, text, next, s.options.Now()))
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	asset, ok := ui.AssetOf(r.PathValue("name"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.PathValue("version") == ui.Version() {
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", asset.Kind)
	_, _ = w.Write(asset.Body) // an error means that the browser has gone
}

func (s *Site) serveOverview(w http.ResponseWriter, r *http.Request) {
	now := s.options.Now()
	s.mu.Lock()
	done, ok := s.outcomes[r.URL.Query().Get("done")]
	s.mu.Unlock()
	shown := &done
	if !ok {
		shown = nil
	}
	s.write(w, http.StatusOK, overview(s.reader.read(now), s.at, shown, now))
}

// serveLive sends the first page's regions as they change, until the tab or the site goes.
func (s *Site) serveLive(w http.ResponseWriter, r *http.Request) {
	select {
	case s.tabs <- struct{}{}:
		defer func() { <-s.tabs }()
	default:
		http.Error(w, "Too many tabs follow already.", http.StatusServiceUnavailable)
		return
	}
	takeTime(w)
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	send := func(event []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(readTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(event); err != nil {
			return err
		}
		return out.Flush()
	}
	if r.URL.Query().Get("version") != ui.Version() {
		_ = send([]byte("event: reload\ndata:\n\n")) // an error means that the tab has gone
		return
	}
	have := r.URL.Query().Get("have")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		have = last
	}
	var sent ui.Regions // nil: only their ETag is known
	tick := time.NewTicker(livePace)
	defer tick.Stop()
	for beat := 0; ; beat++ {
		now := s.options.Now()
		page := overview(s.reader.read(now), s.at, nil, now)
		event := []byte(nil)
		if etag := page.Regions.ETag(page.Title); etag != have {
			var err error
			if event, err = page.Regions.Changed(sent).Event(nil, etag); err != nil {
				return
			}
			have = etag
		} else if beat%15 == 0 {
			event = []byte(":\n\n")
		}
		sent = page.Regions
		if event != nil && send(event) != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		case <-tick.C:
		}
	}
}

func (s *Site) serveDifference(w http.ResponseWriter, r *http.Request) {
	now := s.options.Now()
	state := s.reader.read(now)
	digest := r.PathValue("digest")
	var c owner.Candidate
	for _, one := range state.Candidates() {
		if string(one.Digest) == digest {
			c = one
		}
	}
	if c.Digest == "" {
		s.say(w, http.StatusNotFound, "This is not offered", "What was offered may have been withdrawn.",
			"The first page has what is offered now.")
		return
	}
	takeTime(w)
	ctx, cancel := context.WithTimeout(r.Context(), compareTimeout)
	defer cancel()
	select {
	case s.compare <- struct{}{}:
		defer func() { <-s.compare }()
	case <-ctx.Done():
		s.say(w, http.StatusServiceUnavailable, "Another comparison takes long", "One is made at a time.", "Try again.")
		return
	}
	d, next, err := s.options.Compare(ctx, state.Offer, c)
	fault := ""
	if err != nil {
		d, fault = nil, err.Error()
	}
	s.write(w, http.StatusOK, differencePage(c, d, fault, next, s.at, now))
}

func (s *Site) serveForm(w http.ResponseWriter, r *http.Request) {
	a := actionOf(r.PathValue("action"))
	if a == nil {
		s.say(w, http.StatusNotFound, "There is no such action", "The address is mistyped.", "The first page has all.")
		return
	}
	query := r.URL.Query()
	s.showForm(w, &form{action: a, values: query}, query.Get(stepParam) == previewStep || len(a.fields) == 0)
}

// showForm shows an action's fields or, with preview, what it would change.
func (s *Site) showForm(w http.ResponseWriter, f *form, preview bool) {
	now := s.options.Now()
	state := s.reader.read(now)
	status := http.StatusOK
	if preview {
		status = s.preview(f, state, now)
	}
	s.write(w, status, f.page(state, s.at, now))
}

// preview fills in what a form would change, or why it can't.
func (s *Site) preview(f *form, state *State, now time.Time) int {
	d, wrong := f.action.check(state, f.values, now)
	if f.wrong = wrong; len(wrong) > 0 {
		return http.StatusUnprocessableEntity
	}
	if state.Invalid != "" {
		f.refused = "Your decisions can't be read: " + state.Invalid + ". Fix the file, or remove it to decide anew."
		return http.StatusConflict
	}
	c, err := changeOf(copyOf(state.Decided), d)
	if err != nil {
		f.refused = err.Error()
		return http.StatusConflict
	}
	f.preview, f.command = &c, s.at.command(d.Command...)
	return http.StatusOK
}

var errChanged = errors.New("the decisions changed meanwhile")

// decide makes the change that was shown, if it is still the same one.
func (s *Site) decide(w http.ResponseWriter, r *http.Request) {
	a := actionOf(r.PathValue("action"))
	if a == nil || r.ParseForm() != nil {
		s.say(w, http.StatusBadRequest, "This can't be read", "Nothing was changed.",
			"Go back, and send the form again.")
		return
	}
	now := s.options.Now()
	f := &form{action: a, values: r.PostForm}
	d, wrong := a.check(s.reader.read(now), f.values, now)
	if len(wrong) > 0 {
		s.showForm(w, f, true)
		return
	}
	var made change
	_, err := agent.ChangeOwner(s.options.Folder, func(o *cells.Owner) (err error) {
		if made, err = changeOf(o, d); err == nil && made.shown != f.values.Get(shownParam) {
			err = errChanged
		}
		return err
	})
	if err == nil && a.after != nil {
		err = a.after(s.options.Folder)
	}
	switch {
	case errors.Is(err, errChanged):
		f.notice = "Your decisions changed since this was shown. Look at it again."
		s.showForm(w, f, true)
	case err != nil:
		f.refused = err.Error()
		s.write(w, http.StatusConflict, f.page(s.reader.read(now), s.at, now))
	default:
		http.Redirect(w, r, s.at.base+"?done="+s.remember(outcome{made.outcome, s.at.command(d.Command...)}),
			http.StatusSeeOther)
	}
}

// remember keeps an outcome for the page that is shown next, and returns its number.
func (s *Site) remember(o outcome) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := rand.Text()
	s.outcomes[number] = o
	s.order = append(s.order, number)
	for len(s.order) > maxOutcomes {
		delete(s.outcomes, s.order[0])
		s.order = s.order[1:]
	}
	return number
}
