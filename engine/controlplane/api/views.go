package api

import (
	"io/fs"

	"github.com/sluice-cd/sluice/engine/view"
)

// Views gives what the engine last decided and saw.
type Views interface {
	View() *view.View         // nil: nothing has been read yet
	Changed() <-chan struct{} // closed when there is another view than View gave before
}

// Repository gives a commit's files.
type Repository interface {
	FS(commit string) (fs.FS, error)
}

// Shutdown is closed when the server stops: those who wait are let go, and nobody can wait any more.
type Shutdown <-chan struct{}

// Begun reports whether the server stops.
func (s Shutdown) Begun() bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}
