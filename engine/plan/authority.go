package plan

import (
	"fmt"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Authority says who counts as the engine (R46), as the history made it: a commit is judged by the keys in force at its
// first parent.
type Authority struct {
	channels.EngineKeys
	Ignored string // the newest commit that changed the list without the signature of a listed key; empty: the list is as the tip has it
}

// amend takes the list that c, a commit that touched sluice.yaml, has.
func (a *Authority) amend(c releases.Change, listed channels.EngineKeys) {
	switch {
	case listed.Equal(a.EngineKeys):
		a.Ignored = ""
	case a.Trust(c.Key):
		*a = Authority{EngineKeys: listed}
	default:
		a.Ignored = c.Commit
	}
}

// fault returns what people should know about the list; nil: nothing.
func (a Authority) fault() *releases.Fault {
	if a.Unsigned && a.Ignored == "" {
		return &releases.Fault{
			File: pipelineFile, Code: manifest.Unprotected, Warning: true,
			Message: "engine: unsigned: whoever may push to this branch may promote, and may replace a cell's key",
		}
	}
	if a.Ignored == "" {
		return nil
	}
	return &releases.Fault{
		File: pipelineFile, Code: manifest.Forbidden,
		Message: fmt.Sprintf("engine was changed in %s, which no listed key signed: the keys listed before stay in force; put them back, or have the change signed by one of them",
			words.ShortCommit(a.Ignored)),
	}
}
