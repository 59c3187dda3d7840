package cellapi

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// trustHandlers serves the files by which cells verify releases. No answer to /v1/desired changes with them: an hourly
// signature wakes nobody.
type trustHandlers struct {
	answers   *answerCache
	throttle  *throttle
	published func() *trust.Published // nil: nothing is ever signed
}

// current returns the published files, or writes why there are none.
func (h *trustHandlers) current(w http.ResponseWriter, c *api.Caller) (p *trust.Published, v *view.View) {
	snap := h.answers.latest()
	if snap.view == nil {
		api.WriteNotReady(w)
		return nil, nil
	}
	if e := snap.entries[c.Cell]; e != nil &&
		!h.throttle.allow(w, &e.trustBucket, h.throttle.limits.Polls, h.throttle.now(), "signed files") {
		return nil, nil
	}
	if h.published != nil {
		p = h.published()
	}
	switch {
	case p != nil:
		return p, snap.view
	case snap.view.Desired.Trust == nil:
		api.WriteProblem(w, http.StatusNotFound, "The release repository has no signers: its releases are unsigned.")
	default:
		api.SetRetryAfter(w, 2)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"The timestamp is not signed yet: ask again in a moment, or see sluice trust status.")
	}
	return nil, nil
}

// serveBundle answers GET /v1/trust: all that a cell has to know, for its channel.
func (h *trustHandlers) serveBundle(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	have, err := strconv.ParseInt(orZero(queryparam.Get(r.URL.RawQuery, "have")), 10, 64)
	if err != nil || have < 0 {
		api.WriteProblem(w, http.StatusBadRequest, "The request is invalid.",
			&huma.ErrorDetail{Location: "query.have", Message: "the number of the root that the cell has"})
		return
	}
	pin := queryparam.Get(r.URL.RawQuery, "pin")
	if _, err := releases.ParseDigest(pin); pin != "" && err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The request is invalid.",
			&huma.ErrorDetail{Location: "query.pin", Message: "the SHA-256 of a root's file, such as sha256:2c26…"})
		return
	}
	p, v := h.current(w, c)
	if p == nil {
		return
	}
	channel := ""
	if cell := v.Desired.Cells[c.Cell]; cell != nil {
		channel = cell.Channel
	}
	w.Header().Set("Cache-Control", "private, no-cache")
	api.WriteJSON(w, http.StatusOK, p.Bundle(channel, have, releases.Digest(pin)))
}

func orZero(text string) string {
	if text == "" {
		return "0"
	}
	return text
}

// serveFile answers GET /v1/trust/{name} with one file, as clients of TUF ask for it.
func (h *trustHandlers) serveFile(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	p, _ := h.current(w, c)
	if p == nil {
		return
	}
	data := p.File(r.PathValue("name"))
	if data == nil {
		api.WriteProblem(w, http.StatusNotFound, "There is no such file: timestamp.json, snapshot.json and N.root.json are.")
		return
	}
	tag := `"` + string(releases.DigestBytes(data)) + `"`
	w.Header().Set("Cache-Control", "private, no-cache")
	w.Header().Set("ETag", tag)
	if api.MatchesETag(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // an error means that the client has gone
}

// signatureNote is what the sealed head says of signatures (R32).
type signatureNote struct {
	Type      string          `json:"type"`
	Timestamp releases.Digest `json:"timestamp"`
	Version   int64           `json:"version"`
}

// noteSignatures returns the metadata of a sealed head.
func (h *trustHandlers) noteSignatures() []any {
	if h == nil || h.published == nil {
		return []any{}
	}
	p := h.published()
	if p == nil {
		return []any{}
	}
	return []any{signatureNote{"tuf", releases.DigestBytes(p.Served.Timestamp), p.Served.Version}}
}

// routes returns the routes of the signed files.
func (h *trustHandlers) routes(d api.Docs) []api.Route {
	cell := api.Param("cell", "query", "the requesting cell, required on this machine where cells have no keys",
		api.TextSchema())
	return []api.Route{
		{Method: http.MethodGet, Path: "/v1/trust", Audience: api.Cell, Handler: h.serveBundle,
			Operation: huma.Operation{
				OperationID: "trust", Tags: cellTags(),
				Summary: "What a cell needs to verify that signers allow a release",
				Description: "TUF metadata, each file as base64 of its bytes: the roots after that of have, timestamp, " +
					"snapshot, targets, releases, and the head of the cell's channel; of the roots the first 256. 404: the " +
					"repository has no signers.",
				Parameters: []*huma.Param{cell,
					api.Param("have", "query", "the number of the root that the cell has; 0 or nothing: none",
						api.TextSchema()),
					api.Param("pin", "query", "the digest of the root that the cell was given, with which the roots "+
						"begin while it has none", api.TextSchema())},
				Responses: map[string]*huma.Response{"200": d.JSONResponse("The files", trust.Bundle{})},
				Errors:    []int{400, 404, 429, 503},
			}},
		{Method: http.MethodGet, Path: "/v1/trust/{name}", Audience: api.Cell, Handler: h.serveFile,
			Operation: huma.Operation{
				OperationID: "trustFile", Tags: cellTags(),
				Summary: "One file of TUF metadata",
				Description: "Under the names that clients of TUF use: timestamp.json, 3.root.json, snapshot.json or " +
					"1767225600.snapshot.json.",
				Parameters: []*huma.Param{cell,
					api.RequiredParam(api.Param("name", "path", "such as timestamp.json", api.TextSchema()))},
				Responses: map[string]*huma.Response{
					"200": api.Response("The file", "application/json", &huma.Schema{Type: huma.TypeObject}, "ETag"),
					"304": {Description: "As before"},
				},
				Errors: []int{404, 429, 503},
			}},
	}
}
