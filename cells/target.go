package cells

import "context"

// Rendered holds the manifests of an assignment: files by slash-separated relative path.
type Rendered struct {
	Assignment Assignment
	Files      map[string][]byte
	Objects    []Object // that the files describe, in the order in which to apply them
}

// Object names an object of a manifest.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// Target applies a cell's manifests. Calls never overlap. Every method honours ctx and may be killed at any instant:
// Apply, called again with the same value, completes the work.
type Target interface {
	// Apply makes r current, all of it or nothing, and returns once it is durable.
	Apply(ctx context.Context, r Rendered) error
	// Health returns nil if what was applied works now, and an *Unhealthy if it does not work (yet).
	Health(ctx context.Context) error
	// Heal restores what drifted from r and returns how many objects it restored. A *RecurringDriftError says that
	// something else undoes what Heal does, again and again; what runs is otherwise in order.
	Heal(ctx context.Context, r Rendered) (mended int, err error)
}

// Unhealthy says that what runs does not work (yet).
type Unhealthy struct{ Reason string }

func (u *Unhealthy) Error() string { return u.Reason }

// RecurringDriftError says what drifts again after each heal, and what the target does about it.
type RecurringDriftError struct{ Reason string }

func (e *RecurringDriftError) Error() string { return e.Reason }
