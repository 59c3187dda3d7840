package plan

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// Registration is a change of a cell's identity that is to be written to git.
type Registration struct {
	Cell     string         `json:"cell"`
	Identity cells.Identity `json:"identity"`
	By       string         `json:"by"` // who or what requested it: "token of ada", "the cell", "clone found"
	At       time.Time      `json:"at"`
}

// Reported is one report as the store keeps it: the resulting state, and the events it carried.
type Reported struct {
	State    *CellState
	Boot     string
	Events   []cells.Event
	Material bool // the report has news: other processes hear of it at once
}

// Granted is a grant to one cell.
type Granted struct {
	Cell       string
	Assignment cells.Assignment
	At         time.Time
}

// Offer is a grant to be made.
type Offer struct {
	Granted
	Cap int // how many slots the channel has, if the offer takes one; 0: it takes none
}

// Decided is one decision of the engine, as git's history has it.
type Decided struct {
	Commit   string          `json:"commit"`
	Kind     Kind            `json:"kind"`
	Channel  string          `json:"channel"`
	Release  string          `json:"release"`
	Digest   releases.Digest `json:"digest"`
	Sequence int64           `json:"sequence"`
	Replaces string          `json:"replaces,omitempty"`
	At       time.Time       `json:"at"`
}

// Kill is a flag's kill that is to be written to git.
type Kill struct {
	ID       string              `json:"id"` // random; of two kills of one flag the later counts
	At       time.Time           `json:"at"`
	Override repository.Override `json:"override"`         // Override.Flag is the key
	Landed   string              `json:"landed,omitempty"` // the commit that has the kill; empty: none yet
}

// FlagsMark is the newest commit of the flags repository that was acted on (R39).
type FlagsMark struct {
	Commit   string      `json:"commit"`
	Height   int64       `json:"height"`
	Diverged *Divergence `json:"diverged,omitempty"` // the branch no longer contains Commit; nil: it does
}

// OutboxMemory is for how long the outbox remembers that it posted an event. Older events are not posted.
const OutboxMemory = 30 * 24 * time.Hour

// Message is an event, or a notice, that is to be delivered to one target.
type Message struct {
	Event    announce.Event  `json:"event"`            // of a notice: its ID, kind, channel, time and title
	Notice   json.RawMessage `json:"notice,omitempty"` // the notice; empty: Event is all
	Webhook  string          `json:"webhook"`          // the target's name; empty: the event is only remembered
	Posted   time.Time       `json:"posted"`
	Next     time.Time       `json:"next,omitzero"` // when the next attempt is due; zero: none, see Sent and Why
	Attempts int             `json:"attempts"`      // failed attempts
	Why      string          `json:"why,omitempty"` // why the last attempt failed
	Sent     time.Time       `json:"sent,omitzero"` // when the target accepted it; zero: not yet
}

var (
	// ErrBusy means that another process holds the store's lock, or that the store can't be reached. Nothing was
	// written; try again in a moment (fault 10).
	ErrBusy = errors.New("the store is busy")
	// ErrFull means that the store has no room left. The write was rolled back and the store is intact; make room
	// (fault 9).
	ErrFull = errors.New("the store has no room left")
	// ErrAway is an ErrBusy: the store's database can't be reached.
	ErrAway error = busyError("the store's database can't be reached")
	// ErrCrowded is an ErrBusy: the store's database has no connection left for this process.
	ErrCrowded error = busyError("the store's database has no connection left")
	// ErrReadOnly means that the store can be read, and takes no writes.
	ErrReadOnly = errors.New("the store can't be written to")
	// ErrStale means that another process wrote one of the cells since its state was read. Nothing was written; read
	// the state and fold again.
	ErrStale = errors.New("the cell's state was written by somebody else meanwhile")
	// ErrDeposed means that another process leads now, or that the lease ran out. Nothing was written (fault 11).
	ErrDeposed = errors.New("this process does not lead any more")
	// ErrDenied means that the token is unknown, used, expired or another cell's. All cases share one error, so that a
	// caller learns nothing about tokens (fault 39).
	ErrDenied = errors.New("the token is not good")
)

// busyError is a cause of ErrBusy in words of its own.
type busyError string

func (e busyError) Error() string        { return string(e) }
func (e busyError) Is(target error) bool { return target == ErrBusy }
