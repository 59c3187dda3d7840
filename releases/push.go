package releases

import "errors"

var (
	// ErrMoved means that the branch is not at the drafts' base. Fetch, and decide again.
	ErrMoved = errors.New("the branch has moved")
	// ErrDiverged means that the branch's history lacks a commit that was acted upon (R5).
	ErrDiverged = errors.New("the branch no longer contains a commit that was acted upon")
)

// RefusedError means that the git host refused a push (a hook, a permission, a full disk) and left the branch as it
// was.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "push refused: " + e.Reason }
