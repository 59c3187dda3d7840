// Package tables keeps, in SQL that SQLite and PostgreSQL read alike, what stores have in common: what the engine observed
// and learned, grants and slots, decisions, members, operators' tokens and the audit, kills, messages, single values, records.
//
// It knows neither database: a store gives it transactions (Database) and the few expressions in which the two differ
// (Dialect). How reports are written, who leads, and how processes tell each other of what they wrote is each store's own.
// Nothing here decides anything about releases. Whatever one call writes is written whole or not at all, and what only the
// leader writes is written by WriteAsLeader. All methods may be called from many goroutines.
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

// Database runs transactions. A function that it is given may be run again, after an attempt that failed: it begins anew,
// and adds to nothing that is outside of it.
type Database interface {
	// Read runs read on what was committed at one instant.
	Read(ctx context.Context, op string, read func(Reader) error) error
	// Write runs write in one durable transaction. Once begun it is not given up when ctx ends.
	Write(ctx context.Context, op string, write func(Tx) error) error
	// WriteAsLeader is Write for what only the leader writes: for anybody else it is plan.ErrDeposed. Such writes come
	// one after the other, also those of several processes.
	WriteAsLeader(ctx context.Context, op string, write func(Tx) error) error
}

// Reader is a transaction that reads. Parameters are written $1, and a list of strings is one: name = ANY($1).
type Reader interface {
	// Each calls row for each row of a query, with its columns in dest. row must not use the transaction.
	Each(query string, args, dest []any, row func() error) error
	// Now is the store's clock.
	Now() (time.Time, error)
}

// Tx is a transaction that writes.
type Tx interface {
	Reader
	// Exec runs a statement, and gives how many rows it wrote.
	Exec(statement string, args ...any) (written int64, err error)
	// Queue runs a statement before the next one or the commit: whichever is next gives its error.
	Queue(statement string, args ...any)
	// Insert queues a statement that inserts rows of strings and int64s: INSERT INTO …, the rows, ON CONFLICT …
	Insert(into string, rows [][]any, onConflict string)
	// Notify tells other processes, by Follow, with the commit.
	Notify(news engine.StoreUpdate)
	// MaybeCommitted reports whether an earlier attempt may have been committed: then what is there may be its own.
	MaybeCommitted() bool
}

// Dialect is what the databases spell differently.
type Dialect struct {
	SetLanded string // of the column body, JSON as text: the same with its "landed" set to $2
}

// Tables are all of them.
type Tables struct {
	Observations
	Ledger
	Members
	Operators
	Flags
	Outbox
	Facts
	records Records
}

// New gives the tables of a database. served is shared with who writes reports.
func New(db Database, d Dialect, served *rows.Sequences) Tables {
	return Tables{Observations{db}, Ledger{db, served}, Members{db}, Operators{db}, Flags{db, d}, Outbox{db}, Facts{db}, Records{db}}
}

// IsExpectedError reports whether an error is what a store says of itself when it works.
func IsExpectedError(err error) bool {
	for _, is := range []error{plan.ErrStale, plan.ErrDeposed, plan.ErrDenied, access.ErrUnknown, access.ErrTaken, records.ErrConflict} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
