package maintenance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// LeaseTime is how long a lease lasts after it was granted or renewed. A holder renews it well before.
	LeaseTime = 15 * time.Second
	// MaxLeases is how many operations may be under way at once.
	MaxLeases = 100_000
	// MaxOperationKey bounds the key of an operation, in bytes.
	MaxOperationKey = 200
	// maxDenied is how many refused operations of a maintenance are remembered, to see whether they run all the same.
	maxDenied = 10_000
)

// Operation names what the product does: the kind, such as start, and a key of the product's own, such as the id of the
// workspace.
type Operation struct{ Kind, Key string }

// Operations is the table of the operations under way. Each has a lease, which its holder renews and ends; a lease that
// is not renewed ends by itself. What is granted survives no restart of the process: for LeaseTime after the start
// nothing counts as quiet, and holders that renew are taken over.
type Operations struct {
	state     State
	leases    map[Operation]time.Time // when each ends
	sweepAt   time.Time               // ended leases are removed then
	quietFrom time.Time               // before then, holders of leases of an earlier process may still renew them
	refused   map[string]int64        // by kind, since operations are refused
	total     map[string]int64        // the same, since the start
	denied    map[Operation]bool      // what was refused since then; true: it runs all the same
	ignored   Ignored
	standing  standing
}

// Ignored is what runs in a maintenance although it was refused: the product does not heed refusals.
type Ignored struct {
	Count int64  `json:"count,omitempty"`
	Names string `json:"names,omitempty"` // some of them, for people
}

// NewOperations returns an empty table in a process that begins to listen at now.
func NewOperations(now time.Time) *Operations {
	return &Operations{state: State{Phase: Off}, leases: map[Operation]time.Time{}, quietFrom: now.Add(LeaseTime),
		refused: map[string]int64{}, total: map[string]int64{}, denied: map[Operation]bool{}}
}

// Outcome is the answer to a holder.
type Outcome int

const (
	Granted Outcome = iota
	Renewed
	Refused // there is a maintenance
	Full    // MaxLeases are under way
	Unknown // it is a node part, and does not know what holds
)

// Begin asks for an operation, or renews the lease of one. running says that the holder began it before, under a lease
// that it could not renew in time or whose process is gone: it is taken over unless the drain is through, for it is
// under way in any case.
func (o *Operations) Begin(op Operation, running bool, now time.Time) Outcome {
	o.sweep(now)
	ends, known := o.leases[op]
	if running {
		o.noteRunning(op, now)
	}
	switch {
	case known && now.Before(ends):
		o.leases[op] = now.Add(LeaseTime)
		return Renewed
	case o.state.Refuses(op.Kind, now) && (!running || o.state.Phase == Drained):
		if !running {
			o.noteRefused(op)
		}
		return Refused
	case !running && !o.standing.holds(now):
		return Unknown
	case len(o.leases) >= MaxLeases:
		return Full
	}
	if !running {
		delete(o.denied, op) // what was refused before is granted now
	}
	o.leases[op] = now.Add(LeaseTime)
	return Granted
}

func (o *Operations) noteRefused(op Operation) {
	o.refused[op.Kind]++
	o.total[op.Kind]++
	if _, known := o.denied[op]; !known && len(o.denied) < maxDenied {
		o.denied[op] = false
	}
}

// noteRunning takes note of an operation that its holder says it runs: it may not, if it was refused.
func (o *Operations) noteRunning(op Operation, now time.Time) {
	if runs, denied := o.denied[op]; !denied || runs || !o.state.Refuses(op.Kind, now) {
		return
	}
	o.denied[op] = true
	if o.ignored.Count++; o.ignored.Count <= maxNames {
		o.ignored.Names = joined(o.ignored.Names, op.Kind+" "+op.Key)
	}
}

// Interrupted says that programs could not ask for a while until now: holders may have begun operations by themselves,
// and have LeaseTime to say so before anything counts as quiet.
func (o *Operations) Interrupted(now time.Time) {
	if until := now.Add(LeaseTime); until.After(o.quietFrom) {
		o.quietFrom = until
	}
}

// End ends the lease of an operation, and reports whether there was one.
func (o *Operations) End(op Operation) bool {
	_, known := o.leases[op]
	delete(o.leases, op)
	return known
}

// sweep removes ended leases, from time to time.
func (o *Operations) sweep(now time.Time) {
	if now.Before(o.sweepAt) {
		return
	}
	o.sweepAt = now.Add(LeaseTime)
	maps.DeleteFunc(o.leases, func(_ Operation, ends time.Time) bool { return !now.Before(ends) })
}

// Set sets the state by which operations are granted from now on. Once the drain is through, operations under way no
// longer count: whoever forced it took that decision.
func (o *Operations) Set(s State, now time.Time) {
	if !o.state.Active(now) && s.Active(now) {
		clear(o.refused)
		clear(o.denied)
		o.ignored = Ignored{}
	}
	o.state = s
	o.standing.stale = !s.Ends().IsZero() && !s.Active(now)
	if s.Phase == Drained {
		maps.DeleteFunc(o.leases, func(op Operation, _ time.Time) bool { return s.Refuses(op.Kind, now) })
	}
}

// Busy returns what is under way of the kinds that are refused, or would be.
func (o *Operations) Busy(now time.Time) Busy {
	b := Busy{Refused: maps.Clone(o.refused), Ignored: o.ignored}
	var names []string
	for op, ends := range o.leases {
		if !now.Before(ends) || !slices.Contains(o.state.Kinds(), op.Kind) {
			continue
		}
		if b.Count++; len(names) < maxNames {
			names = append(names, op.Kind+" "+op.Key)
		}
	}
	slices.Sort(names)
	if b.Names = strings.Join(names, ", "); b.Count > len(names) {
		b.Names += " …"
	}
	if b.Count == 0 && now.Before(o.quietFrom) {
		b.Names = "programs could not ask until less than " + LeaseTime.String() +
			" ago: holders of leases may still renew them"
	}
	b.Quiet = b.Count == 0 && o.state.Active(now) && !now.Before(o.quietFrom)
	return b
}

const maxNames = 5

// UnderWay returns how many leases there are, of any kind.
func (o *Operations) UnderWay(now time.Time) (n int) {
	for _, ends := range o.leases {
		if now.Before(ends) {
			n++
		}
	}
	return n
}

// RefusedByKind returns how many operations were refused since the process started.
func (o *Operations) RefusedByKind() map[string]int64 { return maps.Clone(o.total) }

// Check returns what is wrong with an operation from outside, or "".
func (op Operation) Check() string {
	switch {
	case !validKind(op.Kind):
		return "kind is missing, or is no name of small letters, digits and hyphens such as start"
	case op.Key == "" || len(op.Key) > MaxOperationKey || !printable(op.Key):
		return fmt.Sprintf("key must have 1 to %d bytes of printable text, such as the id of what is started",
			MaxOperationKey)
	}
	return ""
}
