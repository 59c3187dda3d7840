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

// WriteProblem answers with problem+json. detail is for people: what is wrong, and what to do next.
func WriteProblem(w http.ResponseWriter, status int, detail string, faults ...*huma.ErrorDetail) {
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "ETag", "Accept-Ranges", "Cache-Control"} { // of the answer that did not come about
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults})
}

// WriteNotReady answers while nothing has been read.
func WriteNotReady(w http.ResponseWriter) {
	SetRetryAfter(w, 2)
	WriteProblem(w, http.StatusServiceUnavailable, NotReadMessage)
}

// NotReadMessage is what people are told while nothing has been read.
const NotReadMessage = "The release repository has not been read yet: ask again in a moment, or see the log of sluice serve."

const unknownCellMessage = "The release repository has no such cell: add cells/NAME/cell.yaml, or check the name."

// WriteUnknownCell answers that the repository has no such cell.
func WriteUnknownCell(w http.ResponseWriter) {
	WriteProblem(w, http.StatusNotFound, unknownCellMessage)
}

// SetRetryAfter says in how many seconds to ask again.
func SetRetryAfter(w http.ResponseWriter, seconds int) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
}

// Recorder is a ResponseWriter that notes for the log what its answer does not tell.
type Recorder interface {
	NoteError(err error)   // what happened inside
	NoteStatus(status int) // what was answered past the writer, on a connection that was taken over
}

// NoteError puts an error from inside on the request's line in the log.
func NoteError(w http.ResponseWriter, err error) {
	if r, ok := w.(Recorder); ok {
		r.NoteError(err)
	}
}

// NoteStatus says what was answered past w.
func NoteStatus(w http.ResponseWriter, status int) {
	if r, ok := w.(Recorder); ok {
		r.NoteStatus(status)
	}
}

// WriteError answers with what an error from inside means, in words that are safe to show, and notes the unexpected.
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

// DescribeError is what an error from inside means. unexpected: it is one for the log too.
func DescribeError(err error) (status int, detail string, unexpected bool) {
	switch {
	case errors.Is(err, engine.ErrUnknownCell):
		return http.StatusNotFound, unknownCellMessage, false
	case errors.Is(err, engine.ErrNotReady):
		return http.StatusServiceUnavailable, NotReadMessage, false
	case errors.Is(err, plan.ErrBusy):
		return http.StatusServiceUnavailable, "The store is busy, and nothing was kept: send it again.", true
	case errors.Is(err, plan.ErrFull):
		return http.StatusInsufficientStorage, "The control plane's disk is full, and nothing was kept: make room in its data folder, and send it again.", true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "It took too long, and whether it was kept is not known: send it again.", false
	}
	return http.StatusInternalServerError, "Something went wrong in the control plane: its log says what, under this answer's X-Request-Id.", true
}
