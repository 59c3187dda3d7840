// Package storetest is the contract of engine.Store, and of what stores keep besides for the people who run them: what
// every implementation must do, whatever its database. An implementation's test calls Run and Kill; the package knows
// no implementation.
//
// The cases run in parallel where they share nothing; each opens a database of its own.
package storetest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/releases"
)

// Store is what the contract tests: the engine's port, the history of reports, tokens, the audit and records.
type Store interface {
	engine.Store
	engine.FlagStore
	engine.Audit
	io.Closer
	Observed(ctx context.Context) (plan.Observed, error)
	Events(ctx context.Context, cell string, limit int) ([]cells.Event, error)
	Decisions(ctx context.Context, after int64, limit int) ([]plan.Decided, int64, error)
	Ready(ctx context.Context) error

	AddJoin(ctx context.Context, j access.Join) error
	Joins(ctx context.Context, cell string) ([]access.Join, error)

	AddToken(ctx context.Context, t access.Token) error
	RemoveToken(ctx context.Context, name string) error
	Tokens(ctx context.Context) ([]access.Token, error)
	Token(ctx context.Context, hash string) (access.Token, error)
	RecordAudit(ctx context.Context, e access.Entry) error
	AuditEntries(ctx context.Context, limit int) ([]access.Entry, error)
	CutAudit(ctx context.Context, keep int64) error
	ExportAudit(ctx context.Context, begin func(audit.Header) error, write func(audit.Sealed) error) error

	Fact(ctx context.Context, name string) (string, error)
	SetFact(ctx context.Context, name, before, value string) error

	Records() records.Store
}

// Open opens the database of the test t. Another call with the same t opens the same data, as another process would,
// whether or not the first handle was closed. The store uses now as its clock for leases and tokens; nil: its own.
type Open func(t *testing.T, now func() time.Time) Store

// Run tests the contract with the stores that open returns.
func Run(t *testing.T, open Open) {
	for _, group := range []map[string]func(t *testing.T, open Open){observing(), sharing(), identifying(), flagging(),
		recording()} {
		for name, run := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, open)
			})
		}
	}
}

// observing tests a store with one process.
func observing() map[string]func(t *testing.T, open Open) {
	return map[string]func(t *testing.T, open Open){
		"a new store is empty":                                    newStore,
		"every write survives reopening (invariant 8)":            durable,
		"reports replace the state and add to the history":        reports,
		"a report keeps all of a batch or none":                   wholeBatch,
		"a report on another version is stale":                    stale,
		"a stale report takes nothing of the others with it":      staleAmongOthers,
		"of many who fold on one version one is kept":             staleRace,
		"values come back as the same JSON":                       values,
		"cells are read by name":                                  byName,
		"grants never go back (R2)":                               grants,
		"a report does not undo a newer grant":                    grantOverReport,
		"a cap of 10 under 64 askers grants exactly 10":           capped,
		"a cell takes one slot of its channel, until it is freed": slots,
		"the highest sequence served stays (R2)":                  served,
		"what was learned latches (R7)":                           latches,
		"the newest answer to a probe wins":                       observations,
		"a decision is announced once, across crashes (fault 3)":  decidedOnce,
		"decisions are read on from a cursor":                     decisionsByCursor,
		"divergence and refusals are set and cleared (R5)":        setAndCleared,
		"many writers at once lose nothing":                       concurrent,
		"an ended context writes nothing":                         ended,
		"a closed store says so":                                  closed,
	}
}

// sharing tests a store with several processes.
func sharing() map[string]func(t *testing.T, open Open) {
	return map[string]func(t *testing.T, open Open){
		"one leads at a time, under growing terms":                       leaseTerms,
		"of many stores that request a free lease one gets it":           leaseRace,
		"a released lease is free":                                       leaseReleased,
		"a deposed leader's writes hit 0 rows (fault 11)":                writesOfDeposed,
		"a store that never requested the lease writes while none leads": writesWithoutLeader,
		"whoever does not lead may still take reports":                   reportsWithoutLease,
		"two processes report different cells":                           twoReporters,
		"of two processes that fold on one version one is kept":          twoFolders,
		"two processes share one cap":                                    twoGranters,
		"each is told what the other writes":                             follow,
		"the store's clock is one for all":                               sharedClock,
	}
}

