package cellapi

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/debugging"
)

// debugHandlers serves cells the requests for debug access to them. A cell asks when its desired state names others.
type debugHandlers struct {
	keeper   *debugging.Keeper // nil: there are none
	answers  *answerCache
	throttle *throttle
}

// routes returns the route of requests, if they are kept.
func (h *debugHandlers) routes(d api.Docs) []api.Route {
	if h.keeper == nil {
		return nil
	}
	return []api.Route{{Method: http.MethodGet, Path: "/v1/debug", Audience: api.Cell, Handler: h.serveRequests,
		Operation: huma.Operation{
			OperationID: "openDebugRequests", Tags: cellTags(),
			Summary: "Requests for debug access to a cell that are open",
			Description: "Each is signed by the person who asks. The cell checks it, and its owner permits or denies " +
				"it in the cell.",
			Parameters: []*huma.Param{api.Param("cell", "query",
				"the requesting cell, required on this machine where cells have no keys", api.TextSchema())},
			Responses: map[string]*huma.Response{"200": d.JSONResponse("The requests", debug.Requests{})},
			Errors:    []int{400, 404, 429, 503},
		}}}
}

func (h *debugHandlers) serveRequests(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	e := h.find(w, c.Cell)
	if e == nil {
		return
	}
	if !h.throttle.allow(w, &e.trustBucket, h.throttle.limits.Polls, h.throttle.now(), "requests for debug access") {
		return
	}
	open, err := h.keeper.Open(r.Context(), c.Cell, time.Now())
	if err != nil {
		api.SetRetryAfter(w, 5)
		api.WriteProblem(w, http.StatusServiceUnavailable, "The store can't be read: ask again in a moment.")
		api.NoteError(w, err)
		return
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	api.WriteJSON(w, http.StatusOK, debug.Requests{Requests: open})
}

// AllowSession takes a token of a cell's requests for debug sessions, or answers.
func (a *API) AllowSession(w http.ResponseWriter, cell string) bool {
	h := a.debug
	e := h.find(w, cell)
	return e != nil &&
		h.throttle.allow(w, &e.sessionBucket, h.throttle.limits.Polls, h.throttle.now(), "debug sessions")
}

// AllowRecord takes a token of the records that a cell sends, or answers. One that is refused afterwards counts, too.
func (a *API) AllowRecord(w http.ResponseWriter, cell string) bool {
	h := a.debug
	e := h.find(w, cell)
	return e != nil && h.throttle.allow(w, &e.recordBucket, limit.Rate{PerSecond: 1.0 / 60, Burst: recordsAtOnce},
		h.throttle.now(), "records of debug sessions")
}

const recordsAtOnce = 4 * debugging.MaxOpen // then one a minute

// find returns a cell; nil: there is none, which find answered.
func (h *debugHandlers) find(w http.ResponseWriter, cell string) *cellEntry {
	snap := h.answers.latest()
	if snap.view == nil {
		api.WriteNotReady(w)
		return nil
	}
	e := snap.entries[cell]
	if e == nil {
		api.WriteUnknownCell(w)
	}
	return e
}
