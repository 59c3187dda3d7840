package controlplane_test

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// viewWithAnnouncements is viewOf with two announcements, of which one is published in staging.
func viewWithAnnouncements() *view.View {
	v := viewOf("1.0.1")
	status := func(id string, state announce.State) announce.Status {
		return announce.Status{
			Announcement: &repository.Announcement{ID: id, Title: "About " + id, Notes: "Notes of " + id,
				Features: []string{id}}, Hash: "sha256:" + id, State: state, Summary: "In words",
			Channels: []announce.ChannelStatus{
				{Channel: "staging", State: state, At: noon, Percent: 100, Cells: []announce.CellStatus{
					{Cell: "acme", State: flags.On, Confirmed: true},
					{Cell: "bolt", State: flags.Waiting, Why: "for 1.0.2"},
				}}},
		}
	}
	v.Flags = &view.Flags{Commit: "f1", Height: 4,
		Plan: announce.Plan{
			Announcements: []announce.Status{status("classes", announce.Published), status("rooms", announce.Armed)}}}
	return v
}

// The pages show what is published, and nothing else; a known ETag is answered 304.
func TestPages(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	files := releaseFiles()
	files["releases/1.0.1/notes.md"] = &fstest.MapFile{Data: []byte("Mends what 1.0.0 broke."), Mode: 0o644}
	h.files = files
	h.setView(viewWithAnnouncements())
	people := h.client(t, "people", nil) // without a token
	for path, c := range map[string]struct{ kind, says string }{
		"/announcements":                   {"text/html; charset=utf-8", "Mends what 1.0.0 broke."},
		"/announcements?channel=staging":   {"text/html; charset=utf-8", "About classes"},
		"/announcements?channel=dedicated": {"text/html; charset=utf-8", "Nothing yet."},
		"/announcements/classes":           {"text/html; charset=utf-8", "Notes of classes"},
		"/announcements.atom":              {"application/atom+xml; charset=utf-8", "Mends what 1.0.0 broke."},
	} {
		w, body := h.request(t, people, "people", "GET", path, "")
		head := w.Header
		if w.StatusCode != 200 || head.Get("Content-Type") != c.kind || !strings.Contains(body, c.says) ||
			strings.Contains(body, "rooms") || strings.Contains(body, "acme") || strings.Contains(body, "bolt") {
			t.Errorf("%s: %s %s\n%s", path, w.Status, head.Get("Content-Type"), body)
		}
		if strings.HasPrefix(c.kind, "text/html") &&
			!strings.Contains(head.Get("Content-Security-Policy"), "default-src 'none'") ||
			head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, head)
		}
		again, body := h.request(t, people, "people", "GET", path, "", "If-None-Match", head.Get("ETag"))
		if again.StatusCode != 304 || body != "" {
			t.Errorf("%s again: %s", path, again.Status)
		}
		if w, body := h.request(t, people, "people", "HEAD", path, ""); w.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: %s", path, w.Status)
		}
	}
	for path, says := range map[string]string{"/announcements/rooms": "published",
		"/announcements/nothing": "published", "/announcements?channel=nothing": "no such channel"} {
		w, body := h.request(t, people, "people", "GET", path, "")
		wantProblem(t, w, body, 404, says)
	}
	if w, _ := h.request(t, h.client(t, "cells", h.signers["acme"]), "cells", "GET", "/announcements",
		""); w.StatusCode != http.StatusNotFound {
		t.Errorf("at the cells' listener: %s", w.Status)
	}
	// The ETag changes with the page.
	before, _ := h.request(t, people, "people", "GET", "/announcements", "")
	v := viewWithAnnouncements()
	v.Flags.Plan.Announcements[1].Channels[0].State = announce.Publishing
	h.setView(v)
	if w, body := h.request(t, people, "people", "GET", "/announcements", "", "If-None-Match",
		before.Header.Get("ETag")); w.StatusCode != 200 || !strings.Contains(body, "About rooms") {
		t.Errorf("after it was published: %s\n%s", w.Status, body)
	}
}

// Notes are read once, and a page is rendered once for each state, however often it is requested.
func TestPagesAreRenderedOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	files := &openCounter{FS: fstest.MapFS{"releases/1.0.1/notes.md": {Data: []byte("Notes")}}}
	s.files = files
	v := viewWithAnnouncements()
	for range 3 {
		again := &view.View{Desired: v.Desired, Observed: v.Observed, Plan: v.Plan, Flags: v.Flags}
		again.Plan.Now = again.Plan.Now.Add(time.Minute)
		s.setView(again)
		for _, path := range []string{"/announcements", "/announcements.atom", "/announcements/classes",
			"/announcements?channel=staging"} {
			if w, body := s.request(t, "GET", path, ""); w.StatusCode != 200 {
				t.Errorf("%s: %s %s", path, w.Status, body)
			}
		}
	}
	if files.n != 1 {
		t.Errorf("notes were read %d times", files.n)
	}
}

// Release notes that can't be read do not affect the rest of the page.
func TestPageWithoutNotes(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	s.files = brokenFS{}
	s.setView(viewWithAnnouncements())
	w, body := s.request(t, "GET", "/announcements", "")
	if w.StatusCode != 200 || !strings.Contains(body, "About classes") ||
		!strings.Contains(s.log.String(), "read release notes") {
		t.Errorf("%s %s", w.Status, body)
	}
}

// openCounter counts opened files.
type openCounter struct {
	fs.FS
	mu sync.Mutex
	n  int
}

func (o *openCounter) Open(name string) (fs.File, error) {
	o.mu.Lock()
	o.n++
	o.mu.Unlock()
	return o.FS.Open(name)
}

// brokenFS is a disk that can't be read.
type brokenFS struct{}

func (brokenFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("input/output error")}
}
