package debug

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/words"
)

// Moment is a reading of the machine's monotonic clock, which no one sets.
type Moment struct {
	Boot  string        `json:"boot"`  // names the boot that Since is of, by its first word, and the time namespace
	Since time.Duration `json:"since"` // since that boot, in nanoseconds
}

// Permission is what a cell's owner permits: one session, for one request.
type Permission struct {
	Request string `json:"request"` // its ID
	// Document is the hash of the request's whole document: what the owner permitted, whatever else has the ID (D4).
	Document string `json:"document"`
	// Commands is the hash of the declared commands that the owner permitted, whatever the release declares later.
	Commands string `json:"commands,omitempty"`
	Logs     string `json:"logs,omitempty"` // the same of the logs, under the scope logs
	Made     Moment `json:"made"`
	// How long the session may last, in nanoseconds; at most what was asked for
	For        time.Duration `json:"for"`
	User       string        `json:"user,omitempty"` // the user of commands and shells; empty: the agent's own
	Pod        *Pod          `json:"pod,omitempty"`  // where the shell runs; nil: on the agent's machine
	PerCommand bool          `json:"perCommand,omitempty"`
	Withhold   bool          `json:"withhold,omitempty"` // the vendor gets the record's hash and length, not the record
	// What the session changed is held and shown as drift, not healed (D7).
	KeepChanges bool `json:"keepChanges,omitempty"`
}

// CheckBegin says why no session may begin under the permission now; nil: one may. Whether the permission was used, the
// caller has to find out: it serves once (D3).
func (p Permission) CheckBegin(now Moment) error {
	made, _, _ := strings.Cut(p.Made.Boot, " ")
	boot, _, _ := strings.Cut(now.Boot, " ")
	switch {
	case made != boot:
		return errors.New("the machine was started again since the owner permitted it: ask the owner once more")
	case p.Made.Boot != now.Boot:
		return errors.New("it was permitted in another time namespace than the agent's, whose clock is another: ask the " +
			"owner to permit it where the agent runs, in its container, say")
	case now.Since-p.Made.Since > BeginWithin:
		return fmt.Errorf("no session began within %s of the owner's permission: ask the owner once more",
			words.ExactDuration(BeginWithin))
	}
	return nil
}

// Left returns how long a session that began at a moment may still last; 0 or less: it has to end.
func (p Permission) Left(began, now Moment) time.Duration {
	if began.Boot != now.Boot {
		return 0
	}
	return p.For - (now.Since - began.Since)
}
