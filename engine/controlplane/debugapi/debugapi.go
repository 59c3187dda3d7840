// Package debugapi lets people ask for debug access to cells, and shows what became of it.
//
// It makes no request and permits none: a request comes signed by the person's own key, and the cell's owner permits
// it in the cell. Who may send one is in the table of routes; every change has a row in the audit first. All methods
// may be called from any goroutine.
package debugapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
)

// Options are what the API needs. IsLive may be nil: no sessions are relayed here.
type Options struct {
	Views    api.Views
	Requests *debugging.Keeper
	IsLive   func(cell, id string) bool // whether a request's session is relayed here
	Auth     *auth.Auth
	Log      zerolog.Logger
}

// API serves people.
type API struct{ o Options }

// New returns an API and starts nothing.
func New(o Options) *API {
	if o.IsLive == nil {
		o.IsLive = func(string, string) bool { return false }
	}
	return &API{o}
}

// RequestList is a page of requests, by cell and ID.
type RequestList struct {
	Requests []debugging.RequestStatus `json:"requests"`
	Next     string                    `json:"next,omitempty" doc:"after of the next page; absent: this is the last"`
}

type listInput struct {
	Cell  string `query:"cell" doc:"only requests of this cell"`
	After string `query:"after" doc:"requests after this one: next of the previous page"`
}

type cellInput struct {
	Name string `path:"name" doc:"the cell"`
	Body debug.SignedRequest
}

type requestInput struct {
	Name string `path:"name" doc:"the cell"`
	ID   string `path:"id" doc:"of the request"`
}

type listOutput struct{ Body RequestList }

type statusOutput struct{ Body debugging.RequestStatus }

// Routes returns the people's routes of debug access.
func (a *API) Routes(api.Docs) []api.Route {
	op := func(id, summary, description string, errors ...int) huma.Operation {
		return huma.Operation{OperationID: id, Tags: []string{"debug"}, Summary: summary, Description: description,
			Errors: append(errors, http.StatusServiceUnavailable)}
	}
	return []api.Route{
		{Method: http.MethodGet, Path: "/v1/debug-requests", Audience: api.Viewer, Typed: api.Typed(a.list),
			Operation: op("debugRequests", "Requests for debug access, of the last 90 days", "")},
		{Method: http.MethodPost, Path: "/v1/cells/{name}/debug", Audience: api.Operator, OfCell: true,
			Typed: api.Typed(a.add),
			Operation: op("requestDebug", "Ask a cell's owner for debug access",
				"The request is signed by the SSH key of a person in people of sluice.yaml. The cell's owner sees it "+
					"in the cell, and permits or denies it there. At most 8 requests of a cell are open at once, "+
					"and 64 made in 24 hours.",
				404, 409, 507)},
		{Method: http.MethodGet, Path: "/v1/cells/{name}/debug/{id}", Audience: api.Viewer, Typed: api.Typed(a.show),
			Operation: op("debugRequest", "One request for debug access, and what became of it", "", 404)},
		{Method: http.MethodDelete, Path: "/v1/cells/{name}/debug/{id}", Audience: api.Operator, OfCell: true,
			Typed: api.Typed(a.withdraw),
			Operation: op("withdrawDebug", "Take a request for debug access back",
				"Not while its session lasts: whoever uses it ends it, or the cell's owner. A session that begins "+
					"meanwhile is cut, and its seal and record are kept.", 404, 409, 507)},
	}
}

func (a *API) view() (*view.View, error) {
	if v := a.o.Views.View(); v != nil {
		return v, nil
	}
	return nil, huma.Error503ServiceUnavailable("The release repository has not been read yet: ask again in a moment.")
}

// load returns a request, with the view to judge it by.
func (a *API) load(ctx context.Context, in *requestInput) (*view.View, *debugging.Entry, error) {
	v, err := a.view()
	if err != nil {
		return nil, nil, err
	}
	e, err := a.o.Requests.Load(ctx, in.Name, in.ID)
	if err != nil {
		return nil, nil, a.explain(err)
	}
	return v, &e, nil
}

