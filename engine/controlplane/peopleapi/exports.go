package peopleapi

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/exports"
)

// exportHandlers shows what cells exported.
type exportHandlers struct {
	views  api.Views
	keeper *exports.Keeper // nil: no exports are taken
}

type exportsInput struct {
	Name string `path:"name" doc:"the cell"`
}

type exportsOutput struct{ Body exports.State }

func (h *exportHandlers) show(ctx context.Context, in *exportsInput) (*exportsOutput, error) {
	v, err := latestView(h.views)
	switch {
	case err != nil:
		return nil, err
	case v.Desired.Cells[in.Name] == nil:
		return nil, huma.Error404NotFound(
			"The release repository has no such cell: add cells/NAME/cell.yaml, or check the name.")
	case h.keeper == nil:
		return &exportsOutput{}, nil
	}
	state, err := h.keeper.Load(ctx, in.Name)
	if err != nil {
		return nil, huma.Error503ServiceUnavailable(storeUnread)
	}
	return &exportsOutput{Body: state}, nil
}
