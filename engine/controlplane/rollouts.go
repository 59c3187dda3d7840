package controlplane

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/plan"
)

type rolloutsInput struct {
	Channel string `query:"channel" doc:"only this channel"`
}

// Rollouts is the answer to /v1/rollouts.
type Rollouts struct {
	Rollouts []plan.Progress `json:"rollouts" doc:"of each channel, upstreams first"`
}

type rolloutsOutput struct{ Body Rollouts }

func (s *Server) rollouts(_ context.Context, in *rolloutsInput) (*rolloutsOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if in.Channel != "" && v.Desired.Channels[in.Channel] == nil {
		return nil, huma.Error404NotFound("The release repository has no such channel: add channels/NAME/channel.yaml, or check the name.")
	}
	return &rolloutsOutput{Body: Rollouts{Rollouts: plan.Rollouts(v.Desired, v.Observed, &v.Plan, in.Channel)}}, nil
}
