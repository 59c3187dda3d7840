package releases

import "errors"

var (
	// ErrMoved: the branch is not at the commit that the drafts stand on. Fetch, and decide again.
	ErrMoved = errors.New("the branch has moved")
	// ErrDiverged: a commit that was acted upon is no longer in the branch's history (R5).
	ErrDiverged = errors.New("the branch no longer contains a commit that was acted upon")
)

// RefusedError is the git host's no: a hook, a permission, a full disk. The branch is as it was.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "push refused: " + e.Reason }
