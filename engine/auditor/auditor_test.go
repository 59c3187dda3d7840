package auditor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// scene has the views that an auditor watches, of a world that the test changes, and a real store.
type scene struct {
	*World
	store *store.Store

	mu      sync.Mutex // guards the fields below
	now     time.Time
	view    *view.View
	changed chan struct{}
}

func newScene(t *testing.T) *scene {
	kept, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "s.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	s := &scene{World: One(t, ""), store: kept, changed: make(chan struct{})}
	s.publish()
	return s
}

func (s *scene) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *scene) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *scene) Leads() bool { return true }

func (s *scene) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// publish publishes the world as it is.
func (s *scene) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	obs := s.Obs
	obs.Cells = maps.Clone(s.Obs.Cells)
	s.now, s.view = s.World.Now, &view.View{Desired: s.Desired(), Observed: &obs, Flags: &view.Flags{}}
	close(s.changed)
	s.changed = make(chan struct{})
}

// run runs an auditor until the audit has n rows, then lets it look a few times more, and returns the rows, oldest
// first.
func (s *scene) run(t *testing.T, n int) []access.Entry {
	t.Helper()
	s.publish()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	a := New(s, s.store, zerolog.Nop(), time.Millisecond)
	go func() { done <- a.Run(ctx) }()
	for end := time.Now().Add(time.Minute); len(s.rows(t)) < n && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
		s.publish()
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a.known = nil
	for range 3 { // as after restarts
		again := New(s, s.store, zerolog.Nop(), 0)
		again.look(t.Context())
		again.look(t.Context())
	}
	rows := s.rows(t)
	if len(rows) != n {
		t.Fatalf("%d rows, want %d: %+v", len(rows), n, rows)
	}
	return rows
}

func (s *scene) rows(t *testing.T) (all []access.Entry) {
	t.Helper()
	found, err := s.store.AuditEntries(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		all = append(all, found[len(found)-1-i])
	}
	return all
}

func wantRow(t *testing.T, e access.Entry, who string, says ...string) {
	t.Helper()
	for _, text := range says {
		if !strings.Contains(e.What, text) || e.Who != who {
			t.Errorf("%+v, want %q by %s", e, text, who)
		}
	}
}

// An owner's decision has one row when a report shows it, not one per report, also after restarts (R18).
func TestOwnersDecisionsHaveOneRow(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.run(t, 0)
	const who = "the owner of cell s1"
	pause := &cells.Owner{Paused: "audit\nweek\x1b[31m"}
	s.SetOwnerDecision("s1", pause)
	rows := s.run(t, 1)
	wantRow(t, rows[0], who, "decided: paused: audit week")
	if strings.ContainsAny(rows[0].What, "\n\x1b") {
		t.Errorf("%q", rows[0].What)
	}
	for range 20 {
		s.World.Now = s.World.Now.Add(time.Minute)
		s.SetOwnerDecision("s1", &cells.Owner{Paused: pause.Paused})
		s.publish()
	}
	s.run(t, 1)

	digest := releases.Digest("sha256:" + strings.Repeat("ab", 32))
	s.SetOwnerDecision("s1", &cells.Owner{Pin: "1.0.0", Approval: true, Approved: []releases.Digest{digest},
		Windows:  []window.Window{{Opens: "0 2 * * *", For: time.Hour, Zone: "Europe/Berlin"}},
		Features: []string{"chat"}, Reasons: map[string]string{"chat": "too loud"}})
	rows = s.run(t, 2)
	wantRow(t, rows[1], who, "pinned to 1.0.0", "so far 1 release, the newest "+string(digest),
		"begins only in the window 0 2 * * * for 1h0m0s Europe/Berlin", "holds the feature chat: too loud")
	// What is decided soon afterwards waits for ten minutes; what was undone meanwhile has no row.
	s.SetOwnerDecision("s1", &cells.Owner{Paused: "for a moment"})
	s.run(t, 2)
	s.SetOwnerDecision("s1", nil)
	s.World.Now = s.World.Now.Add(ownerGap)
	rows = s.run(t, 3)
	wantRow(t, rows[2], who, "decided nothing any more")
}

// A cell that reports another decision each time has few rows, and no other cell waits for it.
func TestRestlessOwnerHasFewRows(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	known, rows := map[string]memo{}, map[string]int{}
	for second := range 3600 {
		s.World.Now = s.World.Now.Add(time.Second)
		s.SetOwnerDecision("s1", &cells.Owner{Paused: strings.Repeat("x", 1000) + fmt.Sprint(second)})
		if second == 1800 {
			s.SetOwnerDecision("s2", &cells.Owner{Pin: "1.0.0"})
		}
		found, next := findOwners(s.Desired(), s.Obs.Cells, known, s.World.Now)
		for _, f := range found {
			known[f.key] = f.memo
			rows[f.key]++
		}
		if len(found) == 0 && !next.After(s.World.Now) {
			t.Fatalf("the next row is due at %s, before now", next)
		}
	}
	if rows["owner/s1"] != 6 || rows["owner/s2"] != 1 {
		t.Errorf("%v", rows)
	}
}

