// Package tables stores what all stores have in common, in SQL that SQLite and PostgreSQL share: what the engine
// observed and learned, grants and slots, decisions, members, operators' tokens and the audit, kills, messages, facts,
// records.
//
// The package knows neither database: a store provides transactions (Database) and the few expressions in which the two
// differ (Dialect). Writing reports, leading and notifying other processes is each store's own job. The package decides
// nothing about releases. Whatever one call writes is written whole or not at all, and only WriteAsLeader writes what
// is the leader's. All methods may be called from many goroutines.
package tables

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store/rows"
)

// Database runs transactions. A function passed to it may run again after a failed attempt, so it must start afresh and
// must not add to anything outside.
type Database interface {
	// Read runs read on the state at one instant.
	Read(ctx context.Context, op string, read func(Reader) error) error
	// Write runs write in one durable transaction. Once begun, the transaction ignores ctx.
	Write(ctx context.Context, op string, write func(Tx) error) error
	// WriteAsLeader is Write for the leader; for other processes it returns plan.ErrDeposed. Such writes come one after
	// the other, even those of several processes.
	WriteAsLeader(ctx context.Context, op string, write func(Tx) error) error
}

// Reader is a transaction that reads. Parameters are $1, $2, …; one may be a list of strings: name = ANY($1).
type Reader interface {
	// Each calls row for each row of a query, with its columns in dest. row must not use the transaction.
	Each(query string, args, dest []any, row func() error) error
	// Now returns the store's clock.
	Now() (time.Time, error)
}

// Tx is a transaction that writes.
type Tx interface {
	Reader
	// Exec runs a statement, and returns how many rows it wrote.
	Exec(statement string, args ...any) (written int64, err error)
	// Queue runs a statement before the next one or the commit, which then returns the statement's error.
	Queue(statement string, args ...any)
	// Insert queues a statement that inserts rows of strings and int64s: INSERT INTO …, the rows, ON CONFLICT …
	Insert(into string, rows [][]any, onConflict string)
	// Notify notifies the followers with the commit.
	Notify(u engine.StoreUpdate)
	// MaybeCommitted reports whether an earlier attempt may have been committed: existing rows may then be its own.
	MaybeCommitted() bool
}

// Dialect has the expressions in which the databases differ.
type Dialect struct {
	SetLanded string // the column body, JSON as text, with its "landed" set to $2
}

// Tables are all tables of a database.
type Tables struct {
	Observations
	Ledger
	Members
	Operators
	Audit
	Flags
	Outbox
	Facts
	records Records
}

// New returns the tables of a database; call CloseAudit at the end. The writer of reports must use the same served.
func New(db Database, d Dialect, served *rows.Sequences) Tables {
	return Tables{Observations{db}, Ledger{db, served}, Members{db}, Operators{db}, newAudit(db), Flags{db, d},
		Outbox{db}, Facts{db}, Records{db}}
}

// IsExpectedError reports whether an error is an ordinary answer of a working store.
func IsExpectedError(err error) bool {
	for _, is := range []error{plan.ErrStale, plan.ErrDeposed, plan.ErrDenied, access.ErrUnknown, access.ErrTaken,
		records.ErrConflict} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
