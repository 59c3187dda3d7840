package peopleapi

import (
	"context"
	"errors"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/plan"
)

// auditor records people's actions and turns internal errors into responses.
type auditor struct {
	auth *auth.Auth
	log  zerolog.Logger
}

// record records who is about to do what. After an error it must not be done.
func (l auditor) record(ctx context.Context, what string) error {
	if err := l.auth.Audit(ctx, api.CallerOf(ctx), what); err != nil {
		return l.explainError(err, "keep a line of the audit")
	}
	return nil
}

// explainError returns an internal error as a response, and logs unexpected errors.
func (l auditor) explainError(err error, what string) error {
	switch {
	case errors.Is(err, access.ErrUnknown):
		return huma.Error404NotFound("There is no such token.")
	case errors.Is(err, access.ErrTaken):
		return huma.Error409Conflict("There is a token of that name: remove it first, or choose another name.")
	case errors.Is(err, plan.ErrStale):
		return huma.Error409Conflict(
			"The cell's identity was changed by somebody else meanwhile: check it, then try again.")
	}
	status, detail, unexpected := api.DescribeError(err)
	if unexpected {
		l.log.Error().Err(err).Msg(what)
	}
	return huma.NewError(status, detail)
}