// A crash between remembering a row and storing it leaves out no row, and doubles none.
func TestCrashDoublesNoRow(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]bool{"before the row": false, "after the row": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.run(t, 0)
			s.SetOwnerDecision("s1", &cells.Owner{Paused: "audit"})
			s.publish()
			found, _ := findOwners(s.View().Desired, s.View().Observed.Cells, nil, s.now.UTC())
			body, err := json.Marshal(found[0].memo)
			if err == nil {
				_, err = s.store.Records().Put(t.Context(),
					records.Record{Kind: recordKind, Key: found[0].key, Body: body})
			}
			if err == nil && stored {
				err = s.store.RecordAudit(t.Context(), found[0].memo.Entry)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantRow(t, s.run(t, 1)[0], "the owner of cell s1", "paused: audit")
		})
	}
}

// An action on a cell's key leads to a commit of the engine's, which has one row that names it and who asked.
func TestCommitsOfActions(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	register := func(cell, by string, id cells.Identity) {
		id.APIVersion, id.Kind = "sluice/v1", "Identity"
		s.Obs.Registered = map[string]plan.Registration{cell: {Cell: cell, By: by, At: s.World.Now, Identity: id}}
		s.World.Now = s.World.Now.Add(time.Minute)
		s.Settle()
	}
	key := "ed25519:" + strings.Repeat("A", 43) + "="
	register("s1", "a token", cells.Identity{Epoch: 1, Serial: 1, PublicKey: key})
	s.run(t, 0) // what was committed before there was an auditor has no row
	register("s1", "ada", cells.Identity{Epoch: 1, Serial: 2, PublicKey: key, Revoked: true})
	revoked := s.Tip
	rows := s.run(t, 1)
	wantRow(t, rows[0], whoCommits, "commit "+revoked+" of the release repository: cell s1 revoked, by ada")

	kill := plan.Kill{ID: "k1", At: s.World.Now, Override: repository.Override{Kind: repository.Kill, Flag: "chat",
		By: "bo", Reason: "loud"}}
	if err := s.store.Kill(t.Context(), kill); err != nil {
		t.Fatal(err)
	}
	s.run(t, 1) // it is not committed yet
	if err := s.store.MarkKillLanded(t.Context(), "k1", "4f0c"); err != nil {
		t.Fatal(err)
	}
	rows = s.run(t, 2)
	wantRow(t, rows[1], whoCommits, "commit 4f0c of the flags repository: kill the flag chat, by bo")
}

// Thousands of commits, in any order within an hour and with times from the future, have one row each; the memory of
// them fits into a record.
func TestManyCommits(t *testing.T) {
	t.Parallel()
	now := Start
	d := &plan.Desired{Cells: map[string]*plan.Cell{}}
	memory := memo{Stored: true, Since: now}
	rows := map[string]int{}
	for n := range 2000 {
		now = now.Add(30 * time.Second)
		at := now.Add(-time.Duration(n%50) * time.Minute)
		if n%97 == 0 {
			at = now.Add(24 * time.Hour)
		}
		if !at.After(Start) {
			at = now
		}
		c := &plan.Cell{}
		c.KeyChanges = []plan.KeyChange{{What: "revoked, by ada", At: at, Commit: fmt.Sprintf("%040d", n)}}
		d.Cells[fmt.Sprintf("c%d", n%400)] = c
		for _, f := range findCommits(d, memory, now) {
			memory = f.memo
			rows[f.memo.Entry.What]++
		}
		if body, err := json.Marshal(memory); err != nil || len(body) > records.MaxBody {
			t.Fatalf("%d bytes (%v)", len(body), err)
		}
	}
	if len(rows) != 2000 {
		t.Errorf("%d rows", len(rows))
	}
	for what, n := range rows {
		if n != 1 {
			t.Errorf("%d rows: %s", n, what)
		}
	}
	// A commit about many cells has a row that is not too long.
	for n := range 1000 {
		c := &plan.Cell{}
		c.KeyChanges = []plan.KeyChange{{What: strings.Repeat("w", 400), At: now.Add(time.Second), Commit: "big"}}
		d.Cells[fmt.Sprintf("c%d", n)] = c
	}
	found := findCommits(d, memory, now.Add(time.Second))
	if len(found) != 1 || len(found[0].memo.Entry.What) > 4<<10+10 {
		t.Errorf("%d rows", len(found))
	}
}
