package engine

import (
	"context"
	"io/fs"
	"time"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/releases"
)

// Repository is the release repository as the engine uses it. gitrepo has the one that is real.
type Repository interface {
	// Fetch brings the mirror up to date and returns the branch's tip.
	Fetch(ctx context.Context) (tip string, err error)
	// FS gives a commit's files. File infos' Sys() is the object's id, a string.
	FS(commit string) (fs.FS, error)
	// Changes gives the first-parent commits after since (empty: from the root) up to tip, oldest
	// first. ErrDiverged: since is not among tip's first-parent ancestors.
	Changes(ctx context.Context, since, tip string) ([]releases.Change, error)
	// Contains reports whether commit is among tip's first-parent ancestors, or tip itself.
	Contains(ctx context.Context, commit, tip string) (bool, error)
	// Push puts the drafts, a chain on base, onto the branch if it is exactly base, and returns the commits' ids in order.
	// ErrMoved: the branch is elsewhere. *RefusedError: the host said no. After any other error, whether the
	// push landed is not known: fetch, and look.
	Push(ctx context.Context, base string, chain []releases.Draft) (commits []string, err error)
}

var (
	// ErrMoved: the branch is not at the commit that the plan was made on. Decide again.
	ErrMoved = releases.ErrMoved
	// ErrDiverged: a commit that was acted upon is no longer in the branch's history (R5).
	ErrDiverged = releases.ErrDiverged
)

// RefusedError is the git host's no: a hook, a permission, a full disk.
type RefusedError = releases.RefusedError

// Store keeps what was observed. Every write is durable when the call returns. It keeps no intent (invariant 3).
// Several processes may share one: then each is told by Follow of what the others write.
type Store interface {
	Reports
	Ledger
	Lease
	Members
	// Known gives everything but the cells and Clock, as of one instant.
	Known(ctx context.Context) (plan.Observed, error)
	// Cells gives what is known of the named cells; without a name, of all. One that is not known is not there.
	Cells(ctx context.Context, names ...string) (map[string]*plan.CellState, error)
	// Follow tells what other processes wrote, until ctx ends. It is at-least-once, and tells of everything at the
	// start and after an interruption. told is called by one goroutine and must not block for long. Follow returns at
	// once where only one process can write.
	Follow(ctx context.Context, told func(StoreUpdate)) error
	// NotifyPush tells the others, by Follow, that the branch may have moved. It keeps nothing: who is not listening is not told.
	NotifyPush(ctx context.Context) error
	// Now is the store's clock, the same for all who share it, as of about now.
	Now(ctx context.Context) (time.Time, error)
}

// StoreUpdate is what another process wrote. The zero News says that the store was heard of: it can be reached.
type StoreUpdate struct {
	Cells    []string // these were reported or granted something
	Material bool     // at least one of them said something new
	Known    bool     // what Known gives changed
	Pushed   bool     // the branch may have moved: look at it
	Flags    bool     // kills, or the flags repository's tip that was acted upon, changed
	All      bool     // anything may have changed: read everything again, and look at the branch
}

// Reports is what cells say. Any process that shares the store may write it.
type Reports interface {
	// Report keeps cells' states and events, all or none of the batch. Each state's Version must be one above the kept
	// one's (none: 0), else ErrStale. An event number already kept for that boot is left as it was.
	Report(ctx context.Context, batch []plan.Reported) error
}

// Ledger is what the engine does and finds out. Only who leads writes it: others get ErrDeposed, and nothing is written.
// A process that never asked to lead writes too while nobody leads: it is alone, as sluice tick may be.
type Ledger interface {
	// RecordLearned adds to what was learned; what is there already stays as it was.
	RecordLearned(ctx context.Context, l plan.Learned) error
	// RecordGrants records offers in one transaction, and gives those that were made, in order. An offer that takes a slot is
	// not made while its channel has Cap of them in use. A cell's newer grant is never replaced by an older one.
	RecordGrants(ctx context.Context, offers []plan.Offer) (made []plan.Granted, err error)
	// FreeSlots ends the slots of cells: what they were for succeeded, failed, stalled or lapsed (R14).
	FreeSlots(ctx context.Context, channel string, cells []string) error
	// RecordObservations records answers to probes, newest wins.
	RecordObservations(ctx context.Context, observations []plan.Observation) error
	// Decided records decisions found in git, once each by commit, and returns those that were new:
	// each is announced exactly once, also after a crash between write and announcement.
	Decided(ctx context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error)
	// MarkAnnounced marks decisions as announced.
	MarkAnnounced(ctx context.Context, commits []string) error
	// RecordSeen records the newest commit that was acted upon, and any divergence from it; nil clears it.
	RecordSeen(ctx context.Context, commit string, d *plan.Divergence) error
	// RecordRefusal records that pushes for a channel are not tried again for a while; nil clears it.
	RecordRefusal(ctx context.Context, channel string, r *plan.Refusal) error
}

