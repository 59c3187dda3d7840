// Package content has what is named by a digest: how it is asked for, what may become of that, and the releases that a cell
// keeps on its disk. Nothing gets the name of a digest that was not verified against it (invariant 6); how long a fetch
// may take and how many bytes it may have is limited. It dials nobody, that is a Source's; and it does not look into a
// release, that is render's.
//
// Whether a digest is to be believed is not asked here so far: its assignment is. Signatures will be, in Cache.Open,
// before anybody gets at the bytes; what is signed comes by a Kind of its own.
//
// A Cache is used by one goroutine at a time.
package content

import (
	"context"
	"io"

	"github.com/sluice-cd/sluice/releases"
)

// Kind is what a digest may name.
type Kind string

// The kinds of content. They are what the control plane calls them.
const (
	Releases    Kind = "releases"    // canonical tars
	FlagBundles Kind = "flagbundles" // see flags.Bundle
)

// Source is where content comes from.
type Source interface {
	// OpenContent asks for what has a digest, of at most limit bytes on the wire.
	OpenContent(ctx context.Context, kind Kind, digest releases.Digest, limit int64) (Stream, error)
}

// Stream is content as it comes, not verified. One goroutine reads and closes it.
type Stream interface {
	io.ReadCloser
	// ConnectionError is why reading failed, if that was for the connection; nil: it went well so far.
	ConnectionError() error
}

// UnavailableError says that what is needed can't be had now. It may be later, and nothing is wrong with the release.
type UnavailableError struct{ Cause error }

func (e *UnavailableError) Error() string { return e.Cause.Error() }

// Unwrap is the cause.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// RefusedError says that what came is not what was asked for.
type RefusedError struct{ Cause error }

func (e *RefusedError) Error() string { return "refused: " + e.Cause.Error() }

// Unwrap is the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }
