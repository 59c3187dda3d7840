package consoleapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/adoption"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/bulletin"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/markdown"
	"github.com/sluice-cd/sluice/internal/words"
)

// Journal returns at most limit decisions after a cursor; a negative cursor asks for the latest.
type Journal interface {
	Decisions(ctx context.Context, after int64, limit int) (found []plan.Decided, next int64, err error)
}

// CellEvents returns at most limit of a cell's newest events, oldest first.
type CellEvents interface {
	Events(ctx context.Context, cell string, limit int) ([]cells.Event, error)
}

// CellExports returns what is kept of a cell's exports; the zero State: nothing.
type CellExports interface {
	Load(ctx context.Context, cell string) (exports.State, error)
}

// body is an answer with its ETag. It is compressed once, when a browser first asks for that.
type body struct {
	plain      []byte
	etag       string
	compressed func() []byte
}

func newBody(plain []byte) *body {
	sum := sha256.Sum256(plain)
	return &body{plain: plain, etag: `"` + hex.EncodeToString(sum[:12]) + `"`,
		compressed: sync.OnceValue(func() []byte { return compress(plain) })}
}

// cachedPage is a page, and what a browser gets of it.
type cachedPage struct {
	page     *console.Page
	etag     string // of the page's content
	document *body
}

// maxPages bounds how many pages are kept of one View: addresses have filters, so that there may be any number.
const maxPages = 256

// pageCache keeps the pages of the newest View.
type pageCache struct {
	reader *reader
	actsAs string // of each Model

	mu    sync.Mutex // guards what follows
	view  *view.View
	since time.Time     // when view became the one that is kept
	cost  time.Duration // of the longest rendering of view
	model *console.Model
	pages map[console.Address]*entry
	walls map[string]*entry
}

// entry is made by whoever asks first; others wait for it.
type entry struct {
	once sync.Once
	page *cachedPage
	wall *body
	err  error
}

func newPageCache(o Options) *pageCache {
	c := &pageCache{reader: newReader(o)}
	if o.ConsoleAs != nil {
		c.actsAs = o.ConsoleAs.Label()
	}
	return c
}

// newModel returns a Model of a View that is not kept.
func (c *pageCache) newModel(v *view.View) *console.Model {
	m := console.New(v)
	m.ActsAs = c.actsAs
	return m
}

// modelOf returns the Model of a View, with the lock held.
func (c *pageCache) modelOf(v *view.View) *console.Model {
	if c.view != v {
		c.view, c.since, c.cost, c.model = v, time.Now(), 0, c.newModel(v)
		c.pages, c.walls = map[console.Address]*entry{}, map[string]*entry{}
	}
	return c.model
}

// latestModel returns the Model of a View.
func (c *pageCache) latestModel(v *view.View) *console.Model {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.modelOf(v)
}

// Tabs are brought up to date at most once in livePace, and so seldom that rendering takes a twentieth of a processor,
// but at least once in maxPace. The first change after a pause is shown at once.
const (
	livePace  = 500 * time.Millisecond
	maxPace   = 5 * time.Second
	paceShare = 20
)

// paced returns the View that tabs are to show now, for all of them the same: the newest, or the one before if that is
// too new to be replaced. Then wait says how long it stays.
func (c *pageCache) paced(newest *view.View) (v *view.View, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view != nil && c.view != newest {
		pace := min(max(livePace, paceShare*c.cost), maxPace)
		if wait = pace - time.Since(c.since); wait > 0 {
			return c.view, wait
		}
	}
	c.modelOf(newest)
	return newest, 0
}

// noteCost notes how long a rendering of a View took.
func (c *pageCache) noteCost(v *view.View, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.view == v {
		c.cost = max(c.cost, took)
	}
}

// page returns a page of a View.
func (c *pageCache) page(ctx context.Context, v *view.View, a console.Address) (*cachedPage, error) {
	c.mu.Lock()
	model := c.modelOf(v)
	e := c.pages[a]
	if e == nil {
		if len(c.pages) >= maxPages {
			clear(c.pages)
		}
		e = &entry{}
		c.pages[a] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		facts, err := c.reader.facts(context.WithoutCancel(ctx), v, a) // others wait for it too
		if err != nil {
			e.err = fmt.Errorf("render %.200q: %w", a.String(), err)
			return
		}
		begun := time.Now()
		p := console.Render(model, a, facts)
		e.page = &cachedPage{page: p, etag: p.ETag(), document: newBody(p.Document())}
		c.noteCost(v, time.Since(begun))
	})
	if e.err != nil { // the next one tries again
		c.mu.Lock()
		if c.pages[a] == e {
			delete(c.pages, a)
		}
		c.mu.Unlock()
	}
	return e.page, e.err
}

