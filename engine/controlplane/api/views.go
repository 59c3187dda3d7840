package api

import (
	"io/fs"

	"github.com/sluice-cd/sluice/engine/view"
)

// Views returns the engine's latest decisions and observations.
type Views interface {
	View() *view.View         // nil until the release repository has been read
	Changed() <-chan struct{} // closed when View returns a newer view
}

// Repository returns a commit's files.
type Repository interface {
	FS(commit string) (fs.FS, error)
}

// Shutdown is closed when the server begins to stop: streams and long polls end, and new requests do not wait.
type Shutdown <-chan struct{}

// Begun reports whether the server is stopping.
func (s Shutdown) Begun() bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}