func (a *API) status(v *view.View, e *debugging.Entry, now time.Time) debugging.RequestStatus {
	var reported []cells.DebugState
	ourTime := func(t time.Time) time.Time { return t }
	if s := v.Observed.Cells[e.Request.Cell]; s != nil {
		reported, ourTime = s.Debug, s.OurTime
	}
	return debugging.NewStatus(e, reported, ourTime, now)
}

func (a *API) list(ctx context.Context, in *listInput) (*listOutput, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	all, next, err := a.o.Requests.ListPage(ctx, in.Cell, in.After)
	if err != nil {
		return nil, a.explain(err)
	}
	out := &listOutput{RequestList{Requests: []debugging.RequestStatus{}, Next: next}}
	for i := range all {
		out.Body.Requests = append(out.Body.Requests, a.status(v, &all[i], time.Now()))
	}
	return out, nil
}

func (a *API) add(ctx context.Context, in *cellInput) (*statusOutput, error) {
	v, err := a.view()
	if err != nil {
		return nil, err
	}
	if v.Desired.Cells[in.Name] == nil {
		return nil, huma.Error404NotFound("The release repository has no such cell: check the name.")
	}
	now, c := time.Now().UTC(), api.CallerOf(ctx)
	r, err := debugging.Check(in.Body, in.Name, v.Desired.Pipeline.People, now)
	if err != nil {
		return nil, a.explain(err)
	}
	if err := a.o.Auth.Audit(ctx, c, "ask for "+debugging.Describe(&r, in.Body.ID())); err != nil {
		return nil, a.explain(err)
	}
	if err := a.o.Requests.Add(ctx, in.Body, r, c.Name, now); err != nil {
		return nil, a.explain(err)
	}
	return a.show(ctx, &requestInput{in.Name, in.Body.ID()})
}

func (a *API) show(ctx context.Context, in *requestInput) (*statusOutput, error) {
	v, e, err := a.load(ctx, in)
	if err != nil {
		return nil, err
	}
	return &statusOutput{a.status(v, e, time.Now())}, nil
}

func (a *API) withdraw(ctx context.Context, in *requestInput) (*statusOutput, error) {
	v, e, err := a.load(ctx, in)
	if err != nil {
		return nil, err
	}
	state := a.status(v, e, time.Now()).State
	if a.o.IsLive(in.Name, in.ID) { // the cell has not reported it yet
		state = cells.DebugLive
	}
	switch state {
	case debugging.Withdrawn:
		return a.show(ctx, in)
	case cells.DebugLive:
		return nil, huma.Error409Conflict("Its session lasts: whoever uses it ends it, or the cell's owner by sluice " +
			"cell debug stop.")
	case debugging.Sent, cells.DebugOpen, cells.DebugPermitted:
	default:
		return nil, huma.Error409Conflict("The request is over: there is nothing to take back.")
	}
	what := "withdraw the request for " + debugging.Describe(&e.Request, e.ID)
	if err := a.o.Auth.Audit(ctx, api.CallerOf(ctx), what); err != nil {
		return nil, a.explain(err)
	}
	if err := a.o.Requests.Withdraw(ctx, in.Name, in.ID, time.Now().UTC()); err != nil {
		return nil, a.explain(err)
	}
	return a.show(ctx, in)
}

// explain returns an error as a response, and logs those that nobody expects.
func (a *API) explain(err error) error {
	refused := new(debugging.RefusedError)
	switch {
	case errors.As(err, &refused):
		return huma.Error409Conflict("The request is refused: " + refused.Reason + ".")
	case errors.Is(err, records.ErrNotFound), errors.Is(err, records.ErrInvalid):
		return huma.Error404NotFound("There is no such request: sluice debug list has those of the last 90 days.")
	case errors.Is(err, records.ErrConflict):
		return huma.Error503ServiceUnavailable("Somebody else changed the request at the same time: try again.")
	}
	status, detail, unexpected := api.DescribeError(err)
	if unexpected {
		a.o.Log.Error().Err(err).Msg("requests for debug access")
	}
	return huma.NewError(status, detail)
}
