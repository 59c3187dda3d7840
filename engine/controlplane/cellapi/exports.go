package cellapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/records"
)

// exportHandlers receives what cells export.
type exportHandlers struct {
	keeper   *exports.Keeper
	auth     *auth.Auth
	answers  *answerCache
	throttle *throttle
	arriving limit.InFlight // bodies
	reading  chan struct{}  // holds one value for each batch that is being read
}

func (h *exportHandlers) allow(w http.ResponseWriter, e *cellEntry) bool {
	return h.throttle.allow(w, &e.exportBucket, h.throttle.limits.Exports, h.throttle.now(), "exports")
}

// exportRoutes returns the route of exports, if they are taken.
func (a *API) exportRoutes(d api.Docs) []api.Route {
	if a.exports.keeper == nil {
		return nil
	}
	return []api.Route{{Method: http.MethodPost, Path: "/v1/exports", Audience: api.Cell,
		Handler: a.exports.serveExport,
		Operation: huma.Operation{
			OperationID: "export", Tags: cellTags(),
			Summary: "What a cell's owner lets leave the cell beside its reports",
			Description: "Lines of JSON, compressed with zstd, of which the first is a header. The response comes after " +
				"the batch is durable, and names the cell's last batch: if it is another than the one that was sent, " +
				"nothing was stored, and the next batch must follow the named one.",
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				exportType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
			Responses: map[string]*huma.Response{
				"200": d.JSONResponse("The last batch of the cell that is stored", cells.ExportReceipt{})},
			Errors: []int{400, 404, 413, 415, 429, 503},
		}}}
}

const (
	exportType         = "application/x-ndjson"
	maxExportsArriving = 256 // each takes up to 4 MiB
	maxExportsRead     = 8   // each may take some 50 MB for a moment
	maxReadWait        = 5 * time.Second
)

// begin counts a batch in whose body may take its time. No cell has two at once, and so none keeps others waiting. If
// begin returns false, it has written the response.
func (h *exportHandlers) begin(w http.ResponseWriter, e *cellEntry) bool {
	if e != nil && !e.exporting.CompareAndSwap(false, true) {
		h.throttle.metrics.CountShed("exports")
		api.SetRetryAfter(w, 2)
		api.WriteProblem(w, http.StatusTooManyRequests, "This cell sends another batch already: wait for its end.")
		return false
	}
	if !h.arriving.Acquire() {
		if e != nil {
			e.exporting.Store(false)
		}
		writeManyExports(w)
		return false
	}
	return true
}

// end counts a batch out that begin counted in.
func (h *exportHandlers) end(e *cellEntry) {
	h.arriving.Release()
	if e != nil {
		e.exporting.Store(false)
	}
}

func writeManyExports(w http.ResponseWriter) {
	api.SetRetryAfter(w, 2)
	api.WriteProblem(w, http.StatusServiceUnavailable, "Many cells export at once: send it again in a moment.")
}

// awaitRead waits for its turn to read a batch, after the body came: a slow cell has no turn.
func (h *exportHandlers) awaitRead(r *http.Request) bool {
	timer := time.NewTimer(maxReadWait)
	defer timer.Stop()
	select {
	case h.reading <- struct{}{}:
		return true
	case <-r.Context().Done():
	case <-timer.C:
	}
	return false
}

// serveExport answers POST /v1/exports with the cell's last batch, after it is durable.
func (h *exportHandlers) serveExport(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	known := h.answers.latest().entries[c.Cell]
	if known != nil && !h.allow(w, known) || !h.throttle.admit(w, hashName(c.Cell)) {
		return
	}
	defer h.throttle.inFlight.Release()
	if !h.begin(w, known) {
		return
	}
	defer h.end(known)
	body, ok := api.ReadBody(w, r, cells.MaxExport, exportType)
	if !ok {
		return
	}
	if r.Header.Get("Content-Encoding") != "zstd" {
		api.WriteProblem(w, http.StatusUnsupportedMediaType, "Send lines of JSON with Content-Encoding: zstd.")
		return
	}
	if !h.awaitRead(r) {
		writeManyExports(w)
		return
	}
	defer func() { <-h.reading }()
	batch, err := exports.Parse(body)
	if err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The batch is invalid, and nothing was stored: "+err.Error()+".")
		return
	}
	if !h.auth.MaySpeakFor(c, batch.Cell) {
		h.auth.RefuseCell(w, r, c, batch.Cell)
		return
	}
	entry := h.answers.latest().entries[batch.Cell]
	if entry == nil {
		api.WriteUnknownCell(w)
		return
	}
	if entry != known && !h.allow(w, entry) { // the query need not name the cell on this machine
		return
	}
	receipt, err := h.keeper.Take(r.Context(), batch, h.auth.EpochOf(batch.Cell), time.Now())
	switch {
	case errors.Is(err, records.ErrConflict):
		api.SetRetryAfter(w, 1)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"Another batch of this cell was stored meanwhile: send it again.")
	case err != nil:
		api.SetRetryAfter(w, 30)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"The batch could not be passed on: keep it, and send it again later.")
		api.NoteError(w, err)
	default:
		api.WriteJSON(w, http.StatusOK, receipt)
	}
}
