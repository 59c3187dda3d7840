package cells

import "context"

// Rendered is what an assignment comes to: files by slash-separated relative path.
type Rendered struct {
	Assignment Assignment
	Files      map[string][]byte
}

// Target is where a cell's manifests go. Calls never overlap. Every method honours ctx, and
// may be killed at any instant: Apply called again with the same value completes the work.
type Target interface {
	// Apply makes r current, all of it or nothing, and returns once it is durable.
	Apply(ctx context.Context, r Rendered) error
	// Health tells whether what was applied works now. An *Unhealthy says it does not (yet).
	Health(ctx context.Context) error
	// Heal puts back what drifted from r and tells how many objects it mended.
	Heal(ctx context.Context, r Rendered) (mended int, err error)
}

// Unhealthy is a target's word that what runs does not work (yet).
type Unhealthy struct{ Reason string }

func (u *Unhealthy) Error() string { return u.Reason }