// identifying tests who may speak as a cell, and who as a person.
func identifying() map[string]func(t *testing.T, open Open) {
	return map[string]func(t *testing.T, open Open){
		"a token raced by 50 keys has one winner, who may repeat it (fault 39, R28)": claimRace,
		"a single value is compared and swapped (R29)":                               facts,
		"a token is denied without saying why (fault 39)":                            denied,
		"a token of an older identity is void (R26)":                                 voidToken,
		"a token's winner may not come back once its key is not the cell's":          repeatedTooLate,
		"a cell's tokens are listed until they are used or run out":                  joins,
		"the newest registration of a cell counts":                                   registrations,
		"operators' tokens are found by hash":                                        operators,
		"the audit is read from its newest line":                                     auditEntries,
		"the audit is one chain, whoever writes it, also after a cut":                auditChain,
	}
}

// noon is the time of all these tests.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func digest(n int) releases.Digest { return releases.DigestBytes(fmt.Append(nil, n)) }

func assignment(channel string, epoch, sequence int64) *cells.Assignment {
	return &cells.Assignment{
		Channel: channel, Epoch: epoch, Sequence: sequence,
		Release: fmt.Sprintf("1.0.%d", sequence), Digest: digest(int(sequence)), Profile: "small",
	}
}

func state(cell string, sequence int64) *plan.CellState {
	a := assignment("staging", 1, sequence)
	return &plan.CellState{
		Name: cell, Channel: a.Channel, Epoch: a.Epoch, Sequence: a.Sequence, Release: a.Release, Digest: a.Digest,
		State: cells.StateHealthy, Message: "all well", HealthySince: noon.Add(-time.Hour), Soaked: time.Hour,
		Gaps:       []plan.Gap{{From: noon.Add(-3 * time.Hour), Until: noon.Add(-time.Hour), Cause: plan.GapSilent}},
		LastReport: noon,
		Skew:       -3 * time.Second, Infrastructure: 7, Running: a,
		Actual: &cells.ActualInfrastructure{Number: 8, Source: cells.SourceFile, Status: cells.InfrastructureFailed,
			ChangeSet: &cells.ChangeSet{Name: "sluice-8", Status: "FAILED"}, At: noon},
		StartedAt: noon.Add(-2 * time.Hour),
		Failures: []plan.Failure{{Failure: cells.Failure{Assignment: *assignment("staging", 1, 1),
			Reason: "probe failed", At: noon}, Seen: noon}},
	}
}

func versioned(s *plan.CellState, version int64) *plan.CellState {
	s.Version = version
	return s
}

func events(from, to int64) (list []cells.Event) {
	for n := from; n <= to; n++ {
		list = append(list, cells.Event{Number: n, At: noon, Kind: "applied", Release: fmt.Sprintf("1.0.%d", n)})
	}
	return list
}

func reopen(t *testing.T, s Store, open Open) Store { return reopenAt(t, s, open, nil) }

func reopenAt(t *testing.T, s Store, open Open, now func() time.Time) Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openedAt(t, open, now)
}

func opened(t *testing.T, open Open) Store { return openedAt(t, open, nil) }

func openedAt(t *testing.T, open Open, now func() time.Time) Store {
	t.Helper()
	s := open(t, now)
	t.Cleanup(func() { s.Close() })
	return s
}

// manualClock is a clock that tests set.
type manualClock struct {
	mu  sync.Mutex
	now time.Time
}

func newManualClock() *manualClock { return &manualClock{now: noon} }

func (h *manualClock) timeNow() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *manualClock) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// report stores reports, each as the next version of its cell.
func report(t *testing.T, s Store, batch ...plan.Reported) error {
	t.Helper()
	names := make([]string, len(batch))
	for i, r := range batch {
		names[i] = r.State.Name
	}
	known, err := s.Cells(t.Context(), names...)
	must(t, err)
	next := map[string]int64{}
	for _, r := range batch {
		name := r.State.Name
		if next[name] == 0 && known[name] != nil {
			next[name] = known[name].Version
		}
		next[name]++
		r.State.Version = next[name]
	}
	return s.RecordReports(t.Context(), batch)
}

func observed(t *testing.T, s Store) plan.Observed {
	t.Helper()
	o, err := s.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantSame compares what a store returns, without unexported fields, which no store keeps, and versions, which have
// their own tests.
func wantSame(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(plan.CellState{}),
		cmpopts.IgnoreFields(plan.CellState{}, "Version")); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func grantUncapped(ctx context.Context, s Store, grants []plan.Granted) error {
	offers := make([]plan.Offer, len(grants))
	for i, g := range grants {
		offers[i].Granted = g
	}
	_, err := s.RecordGrants(ctx, offers)
	return err
}
