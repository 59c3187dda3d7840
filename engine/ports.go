package engine

import (
	"context"
	"io/fs"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/releases"
)

// Repository is the release repository as the engine uses it. Package gitrepo has the real implementation.
type Repository interface {
	// Fetch updates the mirror and returns the branch's tip.
	Fetch(ctx context.Context) (tip string, err error)
	// LastTip returns the branch's tip as of the last fetch, also of an earlier process; empty: the mirror has none.
	LastTip() string
	// FS returns a commit's files. A file info's Sys() is the object's id, a string.
	FS(commit string) (fs.FS, error)
	// Changes returns the commits of tip's main line after since (empty: from the root) up to tip, oldest first.
	// ErrDiverged: since is not in tip's main line.
	Changes(ctx context.Context, since, tip string) ([]releases.Change, error)
	// ReadErrors counts reads that failed for another reason than what a commit contains: what was read meanwhile does
	// not count, and the next Fetch repairs what it can.
	ReadErrors() uint64
	// Contains reports whether tip lost nothing of commit (R51): the main line has it, or a merge brought it there.
	Contains(ctx context.Context, commit, tip string) (bool, error)
	// HostNotes says in sentences what people should know of the git host, though nothing stops for it.
	HostNotes() []string
	// Push pushes the drafts, a chain on base, if the branch is exactly at base, and returns the commits' ids in order.
	// ErrMoved: the branch is elsewhere. *RefusedError: the host refused. After any other error the push may have
	// landed: fetch to find out.
	Push(ctx context.Context, base string, chain []releases.Draft) (commits []string, err error)
}

var (
	// ErrMoved means that the branch is not at the commit that the plan was made on: decide again.
	ErrMoved = releases.ErrMoved
	// ErrDiverged means that the branch's history lacks a commit that was acted upon (R5).
	ErrDiverged = releases.ErrDiverged
)

// RefusedError means that the git host refused a push: a hook, a permission, a full disk.
type RefusedError = releases.RefusedError

// Store keeps what was observed. Every write is durable when the call returns. A Store has no intent (invariant 3).
// Several processes may share one; each then follows what the others write.
type Store interface {
	Reports
	Ledger
	Lease
	Members
	// Known returns everything but the cells and Clock, as of one instant.
	Known(ctx context.Context) (plan.Observed, error)
	// Cells returns the states of the named cells; without a name, of all. Unknown cells are missing in the map.
	Cells(ctx context.Context, names ...string) (map[string]*plan.CellState, error)
	// Follow calls notify with what other processes write, until ctx ends: at least once for each write, and with All
	// at the start and after an interruption. One goroutine calls notify, which must not block for long. Follow returns
	// at once if no other process can write.
	Follow(ctx context.Context, notify func(StoreUpdate)) error
	// NotifyPush notifies the followers that the branch may have moved. The notice is not stored.
	NotifyPush(ctx context.Context) error
	// Now returns the store's clock, approximately; all processes that share the store see the same clock.
	Now(ctx context.Context) (time.Time, error)
}

// StoreUpdate says what another process wrote. The zero value says only that the store can be reached.
type StoreUpdate struct {
	Cells    []string // their reports or grants changed
	Material bool     // at least one of these cells reported something new
	Known    bool     // the result of Known changed
	Pushed   bool     // the branch may have moved: fetch it
	Flags    bool     // kills or the FlagsMark changed
	Records  []string // KIND/KEY of records that changed
	All      bool     // anything may have changed: read everything again, and fetch the branch
}

// Reports stores what cells report. Any process that shares the store may write it.
type Reports interface {
	// RecordReports stores cells' states and events, all or none of the batch. Each state's Version must be one above
	// the stored one's (none: 0), else ErrStale. An event number already stored for its boot is not changed.
	RecordReports(ctx context.Context, batch []plan.Reported) error
}

// Ledger stores what the engine does and finds out. Only the leader may write it: other processes get ErrDeposed, and
// nothing is written. While no process leads, a process that never requested the lease may write too, as sluice tick
// does.
type Ledger interface {
	// RecordLearned adds to what was learned; existing entries are not changed.
	RecordLearned(ctx context.Context, l plan.Learned) error
	// RecordGrants records offers in one transaction, and returns the grants that were made, in order. An offer that
	// needs a slot is not made while its channel has Cap slots in use. An older grant never replaces a cell's newer
	// one.
	RecordGrants(ctx context.Context, offers []plan.Offer) (made []plan.Granted, err error)
	// FreeSlots ends the slots of cells whose rollout succeeded, failed, stalled or lapsed (R14).
	FreeSlots(ctx context.Context, channel string, cells []string) error
	// RecordObservations records answers to probes; the newest answer replaces older ones.
	RecordObservations(ctx context.Context, observations []plan.Observation) error
	// RecordDecisions records decisions found in git, once for each commit, and returns those that are not announced:
	// each is announced exactly once, even after a crash between write and announcement.
	RecordDecisions(ctx context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error)
	// MarkAnnounced marks decisions as announced.
	MarkAnnounced(ctx context.Context, commits []string) error
	// RecordSeen records the newest commit that was acted upon, and the branch's divergence from it; nil clears that.
	RecordSeen(ctx context.Context, commit string, d *plan.Divergence) error
	// RecordRefusal records that pushes for a channel are not tried again for a while; nil clears that.
	RecordRefusal(ctx context.Context, channel string, r *plan.Refusal) error
}

