package peopleapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// fleetHandlers serves the plan, and the state of channels and cells.
type fleetHandlers struct {
	views  api.Views
	facts  auth.Facts                 // nil: there are none
	images func() *view.ImagesSummary // nil: no images are served
	keeper *exports.Keeper            // nil: no exports are taken
}

const storeUnread = "The store can't be read: ask again in a moment."

type planOutput struct{ Body plan.Plan }

func (f *fleetHandlers) showPlan(context.Context, *struct{}) (*planOutput, error) {
	v, err := latestView(f.views)
	if err != nil {
		return nil, err
	}
	out := &planOutput{Body: v.Plan}
	out.Body.Blocked = v.Verdicts()
	if out.Body.Actions == nil {
		out.Body.Actions = []plan.Action{}
	}
	return out, nil
}

type statusInput struct {
	Channel string `query:"channel" doc:"only this channel and its cells"`
	After   string `query:"after" doc:"cells with names after this one: next of the previous page"`
	Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"cells on a page"`
}

type statusOutput struct{ Body view.Status }

func (f *fleetHandlers) showStatus(ctx context.Context, in *statusInput) (*statusOutput, error) {
	v, err := f.viewWithChannel(in.Channel)
	if err != nil {
		return nil, err
	}
	out := &statusOutput{
		Body: view.StatusOf(v, view.StatusPage{Channel: in.Channel, After: in.After, Limit: in.Limit})}
	if f.images != nil {
		out.Body.Images = f.images()
	}
	if f.keeper != nil {
		if err := f.keeper.AddToStatus(ctx, &out.Body); err != nil {
			return nil, huma.Error503ServiceUnavailable(storeUnread)
		}
	}
	return out, nil
}

type whyInput struct {
	Name string `path:"name" doc:"a cell, or else a channel, or else a release"`
}

type whyOutput struct{ Body view.Explanation }

func (f *fleetHandlers) showWhy(ctx context.Context, in *whyInput) (*whyOutput, error) {
	v, err := latestView(f.views)
	if err != nil {
		return nil, err
	}
	refused, err := auth.FormerKeyRefused(ctx, f.facts, in.Name)
	if err != nil {
		return nil, huma.Error503ServiceUnavailable(storeUnread)
	}
	e, ok := view.Why(v, in.Name, refused)
	if !ok {
		return nil, huma.Error404NotFound(
			"The release repository has neither a cell, a channel nor a release of that name: /v1/status lists cells and " +
				"channels.")
	}
	if f.keeper != nil {
		if err := f.keeper.AddToWhy(ctx, &e, v.Plan.Now); err != nil {
			return nil, huma.Error503ServiceUnavailable(storeUnread)
		}
	}
	return &whyOutput{Body: e}, nil
}

type rolloutsInput struct {
	Channel string `query:"channel" doc:"only this channel"`
}

// Rollouts is the response of /v1/rollouts.
type Rollouts struct {
	Rollouts []plan.Progress `json:"rollouts" doc:"of each channel, upstreams first"`
}

type rolloutsOutput struct{ Body Rollouts }

func (f *fleetHandlers) listRollouts(_ context.Context, in *rolloutsInput) (*rolloutsOutput, error) {
	v, err := f.viewWithChannel(in.Channel)
	if err != nil {
		return nil, err
	}
	return &rolloutsOutput{Body: Rollouts{Rollouts: view.Rollouts(v, in.Channel)}}, nil
}

// latestView returns the newest view, or the response while there is none.
func latestView(views api.Views) (*view.View, error) {
	v := views.View()
	if v == nil {
		return nil, huma.ErrorWithHeaders(huma.Error503ServiceUnavailable(api.NotReadMessage),
			http.Header{"Retry-After": {"2"}})
	}
	return v, nil
}

// viewWithChannel is latestView, with a 404 unless name is empty or one of its channels.
func (f *fleetHandlers) viewWithChannel(name string) (*view.View, error) {
	v, err := latestView(f.views)
	if err == nil && name != "" && v.Desired.Channels[name] == nil {
		return nil, huma.Error404NotFound(
			"The release repository has no such channel: add channels/NAME/channel.yaml, or check the name.")
	}
	return v, err
}
