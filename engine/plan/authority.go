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

// fault says that the list at the tip is not the one in force; nil: it is.
func (a Authority) fault() *releases.Fault {
	if a.Ignored == "" {
		return nil
	}
	return &releases.Fault{
		File: pipelineFile, Code: manifest.Forbidden,
		Message: fmt.Sprintf("engine was changed in %s, which no listed key signed: the keys listed before stay in force; put them back, or have the change signed by one of them",
			words.Short(a.Ignored)),
	}
}
