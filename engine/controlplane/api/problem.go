package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
)

// WriteProblem writes problem+json. detail is for people: what is wrong, then the next step.
func WriteProblem(w http.ResponseWriter, status int, detail string, faults ...*huma.ErrorDetail) {
	h := w.Header()
	// These headers may have been set for a response that was not written.
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Accept-Ranges", "Cache-Control"} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// An error means that the client has gone.
	_ = json.NewEncoder(w).Encode(
		&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults})
}

// WriteNotReady answers 503 until the engine has read the release repository.
func WriteNotReady(w http.ResponseWriter) {
	SetRetryAfter(w, 2)
	WriteProblem(w, http.StatusServiceUnavailable, NotReadMessage)
}

// NotReadMessage is the detail of responses until the engine has read the release repository.
const NotReadMessage = "The release repository has not been read yet: " +
	"ask again in a moment, or see the log of sluice serve."

const unknownCellMessage = "The release repository has no such cell: add cells/NAME/cell.yaml, or check the name."

// WriteUnknownCell answers 404 for a cell that is not in the repository.
func WriteUnknownCell(w http.ResponseWriter) {
	WriteProblem(w, http.StatusNotFound, unknownCellMessage)
}

// SetRetryAfter sets the Retry-After header.
func SetRetryAfter(w http.ResponseWriter, seconds int) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
}

// Recorder is a ResponseWriter that records for the log what the response does not show.
type Recorder interface {
	NoteError(err error)   // records an internal error
	NoteStatus(status int) // records a status written past the writer, to a connection that was taken over
}

// NoteError adds an internal error to the request's log line.
func NoteError(w http.ResponseWriter, err error) {
	if r, ok := w.(Recorder); ok {
		r.NoteError(err)
	}
}

// NoteStatus records the status of a response written past w.
func NoteStatus(w http.ResponseWriter, status int) {
	if r, ok := w.(Recorder); ok {
		r.NoteStatus(status)
	}
}

// WriteError writes the problem that DescribeError returns for err, and notes unexpected errors for the log.
func WriteError(w http.ResponseWriter, err error) {
	status, detail, unexpected := DescribeError(err)
	if status == http.StatusServiceUnavailable {
		SetRetryAfter(w, 2)
	}
	WriteProblem(w, status, detail)
	if unexpected {
		NoteError(w, err)
	}
}

// DescribeError returns the status and a detail that is safe to show for an internal error. Unexpected errors belong in
// the log.
func DescribeError(err error) (status int, detail string, unexpected bool) {
	switch {
	case errors.Is(err, engine.ErrUnknownCell):
		return http.StatusNotFound, unknownCellMessage, false
	case errors.Is(err, engine.ErrNotReady):
		return http.StatusServiceUnavailable, NotReadMessage, false
	case errors.Is(err, plan.ErrReadOnly):
		return http.StatusServiceUnavailable, "The control plane's store takes no writes, and nothing was stored: " +
			"its log says where it is.", true
	case errors.Is(err, plan.ErrAway):
		return http.StatusServiceUnavailable, "The control plane can't reach its database, and nothing was stored: " +
			"send it again.", true
	case errors.Is(err, plan.ErrCrowded):
		return http.StatusServiceUnavailable, "The control plane's database has no connection left, and nothing was " +
			"stored: send it again.", true
	case errors.Is(err, plan.ErrBusy):
		return http.StatusServiceUnavailable, "The store is busy, and nothing was stored: send it again.", true
	case errors.Is(err, plan.ErrFull):
		return http.StatusInsufficientStorage, "The control plane's disk is full, and nothing was stored: " +
			"free space in its data folder, then send it again.", true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "It took too long, and may or may not be stored: send it again.", false
	}
	return http.StatusInternalServerError, "Something went wrong in the control plane: " +
		"find the cause in its log, by the X-Request-Id of this response.", true
}