// Lease says who leads. Its terms are numbered, and every write of a Ledger carries its term's number (fencing).
type Lease interface {
	// AcquireLease takes the lease for length, or renews it if it is this process's. led is false while another's has not run
	// out. Whoever leads must stop by itself length after it asked.
	AcquireLease(ctx context.Context, length time.Duration) (term int64, led bool, err error)
	// ReleaseLease ends this process's term, if it leads.
	ReleaseLease(ctx context.Context) error
}

// Members is who may speak as which cell, until git says so: registrations on their way into identity.yaml (R25).
type Members interface {
	// ClaimToken uses up a token: one conditional update, so that of many who present it one succeeds. The same key with the
	// same token succeeds again (R28). It records r, whose Serial must be above every one recorded, as the cell's newest
	// member. Else ErrDenied.
	ClaimToken(ctx context.Context, hash string, r plan.Registration) error
	// Register records r as the cell's newest if its Serial is above every one recorded; else ErrStale.
	Register(ctx context.Context, r plan.Registration) error
}

// FlagStore keeps what flags need beyond one process. Others are told by Follow, as News.Flags, of kills and of the mark.
type FlagStore interface {
	Kills
	FlagLedger
	Outbox
}

// FlagLedger is what the announcer saw and told. Only who leads writes it: see Ledger.
type FlagLedger interface {
	// FlagsMark gives the newest commit of the flags repository that was acted upon; the zero mark: none was.
	FlagsMark(ctx context.Context) (plan.FlagsMark, error)
	// SetFlagsMark keeps it.
	SetFlagsMark(ctx context.Context, m plan.FlagsMark) error
	// FlagsMemory gives what the newest plan told the next; zero: nothing.
	FlagsMemory(ctx context.Context) (announce.Memory, error)
	// SetFlagsMemory keeps it.
	SetFlagsMemory(ctx context.Context, m announce.Memory) error
}

// Kills are flags that are off at once. Any process may kill, whatever else is broken (R43).
type Kills interface {
	// Kill keeps k, durably, in place of an earlier kill of the same flag.
	Kill(ctx context.Context, k plan.Kill) error
	// Kills gives those that are kept, by flag: those that have landed too, for a replica may not have that commit yet.
	Kills(ctx context.Context) ([]plan.Kill, error)
	// MarkKillLanded says in which commit of the flags repository the kill with that ID is: from there on the repository rules. After a
	// force-push it may be another. A kill that was replaced meanwhile has not landed. Those that landed long ago are forgotten. Only who leads may: see Ledger.
	MarkKillLanded(ctx context.Context, id, commit string) error
}

// Outbox keeps messages to webhooks until they are sent or given up.
type Outbox interface {
	// Post keeps messages of events that were never posted before, for a webhook or for none, and gives those events' IDs: each
	// event is told once, also after a crash (fault 3). What was posted is remembered for OutboxMemory. Only who leads may: see Ledger.
	Post(ctx context.Context, messages []plan.Message) (fresh []string, err error)
	// DueMessages gives at most limit messages whose time has come, oldest first.
	DueMessages(ctx context.Context, now time.Time, limit int) ([]plan.Message, error)
	// MarkSent says that a message arrived. It is shown for a while.
	MarkSent(ctx context.Context, m plan.Message) error
	// Postpone counts an attempt that failed: the next is not before until; the zero until gives the message up.
	Postpone(ctx context.Context, m plan.Message, until time.Time, why string) error
	// Messages gives at most limit of those that are kept, newest first, those that were sent or given up too.
	Messages(ctx context.Context, limit int) ([]plan.Message, error)
}
