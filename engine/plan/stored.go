package plan

import (
	"errors"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/releases"
)

// Registration is a change of a cell's identity on its way into git.
type Registration struct {
	Cell     string         `json:"cell"`
	Identity cells.Identity `json:"identity"`
	By       string         `json:"by"` // who or what asked for it, for the commit: "token of ada", "the cell", "clone found"
	At       time.Time      `json:"at"`
}

// Reported is one report as it is kept: the state it leads to, and the history it carried.
type Reported struct {
	State    *CellState
	Boot     string
	Events   []cells.Event
	Material bool     // says something new: others are told at once
	Strange  []string // channels that it names and the repository does not have: no sequence is kept for them
}

// Granted is one cell's grant.
type Granted struct {
	Cell       string
	Assignment cells.Assignment
	At         time.Time
}

// Offer is a grant to be made.
type Offer struct {
	Granted
	Cap int // it takes a slot of its channel, of which there are so many; 0: it takes none
}

// Decided is one decision of the engine as git's history has it.
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

// Kill is a flag's kill on its way into git.
type Kill struct {
	ID       string              `json:"id"` // random: of two kills of one flag the later counts
	At       time.Time           `json:"at"`
	Override repository.Override `json:"override"`         // its Flag is the key
	Landed   string              `json:"landed,omitempty"` // the commit that has it; empty: none yet
}

// FlagsMark is the newest commit of the flags repository that was acted upon (R39).
type FlagsMark struct {
	Commit   string      `json:"commit"`
	Height   int64       `json:"height"`
	Diverged *Divergence `json:"diverged,omitempty"` // the branch does not contain it any more; nil: it does
}

// OutboxMemory is how long it is remembered that an event was posted. What happened longer ago is not posted any more.
const OutboxMemory = 30 * 24 * time.Hour

// Message is an event on its way to one webhook.
type Message struct {
	Event    announce.Event `json:"event"`
	Webhook  string         `json:"webhook"` // its name; empty: the event is for nobody, and only remembered
	Posted   time.Time      `json:"posted"`
	Next     time.Time      `json:"next,omitzero"` // when it is tried (again); zero: never, see Sent and Why
	Attempts int            `json:"attempts"`      // that failed
	Why      string         `json:"why,omitempty"` // the last failed
	Sent     time.Time      `json:"sent,omitzero"` // when it arrived; zero: it has not
}

var (
	// ErrBusy: somebody else holds the store's lock, or it can't be reached. The write was not made; try again in a moment (fault 10).
	ErrBusy = errors.New("the store is busy")
	// ErrFull: no room left. The write was rolled back, and the store is whole; make room (fault 9).
	ErrFull = errors.New("the store has no room left")
	// ErrStale: another process wrote one of the cells since its state was read. Nothing was written; read it and fold again.
	ErrStale = errors.New("the cell's state was written by somebody else meanwhile")
	// ErrDeposed: another process leads now, or the lease ran out. Nothing was written (fault 11).
	ErrDeposed = errors.New("this process does not lead any more")
	// ErrDenied: the token is unknown, used, out of date, or another cell's. One error for all, so that nobody learns which (fault 39).
	ErrDenied = errors.New("the token is not good")
)
