package engine

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sluice-cd/sluice/cells"
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

var (
	// ErrBusy: somebody else holds the store's lock. The write was not made; try again in a moment (fault 10).
	ErrBusy = errors.New("the store is busy")
	// ErrFull: no room left. The write was rolled back, and the store is whole; make room (fault 9).
	ErrFull = errors.New("the store has no room left")
)

// RefusedError is the git host's no: a hook, a permission, a full disk.
type RefusedError = releases.RefusedError

// Store keeps what was observed. Every write is durable when the call returns. It keeps no intent (invariant 3).
type Store interface {
	// Observed gives everything but Clock. It is read once at start: the engine keeps it current by what it writes and is told.
	Observed(ctx context.Context) (Observed, error)
	// Report keeps cells' states and events, all or none of the batch. An event number already kept for that boot is left as it was.
	Report(ctx context.Context, batch []Reported) error
	// Learn adds to what was learned; what is there already stays as it was.
	Learn(ctx context.Context, l Learned) error
	// Grant records offers, all or none. A cell's newer grant is never replaced by an older one.
	Grant(ctx context.Context, grants []Granted) error
	// Observe records answers to probes, newest wins.
	Observe(ctx context.Context, observations []Observation) error
	// Decided records decisions found in git, once each by commit, and returns those that were new:
	// each is announced exactly once, also after a crash between write and announcement.
	Decided(ctx context.Context, decisions []Decided) (fresh []Decided, err error)
	// Announced marks decisions as announced.
	Announced(ctx context.Context, commits []string) error
	// Seen records the newest commit that was acted upon, and any divergence from it; nil clears it.
	Seen(ctx context.Context, commit string, d *Divergence) error
	// Refused records that pushes for a channel are not tried again for a while; nil clears it.
	Refused(ctx context.Context, channel string, r *Refusal) error
}

// Reported is one report as it is kept: the state it leads to, and the history it carried.
type Reported struct {
	State  *CellState
	Boot   string
	Events []cells.Event
}

// Granted is one cell's grant.
type Granted struct {
	Cell       string
	Assignment cells.Assignment
	At         time.Time
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
