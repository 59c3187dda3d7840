package store_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
)

// What a fleet reports takes no more room after months than after weeks: a cell has one state, a bounded history, one
// grant and one registration; outdated answers and tokens are deleted. Only a few rows for each promotion stay for
// good.
func TestLongRunDoesNotGrow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{History: 20, Now: func() time.Time { return now }})
	var early int64
	for day := range 150 {
		now = now.Add(24 * time.Hour)
		live(t, s, day, now)
		if day == 50 { // histories are full, and answers are outdated by a month
			early = pages(t, file)
		}
	}
	if late := pages(t, file); late > early+early/10 {
		t.Errorf("%d pages after 50 days, %d after 150", early, late)
	}
}

// live writes what a fleet writes in one day.
func live(t *testing.T, s *store.Store, day int, now time.Time) {
	t.Helper()
	ctx, version := t.Context(), int64(day+1)
	var batch []plan.Reported
	var offers []plan.Offer
	var names []string
	for c := range 8 {
		name := fmt.Sprintf("cell-%02d", c)
		r := plan.Reported{Boot: fmt.Sprint("boot ", day),
			State: &plan.CellState{Name: name, Version: version, LastReport: now, Sequence: version,
				Message: strings.Repeat("x", 200)}}
		for n := range int64(5) {
			r.Events = append(r.Events, cells.Event{Number: n, At: now, Kind: "healed",
				Detail: strings.Repeat("y", 100)})
		}
		batch, names = append(batch, r), append(names, name)
		offers = append(offers, plan.Offer{Granted: plan.Granted{Cell: name, At: now,
			Assignment: cells.Assignment{Channel: "staging", Epoch: 1, Sequence: version}}, Cap: 100})
	}
	_, err := s.RecordGrants(ctx, offers)
	for _, err := range []error{
		err, s.RecordReports(ctx, batch), s.FreeSlots(ctx, "staging", names),
		s.RecordObservations(ctx, []plan.Observation{{Gate: "check", Subject: fmt.Sprint("release ", day),
			ObservedAt: now, ValidUntil: now.Add(time.Hour), Value: strings.Repeat("z", 1000)}}),
		s.RecordLearned(ctx, plan.Learned{Cohorts: []plan.Cohort{{Channel: "staging", Sequence: version, Since: now,
			Eligible: slices.Repeat(names, 50)}}}),
		s.AddJoin(ctx, access.Join{Cell: "cell-00", Hash: fmt.Sprint("hash ", day), By: strings.Repeat("a", 500),
			Created: now, Expires: now.Add(access.JoinLifetime)}),
		s.Register(ctx, plan.Registration{Cell: "cell-00", Identity: cells.Identity{Serial: version}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Lines from before there was a chain become its first rows.
func TestOlderAuditIsChained(t *testing.T) {
	t.Parallel()
	ctx, file := t.Context(), filepath.Join(t.TempDir(), "sluice.db")
	s := open(t, file, store.Options{})
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
		WHERE i < 100) INSERT INTO audit (body) SELECT '{"who":"eve"}' FROM n`)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := s.RecordAudit(ctx, access.Entry{Who: "ada", What: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.AuditEntries(ctx, 1000)
	if err != nil || len(all) != 103 || all[0].What != "2" || all[3].Who != "eve" {
		t.Errorf("%d lines are kept (%v)", len(all), err)
	}
}

func pages(t *testing.T, file string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`PRAGMA page_count`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