// Lease says which process leads. Terms are numbered, and every write of a Ledger carries its term's number (fencing).
type Lease interface {
	// AcquireLease acquires the lease for length, or renews this process's own. led is false while another process
	// holds the lease. A leader must stop by itself length after its request.
	AcquireLease(ctx context.Context, length time.Duration) (term int64, led bool, err error)
	// ReleaseLease ends this process's term, if it leads.
	ReleaseLease(ctx context.Context) error
}

// Members stores who may speak as which cell until git has it: registrations on their way into identity.yaml (R25).
type Members interface {
	// HasToken reports whether a token with this hash was made for a cell, and has not expired.
	HasToken(ctx context.Context, cell, hash string) (bool, error)
	// ClaimToken uses up a token by one conditional update, so that one of several claims succeeds; the same key with
	// the same token succeeds again (R28). It records r as the cell's newest member; r's Serial must be above every
	// recorded one. Every other claim gets ErrDenied.
	ClaimToken(ctx context.Context, hash string, r plan.Registration) error
	// Register records r as the cell's newest member if its Serial is above every recorded one; else ErrStale.
	Register(ctx context.Context, r plan.Registration) error
}

// Audit is the audit as the engine sees it.
type Audit interface {
	// AuditChain returns how far the audit is; of its rows after the one with a number, the first is the oldest that is
	// open.
	AuditChain(ctx context.Context, after int64) (audithead.Chain, error)
}

// FlagStore stores what flags need beyond one process. Followers get StoreUpdate.Flags after changes of kills and of
// the mark.
type FlagStore interface {
	Kills
	FlagLedger
	Outbox
}

// FlagLedger stores the announcer's progress. Only the leader may write it: see Ledger.
type FlagLedger interface {
	// FlagsMark returns the newest commit of the flags repository that was acted upon; zero: none.
	FlagsMark(ctx context.Context) (plan.FlagsMark, error)
	// SetFlagsMark stores the mark.
	SetFlagsMark(ctx context.Context, m plan.FlagsMark) error
	// FlagsMemory returns what the newest plan left for the next one; zero: nothing.
	FlagsMemory(ctx context.Context) (announce.Memory, error)
	// SetFlagsMemory stores the memory.
	SetFlagsMemory(ctx context.Context, m announce.Memory) error
}

// Kills stores flags that are off at once. Any process may kill, whatever else is broken (R43).
type Kills interface {
	// Kill stores k durably, in place of an earlier kill of the same flag.
	Kill(ctx context.Context, k plan.Kill) error
	// Kills returns the stored kills by flag, with landed ones, for a replica may not have their commit yet.
	Kills(ctx context.Context) ([]plan.Kill, error)
	// MarkKillLanded records the commit of the flags repository that has the kill with that ID; from there on the
	// repository rules. After a force-push it may be another commit. A kill that was replaced meanwhile has not landed.
	// Kills that landed long ago are deleted. Only the leader may write: see Ledger.
	MarkKillLanded(ctx context.Context, id, commit string) error
}

// Outbox stores messages to webhooks and sinks of notices until they are sent or given up.
type Outbox interface {
	// PostMessages stores messages of events that were never posted before, and returns those events' IDs; an event
	// without a webhook is posted too. Each event is told once, even after a crash (fault 3), as posted events are
	// remembered for OutboxMemory. Only the leader may write: see Ledger.
	PostMessages(ctx context.Context, messages []plan.Message) (fresh []string, err error)
	// DueMessages returns at most limit messages that are due, each target's oldest first, and of no target so many
	// that others would have to wait for it.
	DueMessages(ctx context.Context, now time.Time, limit int) ([]plan.Message, error)
	// MarkSent records that a message arrived; the message is shown for a while.
	MarkSent(ctx context.Context, m plan.Message) error
	// Postpone counts a failed attempt: the next one is not before until; a zero until gives the message up.
	Postpone(ctx context.Context, m plan.Message, until time.Time, why string) error
	// Messages returns at most limit messages, newest first, including sent and given up ones.
	Messages(ctx context.Context, limit int) ([]plan.Message, error)
	// EventMessages returns the messages of one event, by target, including sent and given up ones.
	EventMessages(ctx context.Context, event string) ([]plan.Message, error)
}
