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

// auditor writes down what people do, and says what became of it.
type auditor struct {
	auth *auth.Auth
	log  zerolog.Logger
}

// record writes down who is about to do what. What can't be written down is not done.
func (l auditor) record(ctx context.Context, what string) error {
	if err := l.auth.Audit(ctx, api.CallerOf(ctx), what); err != nil {
		return l.explainError(err, "keep a line of the audit")
	}
	return nil
}

// explainError is an error from inside as people are told it; the unexpected goes to the log.
func (l auditor) explainError(err error, what string) error {
	switch {
	case errors.Is(err, access.ErrUnknown):
		return huma.Error404NotFound("There is no such token.")
	case errors.Is(err, access.ErrTaken):
		return huma.Error409Conflict("There is a token of that name: remove it first, or take another name.")
	case errors.Is(err, plan.ErrStale):
		return huma.Error409Conflict("The cell's identity was changed by somebody else meanwhile: look at it, and try again.")
	}
	status, detail, unexpected := api.DescribeError(err)
	if unexpected {
		l.log.Error().Err(err).Msg(what)
	}
	return huma.NewError(status, detail)
}
