package postgres_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/releases"
	server "github.com/sluice-cd/sluice/test/postgres"
)

// TestMigrations migrates databases of every schema, including the newest, with the data in testdata/migrations/N.sql.
// A new migration needs such a file.
func TestMigrations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d migrations: %v", len(files), err)
	}
	for version := 1; version <= len(files); version++ {
		t.Run(fmt.Sprint("from ", version), func(t *testing.T) {
			t.Parallel()
			url := server.NewDatabase(t)
			createOldDatabase(t, url, int64(version))
			for range 2 { // the second time it is up to date
				s := open(t, url)
				wantOldData(t, s)
				wantNewerData(t, s, version)
			}
			wantUsable(t, open(t, url))
		})
	}
}

// createOldDatabase creates a database of a schema, with its data, as that version left it.
func createOldDatabase(t *testing.T, url string, version int64) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("testdata/migrations/%05d.sql", version))
	if err != nil {
		t.Fatalf("what a database of schema %d holds must be written down: %v", version, err)
	}
	config, err := pgx.ParseConfig(url)
	must(t, err)
	db := stdlib.OpenDB(*config)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	must(t, err)
	_, err = p.UpTo(t.Context(), version)
	must(t, err)
	if _, err := db.ExecContext(t.Context(), string(data)); err != nil {
		t.Fatalf("data of schema %d: %v", version, err)
	}
}

const three releases.Digest = "sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce"

// wantOldData checks the data that exists since schema 1.
func wantOldData(t *testing.T, s *postgres.Store) {
	t.Helper()
	noon := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	granted := &cells.Assignment{Channel: "staging", Epoch: 1, Sequence: 4, Release: "1.0.4",
		Digest: "sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"}
	want := plan.Observed{
		Since: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC), Seen: "77aa",
		Diverged: &plan.Divergence{Seen: "4f0c", Tip: "77aa", At: noon},
		Cells: map[string]*plan.CellState{
			"bolt":     {Name: "bolt", Channel: "dedicated", State: cells.StatePending, LastReport: noon, Version: 1},
			"newcomer": {Name: "newcomer", Granted: granted, GrantedAt: noon},
		},
		Observations: []plan.Observation{{Channel: "dedicated", Gate: "check", Subject: "x", Policy: "p", Holds: true,
			ObservedAt: noon}},
		Learned: plan.Learned{
			Accepted: []plan.Acceptance{{Upstream: "staging", Downstream: "dedicated", Release: "1.0.3", Digest: three,
				At: noon, Evidence: "2 of 2 cells"}},
			Finished: []plan.Finish{{Channel: "staging", Sequence: 3, Digest: three, At: noon}},
			Waves:    []plan.Through{{Channel: "staging", Sequence: 4, Digest: three, Wave: 1, At: noon}},
			Cohorts:  []plan.Cohort{{Channel: "staging", Sequence: 4, Since: noon, Eligible: []string{"acme"}}},
		},
		Served:  map[string]int64{"staging": 4, "dedicated": 41},
		Refused: map[string]plan.Refusal{"dedicated": {Reason: "hook", Until: noon.Add(5 * time.Minute)}},
		Slots:   map[string][]string{"staging": {"acme", "newcomer"}},
		Registered: map[string]plan.Registration{
			"acme": {Cell: "acme", Identity: cells.Identity{APIVersion: "sluice/v1", Kind: "Identity", Epoch: 1,
				Serial: 2, PublicKey: "ed25519:AAAA"}, By: "token of ada", At: noon},
		},
	}
	got, err := s.Observed(t.Context())
	must(t, err)
	acme := got.Cells["acme"]
	delete(got.Cells, "acme")
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(plan.CellState{})); d != "" {
		t.Errorf("what was observed (-want +got):\n%s", d)
	}
	if acme == nil || acme.Version != 7 || acme.Soaked != time.Hour || acme.Sequence != 3 ||
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
	if lines, err := s.AuditEntries(t.Context(), 10); err != nil || len(lines) != 1 || lines[0].Who != "ada" {
		t.Errorf("the audit: %+v (%v)", lines, err)
	}
	if o, err := s.Token(t.Context(), "of-ada"); err != nil || o.Name != "ada" || !o.Expires.IsZero() {
		t.Errorf("the operator's token: %+v (%v)", o, err)
	}
}

// wantNewerData checks the data that exists since schema 2, and since the newest.
func wantNewerData(t *testing.T, s *postgres.Store, version int) {
	t.Helper()
	ctx, noon := t.Context(), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	if version >= 2 {
		if kills, err := s.Kills(ctx); err != nil || len(kills) != 1 || kills[0].ID != "k1" ||
			kills[0].Override.Flag != "gateway" || kills[0].Landed != "" {
			t.Errorf("the kills: %+v (%v)", kills, err)
		}
		if due, err := s.DueMessages(ctx, noon, 10); err != nil || len(due) != 1 || due[0].Webhook != "chat" ||
			due[0].Event.Text != "gateway was killed" {
			t.Errorf("the messages: %+v (%v)", due, err)
		}
	}
	if version >= 3 {
		want := records.Record{Kind: "session", Key: "of-ada", Version: 7009, Updated: noon,
			Body: json.RawMessage(`{"name":"ada"}`)}
		got, err := s.Records().Get(ctx, "session", "of-ada")
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("the record (-want +got): %v\n%s", err, d)
		}
	}
}

// wantUsable uses an old database.
func wantUsable(t *testing.T, s *postgres.Store) {
	t.Helper()
	ctx := t.Context()
	for name, version := range map[string]int64{"acme": 8, "bolt": 2, "newcomer": 1} {
		if err := s.RecordReports(ctx, report(name, version, "again")); err != nil {
			t.Errorf("the next report of %s: %v", name, err)
		}
	}
	if term, led, err := s.AcquireLease(ctx, time.Minute); err != nil || !led || term != 13 {
		t.Errorf("lead: term %d, %v (%v)", term, led, err)
	}
	if fresh, err := s.RecordDecisions(ctx, nil); err != nil || len(fresh) != 1 || fresh[0].Commit != "c2" {
		t.Errorf("not announced: %+v (%v)", fresh, err)
	}
	offer := plan.Offer{Granted: plan.Granted{Cell: "bolt",
		Assignment: cells.Assignment{Channel: "staging", Epoch: 1, Sequence: 42}}, Cap: 2}
	if made, err := s.RecordGrants(ctx, []plan.Offer{offer}); err != nil || len(made) != 0 {
		t.Errorf("a third slot of two: %+v (%v)", made, err)
	}
	if r, err := s.Records().Put(ctx, records.Record{Kind: "session", Key: "new",
		Body: json.RawMessage(`{}`)}); err != nil || r.Version == 0 {
		t.Errorf("a record: %+v (%v)", r, err)
	}
	if err := s.ClaimToken(ctx, "open", plan.Registration{Cell: "bolt",
		Identity: cells.Identity{Serial: 1, PublicKey: "ed25519:BBBB"}}); err != nil {
		t.Errorf("a token of before: %v", err)
	}
}
