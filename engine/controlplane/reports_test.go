package controlplane_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
)

func reportOf(cell, more string) string {
	return fmt.Sprintf(`{"cell":%q,"boot":"b1","sent":"2026-11-24T11:59:58Z","state":"healthy",
		"running":{"channel":"staging","epoch":1,"sequence":3,"release":"1.0.1","digest":%q,"values":{"big":9007199254740993}}%s}`, cell, digestOf("1.0.1"), more)
}

func TestReport(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	w, body := s.request(t, "POST", "/v1/reports",
		reportOf("acme", `,"events":[{"number":7,"at":"2026-11-24T11:59:58Z","kind":"applied"}]`))
	if w.StatusCode != 200 || !strings.Contains(body, `"acknowledged":7`) {
		t.Fatal(w.Status, body)
	}
	o, err := s.store.Observed(t.Context())
	if err != nil || o.Cells["acme"] == nil || o.Cells["acme"].Release != "1.0.1" {
		t.Fatalf("acknowledged, and the store has %+v (%v)", o.Cells["acme"], err)
	}
	if got := fmt.Sprint(o.Cells["acme"].Running.Values["big"]); got != "9007199254740993" {
		t.Errorf("a value came back as %s", got)
	}
}

func TestReportIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
		header []string
	}{
		"unknown cell":         {reportOf("nobody", ""), 404, "no such cell", nil},
		"unknown field":        {reportOf("acme", `,"stat":1`), 400, "body.stat", nil},
		"unknown field inside": {reportOf("acme", `,"events":[{"number":1,"kinds":"x"}]`), 400, "body.kinds", nil},
		"wrong type":           {reportOf("acme", `,"infrastructure":"seven"`), 400, "body.infrastructure", nil},
		"wrong type inside": {reportOf("acme", `,"infrastructure":{"source":"file","drift":"a"}`), 400,
			"body.infrastructure.drift", nil},
		"no such source": {reportOf("acme", `,"infrastructure":{"number":7,"source":"hearsay","status":"applied"}`), 400,
			"no source", nil},
		"bad digest":    {strings.Replace(reportOf("acme", ""), "sha256:", "md5:", 1), 400, "digest", nil},
		"unknown state": {strings.Replace(reportOf("acme", ""), "healthy", "splendid", 1), 400, "splendid", nil},
		"no boot":       {strings.Replace(reportOf("acme", ""), `"b1"`, `""`, 1), 400, "boot", nil},
		"events out of order": {
			reportOf("acme", `,"events":[{"number":2,"kind":"x"},{"number":1,"kind":"x"}]`), 400, "event 1", nil},
		"not JSON":   {"state=healthy", 400, "body", nil},
		"empty":      {"", 400, "body", nil},
		"two values": {reportOf("acme", "") + "{}", 400, "after the report", nil},
		"a form from another site": {reportOf("acme", ""), 415, "application/json",
			[]string{"Content-Type", "text/plain"}},
		"larger than 64 KiB (40)": {reportOf("acme", `,"message":"`+strings.Repeat("x", 64<<10)+`"`), 413, "65536",
			nil},
		"a message that is too large": {reportOf("acme", `,"message":"`+strings.Repeat("x", 10<<10)+`"`), 400,
			"message", nil},
	} {
		w, body := s.request(t, "POST", "/v1/reports", c.body, c.header...)
		t.Log(name)
		wantProblem(t, w, body, c.status, c.says)
	}
	// The limit also holds without a Content-Length.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/reports", endlessBody{})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if w, err := http.DefaultTransport.RoundTrip(r); err == nil { // or the server cut the connection
		w.Body.Close()
		if w.StatusCode != 413 {
			t.Errorf("an endless body: %s", w.Status)
		}
	}
	o, err := s.store.Observed(t.Context())
	if err != nil || len(o.Cells) != 0 {
		t.Errorf("of refused reports the store has %v (%v)", o.Cells, err)
	}
	s.setView(nil)
	w, body := s.request(t, "POST", "/v1/reports", reportOf("acme", ""))
	wantProblem(t, w, body, 503, "not been read yet")
}

// R35: an agent that is newer than the control plane leaves out the field that a refusal names.
func TestR35RefusalsNameTheField(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for more, location := range map[string]string{
		`,"later":{"number":7}`:                         "body.later",
		`,"maintenance":{"phase":"draining","later":1}`: "body.later",
		`,"infrastructure":["7"]`:                       "body.infrastructure",
	} {
		w, body := s.request(t, "POST", "/v1/reports", reportOf("acme", more))
		var problem struct{ Errors []struct{ Location string } }
		if err := json.Unmarshal([]byte(body), &problem); err != nil || w.StatusCode != 400 ||
			len(problem.Errors) != 1 || problem.Errors[0].Location != location {
			t.Errorf("%s: %s %s", more, w.Status, body)
		}
	}
}

// endlessBody is a body without an end.
type endlessBody struct{}

func (endlessBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// Fault 9 as a cell sees it: 507, and nothing stored in part.
func TestFullDiskIs507(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{MaxBytes: 256 << 10}, nil)
	names := []string{"acme", "bolt", "crow"}
	message := `,"message":"` + strings.Repeat("x", 4000) +
		`","events":[{"number":%d,"at":"2026-11-24T11:59:58Z","kind":"healed","detail":"` + strings.Repeat("y", 4000) +
		`"}]`
	acknowledged := 0
	for n := range 1000 {
		w, body := s.request(t, "POST", "/v1/reports", reportOf(names[n%3], fmt.Sprintf(message, n+1)))
		if w.StatusCode != 200 {
			wantProblem(t, w, body, 507, "disk is full")
			break
		}
		acknowledged++
	}
	if acknowledged == 0 || acknowledged == 1000 {
		t.Fatalf("%d reports fit", acknowledged)
	}
	w, body := s.request(t, "GET", "/readyz", "")
	wantProblem(t, w, body, 503, "disk is full")
	if err := s.store.Integrity(t.Context()); err != nil {
		t.Error(err)
	}
	events := 0
	for _, name := range names {
		kept, err := s.store.Events(t.Context(), name, 1000)
		if err != nil {
			t.Fatal(err)
		}
		events += len(kept)
	}
	if events != acknowledged {
		t.Errorf("%d events kept, %d acknowledged", events, acknowledged)
	}
}

// Fault 10 as a cell sees it: 503 and Retry-After; desired and status need no database.
func TestLockedIs503(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "locked.db")
	kept, err := store.OpenWith(t.Context(), file, store.Options{BusyTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Journal, o.CheckStore = kept, kept.Ready })
	s.store = kept
	rival, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	tx, err := rival.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, body := s.request(t, "POST", "/v1/reports", reportOf("acme", ""))
	wantProblem(t, w, body, 503, "busy")
	if w.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w, body = s.request(t, "GET", "/readyz", "")
	wantProblem(t, w, body, 503, "busy")
	for _, path := range []string{"/v1/desired?cell=acme", "/v1/status", "/v1/plan", "/v1/events"} {
		if w, body := s.request(t, "GET", path, ""); w.StatusCode != 200 {
			t.Errorf("%s while the store is locked: %s %s", path, w.Status, body)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if w, body := s.request(t, "POST", "/v1/reports", reportOf("acme", "")); w.StatusCode != 200 {
		t.Errorf("once the lock is free: %s %s", w.Status, body)
	}
	var ready struct{ Status string }
	if _, body := s.request(t, "GET", "/readyz", ""); json.Unmarshal([]byte(body), &ready) != nil ||
		ready.Status != "ready" {
		t.Errorf("readyz: %s", body)
	}
}
