package ui_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the bare SQL

	"github.com/sluice-cd/sluice/engine/adoption"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/test/figures"
)

// measureAdoption measures reading 30 days of all channels, beside SQL that reads the same rows. A day in which a
// release comes to a channel has a point for each cell, as the keeper counts it: the last two days by minute, those
// before by hour.
func measureAdoption(t *testing.T, z size) []figures.Row {
	file := filepath.Join(t.TempDir(), "adoption.db")
	kept, err := store.OpenWith(t.Context(), file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	cells := z.cells / z.channels
	for c := range z.channels {
		for ago := range adoption.Days {
			day := countedDay(cells, ago)
			body, err := json.Marshal(day)
			if err == nil {
				_, err = kept.Records().Put(t.Context(), records.Record{Kind: "adoption", Body: body,
					Key: fmt.Sprintf("c%d/%s", c, Start.AddDate(0, 0, -ago).Format(time.DateOnly))})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var ours, theirs []time.Duration
	var points, bytes int
	for range max(z.rounds/2, 2) {
		begun := time.Now()
		points = 0
		for c := range z.channels {
			s, err := adoption.Read(t.Context(), kept.Records(), fmt.Sprintf("c%d", c), Start)
			if err != nil {
				t.Fatal(err)
			}
			points += len(s.Samples)
		}
		ours = append(ours, time.Since(begun))
		begun, bytes = time.Now(), 0
		for c := range z.channels {
			bytes += readBodies(t, db, fmt.Sprintf("c%d/", c))
		}
		theirs = append(theirs, time.Since(begun))
	}
	if points < z.channels*adoption.Days*10 || bytes == 0 {
		t.Errorf("%d points in %d bytes were read", points, bytes)
	}
	return []figures.Row{figures.TimeRow(fmt.Sprintf("adoption over %d days of %d channels, %d points", adoption.Days,
		z.channels, points), figures.Median(ours), "SQL of the same rows", figures.Median(theirs), 2)}
}

// countedDay returns a day on which a release came to cells, one after another.
func countedDay(cells, ago int) *adoption.Day {
	day := &adoption.Day{}
	old, fresh := fmt.Sprintf("1.%d.0", 100-ago), fmt.Sprintf("1.%d.0", 101-ago)
	for minute := 0; minute < 24*60; minute += 15 {
		done := min(cells, cells*max(minute-8*60, 0)/(9*60))
		day.Add(minute, map[adoption.Kind]int{{Release: old, Condition: view.ConditionHealthy}: cells - done,
			{Release: fresh, Condition: view.ConditionHealthy}:  max(done-1, 0),
			{Release: fresh, Condition: view.ConditionUpdating}: min(done, 1)})
	}
	if ago > 1 {
		day.RollUp(60)
	}
	return day
}

// readBodies reads the rows of a channel, and returns how many bytes they have.
func readBodies(t *testing.T, db *sql.DB, prefix string) (n int) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT kind, key, version, updated, body FROM records WHERE
		kind = 'adoption' AND key >= ? AND key < ? ORDER BY key`, prefix, prefix+"\xff")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind, key, body string
		var version, updated int64
		if err := rows.Scan(&kind, &key, &version, &updated, &body); err != nil {
			t.Fatal(err)
		}
		n += len(body)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
