package store_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pressly/goose/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

// TestMigrations migrates databases of every schema, including the newest, with the data in testdata/migrations/N.sql.
// A new migration needs such a file.
func TestMigrations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d migrations: %v", len(files), err)
	}
	for version := 1; version <= len(files); version++ {
		t.Run(fmt.Sprint("from ", version), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "sluice.db")
			createOldDatabase(t, file, int64(version))
			for range 2 { // the second time it is up to date
				s := open(t, file, store.Options{})
				wantOldData(t, s, version)
				wantNewerData(t, s, version)
			}
			wantUsable(t, open(t, file, store.Options{}))
		})
	}
}

// createOldDatabase creates a database of a schema, with its data, as that version left it.
func createOldDatabase(t *testing.T, file string, version int64) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("testdata/migrations/%05d.sql", version))
	if err != nil {
		t.Fatalf("what a database of schema %d holds must be written down: %v", version, err)
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(data)); err != nil {
		t.Fatalf("data of schema %d: %v", version, err)
	}
}

const three releases.Digest = "sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"

// wantOldData checks the data that exists since schema 1.
func wantOldData(t *testing.T, s *store.Store, version int) {
	t.Helper()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	granted := &cells.Assignment{Channel: "staging", Epoch: 1, Sequence: 4, Release: "1.0.4",
		Digest: "sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"}
	want := plan.Observed{
		Since: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC), Seen: "77aa",
		Diverged: &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon},
		Cells: map[string]*plan.CellState{
			"bolt":     {Name: "bolt", Channel: "dedicated", State: cells.StatePending, LastReport: noon},
			"newcomer": {Name: "newcomer", Granted: granted, GrantedAt: noon},
		},
		Observations: []plan.Observation{{Channel: "dedicated", Gate: "check", Subject: "x", Policy: "p", Holds: true,
			ObservedAt: noon}},
		Learned: plan.Learned{
			Accepted: []plan.Acceptance{{Upstream: "staging", Downstream: "dedicated", Release: "1.0.3", Digest: three,
				At: noon, Evidence: "2 of 2 cells"}},
			Finished: []plan.Finish{{Channel: "staging", Sequence: 3, Digest: three, At: noon}},
			Cohorts:  []plan.Cohort{{Channel: "staging", Sequence: 4, Since: noon, Eligible: []string{"acme"}}},
		},
		Served:  map[string]int64{"staging": 4, "dedicated": 41},
		Refused: map[string]plan.Refusal{"dedicated": {Reason: "hook", Until: noon.Add(5 * time.Minute)}},
	}
	if version >= 3 {
		want.Learned.Waves = []plan.Through{{Channel: "staging", Sequence: 4, Digest: three, Wave: 1, At: noon}}
		want.Slots = map[string][]string{"staging": {"acme", "newcomer"}}
		want.Registered = map[string]plan.Registration{
			"acme": {Cell: "acme", Identity: cells.Identity{APIVersion: "sluice/v1", Kind: "Identity", Epoch: 1,
				Serial: 2, PublicKey: "ed25519:AAAA"}, By: "token of ada", At: noon},
		}
	}
	got, err := s.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acme := got.Cells["acme"]
	delete(got.Cells, "acme")
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(plan.CellState{})); d != "" {
		t.Errorf("what was observed (-want +got):\n%s", d)
	}
	if acme == nil || acme.Version != 0 || acme.Soaked != time.Hour || acme.Sequence != 3 ||
		fmt.Sprint(acme.Running.Values["big"]) != "9007199254740993" ||
		!cmp.Equal(acme.Granted, granted) {
		t.Errorf("acme: %+v", acme)
	}
	kept, err := s.Events(t.Context(), "acme", 10)
	if err != nil || len(kept) != 2 || kept[1].Kind != "applied" {
		t.Errorf("the events of acme: %+v (%v)", kept, err)
	}
	found, _, err := s.Decisions(t.Context(), 0, 10)
	if err != nil || len(found) != 2 || found[0].Commit != "c1" {
		t.Errorf("the decisions: %+v (%v)", found, err)
	}
}

// wantNewerData checks the data that exists since schema 3, and since the newest.
func wantNewerData(t *testing.T, s *store.Store, version int) {
	t.Helper()
	ctx, noon := t.Context(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	if version >= 3 {
		if kills, err := s.Kills(ctx); err != nil || len(kills) != 1 || kills[0].ID != "k1" ||
			kills[0].Override.Flag != "gateway" || kills[0].Landed != "" {
			t.Errorf("the kills: %+v (%v)", kills, err)
		}
		if due, err := s.DueMessages(ctx, noon, 10); err != nil || len(due) != 1 || due[0].Webhook != "chat" ||
			due[0].Event.Text != "gateway was killed" {
			t.Errorf("the messages: %+v (%v)", due, err)
		}
		if lines, err := s.AuditEntries(ctx, 10); err != nil || len(lines) != 1 || lines[0].Who != "ada" {
			t.Errorf("the audit: %+v (%v)", lines, err)
		}
		if o, err := s.Token(ctx, "of-ada"); err != nil || o.Name != "ada" || !o.Expires.IsZero() {
			t.Errorf("the operator's token: %+v (%v)", o, err)
		}
	}
	if version >= 4 {
		want := records.Record{Kind: "session", Key: "of-ada", Version: 7009, Updated: noon,
			Body: json.RawMessage(`{"name":"ada"}`)}
		got, err := s.Records().Get(ctx, "session", "of-ada")
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("the record (-want +got): %v\n%s", err, d)
		}
	}
}

// wantUsable uses an old database: a cell's next report is its first with a version, and unannounced decisions are
// announced.
func wantUsable(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	for _, name := range []string{"acme", "bolt", "newcomer"} {
		if err := s.RecordReports(ctx, report(name, "again")); err != nil {
			t.Errorf("the next report of %s: %v", name, err)
		}
	}
	if fresh, err := s.RecordDecisions(ctx, nil); err != nil || len(fresh) != 1 || fresh[0].Commit != "c2" {
		t.Errorf("not announced: %+v (%v)", fresh, err)
	}
	if _, led, err := s.AcquireLease(ctx, time.Minute); err != nil || !led {
		t.Errorf("lead: %v (%v)", led, err)
	}
	made, err := s.RecordGrants(ctx, []plan.Offer{{Granted: plan.Granted{Cell: "bolt",
		Assignment: cells.Assignment{Channel: "dedicated", Epoch: 1, Sequence: 42}}, Cap: 1}})
	if err != nil || len(made) != 1 {
		t.Errorf("grant: %+v (%v)", made, err)
	}
	if err := s.AddToken(ctx, access.Token{Name: "bo", Roles: access.Roles{access.Admin}, Hash: "h"}); err != nil {
		t.Error(err)
	}
	if r, err := s.Records().Put(ctx, records.Record{Kind: "session", Key: "new",
		Body: json.RawMessage(`{}`)}); err != nil || r.Version == 0 {
		t.Errorf("a record: %+v (%v)", r, err)
	}
	if err := s.Integrity(ctx); err != nil {
		t.Error(err)
	}
}
