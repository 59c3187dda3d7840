// Package notices decides what people are told of: it finds in the engine's views what happened and what goes on, folds
// it into few messages, and says which of the sinks in notices.yaml get each, and when.
//
// A thread is what belongs together: one rollout, one approval that is waited for, an unreadable repository. A thread
// that goes wrong is told when it begins, when it gets worse, and once when it is over, however many cells it is about.
// Make keeps the threads in a Memory, so that a restart tells nothing twice and nothing is left out: the same memory
// and view yield the same notices with the same IDs, and an outbox posts each ID once.
//
// The package is pure: it reads no clock, sends nothing, and knows no secret. Its functions may be called at once.
package notices

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

// Kind says what a notice is about.
type Kind string

// The kinds of notices. A further kind is a constant here and an entry of Kinds, with a finder that reports it or a
// program that makes the Notice by itself.
const (
	Promotion       Kind = "promotion"        // a channel's head went up
	Waiting         Kind = "waiting"          // a release waits for people's approval
	Failing         Kind = "failing"          // cells failed a rollout that goes on
	Rollback        Kind = "rollback"         // a channel's head went back
	Halt            Kind = "halt"             // a rollout stopped at its head, and a person must decide
	Quarantine      Kind = "quarantine"       // a release may not be taken any more
	Stuck           Kind = "stuck"            // cells can go neither forward nor back, or have had no result for long
	ShutOut         Kind = "shut-out"         // cells' keys are not let in
	Unreadable      Kind = "unreadable"       // a repository can't be read, or was rewritten
	KillUnconfirmed Kind = "kill-unconfirmed" // a flag was killed, and cells in contact do not confirm it
	Maintenance     Kind = "maintenance"      // cells will refuse operations for an update
	Overran         Kind = "overran"          // a maintenance ended before its update was through
	Infrastructure  Kind = "infrastructure"   // cells' infrastructure updates: who was not reached, and who is overdue
	Test            Kind = "test"             // somebody tries a sink
)

// Kinds returns all kinds that can be subscribed to.
func Kinds() []Kind {
	return []Kind{Promotion, Waiting, Failing, Rollback, Halt, Quarantine, Stuck, ShutOut, Unreadable, KillUnconfirmed,
		Maintenance, Overran, Infrastructure}
}

// Severity says how much a notice matters.
type Severity string

// From the least to the most.
const (
	Info     Severity = "info"     // as planned
	Warning  Severity = "warning"  // somebody should look at it today
	Critical Severity = "critical" // somebody should look at it now
)

// rank orders severities; an unknown one comes first.
func (s Severity) rank() int { return slices.Index([]Severity{Info, Warning, Critical}, s) }

// AtLeast reports whether s matters as much as least, which may be empty, or more.
func (s Severity) AtLeast(least Severity) bool { return s.rank() >= least.rank() }

// Notice is one message about one thread. Every notice says all that is to be said of its thread, so that a later one
// replaces the earlier ones.
type Notice struct {
	ID       string    `json:"id" doc:"the same for every attempt to deliver it"`
	Thread   string    `json:"thread" doc:"the same for all notices that belong together; a later notice of a thread replaces an earlier one"`
	Number   int       `json:"number" doc:"place in the thread, from 1"`
	Kind     Kind      `json:"kind"`
	Severity Severity  `json:"severity"`
	At       time.Time `json:"at"`
	Channel  string    `json:"channel,omitempty"`
	Release  string    `json:"release,omitempty"`
	Title    string    `json:"title" doc:"what happened, in one line"`
	Lines    []string  `json:"lines,omitempty" doc:"more about it"`
	Count    int       `json:"count,omitempty" doc:"how many cells it is about"`
	Cells    []string  `json:"cells,omitempty" doc:"the first 20 of these cells, sorted"`
	Over     bool      `json:"over,omitempty" doc:"nothing more comes of the thread"`
}

// MaxCells is how many cells a notice names.
const MaxCells = 20

// withCells returns n about the given cells, which must be sorted.
func (n Notice) withCells(names []string) Notice {
	n.Count, n.Cells = len(names), slices.Clone(names[:min(len(names), MaxCells)])
	return n
}

// Line returns the notice as one line of text, clean to show (R54).
func (n Notice) Line() string { return words.OneLine(n.Title) }

// Text returns the lines below the title, each clean to show.
func (n Notice) Text() []string {
	all := make([]string, 0, len(n.Lines)+1)
	for _, line := range n.Lines {
		all = append(all, words.OneLine(line))
	}
	if n.Count > 0 {
		line := words.Count(n.Count, "cell")
		if len(n.Cells) > 0 {
			line += ": " + strings.Join(n.Cells, ", ")
		}
		if more := n.Count - len(n.Cells); more > 0 && len(n.Cells) > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		all = append(all, cleantext.Line(line))
	}
	return all
}
