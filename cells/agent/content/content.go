// Package content fetches content by digest and caches releases on the cell's disk. Content is stored under a digest
// only after it was verified against that digest (invariant 6); time and size of a download are limited. The package
// opens no connections: a Source does. Package render looks into releases.
//
// A digest is trusted because its assignment is. Signatures would be verified in Cache.Open, before the bytes are used,
// and signed metadata would be fetched by a Kind of its own.
//
// A Cache is used by one goroutine at a time.
package content

import (
	"context"
	"io"

	"github.com/sluice-cd/sluice/releases"
)

// Kind is a type of content that a digest may name.
type Kind string

// The kinds of content, named as in the control plane's API.
const (
	Releases    Kind = "releases"    // canonical tars
	FlagBundles Kind = "flagbundles" // see flags.Bundle
)

// Source fetches content.
type Source interface {
	// OpenContent opens the content with a digest, of at most limit bytes on the wire.
	OpenContent(ctx context.Context, kind Kind, digest releases.Digest, limit int64) (Stream, error)
}

// Stream is content on the wire, not verified. One goroutine reads and closes it.
type Stream interface {
	io.ReadCloser
	// ConnectionError returns why reading failed, if the connection was the cause; nil: it was not.
	ConnectionError() error
}

// RefusedError says that the fetched content is not what was requested.
type RefusedError struct{ Cause error }

func (e *RefusedError) Error() string { return "refused: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Cause }