// wall returns the wall of a filter.
func (c *pageCache) wall(v *view.View, filter string) (*body, error) {
	c.mu.Lock()
	model := c.modelOf(v)
	e := c.walls[filter]
	if e == nil {
		if len(c.walls) >= maxPages {
			clear(c.walls)
		}
		e = &entry{}
		c.walls[filter] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		var data []byte
		if data, e.err = encodeWall(model.WallOf(filter)); e.err == nil {
			e.wall = newBody(data)
		}
	})
	return e.wall, e.err
}

// reader reads what pages need beside the View.
type reader struct {
	repository api.Repository
	journal    Journal
	former     auth.Facts    // nil: there are none
	records    records.Store // nil: no adoption is known
	events     CellEvents    // nil: no history of cells is known
	exports    CellExports   // nil: no cell's exports are known
	notes      *markdown.Renderer
	log        zerolog.Logger
}

func newReader(o Options) *reader {
	return &reader{repository: o.Repository, journal: o.Journal, former: o.Facts, records: o.Records,
		events: o.Events, exports: o.Exports,
		notes: markdown.NewRenderer(),
		log:   o.Log}
}

// facts reads what one page needs. A release whose notes can't be read is shown without them.
func (r *reader) facts(ctx context.Context, v *view.View, a console.Address) (f console.Facts, err error) {
	switch {
	case a.Kind == console.History:
		f.Decisions, _, err = r.journal.Decisions(ctx, -1, console.MaxDecisions)
	case a.Kind == console.Releases && a.Name != "":
		release := v.Desired.Releases[a.Name]
		if release == nil || release.Origin == "" {
			return f, nil
		}
		files, err := r.repository.FS(release.Origin)
		var text string
		if err == nil {
			text, err = bulletin.ReadNotes(files, a.Name)
		}
		if err == nil {
			f.Notes, err = r.notes.Notes(text)
		}
		if err != nil {
			r.log.Error().Err(err).Str("release", a.Name).Msg("read release notes")
		}
	case a.Kind == console.Announcements && v.Flags != nil:
		for _, s := range v.Flags.Plan.Announcements {
			if s.Announcement.ID == a.Name {
				f.Notes, err = r.notes.Notes(s.Announcement.Notes)
			}
		}
	case r.records != nil && (a.Kind == console.Fleet && a.Filter == "" || a.Kind == console.Channel):
		if f.Adoption, err = adoption.Read(ctx, r.records, a.Name, v.Plan.Now); err != nil {
			r.log.Error().Err(err).Msg("a page is shown without its adoption over time")
			return f, nil
		}
	case a.Kind == console.WhatIf && v.Desired.Channels[a.Name] != nil:
		f.Trial, err = r.newTrial(v, a.Name)
	case a.Kind == console.Cell:
		if r.events != nil && v.Desired.Cells[a.Name] != nil {
			if f.Events, err = r.events.Events(ctx, a.Name, console.MaxEvents); err != nil {
				r.log.Error().Err(err).Str("cell", a.Name).Msg("a cell's page is shown without its history")
				f.Events, err = nil, nil
			}
		}
		f.Exported = r.exported(ctx, v, a.Name)
		refused, err := auth.FormerKeyRefused(ctx, r.former, a.Name)
		if err != nil {
			return f, err
		}
		if !refused.IsZero() {
			f.Why = append(f.Why, "an agent asked with a former key of this cell at "+words.FormatTime(refused)+
				", and was refused: see sluice why "+a.Name)
		}
	}
	return f, err
}

// exported returns what is kept of a cell's exports; nil if that can't be read, or there is nothing.
func (r *reader) exported(ctx context.Context, v *view.View, cell string) *console.Exported {
	if r.exports == nil || v.Desired.Cells[cell] == nil {
		return nil
	}
	s, err := r.exports.Load(ctx, cell)
	if err != nil {
		r.log.Error().Err(err).Str("cell", cell).Msg("a cell's page is shown without its exports")
		return nil
	}
	return &console.Exported{Until: s.At, Received: s.Received, Values: s.Lines(), Left: s.Left, Gaps: s.Gaps}
}
