package releases

import (
	"errors"
	"time"
)

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

// BusyError means that the git host asks to be left alone until an instant. It is not asked before.
type BusyError struct {
	Reason string
	Until  time.Time
}

func (e *BusyError) Error() string {
	return e.Reason + "; it is not asked again before " + e.Until.UTC().Format(time.RFC3339)
}

// CredentialsError means that the git host does not take, or lacks, the credentials of a request.
type CredentialsError struct{ Reason string }

func (e *CredentialsError) Error() string { return e.Reason }
