package node

import (
	"context"
	"encoding/json"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
	"github.com/sluice-cd/sluice/cells/kubernetes"
)

// AgentWay is the way to the cell's agent, as the agent tells it in a Secret. It is an http.RoundTripper. Fields are
// required.
type AgentWay struct {
	imagerelay.Through

	Secrets *kubernetes.ConfigMaps // as of kubernetes.NewSecrets
	Name    string                 // of the ConfigMap that the agent writes
	Log     zerolog.Logger
}

// Follow takes the way that the Secret names last, until ctx ends.
func (a *AgentWay) Follow(ctx context.Context) {
	a.Secrets.Follow(ctx, ImagesName(a.Name), func(files map[string][]byte) {
		var access imagerelay.Access
		err := json.Unmarshal(files[accessFile], &access)
		if err == nil {
			err = a.Take(access)
		}
		if err != nil {
			a.Log.Warn().Err(err).Msg("what the agent's Secret has is refused: the agent is asked where it was before")
		}
	}, noteTrouble(a.Log))
}
